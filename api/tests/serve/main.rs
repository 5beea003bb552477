//! The accept loop against real sockets: what a client may hold and for how long, and what it may say.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test may stop at the first surprise")]

mod client;
mod frames;
mod server;

mod deadlines;
mod heads;
mod http2;
mod many;
mod places;
mod readers;
mod stop;
mod upgrade;
