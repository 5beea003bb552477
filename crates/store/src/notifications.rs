//! The inbox, and the decisions behind it.

use chrono::{DateTime, Utc};
use sqlx::FromRow;
use taskpost_common::{
    DeliveryId, EventId, NotificationId, ProjectId, UserId,
    notification::{Channel, Notification, NotificationType, Reason, Subject},
    user::UserStatus,
};
use uuid::Uuid;

use crate::{
    Session, Start, StoreError, Tx,
    bulk::insert_many,
    db::on,
    dynamic::{Bind, Statement},
};

/// An inbox item and whose it is.
#[derive(Clone, Debug)]
pub struct NewNotification {
    /// Whose.
    pub user_id: UserId,
    /// The item.
    pub item: Notification,
}

/// Stores inbox items; one that this event already gave this user is left as it is.
pub async fn insert(tx: &mut Tx, items: &[NewNotification]) -> Result<(), StoreError> {
    insert_many!(tx, "notifications", items, "ON CONFLICT DO NOTHING", |n| {
        id: uuid = n.item.id.0,
        user_id: uuid = n.user_id.0,
        type: text = n.item.kind.as_str(),
        reason: text = n.item.reason.as_str(),
        title: text = n.item.title.as_str(),
        body: text = n.item.body.as_str(),
        subject_type: text = n.item.subject.kind.as_str(),
        subject_id: uuid = n.item.subject.id,
        event_id: uuid = n.item.event_id.0,
        created_at: timestamptz = n.item.created_at,
    });
    Ok(())
}

/// Up to `limit` of the people that a published post is for, behind `after` in the order of their ids: the members of its
/// project, and everybody when it has none.
pub async fn audience(
    session: &mut Session,
    project: Option<ProjectId>,
    after: Option<UserId>,
    limit: usize,
) -> Result<Vec<(UserId, UserStatus)>, StoreError> {
    const EVERYBODY: &str = "SELECT id, status FROM users WHERE id > $1 ORDER BY id LIMIT $2";
    const MEMBERS: &str = "
        SELECT m.user_id, users.status FROM members AS m JOIN users ON users.id = m.user_id
        WHERE m.user_id > $1 AND m.project_id = $3 ORDER BY m.user_id LIMIT $2";
    let after = after.map_or(Uuid::nil(), |id| id.0);
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows: Vec<(Uuid, String)> = match project {
        None => on!(session, |c| sqlx::query_as(EVERYBODY).bind(after).bind(limit).fetch_all(c).await?),
        Some(id) => {
            on!(session, |c| sqlx::query_as(MEMBERS).bind(after).bind(limit).bind(id.0).fetch_all(c).await?)
        }
    };
    let status =
        |word: String| word.parse::<UserStatus>().map_err(|error| StoreError::Corrupt(error.to_string()));
    rows.into_iter().map(|(id, word)| Ok((UserId(id), status(word)?))).collect()
}

/// What was decided for one event, user and channel.
#[derive(Clone, Debug)]
pub struct Decision {
    /// The event.
    pub event_id: EventId,
    /// The candidate.
    pub user_id: UserId,
    /// The channel.
    pub channel: Channel,
    /// Whether it was sent.
    pub sent: bool,
    /// Why this user was a candidate.
    pub reason: Reason,
    /// The rule that decided.
    pub rule: &'static str,
    /// The delivery, when the channel has one.
    pub delivery_id: Option<DeliveryId>,
    /// When.
    pub at: DateTime<Utc>,
}

/// Stores decisions; the first one for an event, user and channel stays.
pub async fn insert_decisions(tx: &mut Tx, decisions: &[Decision]) -> Result<(), StoreError> {
    insert_many!(tx, "decisions", decisions, "ON CONFLICT DO NOTHING", |d| {
        event_id: uuid = d.event_id.0,
        user_id: uuid = d.user_id.0,
        channel: text = d.channel.as_str(),
        outcome: text = if d.sent { "sent" } else { "suppressed" },
        reason: text = d.reason.as_str(),
        rule: text = d.rule,
        delivery_id: uuid = d.delivery_id.map(|id| id.0),
        at: timestamptz = d.at,
    });
    Ok(())
}

/// Which inbox items are wanted.
#[derive(Clone, Debug, Default)]
pub struct InboxFilter {
    /// `true`: unread only; `false`: read only.
    pub unread: Option<bool>,
    /// One of these types.
    pub kinds: Vec<NotificationType>,
    /// For one of these reasons.
    pub reasons: Vec<Reason>,
}

impl InboxFilter {
    fn narrow(&self, statement: &mut Statement, user: UserId) {
        statement.push(" WHERE archived_at IS NULL AND user_id = ").bind(Bind::Uuid(user.0));
        match self.unread {
            Some(true) => statement.push(" AND read_at IS NULL"),
            Some(false) => statement.push(" AND read_at IS NOT NULL"),
            None => statement,
        };
        if !self.kinds.is_empty() {
            statement.push(" AND type IN ").list(self.kinds.iter().map(|kind| Bind::Text(kind.to_string())));
        }
        if !self.reasons.is_empty() {
            statement
                .push(" AND reason IN ")
                .list(self.reasons.iter().map(|reason| Bind::Text(reason.to_string())));
        }
    }
}

/// A page of a user's inbox, newest first.
pub async fn list(
    session: &mut Session,
    user: UserId,
    filter: &InboxFilter,
    start: Start<NotificationId>,
    limit: usize,
) -> Result<Vec<Notification>, StoreError> {
    let mut statement = Statement::new("SELECT * FROM notifications");
    filter.narrow(&mut statement, user);
    start.page(&mut statement, limit);
    let rows: Vec<Row> = statement.fetch_all(session).await?;
    Ok(start.newest_first(rows.into_iter().map(Notification::from).collect()))
}

/// How many items the filter matches.
pub async fn count(session: &mut Session, user: UserId, filter: &InboxFilter) -> Result<i64, StoreError> {
    let mut statement = Statement::new("SELECT count(*) FROM notifications");
    filter.narrow(&mut statement, user);
    let rows: Vec<(i64,)> = statement.fetch_all(session).await?;
    Ok(rows.first().map_or(0, |(count,)| *count))
}

/// Marks one item of a user; `None` leaves a mark as it is. `None` comes back when the user has no such item.
pub async fn mark(
    tx: &mut Tx,
    user: UserId,
    id: NotificationId,
    read: Option<bool>,
    archived: Option<bool>,
    now: DateTime<Utc>,
) -> Result<Option<Notification>, StoreError> {
    const SQL: &str = "
        UPDATE notifications SET
            read_at = CASE WHEN $1 THEN COALESCE(read_at, $3) WHEN $2 THEN NULL ELSE read_at END,
            archived_at = CASE WHEN $4 THEN COALESCE(archived_at, $3) WHEN $5 THEN NULL ELSE archived_at END
        WHERE id = $6 AND user_id = $7 RETURNING *";
    let row: Option<Row> = on!(tx, |c| sqlx::query_as(SQL)
        .bind(read == Some(true))
        .bind(read == Some(false))
        .bind(now)
        .bind(archived == Some(true))
        .bind(archived == Some(false))
        .bind(id.0)
        .bind(user.0)
        .fetch_optional(c)
        .await?);
    Ok(row.map(Notification::from))
}

/// Marks all of a user's items read; gives how many were unread.
pub async fn mark_all_read(tx: &mut Tx, user: UserId, now: DateTime<Utc>) -> Result<u64, StoreError> {
    const SQL: &str = "UPDATE notifications SET read_at = $1 WHERE user_id = $2 AND read_at IS NULL AND archived_at IS NULL";
    Ok(on!(tx, |c| sqlx::query(SQL).bind(now).bind(user.0).execute(c).await?.rows_affected()))
}

#[derive(FromRow)]
struct Row {
    #[sqlx(try_from = "Uuid")]
    id: NotificationId,
    #[sqlx(try_from = "String")]
    r#type: NotificationType,
    #[sqlx(try_from = "String")]
    reason: Reason,
    title: String,
    body: String,
    subject_type: String,
    subject_id: Uuid,
    #[sqlx(try_from = "Uuid")]
    event_id: EventId,
    created_at: DateTime<Utc>,
    read_at: Option<DateTime<Utc>>,
    archived_at: Option<DateTime<Utc>>,
}

impl From<Row> for Notification {
    fn from(row: Row) -> Self {
        Self {
            id: row.id,
            kind: row.r#type,
            reason: row.reason,
            title: row.title,
            body: row.body,
            subject: Subject::new(row.subject_type, row.subject_id),
            event_id: row.event_id,
            created_at: row.created_at,
            read_at: row.read_at,
            archived_at: row.archived_at,
        }
    }
}
