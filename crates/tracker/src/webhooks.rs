//! Webhooks: where a user's events are sent.

mod shapes;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use chrono::{DateTime, Duration, Utc};
use rand::RngExt as _;
use taskpost_common::{
    AttemptId, Cause, DeliveryId, EndpointId, Envelope, Event, EventId, Position, ProjectId,
    delivery::WebhookPayload,
    notification::{Channel, Class},
    page::Direction,
    project::ProjectRole,
};
use taskpost_store::{
    Change, Tx, Viewer,
    audit::{self, NewAudit},
    deliveries::{self, NewDelivery},
    endpoints::{self, Endpoint},
    projects,
};

pub use shapes::{CreateWebhook, PatchWebhook, TestDelivery, Webhook, WebhookAttempt, WebhookWithSecret};

use crate::{
    Answered, Caller, Error, Once, Tracker,
    pages::{Cursors, Page, PageRequest},
    projects::{keep, keep_any},
    validate::{Checks, Lines},
};
use shapes::FORMAT;

/// How many one user may have.
const MOST: usize = 100;
/// How long the secret before a rotation signs too.
const OVERLAP: Duration = Duration::hours(24);

impl Tracker {
    /// Makes a receiver.
    pub async fn create_webhook(
        &self,
        caller: &Caller,
        input: CreateWebhook,
    ) -> Result<WebhookWithSecret, Error> {
        self.check(Some(&input.url), Some(&input.event_types), input.description.as_deref())?;
        if input.format.as_deref().is_some_and(|format| format != FORMAT) {
            return Err(Error::field("/format", "unknown_format", format!("must be {FORMAT}")));
        }
        let (user, viewer) = (caller.user_id(), caller.viewer());
        let endpoint = self
            .change(&caller.cause, move |tx, change| {
                Box::pin(async move {
                    if let Some(project) = input.project_id {
                        require_maintainer(tx, viewer, project).await?;
                    }
                    if endpoints::list(tx, user, None, MOST).await?.len() >= MOST {
                        return Err(Error::Conflict(format!(
                            "a user may have at most {MOST} webhooks; delete one first"
                        )));
                    }
                    let now = change.clock.now();
                    let endpoint = Endpoint {
                        id: change.clock.id(),
                        user_id: user,
                        project_id: input.project_id,
                        url: input.url,
                        event_types: input.event_types,
                        description: input.description.unwrap_or_default(),
                        secret: new_secret(),
                        previous_secret: None,
                        previous_until: None,
                        enabled: true,
                        disabled_reason: None,
                        failing_since: None,
                        version: 1,
                        created_at: now,
                        updated_at: now,
                    };
                    endpoints::insert(tx, &endpoint).await?;
                    record(tx, change, "webhook.created", &endpoint).await?;
                    Ok(endpoint)
                })
            })
            .await?;
        Ok(with_secret(endpoint))
    }

    /// A page of the caller's receivers, newest first.
    pub async fn webhooks(&self, caller: &Caller, page: PageRequest) -> Result<Page<Webhook>, Error> {
        let user = caller.user_id();
        let cursors =
            Cursors { key: &self.0.cursors, scope: format!("webhooks {user}"), now: self.0.clock.now() };
        let before = cursors.open::<EndpointId>(page.cursor.as_deref())?.map(|(_, id)| id);
        let rows = endpoints::list(&mut self.0.db.reader().await?, user, before, page.limit + 1).await?;
        let page = cursors.page(rows, page.limit, None, |endpoint| endpoint.id)?;
        Ok(page.map(Webhook::from))
    }

    /// One receiver.
    pub async fn webhook(&self, caller: &Caller, id: EndpointId) -> Result<Webhook, Error> {
        let endpoint = endpoints::visible(&mut self.0.db.reader().await?, caller.viewer(), id).await?;
        endpoint.map(Webhook::from).ok_or(Error::NotFound("webhook"))
    }

    /// Changes a receiver.
    pub async fn update_webhook(
        &self,
        caller: &Caller,
        id: EndpointId,
        patch: PatchWebhook,
        if_match: Option<i64>,
    ) -> Result<Webhook, Error> {
        let description = patch.description.as_ref().and_then(|given| given.as_deref());
        self.check(patch.url.as_deref(), patch.event_types.as_deref(), description)?;
        let edited = self
            .edit_webhook(caller, id, if_match, "webhook.updated", move |endpoint, _| {
                if let Some(url) = &patch.url {
                    endpoint.url.clone_from(url);
                }
                if let Some(event_types) = &patch.event_types {
                    endpoint.event_types.clone_from(event_types);
                }
                if let Some(description) = &patch.description {
                    endpoint.description = description.clone().unwrap_or_default();
                }
            })
            .await?;
        Ok(edited.into())
    }

    /// Deletes a receiver; what waits for it is called back.
    pub async fn delete_webhook(
        &self,
        caller: &Caller,
        id: EndpointId,
        if_match: Option<i64>,
    ) -> Result<(), Error> {
        let viewer = caller.viewer();
        self.change(&caller.cause, move |tx, change| {
            Box::pin(async move {
                let endpoint = found(tx, viewer, id, if_match).await?;
                endpoints::delete(tx, id, change.clock.now()).await?;
                record(tx, change, "webhook.deleted", &endpoint).await
            })
        })
        .await
    }

    /// Gives a receiver a new secret. The old one signs beside it for 24 hours.
    pub async fn rotate_webhook_secret(
        &self,
        caller: &Caller,
        id: EndpointId,
    ) -> Result<WebhookWithSecret, Error> {
        let edited = self
            .edit_webhook(caller, id, None, "webhook.secret_rotated", |endpoint, now| {
                endpoint.previous_secret = Some(std::mem::replace(&mut endpoint.secret, new_secret()));
                endpoint.previous_until = Some(now + OVERLAP);
            })
            .await?;
        Ok(with_secret(edited))
    }

    /// Switches a receiver on or off.
    pub async fn set_webhook_enabled(
        &self,
        caller: &Caller,
        id: EndpointId,
        enabled: bool,
        once: Once<Webhook>,
    ) -> Result<Answered, Error> {
        let viewer = caller.viewer();
        self.change_once(caller, once, move |tx, change| {
            Box::pin(async move {
                let switch = |endpoint: &mut Endpoint, _| {
                    endpoint.enabled = enabled;
                    endpoint.disabled_reason = (!enabled).then(|| "switched off by its owner".to_owned());
                };
                if enabled {
                    let project = found(tx, viewer, id, None).await?.project_id;
                    require_project(tx, project).await?;
                }
                let endpoint = edit(tx, (viewer, id), None, change.clock.now(), &switch).await?;
                let action = if enabled { "webhook.enabled" } else { "webhook.disabled" };
                record(tx, change, action, &endpoint).await?;
                Ok((Webhook::from(endpoint), None))
            })
        })
        .await
    }

    /// Sends a test event to a receiver, through the same queue as any other.
    pub async fn test_webhook(
        &self,
        caller: &Caller,
        id: EndpointId,
        once: Once<TestDelivery>,
    ) -> Result<Answered, Error> {
        let viewer = caller.viewer();
        let answered = self
            .change_once(caller, once, move |tx, change| {
                Box::pin(async move {
                    let endpoint = found(tx, viewer, id, None).await?;
                    if !endpoint.enabled {
                        return Err(Error::Conflict("the webhook is disabled; enable it first".to_owned()));
                    }
                    let (now, delivery_id) = (change.clock.now(), change.clock.id::<DeliveryId>());
                    let event_id: EventId = change.clock.id();
                    let payload = WebhookPayload {
                        endpoint_id: id,
                        body: test_event(event_id, &endpoint, change.cause, now)?,
                        event_id,
                    };
                    let delivery = NewDelivery {
                        id: delivery_id,
                        channel: Channel::Webhook,
                        class: Class::High,
                        event_id,
                        user_id: None,
                        endpoint_id: Some(id),
                        notification_id: None,
                        payload: serde_json::to_string(&payload)?,
                        traceparent: change.cause.traceparent.clone(),
                        due_at: now,
                    };
                    deliveries::insert(tx, &[delivery], now).await?;
                    Ok((TestDelivery { delivery_id }, None))
                })
            })
            .await?;
        self.0.wakes.deliveries.ring();
        Ok(answered)
    }

    /// A page of the tries at a receiver, newest first.
    pub async fn webhook_attempts(
        &self,
        caller: &Caller,
        id: EndpointId,
        page: PageRequest,
    ) -> Result<Page<WebhookAttempt>, Error> {
        let mut reader = self.0.db.reader().await?;
        endpoints::visible(&mut reader, caller.viewer(), id).await?.ok_or(Error::NotFound("webhook"))?;
        let scope = format!("attempts {} {id}", caller.user_id());
        let cursors = Cursors { key: &self.0.cursors, scope, now: self.0.clock.now() };
        let before = cursors.open::<AttemptId>(page.cursor.as_deref())?.map(|(_, id): (Direction, _)| id);
        let rows = deliveries::endpoint_attempts(&mut reader, id, before, page.limit + 1).await?;
        let page = cursors.page(rows, page.limit, None, |row| row.id)?;
        Ok(page.map(|row| WebhookAttempt {
            id: AttemptId(row.id),
            delivery_id: DeliveryId(row.delivery_id),
            number: row.number,
            outcome: row.outcome,
            status_code: row.status_code,
            error: row.error,
            excerpt: row.excerpt,
            started_at: row.started_at,
            duration_ms: row.duration_ms,
        }))
    }

    async fn edit_webhook(
        &self,
        caller: &Caller,
        id: EndpointId,
        if_match: Option<i64>,
        action: &'static str,
        change_it: impl Fn(&mut Endpoint, DateTime<Utc>) + Send + Sync + 'static,
    ) -> Result<Endpoint, Error> {
        let viewer = caller.viewer();
        self.change(&caller.cause, move |tx, change| {
            Box::pin(async move {
                let endpoint = edit(tx, (viewer, id), if_match, change.clock.now(), &change_it).await?;
                record(tx, change, action, &endpoint).await?;
                Ok(endpoint)
            })
        })
        .await
    }

    fn check(
        &self,
        url: Option<&str>,
        event_types: Option<&[String]>,
        description: Option<&str>,
    ) -> Result<(), Error> {
        let mut checks = Checks::default();
        if let Some(Err(refused)) = url.map(|url| self.0.outbound.check_url(url)) {
            checks.fault("/url", refused.code(), refused.to_string());
        }
        if let Some(event_types) = event_types {
            check_types(&mut checks, event_types);
        }
        if let Some(description) = description {
            checks.text("/description", description, 0, 500, Lines::One);
        }
        checks.finish()
    }
}

fn check_types(checks: &mut Checks, event_types: &[String]) {
    if event_types.is_empty() || event_types.len() > 50 {
        checks.fault("/event_types", "invalid_length", "must have 1 to 50 types");
    }
    let family = |name: &str| {
        name.strip_suffix('*')
            .is_some_and(|family| family.ends_with('.') && Event::TYPES.iter().any(|t| t.starts_with(family)))
    };
    for (i, name) in event_types.iter().take(50).enumerate() {
        if name != "*" && !family(name) && !Event::TYPES.contains(&name.as_str()) {
            let detail = "must be a type such as task.created, a family such as task.*, or *; GET /v1/event-types lists them";
            checks.fault(&format!("/event_types/{i}"), "unknown_type", detail);
        }
    }
}

/// What belongs to a deleted project would never get anything.
async fn require_project(tx: &mut Tx, project: Option<ProjectId>) -> Result<(), Error> {
    let Some(project) = project else { return Ok(()) };
    keep_any(tx, Some(project)).await?;
    match projects::get(tx, project).await? {
        Some(_) => Ok(()),
        None => Err(Error::Conflict("the webhook's project was deleted; delete the webhook too".to_owned())),
    }
}

/// Where a project's events go is for its maintainers to say. It is not deleted until the transaction ends.
async fn require_maintainer(tx: &mut Tx, viewer: Viewer, project: ProjectId) -> Result<(), Error> {
    match keep(tx, viewer, project, ProjectRole::Maintainer).await {
        Ok(_) => Ok(()),
        Err(Error::NotFound(_)) => {
            Err(Error::field("/project_id", "unknown_project", "there is no such project"))
        }
        Err(error) => Err(error),
    }
}

/// Addresses often hold secrets of the receiver, so the log has none.
async fn record(
    tx: &mut Tx,
    change: Change<'_>,
    action: &'static str,
    endpoint: &Endpoint,
) -> Result<(), Error> {
    let row = NewAudit {
        action,
        subject_type: "webhook",
        subject_id: endpoint.id.0,
        project_id: endpoint.project_id,
        detail: serde_json::json!({"user_id": endpoint.user_id}),
    };
    Ok(audit::record(tx, change, row).await?)
}

async fn found(
    tx: &mut Tx,
    viewer: Viewer,
    id: EndpointId,
    if_match: Option<i64>,
) -> Result<Endpoint, Error> {
    let endpoint = endpoints::visible(tx, viewer, id).await?.ok_or(Error::NotFound("webhook"))?;
    match if_match {
        Some(version) if version != endpoint.version => Err(Error::Stale { current: endpoint.version }),
        _ => Ok(endpoint),
    }
}

async fn edit(
    tx: &mut Tx,
    (viewer, id): (Viewer, EndpointId),
    if_match: Option<i64>,
    now: DateTime<Utc>,
    change_it: &(dyn Fn(&mut Endpoint, DateTime<Utc>) + Send + Sync),
) -> Result<Endpoint, Error> {
    let mut endpoint = found(tx, viewer, id, if_match).await?;
    let was_enabled = endpoint.enabled;
    change_it(&mut endpoint, now);
    // Whoever switches it on again starts a new count of its failures.
    let afresh = endpoint.enabled && !was_enabled;
    if afresh {
        endpoint.failing_since = None;
    }
    endpoint.version += 1;
    endpoint.updated_at = now;
    endpoints::update(tx, &endpoint, afresh).await?;
    Ok(endpoint)
}

/// A CloudEvent that is on no log: position 0.
fn test_event(id: EventId, endpoint: &Endpoint, cause: &Cause, now: DateTime<Utc>) -> Result<String, Error> {
    let envelope = Envelope {
        position: Position(0),
        id,
        type_name: "webhook.test".to_owned(),
        aggregate_id: endpoint.id.0,
        aggregate_version: endpoint.version,
        actor_id: cause.actor_id,
        project_id: None,
        owner_id: Some(endpoint.user_id),
        assignee_id: None,
        correlation_id: cause.correlation_id,
        causation_id: None,
        traceparent: cause.traceparent.clone(),
        at: now,
        data: serde_json::json!({"message": "a test of this webhook"}).to_string(),
    };
    Ok(serde_json::to_string(&envelope.to_cloudevent()?)?)
}

/// 256 random bits (Standard Webhooks asks for 192 to 512).
fn new_secret() -> String {
    format!("whsec_{}", STANDARD.encode(rand::rng().random::<[u8; 32]>()))
}

fn with_secret(endpoint: Endpoint) -> WebhookWithSecret {
    let secret = endpoint.secret.clone();
    WebhookWithSecret { webhook: endpoint.into(), secret }
}
