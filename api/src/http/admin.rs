//! What operators look after: the dead letters, and what was done by whom.

use std::str::FromStr;

use axum::{
    extract::State,
    http::{StatusCode, Uri},
    response::Response,
};
use serde::Deserialize;
use taskpost_common::{DeadLetterId, EventId, UserId};
use taskpost_store::{audit::AuditFilter, dead_letters::LetterFilter, idempotency::StoredAnswer};
use taskpost_tracker::{AuditRecord, Discard, Letter, Once, Redrive};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::{
    app::Shared,
    extract::{Admin, Id, Json, Key, OptionalJson, Query},
    pages::{self, Listed},
    problem::Result,
    query::{Limit, Parsed, Word},
    reply::{self, Reply},
};

/// Where a letter stands.
#[derive(Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LetterState {
    /// Waits for somebody to decide.
    Dead,
    /// Is to be handled again.
    Redriving,
    /// Was handled again.
    Redriven,
    /// Was put away.
    Discarded,
}

impl LetterState {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Dead => "dead",
            Self::Redriving => "redriving",
            Self::Redriven => "redriven",
            Self::Discarded => "discarded",
        }
    }
}

/// `log` or `queue`.
struct Source(String);

impl FromStr for Source {
    type Err = &'static str;

    fn from_str(text: &str) -> std::result::Result<Self, &'static str> {
        if matches!(text, "log" | "queue") { Ok(Self(text.to_owned())) } else { Err("must be log or queue") }
    }
}

/// Keys of a list of dead letters.
#[derive(Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(crate) struct LetterKeys {
    /// In this state.
    #[param(inline)]
    state: Option<LetterState>,
    /// `log` or `queue`.
    #[param(value_type = Option<String>, pattern = "^(log|queue)$", example = "queue")]
    source: Option<Parsed<Source>>,
    /// Of this consumer group or channel.
    #[param(value_type = Option<String>, min_length = 1, max_length = 64, example = "webhook")]
    handler: Option<Parsed<Word>>,
    /// How many, 50 when not said.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 200)]
    limit: Limit,
    /// From an earlier page of the same list.
    cursor: Option<String>,
}

/// Keys of the audit log.
#[derive(Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(crate) struct AuditKeys {
    /// What this user did.
    actor_id: Option<UserId>,
    /// This action.
    #[param(value_type = Option<String>, min_length = 1, max_length = 64, example = "user.role_changed")]
    action: Option<Parsed<Word>>,
    /// What was done to this thing.
    subject_id: Option<Uuid>,
    /// How many, 50 when not said.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 200)]
    limit: Limit,
    /// From an earlier page of the same list.
    cursor: Option<String>,
}

/// List who did what
///
/// To accounts, rights and settings, newest first.
#[utoipa::path(
    get, path = "/admin/audit-log", tag = "admin", params(AuditKeys),
    responses((status = 200, description = "A page of the audit log.", body = Listed<AuditRecord>))
)]
pub(crate) async fn list_audit_log(
    State(api): State<Shared>,
    Admin(caller): Admin,
    Query(keys): Query<AuditKeys>,
    uri: Uri,
) -> Result<Response> {
    let page = pages::request(&keys.limit, keys.cursor);
    let filter = AuditFilter {
        actor_id: keys.actor_id,
        action: keys.action.map(|Parsed(Word(action))| action),
        subject_id: keys.subject_id,
    };
    pages::by_cursor(&uri, api.app.tracker.audit_log(&caller, filter, page).await?)
}

/// List dead letters
///
/// Of the log and of the queue, newest first.
#[utoipa::path(
    get, path = "/admin/dead-letters", tag = "admin", params(LetterKeys),
    responses((status = 200, description = "A page of letters.", body = Listed<Letter>))
)]
pub(crate) async fn list_dead_letters(
    State(api): State<Shared>,
    Admin(caller): Admin,
    Query(keys): Query<LetterKeys>,
    uri: Uri,
) -> Result<Response> {
    let page = pages::request(&keys.limit, keys.cursor);
    let filter = LetterFilter {
        state: keys.state.map(|state| state.as_str().to_owned()),
        source: keys.source.map(|Parsed(Source(source))| source),
        handler: keys.handler.map(|Parsed(Word(handler))| handler),
    };
    pages::by_cursor(&uri, api.app.tracker.dead_letters(&caller, filter, page).await?)
}

/// Show a dead letter
#[utoipa::path(
    get, path = "/admin/dead-letters/{id}", tag = "admin", params(("id" = DeadLetterId, Path, description = "The letter.")),
    responses((status = 200, description = "The letter.", body = Letter))
)]
pub(crate) async fn get_dead_letter(
    State(api): State<Shared>,
    Admin(caller): Admin,
    Id(id): Id<DeadLetterId>,
) -> Result<Response> {
    Ok(Reply::json(StatusCode::OK, &api.app.tracker.dead_letter(&caller, id).await?)?.done())
}

/// Handle a dead letter again
///
/// With another payload, if one is given.
#[utoipa::path(
    post, path = "/admin/dead-letters/{id}/redrive", tag = "admin",
    params(("id" = DeadLetterId, Path, description = "The letter.")), request_body = Redrive,
    responses((status = 202, description = "The letter, which is on its way.", body = Letter))
)]
pub(crate) async fn redrive_dead_letter(
    State(api): State<Shared>,
    Admin(caller): Admin,
    Id(id): Id<DeadLetterId>,
    Key(key): Key,
    OptionalJson(input): OptionalJson<Redrive>,
) -> Result<Response> {
    let once = Once { key, render: redriven };
    Ok(Reply::answered(api.app.tracker.redrive(&caller, id, input, once).await?).done())
}

fn redriven(letter: &Letter, event: Option<EventId>) -> std::result::Result<StoredAnswer, serde_json::Error> {
    reply::stored(StatusCode::ACCEPTED, letter, event)
}

/// Put a dead letter away
#[utoipa::path(
    post, path = "/admin/dead-letters/{id}/discard", tag = "admin",
    params(("id" = DeadLetterId, Path, description = "The letter.")), request_body = Discard,
    responses((status = 200, description = "The letter as it is now.", body = Letter))
)]
pub(crate) async fn discard_dead_letter(
    State(api): State<Shared>,
    Admin(caller): Admin,
    Id(id): Id<DeadLetterId>,
    Key(key): Key,
    Json(input): Json<Discard>,
) -> Result<Response> {
    let once = Once { key, render: discarded };
    Ok(Reply::answered(api.app.tracker.discard(&caller, id, input, once).await?).done())
}

fn discarded(
    letter: &Letter,
    event: Option<EventId>,
) -> std::result::Result<StoredAnswer, serde_json::Error> {
    reply::stored(StatusCode::OK, letter, event)
}
