//! The channels: how a delivery leaves. What it carries is in `taskpost_common::delivery`.

pub mod email;
pub mod guard;
pub mod signature;
pub mod webhook;

use std::{future::Future, time::Duration};

use taskpost_common::{EndpointId, delivery::AttemptOutcome, notification};
use taskpost_store::{StoreError, deliveries::Delivery};

/// A way to send. A new one is a file here and a line in [`crate::Workers::start`].
pub trait Channel: Send + Sync + 'static {
    /// What must be known to send a delivery beyond what its row holds, such as an address.
    type Target: Send + Sync + 'static;

    /// Which deliveries it sends.
    fn name(&self) -> notification::Channel;

    /// How long one try takes at most. The engine ends a longer one.
    fn timeout(&self) -> Duration;

    /// Looks up the targets of deliveries that are about to be sent: one for each, in their order.
    fn targets(
        &self,
        deliveries: &[Delivery],
    ) -> impl Future<Output = Result<Vec<Self::Target>, StoreError>> + Send;

    /// Makes one try. It may be dropped at any point, and the same delivery may come again after a success that could
    /// not be recorded: the receiver tells doubles by the delivery's id.
    fn send(&self, delivery: &Delivery, target: Self::Target) -> impl Future<Output = Report> + Send;
}

/// What came of a try.
#[derive(Clone, Debug)]
pub struct Report {
    /// How it ended.
    pub result: AttemptResult,
    /// The endpoint whose health it tells of.
    pub health: Option<Health>,
}

impl From<AttemptResult> for Report {
    fn from(result: AttemptResult) -> Self {
        Self { result, health: None }
    }
}

/// How a try ended.
#[derive(Clone, Debug)]
pub enum AttemptResult {
    /// The receiver took it.
    Sent {
        /// The receiver's HTTP status.
        status_code: Option<u16>,
        /// The first of what it said.
        excerpt: Option<String>,
    },
    /// It did not.
    Failed(Failure),
    /// Not tried now; due again after this long, at no cost.
    Postponed(Duration),
    /// Not tried, as nobody is to get it any more.
    Cancelled(String),
}

/// A try that failed.
#[derive(Clone, Debug)]
pub struct Failure {
    /// In which way; decides whether there is another try.
    pub outcome: AttemptOutcome,
    /// The receiver's HTTP status.
    pub status_code: Option<u16>,
    /// A sentence for the owner of the endpoint; without addresses of people and without secrets.
    pub error: String,
    /// The first of what the receiver said.
    pub excerpt: Option<String>,
    /// How long the receiver asked to be left alone.
    pub retry_after: Option<Duration>,
}

impl Failure {
    /// A failure without an answer.
    pub fn new(outcome: AttemptOutcome, error: impl Into<String>) -> Self {
        Self { outcome, status_code: None, error: error.into(), excerpt: None, retry_after: None }
    }
}

/// What a try tells of an endpoint.
#[derive(Clone, Copy, Debug)]
pub struct Health {
    /// The endpoint.
    pub endpoint: EndpointId,
    /// Whether it was known to fail when the try began.
    pub was_failing: bool,
    /// What is known now.
    pub verdict: Verdict,
}

/// How an endpoint does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It took a delivery.
    Healthy,
    /// It did not.
    Failing,
    /// It wants no more: 410.
    Gone,
}
