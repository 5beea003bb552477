//! The command line.

pub mod config;
mod desk;
pub mod doctor;
pub mod events;
pub mod migrate;
mod password;
mod progress;
pub mod seed;
pub mod serve;
mod table;
pub mod tail;
pub mod token;
pub mod user;

use clap::{Parser, Subcommand};

/// Self-hosted task intake that never loses a task and never loses a notification.
///
/// Without a command it serves everything in one process. Variables say on what: see .env.example.
#[derive(Debug, Parser)]
#[command(version)]
pub struct Cli {
    /// What to do instead of serving.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What else the program does.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve requests only; needs DATABASE_URL, as do the other roles
    Api,
    /// Move events along and apply them only
    Consumers,
    /// Deliver notifications and webhooks only
    Workers,
    /// Look at or change the schema of the store
    #[command(subcommand)]
    Migrate(migrate::Command),
    /// Follow the log, or build a projection anew from it
    #[command(subcommand)]
    Events(events::Command),
    /// Make accounts, and change their roles and passwords
    #[command(subcommand)]
    User(user::Command),
    /// Fill the store with a demo, for trying things out; never in production
    Seed(seed::Options),
    /// Show every variable that is in force, and who said so
    Config(config::Options),
    /// Check everything this needs, and say what to do where something is wrong
    Doctor(doctor::Options),
    /// Register a test user at a running instance, or log it in, and print its access token.
    Token(token::Options),
}
