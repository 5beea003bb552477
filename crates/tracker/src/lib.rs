//! The use cases of Taskpost: authorise, validate, one transaction. The only rules are here.
//!
//! REST, and later gRPC, the page and the CLI, call these methods; nobody else changes the store on a person's behalf.

mod access;
mod account;
mod api_tokens;
mod audit;
mod auth;
mod board;
mod categories;
mod change;
mod comments;
mod committer;
mod dead_letters;
mod error;
mod events;
mod health;
mod inbox;
pub mod ingest;
mod labels;
mod lists;
mod lookup;
mod machine_tokens;
mod members;
mod mentions;
mod new_account;
mod operator;
mod pages;
mod passwords;
mod placing;
mod posts;
mod projects;
mod resets;
mod revoked;
mod seed;
mod shedding;
mod tasks;
mod tokens;
mod users;
mod validate;
mod watches;
mod webhooks;
mod workflow;

use std::sync::Arc;

use secrecy::SecretString;
use taskpost_common::{
    Cause, Clock, SessionId, UserId,
    config::Config,
    net::Outbound,
    page::CursorKey,
    secret::{Keys, Purpose},
    token::Scopes,
    user::{Role, Roles},
};
use taskpost_ports::{Limiter, Log, Queue, Spread, Wakes};
use taskpost_store::{Db, Viewer};
use tokio::task::JoinSet;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::Uuid;

use shedding::Shedding;

pub use account::{ChangePassword, PatchMe, UserSession};
pub use api_tokens::{ApiTokenWithSecret, CreateApiToken, RenameApiToken};
pub use audit::AuditRecord;
pub use auth::{LoggedIn, Login, RefreshInput, Register};
pub use board::{Board, BoardCard, BoardColumn, BoardRequest, BoardSource};
pub use categories::{CreateCategory, PatchCategory};
pub use change::{Answered, Once, OnceKey};
pub use comments::{CreateComment, PatchComment};
pub use dead_letters::{Discard, Letter, LetterAttempt, Redrive};
pub use error::Error;
pub use health::{Check, Checkup, Health, HealthStatus};
pub use inbox::MarkNotification;
pub use ingest::Accepted;
pub use labels::{CreateLabel, PatchLabel};
pub use lists::{CreateStatus, CreateTaskType, PatchStatus, PatchTaskType, TaskType};
pub use members::{AddMember, ChangeRole};
pub use pages::{Page, PageRequest, Paging};
pub use posts::{CreatePost, PatchPost};
pub use projects::{CreateProject, Part, PatchProject};
pub use resets::{Forgot, Reset};
pub use seed::{DEMO_PASSWORD, Demo, Seeded};
pub use tasks::{BatchItem, CreateTask, HistoryItem, PatchTask, Reassign, Reassigned, TaskName, Transition};
pub use users::{CreateUser, PatchUser, Profile, SeenUser, SetRoles};
pub use watches::{AddWatchers, SetWatch, Watchers};
pub use webhooks::{CreateWebhook, PatchWebhook, TestDelivery, Webhook, WebhookAttempt, WebhookWithSecret};

/// All use cases. Cheap to clone.
#[derive(Clone)]
pub struct Tracker(Arc<Inner>);

struct Inner {
    db: Db,
    log: Log,
    checkup: Checkup,
    spread: Spread,
    wakes: Wakes,
    clock: Clock,
    tokens: tokens::Tokens,
    machine_tokens: machine_tokens::MachineTokens,
    passwords: passwords::Passwords,
    revoked: revoked::Revoked,
    committer: committer::Committer,
    lookup: lookup::Lookup,
    cursors: CursorKey,
    mail_keys: Keys,
    body_keys: Keys,
    outbound: Outbound,
    first_user_is_admin: bool,
    /// Changes that outlive the request that asked for them.
    changes: TaskTracker,
}

/// What a tracker stands on.
pub struct Parts {
    /// The store.
    pub db: Db,
    /// The event log.
    pub log: Log,
    /// The delivery queue, for its health; none where another process delivers.
    pub queue: Option<Queue>,
    /// The rate limiter, for its health.
    pub limiter: Arc<Limiter>,
    /// How other processes learn at once which sessions have ended.
    pub spread: Spread,
    /// The bells to ring after a commit.
    pub wakes: Wakes,
    /// Time and ids.
    pub clock: Clock,
    /// The first signs, all verify; at least one.
    pub secrets: Vec<SecretString>,
}

impl Tracker {
    /// Builds the use cases and starts what they own: the committer and the watch over revoked sessions. Those end
    /// on `stop`, after what they hold is done.
    pub async fn start(
        parts: Parts,
        config: &Config,
        tasks: &mut JoinSet<()>,
        stop: CancellationToken,
    ) -> Result<Self, Error> {
        let (committer, run) = committer::new(
            &parts.db,
            parts.clock.clone(),
            parts.wakes.clone(),
            config.commit_queue,
            Shedding::new(config.commit_wait),
        );
        let (lookup, reader) = lookup::new(parts.db.clone());
        let inner = Arc::new(Inner {
            lookup,
            checkup: Checkup::of(&parts),
            tokens: tokens::Tokens::new(&parts.secrets, &config.instance)?,
            machine_tokens: machine_tokens::MachineTokens::default(),
            passwords: passwords::Passwords::new()?,
            revoked: revoked::Revoked::default(),
            cursors: CursorKey::derive(tokens::first(&parts.secrets)?),
            mail_keys: Keys::derive(&parts.secrets, Purpose::MailedToken),
            body_keys: Keys::derive(&parts.secrets, Purpose::RequestBody),
            outbound: Outbound {
                allow_private: config.webhooks.allow_private,
                ports: config.webhooks.ports.clone(),
            },
            first_user_is_admin: config.first_user_is_admin,
            changes: TaskTracker::new(),
            committer,
            db: parts.db,
            log: parts.log,
            spread: parts.spread,
            wakes: parts.wakes,
            clock: parts.clock,
        });
        inner.revoked.refresh(&inner.db, inner.clock.now()).await?;
        if let Some(ingest) = inner.log.ingest() {
            ingest.connect().map_err(|error| Error::Internal(error.to_string()))?;
        }
        tasks.spawn(run.run(stop.clone()));
        tasks.spawn(reader.run(stop.clone()));
        let ended = inner.spread.listen();
        tasks.spawn(revoked::hear(inner.clone(), ended, stop.clone()));
        tasks.spawn(revoked::watch(inner.clone(), stop));
        Ok(Self(inner))
    }

    /// Waits until every change that was begun has ended.
    pub async fn drain(&self) {
        self.0.changes.close();
        self.0.changes.wait().await;
    }

    /// Time and ids.
    pub fn clock(&self) -> &Clock {
        &self.0.clock
    }
}

/// Who a good token belongs to.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The user.
    pub user_id: UserId,
    /// The session, which may be revoked; of a token for machines, its own id.
    pub session_id: SessionId,
    /// Roles as of when the access token was made; of a token for machines as of now, as far as its scopes reach.
    pub roles: Roles,
    /// What a token for machines may be used for; none of a login, which may do all that its user may.
    pub scopes: Option<Scopes>,
}

/// What is known of a request whose caller is not.
#[derive(Clone, Debug, Default)]
pub struct RequestInfo {
    /// Correlation and trace.
    pub cause: Cause,
    /// What calls, as it names itself.
    pub user_agent: String,
}

/// A known caller, in one request.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Who.
    pub identity: Identity,
    /// What their changes are recorded with.
    pub cause: Cause,
}

impl Caller {
    /// A caller in the request named by its correlation id.
    pub const fn new(identity: Identity, correlation_id: Uuid, traceparent: Option<String>) -> Self {
        let cause =
            Cause { actor_id: Some(identity.user_id), correlation_id, causation_id: None, traceparent };
        Self { identity, cause }
    }

    const fn user_id(&self) -> UserId {
        self.identity.user_id
    }

    fn viewer(&self) -> Viewer {
        Viewer { user_id: self.identity.user_id, admin: self.identity.roles.is_admin() }
    }

    fn require(&self, role: Role) -> Result<(), Error> {
        if self.identity.roles.has(role) {
            Ok(())
        } else {
            Err(Error::Forbidden("this needs the role admin"))
        }
    }
}
