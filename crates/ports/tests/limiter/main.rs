//! The conformance suite of the limiter, run in this process and over Redis, and what happens when Redis fails.
#![cfg(test)]

#[macro_use]
mod harness;
mod gate;

mod conformance;
mod faults;
mod shared;
mod speed;
mod spread;
mod trouble;
