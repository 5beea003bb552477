//! The consumers on real stores: SQLite in a temporary folder, and Postgres in a schema of its own.
#![cfg(test)]

mod notifier;
mod redrive;
mod runner;
mod sequencer;
mod support;
mod webhooks;
