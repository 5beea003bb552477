//! The vocabulary of Taskpost, shared by every crate: ids, time, configuration, events, pages and errors.
//!
//! Nothing here does I/O, and nothing here knows a database, a broker or a web framework.

pub mod clock;
pub mod comment;
pub mod config;
pub mod crash;
pub mod delivery;
pub mod event;
pub mod ids;
pub mod net;
pub mod notification;
pub mod page;
pub mod post;
pub mod problem;
pub mod project;
pub mod rate;
pub mod retry;
pub mod secret;
pub mod task;
mod text_enum;
pub mod token;
pub mod trace;
pub mod user;
pub mod watch;
pub mod workflow;

pub use clock::Clock;
pub use event::{Cause, Envelope, Event};
pub use ids::*;
