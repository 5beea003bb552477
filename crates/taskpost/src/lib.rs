//! Taskpost as a library: the roles wired together, for the binary and for tests.

pub mod cli;
pub mod environment;
pub mod logs;
mod ports;
pub mod secrets;
pub mod store;
pub mod traces;
pub mod wire;
