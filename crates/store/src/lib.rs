//! All SQL of Taskpost, written once for Postgres and SQLite.
//!
//! Reading functions take a [`Session`], changing ones a [`Tx`]; a change appends its own events in the same
//! transaction, so that no caller can forget them. Batches are at most [`MAX_BATCH`] rows.

pub mod api_tokens;
pub mod audit;
pub mod board;
mod bulk;
pub mod categories;
mod channel;
pub mod comments;
pub mod copy;
mod db;
pub mod dead_letters;
pub mod deliveries;
mod dynamic;
pub mod endpoints;
mod error;
pub mod events;
pub mod history;
pub mod housekeeping;
pub mod idempotency;
pub mod labels;
pub mod leases;
pub mod members;
pub mod notifications;
pub mod password_resets;
mod plan;
pub mod posts;
pub mod progress;
pub mod projects;
pub mod sessions;
mod start;
pub mod tasks;
mod trouble;
pub mod users;
pub mod watches;

pub use channel::{Channel, Listening, Speaking};
pub use db::{Db, Migration, MigrationState, Schema, Server, Session, Tx};
pub use error::StoreError;
pub use plan::Plan;
pub use start::Start;
pub use trouble::Trouble;

use taskpost_common::{Cause, Clock, UserId};

/// The most rows one call takes.
pub const MAX_BATCH: usize = 500;

/// Who looks, for authorisation in the query itself.
#[derive(Clone, Copy, Debug)]
pub struct Viewer {
    /// The user.
    pub user_id: UserId,
    /// Sees everything.
    pub admin: bool,
}

/// What every change needs to know: the time, where ids come from, and who caused it.
#[derive(Clone, Copy, Debug)]
pub struct Change<'a> {
    /// Time and ids.
    pub clock: &'a Clock,
    /// Who and why.
    pub cause: &'a Cause,
}
