//! Hostile inputs and what they are answered, as one table: a file for each of its rows, each on a running app with
//! either database. [`row::Row`] sends the cases and judges after every one what must hold of all.
#![expect(clippy::expect_used, reason = "a test may stop at the first surprise")]

mod bomb;
mod case;
mod frames;
mod judge;
mod row;
mod watch;

mod cursors;
mod framing;
mod headers;
mod json;
mod jwt;
mod login;
mod mass;
mod proxies;
mod size;
mod slow;
mod targets;
mod tricks;
