//! Starts Taskpost and its services for tests; the end-to-end tests live here.
