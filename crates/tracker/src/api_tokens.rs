//! One's tokens for machines.

use chrono::{DateTime, Datelike as _, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use taskpost_common::{
    ApiTokenId,
    secret::digest,
    token::{ApiToken, Scope, Scopes},
};
use taskpost_store::{
    Change, Tx, api_tokens,
    audit::{self, NewAudit},
    users,
};
use utoipa::ToSchema;

use crate::{
    Caller, Error, Tracker,
    machine_tokens::{new_secret, session_of},
    pages::{Cursors, Page, PageRequest},
    validate::{Checks, Lines},
};

/// How many one user may have.
const MOST: i64 = 100;

/// A new token.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateApiToken {
    /// What it is for; 1 to 100 characters.
    #[schema(example = "nightly build", min_length = 1, max_length = 100)]
    pub name: String,
    /// What it may be used for; at least one, and `admin` for admins only.
    #[schema(example = json!(["tasks:create"]))]
    pub scopes: Scopes,
    /// When it ends; absent when it does not.
    #[serde(default)]
    pub expires_at: Option<DateTime<Utc>>,
}

/// Another name.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RenameApiToken {
    /// What the token is for; 1 to 100 characters.
    #[schema(example = "nightly build", min_length = 1, max_length = 100)]
    pub name: String,
}

/// A token with its secret, which is shown here and never again.
#[derive(Clone, Serialize, ToSchema)]
pub struct ApiTokenWithSecret {
    /// The token.
    #[serde(flatten)]
    pub token: ApiToken,
    /// `tp_` and 43 characters: the bearer token of its requests.
    pub secret: String,
}

impl Tracker {
    /// Makes a token.
    pub async fn create_api_token(
        &self,
        caller: &Caller,
        input: CreateApiToken,
    ) -> Result<ApiTokenWithSecret, Error> {
        check(caller, &input, self.0.clock.now())?;
        let (user, secret) = (caller.user_id(), new_secret());
        let digest = digest(&secret);
        let token = self
            .change(&caller.cause, move |tx, change| {
                Box::pin(async move {
                    // Whoever makes one at the same time waits here, so that nobody gets one too many.
                    users::for_update(tx, user).await?.ok_or(Error::Unauthenticated)?;
                    if api_tokens::count(tx, user).await? >= MOST {
                        let detail = format!("a user may have at most {MOST} tokens; revoke one first");
                        return Err(Error::Conflict(detail));
                    }
                    let token = ApiToken {
                        id: change.clock.id(),
                        name: input.name,
                        scopes: input.scopes,
                        created_at: change.clock.now(),
                        expires_at: input.expires_at.map(micros),
                        used_at: None,
                    };
                    api_tokens::insert(tx, user, &token, &digest).await?;
                    let detail = json!({"scopes": token.scopes, "expires_at": token.expires_at});
                    record(tx, change, "token.created", token.id, detail).await?;
                    Ok(token)
                })
            })
            .await?;
        Ok(ApiTokenWithSecret { token, secret })
    }

    /// A page of the caller's tokens, newest first.
    pub async fn api_tokens(&self, caller: &Caller, page: PageRequest) -> Result<Page<ApiToken>, Error> {
        let user = caller.user_id();
        let scope = format!("tokens {user}");
        let cursors = Cursors { key: &self.0.cursors, scope, now: self.0.clock.now() };
        let before = cursors.open::<ApiTokenId>(page.cursor.as_deref())?.map(|(_, id)| id);
        let rows = api_tokens::list(&mut self.0.db.reader().await?, user, before, page.limit + 1).await?;
        cursors.page(rows, page.limit, None, |token| token.id)
    }

    /// One of the caller's tokens.
    pub async fn api_token(&self, caller: &Caller, id: ApiTokenId) -> Result<ApiToken, Error> {
        let token = api_tokens::get(&mut self.0.db.reader().await?, caller.user_id(), id).await?;
        token.ok_or(Error::NotFound("token"))
    }

    /// Gives one of the caller's tokens another name.
    pub async fn rename_api_token(
        &self,
        caller: &Caller,
        id: ApiTokenId,
        input: RenameApiToken,
    ) -> Result<ApiToken, Error> {
        let mut checks = Checks::default();
        checks.text("/name", &input.name, 1, 100, Lines::One);
        checks.finish()?;
        let user = caller.user_id();
        self.change(&caller.cause, move |tx, change| {
            Box::pin(async move {
                let token = api_tokens::rename(tx, user, id, &input.name).await?;
                let token = token.ok_or(Error::NotFound("token"))?;
                record(tx, change, "token.renamed", id, json!({})).await?;
                Ok(token)
            })
        })
        .await
    }

    /// Ends one of the caller's tokens; from now on it is refused here, and within a second everywhere.
    pub async fn revoke_api_token(&self, caller: &Caller, id: ApiTokenId) -> Result<(), Error> {
        let user = caller.user_id();
        self.change(&caller.cause, move |tx, change| {
            Box::pin(async move {
                if !api_tokens::revoke(tx, user, id, change.clock.now()).await? {
                    return Err(Error::NotFound("token"));
                }
                record(tx, change, "token.revoked", id, json!({})).await
            })
        })
        .await?;
        let session = session_of(id);
        self.0.machine_tokens.forget(session);
        self.ended(&[session]);
        Ok(())
    }
}

fn check(caller: &Caller, input: &CreateApiToken, now: DateTime<Utc>) -> Result<(), Error> {
    let mut checks = Checks::default();
    checks.text("/name", &input.name, 1, 100, Lines::One);
    if input.scopes.is_empty() {
        checks.fault("/scopes", "too_short", "must have at least one scope");
    }
    if input.scopes.has(Scope::Admin) && !caller.identity.roles.is_admin() {
        checks.fault("/scopes", "not_allowed", "only admins may give a token the scope admin");
    }
    if input.expires_at.is_some_and(|end| end <= now || end.year() > 9999) {
        checks.fault("/expires_at", "out_of_range", "must be a time to come, before the year 10000");
    }
    checks.finish()
}

async fn record(
    tx: &mut Tx,
    change: Change<'_>,
    action: &'static str,
    id: ApiTokenId,
    detail: Value,
) -> Result<(), Error> {
    let row = NewAudit { action, subject_type: "token", subject_id: id.0, project_id: None, detail };
    Ok(audit::record(tx, change, row).await?)
}

/// The store keeps microseconds.
fn micros(time: DateTime<Utc>) -> DateTime<Utc> {
    DateTime::from_timestamp_micros(time.timestamp_micros()).unwrap_or(time)
}
