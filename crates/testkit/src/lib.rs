//! Starts Taskpost for tests, in process or as its real binary, on either database; the end-to-end tests live here.
//!
//! A case takes a [`Backend`], starts an app, speaks to it through its public doors, and finishes it. [`both!`] makes
//! a test of it for each database.
//!
//! ```no_run
//! use serde_json::json;
//! use taskpost_testkit::{Backend, Fields as _, TestApp, both};
//!
//! both!(an_assignee_is_told);
//!
//! async fn an_assignee_is_told(backend: Backend) {
//!     let app = TestApp::start(backend).with("RETRY_DELAYS", "10ms,20ms").await;
//!     let (ada, bob) = (app.user("Ada").await, app.user("Bob").await);
//!     let task = json!({"title": "Fix the lift", "assignee_id": bob.id});
//!     app.post("/tasks", task).as_(&ada).expect(201).await;
//!     app.drain().await;
//!     let inbox = app.get("/v1/notifications").as_(&bob).expect(200).await.json();
//!     assert_eq!(inbox.list("data")[0].text("type"), "task_assigned");
//!     app.finish().await;
//! }
//! # fn main() {}
//! ```
#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::missing_panics_doc,
    reason = "all of this is for tests, which stop at the first surprise"
)]

mod app;
mod brokers;
mod client;
mod collector;
mod database;
mod drain;
mod fields;
mod mail;
mod place;
mod port;
mod proxy;
mod raw;
mod server;
mod sink;
mod smtp;
mod stories;
mod wait;

pub use app::{Starting, TestApp};
pub use brokers::Part;
pub use client::{Client, Request, Response, User};
pub use collector::{CollectedSpan, Collector};
pub use fields::Fields;
pub use mail::Mail;
pub use place::Backend;
pub use port::Port;
pub use proxy::{Direction, FaultProxy, Toxic, Toxics};
pub use raw::Raw;
pub use server::{Exit, Server, ServerStarting};
pub use sink::{Answer, Received, WebhookSink};
pub use smtp::{SmtpAnswer, SmtpMail, SmtpSink};
pub use wait::{PATIENCE, until, until_within};

/// Makes a module with the tests `sqlite` and `postgres` of each case, an `async fn(Backend)` of that name.
#[macro_export]
macro_rules! both {
    ($($case:ident),+ $(,)?) => {$(
        mod $case {
            #[tokio::test(flavor = "multi_thread")]
            async fn sqlite() {
                Box::pin(super::$case($crate::Backend::Sqlite)).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn postgres() {
                Box::pin(super::$case($crate::Backend::Postgres)).await;
            }
        }
    )+};
}
