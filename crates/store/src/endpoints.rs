//! Endpoints: the receivers of webhooks.

use chrono::{DateTime, Utc};
use sqlx::FromRow;
use taskpost_common::{EndpointId, Event, ProjectId, UserId, event::EndpointDisabled};
use uuid::Uuid;

use crate::{
    Change, Session, StoreError, Tx, Viewer,
    db::on,
    dynamic::{Bind, Statement},
    events::{self, NewEvent},
    users::own,
};

/// A receiver of webhooks. Its secrets are never serialised from here.
#[derive(Clone)]
pub struct Endpoint {
    /// Its id.
    pub id: EndpointId,
    /// Whose it is: it gets what this user may see.
    pub user_id: UserId,
    /// Only events of this project.
    pub project_id: Option<ProjectId>,
    /// Where requests go.
    pub url: String,
    /// Exact types or families as `task.*`; `*` is all but `delivery.*`.
    pub event_types: Vec<String>,
    /// A note of the owner's.
    pub description: String,
    /// `whsec_…`, signs.
    pub secret: String,
    /// The secret before the last rotation, which signs too for a while.
    pub previous_secret: Option<String>,
    /// Until when it does.
    pub previous_until: Option<DateTime<Utc>>,
    /// Whether it gets anything.
    pub enabled: bool,
    /// Why it does not.
    pub disabled_reason: Option<String>,
    /// Since when every try has failed.
    pub failing_since: Option<DateTime<Utc>>,
    /// Raised by every change of its owner's.
    pub version: i64,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it last changed.
    pub updated_at: DateTime<Utc>,
}

impl std::fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Endpoint").field("id", &self.id).field("url", &self.url).finish_non_exhaustive()
    }
}

/// Stores a new endpoint.
pub async fn insert(tx: &mut Tx, endpoint: &Endpoint) -> Result<(), StoreError> {
    const SQL: &str = "
        INSERT INTO endpoints (id, user_id, project_id, url, event_types, description, secret, enabled, version, created_at, updated_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)";
    on!(tx, |c| sqlx::query(SQL)
        .bind(endpoint.id.0)
        .bind(endpoint.user_id.0)
        .bind(endpoint.project_id.map(|id| id.0))
        .bind(&endpoint.url)
        .bind(endpoint.event_types.join(","))
        .bind(&endpoint.description)
        .bind(&endpoint.secret)
        .bind(endpoint.enabled)
        .bind(endpoint.version)
        .bind(endpoint.created_at)
        .bind(endpoint.updated_at)
        .execute(c)
        .await
        .map(drop)?);
    Ok(())
}

/// Stores what the owner may change; [`StoreError::Stale`] when it is no longer at `version - 1`. Since when it fails is
/// the workers' to say, unless it is to start afresh.
pub async fn update(tx: &mut Tx, endpoint: &Endpoint, afresh: bool) -> Result<(), StoreError> {
    const SQL: &str = "
        UPDATE endpoints SET url = $1, event_types = $2, description = $3, secret = $4, previous_secret = $5,
            previous_until = $6, enabled = $7, disabled_reason = $8,
            failing_since = CASE WHEN $9 THEN NULL ELSE failing_since END, version = $10, updated_at = $11
        WHERE id = $12 AND version = $13";
    let rows = on!(tx, |c| sqlx::query(SQL)
        .bind(&endpoint.url)
        .bind(endpoint.event_types.join(","))
        .bind(&endpoint.description)
        .bind(&endpoint.secret)
        .bind(endpoint.previous_secret.as_deref())
        .bind(endpoint.previous_until)
        .bind(endpoint.enabled)
        .bind(endpoint.disabled_reason.as_deref())
        .bind(afresh)
        .bind(endpoint.version)
        .bind(endpoint.updated_at)
        .bind(endpoint.id.0)
        .bind(endpoint.version - 1)
        .execute(c)
        .await?
        .rows_affected());
    if rows == 0 { Err(StoreError::Stale("the endpoint")) } else { Ok(()) }
}

/// Deletes an endpoint and calls back what waits for it.
pub async fn delete(tx: &mut Tx, id: EndpointId, now: DateTime<Utc>) -> Result<(), StoreError> {
    const CANCEL: &str = "
        UPDATE deliveries SET state = 'cancelled', finished_at = $1, updated_at = $1
        WHERE endpoint_id = $2 AND finished_at IS NULL";
    const SQL: &str = "DELETE FROM endpoints WHERE id = $1";
    on!(tx, |c| sqlx::query(CANCEL).bind(now).bind(id.0).execute(c).await.map(drop)?);
    on!(tx, |c| sqlx::query(SQL).bind(id.0).execute(c).await.map(drop)?);
    Ok(())
}

/// An endpoint, if it is the viewer's or the viewer is an admin.
pub async fn visible(
    session: &mut Session,
    viewer: Viewer,
    id: EndpointId,
) -> Result<Option<Endpoint>, StoreError> {
    const SQL: &str = "SELECT * FROM endpoints WHERE id = $1 AND ($2 OR user_id = $3)";
    let row: Option<Row> = on!(session, |c| sqlx::query_as(SQL)
        .bind(id.0)
        .bind(viewer.admin)
        .bind(viewer.user_id.0)
        .fetch_optional(c)
        .await?);
    Ok(row.map(Endpoint::from))
}

/// A user's endpoints, newest first, older than `before`.
pub async fn list(
    session: &mut Session,
    user: UserId,
    before: Option<EndpointId>,
    limit: usize,
) -> Result<Vec<Endpoint>, StoreError> {
    let mut statement = Statement::new("SELECT * FROM endpoints WHERE user_id = ");
    statement.bind(Bind::Uuid(user.0));
    if let Some(before) = before {
        statement.push(" AND id < ").bind(Bind::Uuid(before.0));
    }
    statement.push(" ORDER BY id DESC LIMIT ").bind(Bind::Int(i64::try_from(limit).unwrap_or(i64::MAX)));
    let rows: Vec<Row> = statement.fetch_all(session).await?;
    Ok(rows.into_iter().map(Endpoint::from).collect())
}

/// Every enabled endpoint, with whether its owner is an admin, who sees everything.
pub async fn enabled(session: &mut Session) -> Result<Vec<(Endpoint, bool)>, StoreError> {
    const SQL: &str = "
        SELECT endpoints.*, users.roles AS owner_roles FROM endpoints JOIN users ON users.id = endpoints.user_id
        WHERE enabled AND users.status = 'active' ORDER BY endpoints.id";
    #[derive(FromRow)]
    struct Owned {
        #[sqlx(flatten)]
        row: Row,
        #[sqlx(try_from = "String")]
        owner_roles: taskpost_common::user::Roles,
    }
    let rows: Vec<Owned> = on!(session, |c| sqlx::query_as(SQL).fetch_all(c).await?);
    Ok(rows.into_iter().map(|owned| (owned.row.into(), owned.owner_roles.is_admin())).collect())
}

/// Endpoints by their ids, in no order.
pub async fn by_ids(session: &mut Session, ids: &[EndpointId]) -> Result<Vec<Endpoint>, StoreError> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let mut statement = Statement::new("SELECT * FROM endpoints WHERE id IN ");
    statement.list(ids.iter().map(|id| Bind::Uuid(id.0)));
    let rows: Vec<Row> = statement.fetch_all(session).await?;
    Ok(rows.into_iter().map(Endpoint::from).collect())
}

/// Notes that tries succeed or fail; gives since when they fail.
pub async fn note_health(
    tx: &mut Tx,
    id: EndpointId,
    healthy: bool,
    now: DateTime<Utc>,
) -> Result<Option<DateTime<Utc>>, StoreError> {
    const SQL: &str = "
        UPDATE endpoints SET failing_since = CASE WHEN $1 THEN NULL ELSE COALESCE(failing_since, $2) END
        WHERE id = $3 AND (failing_since IS NULL) <> $1 RETURNING failing_since";
    const READ: &str = "SELECT failing_since FROM endpoints WHERE id = $1";
    let changed: Option<(Option<DateTime<Utc>>,)> =
        on!(tx, |c| sqlx::query_as(SQL).bind(healthy).bind(now).bind(id.0).fetch_optional(c).await?);
    if let Some((since,)) = changed {
        return Ok(since);
    }
    let row: Option<(Option<DateTime<Utc>>,)> =
        on!(tx, |c| sqlx::query_as(READ).bind(id.0).fetch_optional(c).await?);
    Ok(row.and_then(|(since,)| since))
}

/// Disables an endpoint and appends `endpoint.disabled`; nothing when it is disabled already.
pub async fn disable(
    tx: &mut Tx,
    change: Change<'_>,
    id: EndpointId,
    reason: &str,
) -> Result<(), StoreError> {
    const SQL: &str = "
        UPDATE endpoints SET enabled = $1, disabled_reason = $2, version = version + 1, updated_at = $3
        WHERE id = $4 AND enabled RETURNING user_id, version";
    let row: Option<(Uuid, i64)> = on!(tx, |c| sqlx::query_as(SQL)
        .bind(false)
        .bind(reason)
        .bind(change.clock.now())
        .bind(id.0)
        .fetch_optional(c)
        .await?);
    let Some((owner, version)) = row else { return Ok(()) };
    let event = Event::EndpointDisabled(EndpointDisabled { endpoint_id: id, reason: reason.to_owned() });
    let event = NewEvent::new(change, &event, id.0, version, own(UserId(owner)))?;
    events::append(tx, &[&event]).await
}

#[derive(FromRow)]
struct Row {
    #[sqlx(try_from = "Uuid")]
    id: EndpointId,
    #[sqlx(try_from = "Uuid")]
    user_id: UserId,
    project_id: Option<Uuid>,
    url: String,
    event_types: String,
    description: String,
    secret: String,
    previous_secret: Option<String>,
    previous_until: Option<DateTime<Utc>>,
    enabled: bool,
    disabled_reason: Option<String>,
    failing_since: Option<DateTime<Utc>>,
    version: i64,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

impl From<Row> for Endpoint {
    fn from(row: Row) -> Self {
        Self {
            id: row.id,
            user_id: row.user_id,
            project_id: row.project_id.map(ProjectId),
            url: row.url,
            event_types: row.event_types.split(',').map(str::to_owned).collect(),
            description: row.description,
            secret: row.secret,
            previous_secret: row.previous_secret,
            previous_until: row.previous_until,
            enabled: row.enabled,
            disabled_reason: row.disabled_reason,
            failing_since: row.failing_since,
            version: row.version,
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }
}
