//! What clients send and see of webhooks.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use taskpost_common::{AttemptId, DeliveryId, EndpointId, ProjectId};
use taskpost_store::endpoints::Endpoint;
use utoipa::ToSchema;

use crate::tasks::present;

/// The one format there is yet.
pub(super) const FORMAT: &str = "cloudevents";

/// A new receiver.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateWebhook {
    /// An http or https address that the public Internet reaches.
    #[schema(example = "https://hooks.example.org/taskpost")]
    pub url: String,
    /// Types or families, such as `task.created` or `task.*`; `*` is all but what is about deliveries.
    #[schema(example = json!(["task.*"]), min_items = 1, max_items = 50)]
    pub event_types: Vec<String>,
    /// Only events of this project, of which one must be a maintainer.
    #[serde(default)]
    pub project_id: Option<ProjectId>,
    /// `cloudevents`.
    #[serde(default)]
    pub format: Option<String>,
    /// A note of at most 500 characters.
    #[serde(default)]
    #[schema(max_length = 500)]
    pub description: Option<String>,
}

/// A merge patch: what is absent stays, null empties.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PatchWebhook {
    /// Another address.
    #[serde(default, deserialize_with = "present")]
    #[schema(nullable = false)]
    pub url: Option<String>,
    /// Other types.
    #[serde(default, deserialize_with = "present")]
    #[schema(nullable = false, min_items = 1, max_items = 50)]
    pub event_types: Option<Vec<String>>,
    /// Another note.
    #[serde(default, deserialize_with = "present")]
    #[schema(max_length = 500)]
    pub description: Option<Option<String>>,
}

/// A receiver, without its secret.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Webhook {
    /// Its id.
    pub id: EndpointId,
    /// Where requests go.
    pub url: String,
    /// What it gets.
    pub event_types: Vec<String>,
    /// Only events of this project.
    pub project_id: Option<ProjectId>,
    /// `cloudevents`.
    pub format: &'static str,
    /// A note.
    pub description: String,
    /// Whether it gets anything.
    pub enabled: bool,
    /// Why it does not.
    pub disabled_reason: Option<String>,
    /// Since when every try has failed.
    pub failing_since: Option<DateTime<Utc>>,
    /// Raised by every change.
    pub version: i64,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it last changed.
    pub updated_at: DateTime<Utc>,
}

/// A receiver with its secret, which is shown here and never again.
#[derive(Clone, Serialize, ToSchema)]
pub struct WebhookWithSecret {
    /// The receiver.
    #[serde(flatten)]
    pub webhook: Webhook,
    /// `whsec_` and base64: verifies signatures (Standard Webhooks).
    pub secret: String,
}

/// A test that is under way.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct TestDelivery {
    /// Its `webhook-id`.
    pub delivery_id: DeliveryId,
}

/// One try at a receiver.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct WebhookAttempt {
    /// Its id.
    pub id: AttemptId,
    /// The `webhook-id` it carried.
    pub delivery_id: DeliveryId,
    /// Which try of the delivery, from 1.
    pub number: i64,
    /// delivered, failed, rejected, blocked, timed_out or panicked.
    pub outcome: String,
    /// What the receiver answered.
    pub status_code: Option<i64>,
    /// What failed.
    pub error: Option<String>,
    /// The first of what the receiver said.
    pub excerpt: Option<String>,
    /// When it began.
    pub started_at: DateTime<Utc>,
    /// How long it took, in milliseconds.
    pub duration_ms: i64,
}

impl From<Endpoint> for Webhook {
    fn from(endpoint: Endpoint) -> Self {
        Self {
            id: endpoint.id,
            url: endpoint.url,
            event_types: endpoint.event_types,
            project_id: endpoint.project_id,
            format: FORMAT,
            description: endpoint.description,
            enabled: endpoint.enabled,
            disabled_reason: endpoint.disabled_reason,
            failing_since: endpoint.failing_since,
            version: endpoint.version,
            created_at: endpoint.created_at,
            updated_at: endpoint.updated_at,
        }
    }
}
