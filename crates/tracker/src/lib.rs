//! The use cases of Taskpost: authorise, validate, one transaction.
