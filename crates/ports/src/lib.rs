//! The ways to the brokers: event log, delivery queue, rate limiter.
