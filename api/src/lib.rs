//! Steps 1 and 2: the HTTP interface of Taskpost.
