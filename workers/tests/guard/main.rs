//! The guarded client against real sockets: what it dials, what it follows, when it stops, and what is recorded.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test may stop at the first surprise")]

#[path = "../support/mod.rs"]
#[expect(dead_code, reason = "the tests of the engine use the rest")]
mod support;

mod client;
mod receiver;

mod answers;
mod dialled;
mod environment;
mod recorded;
