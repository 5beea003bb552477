//! The conformance suite of the log: one set of cases, each run on the store's own log and on Kafka, and what only Kafka
//! can do to a group.
#![cfg(test)]

#[macro_use]
mod harness;

mod away;
mod kafka;
mod producer;
mod reading;
