//! The audit log, for admins.

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;
use taskpost_common::{AuditId, ProjectId, UserId, user::Role};
use taskpost_store::audit::{self, AuditFilter, AuditRow};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    Caller, Error, Tracker,
    pages::{Cursors, Page, PageRequest},
};

/// Something that was done to accounts, rights or settings.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct AuditRecord {
    /// Its id.
    pub id: AuditId,
    /// When it was done.
    pub at: DateTime<Utc>,
    /// Who did it; absent when the system did.
    pub actor_id: Option<UserId>,
    /// What was done.
    #[schema(example = "user.role_changed")]
    pub action: String,
    /// What kind of thing it was done to.
    #[schema(example = "user")]
    pub subject_type: String,
    /// To which of them.
    pub subject_id: Uuid,
    /// The project it belongs to.
    pub project_id: Option<ProjectId>,
    /// Whatever else is worth knowing.
    #[schema(value_type = Object)]
    pub detail: Value,
    /// Names all that the same request brought about.
    pub correlation_id: Uuid,
}

impl Tracker {
    /// A page of the audit log, newest first.
    pub async fn audit_log(
        &self,
        caller: &Caller,
        filter: AuditFilter,
        page: PageRequest,
    ) -> Result<Page<AuditRecord>, Error> {
        caller.require(Role::Admin)?;
        let scope = format!("audit log {} {filter:?}", caller.user_id());
        let cursors = Cursors { key: &self.0.cursors, scope, now: self.0.clock.now() };
        let before = cursors.open::<AuditId>(page.cursor.as_deref())?.map(|(_, id)| id);
        let rows = audit::list(&mut self.0.db.reader().await?, &filter, before, page.limit + 1).await?;
        let page = cursors.page(rows, page.limit, None, |row| row.id)?;
        Ok(page.map(AuditRecord::from))
    }
}

impl From<AuditRow> for AuditRecord {
    fn from(row: AuditRow) -> Self {
        Self {
            id: row.id,
            at: row.at,
            actor_id: row.actor_id,
            action: row.action,
            subject_type: row.subject_type,
            subject_id: row.subject_id,
            project_id: row.project_id,
            detail: row.detail,
            correlation_id: row.correlation_id,
        }
    }
}
