//! The conformance suite of the store: one set of cases, each run on SQLite and on Postgres.
//!
//! A case is an async function of a fresh [`harness::Store`]; `both!` makes the tests `case::sqlite` and
//! `case::postgres` of it, so that a failure names its database.
#![cfg(test)]

#[macro_use]
mod harness;
mod raw;

mod batches;
mod board;
mod cancelled;
mod commands;
mod deletions;
mod deliveries;
mod endpoints;
mod events;
mod housekeeping;
mod idempotency;
mod leases;
mod listing;
mod listing_model;
mod migrations;
mod notifications;
mod partitions;
mod plans;
mod progress;
mod projects;
mod proxy;
mod queued;
mod readers;
mod reminders;
mod sequencer;
mod sessions;
mod tasks;
mod traps;
mod trouble;
mod users;
mod writers;
