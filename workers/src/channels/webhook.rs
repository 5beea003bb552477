//! Webhooks: one signed POST of the event to an endpoint (Standard Webhooks).

use std::time::Duration;

use chrono::{DateTime, Utc};
use http::{
    HeaderMap,
    header::{CONTENT_TYPE, HeaderName, HeaderValue},
};
use taskpost_common::{
    Clock, EndpointId,
    delivery::{AttemptOutcome, WebhookPayload},
    notification, trace,
};
use taskpost_store::{
    Db, StoreError,
    deliveries::Delivery,
    endpoints::{self, Endpoint},
};
use tracing::Span;
use url::Url;

use super::{
    AttemptResult, Channel, Failure, Health, Report, Verdict,
    guard::{Answer, GuardedClient, SendError},
    signature::{BadSecret, sign},
};
use crate::step::outcome_of;

const ID: HeaderName = HeaderName::from_static("webhook-id");
const TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const CLOUDEVENT: HeaderValue = HeaderValue::from_static("application/cloudevents+json");

/// The answer that wants no more.
const GONE: u16 = 410;

/// Sends webhooks.
#[derive(Clone, Debug)]
pub struct Webhook {
    /// Where endpoints are looked up.
    pub db: Db,
    /// The time that is signed.
    pub clock: Clock,
    /// What dials.
    pub client: GuardedClient,
    /// For one try, the body of the answer included.
    pub timeout: Duration,
}

impl Channel for Webhook {
    type Target = Option<Endpoint>;

    fn name(&self) -> notification::Channel {
        notification::Channel::Webhook
    }

    fn timeout(&self) -> Duration {
        self.timeout
    }

    async fn targets(&self, deliveries: &[Delivery]) -> Result<Vec<Option<Endpoint>>, StoreError> {
        let mut ids: Vec<EndpointId> =
            deliveries.iter().filter_map(|delivery| delivery.endpoint_id).collect();
        ids.sort_unstable();
        ids.dedup();
        let found = endpoints::by_ids(&mut self.db.reader().await?, &ids).await?;
        let of = |id| found.iter().find(|endpoint| endpoint.id == id).cloned();
        Ok(deliveries.iter().map(|delivery| delivery.endpoint_id.and_then(of)).collect())
    }

    async fn send(&self, delivery: &Delivery, endpoint: Option<Endpoint>) -> Report {
        let Some(endpoint) = endpoint else {
            return AttemptResult::Cancelled("the endpoint is gone".to_owned()).into();
        };
        if !endpoint.enabled {
            return AttemptResult::Cancelled("the endpoint is disabled".to_owned()).into();
        }
        let result = match self.post(delivery, &endpoint).await {
            Ok(answer) => judge(answer),
            Err(failure) => AttemptResult::Failed(failure),
        };
        let verdict = match &result {
            AttemptResult::Failed(failure) if failure.status_code == Some(GONE) => Verdict::Gone,
            AttemptResult::Failed(_) => Verdict::Failing,
            _ => Verdict::Healthy,
        };
        let health = Health { endpoint: endpoint.id, was_failing: endpoint.failing_since.is_some(), verdict };
        Report { result, health: Some(health) }
    }
}

impl Webhook {
    async fn post(&self, delivery: &Delivery, endpoint: &Endpoint) -> Result<Answer, Failure> {
        let payload: WebhookPayload = serde_json::from_str(&delivery.payload)
            .map_err(|error| rejected(format!("the payload cannot be read: {error}")))?;
        let url: Url = endpoint
            .url
            .parse()
            .map_err(|error| rejected(format!("the endpoint's URL cannot be read: {error}")))?;
        let now = self.clock.now();
        let headers =
            headers(delivery, endpoint, &payload.body, now).map_err(|error| rejected(error.to_string()))?;
        self.client.post(&url, headers, payload.body, now).await.map_err(|error| {
            let outcome = match &error {
                SendError::Blocked(_) => AttemptOutcome::Blocked,
                SendError::Timeout => AttemptOutcome::TimedOut,
                SendError::Connect(_) | SendError::Tls(_) | SendError::Body(_) | SendError::Other(_) => {
                    AttemptOutcome::Failed
                }
            };
            Failure::new(outcome, error.to_string())
        })
    }
}

fn rejected(error: String) -> Failure {
    Failure::new(AttemptOutcome::Rejected, error)
}

fn judge(answer: Answer) -> AttemptResult {
    let Answer { status, retry_after, excerpt } = answer;
    let (status_code, excerpt) = (Some(status), Some(excerpt).filter(|text| !text.is_empty()));
    let outcome = outcome_of(status);
    if outcome == AttemptOutcome::Delivered {
        return AttemptResult::Sent { status_code, excerpt };
    }
    let error = match status {
        300..=399 => "the receiver redirects; give the final address".to_owned(),
        _ => format!("the receiver answered {status}"),
    };
    AttemptResult::Failed(Failure { outcome, status_code, error, excerpt, retry_after })
}

/// Where the receiver's work belongs: below this try, or where there are no spans, below what brought it about.
fn traceparent(delivery: &Delivery) -> Option<HeaderValue> {
    let own = trace::traceparent_of(&Span::current()).or_else(|| delivery.traceparent.clone())?;
    HeaderValue::from_str(&own).ok()
}

/// The headers of one try. While a secret is being rotated, the one before signs too.
fn headers(
    delivery: &Delivery,
    endpoint: &Endpoint,
    body: &str,
    now: DateTime<Utc>,
) -> Result<HeaderMap, BadSecret> {
    let (id, timestamp) = (delivery.id.to_string(), now.timestamp());
    let mut signature = sign(&endpoint.secret, &id, timestamp, body.as_bytes())?;
    if let (Some(secret), Some(until)) = (&endpoint.previous_secret, endpoint.previous_until)
        && until > now
    {
        signature.push(' ');
        signature.push_str(&sign(secret, &id, timestamp, body.as_bytes())?);
    }
    let value = |text: &str| HeaderValue::from_str(text).map_err(|_| BadSecret);
    let fixed = [
        (CONTENT_TYPE, CLOUDEVENT),
        (ID, value(&id)?),
        (TIMESTAMP, HeaderValue::from(timestamp)),
        (SIGNATURE, value(&signature)?),
    ];
    let trace = traceparent(delivery).map(|trace| (TRACEPARENT, trace));
    Ok(fixed.into_iter().chain(trace).collect())
}
