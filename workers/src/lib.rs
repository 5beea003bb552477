//! Steps 6 and 7: the delivery engine and its channels.
