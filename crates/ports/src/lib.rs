//! The ways to the brokers: event log, delivery queue, rate limiter, and what wakes a stage.
//!
//! Each port is an enum, because its set of backends is closed; the local one is also what tests use.

pub mod health;
pub mod lease;
pub mod limiter;
pub mod log;
pub mod notify;
pub mod queue;
mod redis_client;
pub mod spread;
pub mod wake;

pub use health::PortHealth;
pub use lease::Lease;
pub use limiter::Limiter;
pub use log::Log;
pub use queue::Queue;
pub use redis_client::InvalidRedisUrl;
pub use spread::Spread;
pub use wake::{Wake, Wakes};
