//! The conformance suite of the delivery queue: its contract on both backends, what RabbitMQ is told, what happens when it
//! fails, and the traps of broker and client that the design rests on.
#![cfg(test)]

#[macro_use]
mod harness;
mod broker;
mod proxy;

mod contract;
mod faults;
mod messages;
mod traps;
mod trouble;
