//! All SQL of Taskpost, written once for Postgres and SQLite.
