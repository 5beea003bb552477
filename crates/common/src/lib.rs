//! The vocabulary of Taskpost: ids, time, configuration, events, pages, errors. No I/O.
