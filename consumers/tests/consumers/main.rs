//! The consumers on real stores: SQLite in a temporary folder, and Postgres in a schema of its own; and on real and failing
//! Kafkas.
#![cfg(test)]

mod echo;
mod notifier;
mod redrive;
mod relay;
mod runner;
mod sequencer;
mod support;
mod switching;
mod webhooks;
