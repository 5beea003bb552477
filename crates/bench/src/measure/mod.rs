//! What loads and what is measured by it: wrk, pgbench, arrivals at a constant rate, and a receiver of webhooks.

pub mod arrivals;
pub mod connection;
pub mod pgbench;
pub mod receiver;
pub mod wrk;
