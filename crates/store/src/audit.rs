//! The audit log: who did what to accounts, rights and settings.

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::FromRow;
use taskpost_common::{AuditId, ProjectId, UserId};
use uuid::Uuid;

use crate::{
    Change, Session, StoreError, Tx,
    db::on,
    dynamic::{Bind, Statement},
};

/// Something to be recorded; who did it, when and in which request is known of every change.
#[derive(Clone, Debug)]
pub struct NewAudit {
    /// What was done, named like an event: `user.role_changed`.
    pub action: &'static str,
    /// What kind of thing it was done to.
    pub subject_type: &'static str,
    /// To which of them.
    pub subject_id: Uuid,
    /// The project it belongs to.
    pub project_id: Option<ProjectId>,
    /// Whatever else is worth knowing: a JSON object, without secrets.
    pub detail: Value,
}

/// A row of the log.
#[derive(Clone, Debug)]
pub struct AuditRow {
    /// Its id.
    pub id: AuditId,
    /// When it was done.
    pub at: DateTime<Utc>,
    /// Who did it; absent when the system did.
    pub actor_id: Option<UserId>,
    /// What was done.
    pub action: String,
    /// What kind of thing it was done to.
    pub subject_type: String,
    /// To which of them.
    pub subject_id: Uuid,
    /// The project it belongs to.
    pub project_id: Option<ProjectId>,
    /// Whatever else is worth knowing: a JSON object.
    pub detail: Value,
    /// Names all that the same request brought about.
    pub correlation_id: Uuid,
}

/// Which rows are wanted.
#[derive(Clone, Debug, Default)]
pub struct AuditFilter {
    /// What this user did.
    pub actor_id: Option<UserId>,
    /// This action.
    pub action: Option<String>,
    /// What was done to this thing.
    pub subject_id: Option<Uuid>,
}

/// Records what the change does.
pub async fn record(tx: &mut Tx, change: Change<'_>, row: NewAudit) -> Result<(), StoreError> {
    const SQL: &str = "
        INSERT INTO audit_log (id, at, actor_id, action, subject_type, subject_id, project_id, detail, correlation_id)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";
    let NewAudit { action, subject_type, subject_id, project_id, detail } = row;
    let id: AuditId = change.clock.id();
    on!(tx, |c| sqlx::query(SQL)
        .bind(id.0)
        .bind(change.clock.now())
        .bind(change.cause.actor_id.map(|id| id.0))
        .bind(action)
        .bind(subject_type)
        .bind(subject_id)
        .bind(project_id.map(|id| id.0))
        .bind(detail.to_string())
        .bind(change.cause.correlation_id)
        .execute(c)
        .await
        .map(drop)?);
    Ok(())
}

/// The log, newest first, older than `before`.
pub async fn list(
    session: &mut Session,
    filter: &AuditFilter,
    before: Option<AuditId>,
    limit: usize,
) -> Result<Vec<AuditRow>, StoreError> {
    let mut statement = Statement::new("SELECT * FROM audit_log WHERE TRUE");
    if let Some(actor) = filter.actor_id {
        statement.push(" AND actor_id = ").bind(Bind::Uuid(actor.0));
    }
    if let Some(action) = &filter.action {
        statement.push(" AND action = ").bind(Bind::Text(action.clone()));
    }
    if let Some(subject) = filter.subject_id {
        statement.push(" AND subject_id = ").bind(Bind::Uuid(subject));
    }
    if let Some(before) = before {
        statement.push(" AND id < ").bind(Bind::Uuid(before.0));
    }
    statement.push(" ORDER BY id DESC LIMIT ").bind(Bind::Int(i64::try_from(limit).unwrap_or(i64::MAX)));
    let rows: Vec<Row> = statement.fetch_all(session).await?;
    rows.into_iter().map(AuditRow::try_from).collect()
}

#[derive(FromRow)]
struct Row {
    #[sqlx(try_from = "Uuid")]
    id: AuditId,
    at: DateTime<Utc>,
    actor_id: Option<Uuid>,
    action: String,
    subject_type: String,
    subject_id: Uuid,
    project_id: Option<Uuid>,
    detail: String,
    correlation_id: Uuid,
}

impl TryFrom<Row> for AuditRow {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        Ok(Self {
            id: row.id,
            at: row.at,
            actor_id: row.actor_id.map(UserId),
            action: row.action,
            subject_type: row.subject_type,
            subject_id: row.subject_id,
            project_id: row.project_id.map(ProjectId),
            detail: serde_json::from_str(&row.detail)?,
            correlation_id: row.correlation_id,
        })
    }
}
