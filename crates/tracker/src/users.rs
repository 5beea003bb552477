//! Users: who there is, and what admins do about it.

mod change;
mod patch;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use taskpost_common::{
    EventId, UserId,
    user::{Role, Roles, User, UserStatus},
};
use taskpost_store::{
    StoreError, Viewer,
    users::{self, UserFilter},
};
use utoipa::ToSchema;

use crate::{
    Answered, Caller, Error, Once, Tracker,
    auth::taken_by_many,
    pages::{Cursors, Page, Paging},
};
pub(crate) use change::store_roles;
use change::{Changed, locked, store_fields};
use patch::{check_patch, patched};

pub use patch::PatchUser;

/// An account that an admin makes.
#[derive(Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateUser {
    /// Unique; compared without case.
    #[schema(example = "ada@example.org")]
    pub email: String,
    /// How others see the user.
    #[schema(example = "Ada Lovelace", min_length = 1, max_length = 100)]
    pub name: String,
    /// 12 to 128 characters; its owner can set another one.
    #[schema(example = "correct horse battery", min_length = 12, max_length = 128)]
    pub password: String,
    /// Roles on the instance.
    #[serde(default)]
    pub roles: Roles,
}

/// Other roles.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetRoles {
    /// All roles that the user has from now on.
    #[schema(example = json!(["moderator"]))]
    pub roles: Roles,
}

/// A user as everybody sees it.
#[derive(Clone, Debug, Serialize, ToSchema)]
// Or the document would say that a whole user is one too.
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// Its id.
    pub id: UserId,
    /// Unique, lower case, derived from the name.
    pub handle: String,
    /// The name as given.
    pub name: String,
    /// Roles on the instance.
    pub roles: Roles,
    /// Whether the account may be used.
    pub status: UserStatus,
    /// A name of the IANA time zone database.
    pub timezone: String,
    /// When the account was made.
    pub created_at: DateTime<Utc>,
}

/// A user as the caller may see it.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub enum SeenUser {
    /// Oneself, and for admins everybody.
    Whole(User),
    /// Somebody else.
    Profile(Profile),
}

impl Tracker {
    /// A page of the users, newest first.
    pub async fn users(
        &self,
        caller: &Caller,
        filter: UserFilter,
        paging: Paging,
    ) -> Result<Page<SeenUser>, Error> {
        let viewer = caller.viewer();
        let scope = format!("users {} {filter:?}", caller.user_id());
        let cursors = Cursors { key: &self.0.cursors, scope, now: self.0.clock.now() };
        let (start, came, limit) = paging.start(&cursors)?;
        let mut reader = self.0.db.reader().await?;
        let found = users::list(&mut reader, &filter, start, limit).await?;
        let page = match paging {
            Paging::Numbered { .. } => Page::numbered(found, users::count(&mut reader, &filter).await?),
            Paging::Cursor(page) => cursors.page(found, page.limit, came, |user| user.id)?,
        };
        Ok(page.map(|user| seen(user, viewer)))
    }

    /// A user, with its version.
    pub async fn user(&self, caller: &Caller, id: UserId) -> Result<(SeenUser, i64), Error> {
        let user = users::get(&mut self.0.db.reader().await?, id).await?.ok_or(Error::NotFound("user"))?;
        let version = user.version;
        Ok((seen(user, caller.viewer()), version))
    }

    /// Makes an account for somebody else.
    pub async fn create_user(
        &self,
        caller: &Caller,
        input: CreateUser,
        once: Once<User>,
    ) -> Result<Answered, Error> {
        caller.require(Role::Admin)?;
        let account = self.new_account(&input.email, &input.name, input.password).await?;
        for _ in 0..3 {
            let (account, roles) = (account.clone(), input.roles.clone());
            let once = Once { key: once.key.clone(), render: once.render };
            let made = self
                .change_once(caller, once, move |tx, change| {
                    Box::pin(async move {
                        let user = account.user(tx, change, roles).await?;
                        let event = account.store(tx, change, &user).await?;
                        Ok((user, Some(event)))
                    })
                })
                .await;
            match made {
                // Somebody took the e-mail or the handle meanwhile; looking again tells which.
                Err(Error::Store(StoreError::Constraint(_))) => {}
                done => return done,
            }
        }
        Err(taken_by_many())
    }

    /// Changes an account: everybody their own, admins every one.
    pub async fn update_user(
        &self,
        caller: &Caller,
        id: UserId,
        patch: PatchUser,
        if_match: Option<i64>,
    ) -> Result<(User, Option<EventId>), Error> {
        let own = id == caller.user_id();
        if patch.status.is_some() || !own {
            caller.require(Role::Admin)?;
        }
        self.edit_user(caller, id, patch, if_match).await
    }

    /// Disables an account, and ends its sessions.
    pub async fn disable_user(
        &self,
        caller: &Caller,
        id: UserId,
        if_match: Option<i64>,
    ) -> Result<Option<EventId>, Error> {
        caller.require(Role::Admin)?;
        let patch = PatchUser { status: Some(UserStatus::Disabled), ..PatchUser::default() };
        Ok(self.edit_user(caller, id, patch, if_match).await?.1)
    }

    /// Gives a user other roles, and ends its sessions, whose tokens hold the old ones.
    pub async fn set_roles(
        &self,
        caller: &Caller,
        id: UserId,
        input: SetRoles,
        if_match: Option<i64>,
    ) -> Result<(User, Option<EventId>), Error> {
        caller.require(Role::Admin)?;
        let changed = self
            .change(&caller.cause, move |tx, change| {
                Box::pin(async move {
                    let before = locked(tx, id, if_match).await?;
                    store_roles(tx, change, &before, input.roles).await
                })
            })
            .await?;
        Ok(self.told(changed))
    }

    /// Checks and stores a change of an account by whoever may make it.
    pub(crate) async fn edit_user(
        &self,
        caller: &Caller,
        id: UserId,
        patch: PatchUser,
        if_match: Option<i64>,
    ) -> Result<(User, Option<EventId>), Error> {
        check_patch(&patch)?;
        let changed = self
            .change(&caller.cause, move |tx, change| {
                Box::pin(async move {
                    let before = locked(tx, id, if_match).await?;
                    let after = patched(before.clone(), patch);
                    store_fields(tx, change, &before, after).await
                })
            })
            .await?;
        Ok(self.told(changed))
    }

    /// After the commit: whoever has lost rights has lost them at once.
    fn told(&self, (user, event, ended): Changed) -> (User, Option<EventId>) {
        self.0.machine_tokens.forget_user(user.id);
        self.ended(&ended);
        (user, event)
    }
}

fn seen(user: User, viewer: Viewer) -> SeenUser {
    if viewer.admin || viewer.user_id == user.id {
        return SeenUser::Whole(user);
    }
    let User { id, handle, name, roles, status, timezone, created_at, .. } = user;
    SeenUser::Profile(Profile { id, handle, name, roles, status, timezone, created_at })
}
