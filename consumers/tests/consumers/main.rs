//! The consumers on real stores: SQLite in a temporary folder, and Postgres in a schema of its own.

mod notifier;
mod redrive;
mod runner;
mod sequencer;
#[cfg(test)]
mod support;
mod webhooks;
