//! The end-to-end tests: a file for each part of the product, told through its public doors on every backend.
#![cfg(test)]
#![expect(clippy::expect_used, clippy::panic, reason = "a test may stop at the first surprise")]

mod account;
mod accounts;
mod batch;
mod board;
mod cli_users;
mod commands;
mod comments;
mod committer;
mod dead_letters;
mod events;
mod idempotency;
mod limits;
mod lists;
mod lists_of_projects;
mod members;
mod migrate_store;
mod notifications;
mod operate;
mod permissions;
mod poison;
mod posts;
mod process;
mod project_tasks;
mod projects;
mod proxy;
mod seed;
mod smtp;
mod tasks;
mod testkit;
mod times;
mod tokens;
mod two_processes;
mod users;
mod webhook_targets;
mod webhooks;
