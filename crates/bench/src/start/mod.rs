//! Starting what is measured: a scratch place, processes in it, and whole products.

pub mod brokers;
pub mod client;
pub mod database;
pub mod place;
pub mod process;
pub mod stack;
