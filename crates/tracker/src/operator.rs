//! Accounts on the command line: whoever has the store may do this, and nobody is logged in.

use serde_json::json;
use taskpost_common::{
    Cause, UserId,
    user::{Roles, User},
};
use taskpost_store::{
    StoreError,
    audit::{self, NewAudit},
    password_resets, sessions, users,
};

use crate::{
    CreateUser, Error, Tracker,
    auth::taken_by_many,
    new_account::{check_password, normal_email},
    users::store_roles,
    validate::Checks,
};

impl Tracker {
    /// Makes an account.
    pub async fn make_account(&self, input: CreateUser) -> Result<User, Error> {
        let account = self.new_account(&input.email, &input.name, input.password).await?;
        for _ in 0..3 {
            let (account, roles) = (account.clone(), input.roles.clone());
            let made = self
                .change(&self.operator(), move |tx, change| {
                    Box::pin(async move {
                        let user = account.user(tx, change, roles).await?;
                        account.store(tx, change, &user).await?;
                        Ok(user)
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

    /// Gives the account of this e-mail these roles in place of those it has, and ends its sessions.
    pub async fn give_roles(&self, email: &str, roles: Roles) -> Result<User, Error> {
        let id = self.account_of(email).await?;
        let (user, _, ended) = self
            .change(&self.operator(), move |tx, change| {
                Box::pin(async move {
                    let (before, _) = users::for_update(tx, id).await?.ok_or(Error::NotFound("user"))?;
                    store_roles(tx, change, &before, roles).await
                })
            })
            .await?;
        self.ended(&ended);
        Ok(user)
    }

    /// Gives the account of this e-mail another password, and ends its sessions; the outcome says how many those were.
    pub async fn give_password(&self, email: &str, password: String) -> Result<(User, usize), Error> {
        let mut checks = Checks::default();
        check_password(&mut checks, "/password", &password);
        checks.finish()?;
        let id = self.account_of(email).await?;
        let hash = self.0.passwords.hash(password).await?;
        let (user, ended) = self
            .change(&self.operator(), move |tx, change| {
                Box::pin(async move {
                    let (before, _) = users::for_update(tx, id).await?.ok_or(Error::NotFound("user"))?;
                    let (user, _) = users::set_password(tx, change, &before, &hash).await?;
                    let (ended, _) = sessions::revoke_all(tx, change, &user, None).await?;
                    password_resets::close(tx, id, change.clock.now()).await?;
                    let row = NewAudit {
                        action: "user.password_changed",
                        subject_type: "user",
                        subject_id: id.0,
                        project_id: None,
                        detail: json!({"by": "operator", "sessions_ended": ended.len()}),
                    };
                    audit::record(tx, change, row).await?;
                    Ok((user, ended))
                })
            })
            .await?;
        self.ended(&ended);
        Ok((user, ended.len()))
    }

    async fn account_of(&self, email: &str) -> Result<UserId, Error> {
        let found = users::by_email(&mut self.0.db.reader().await?, &normal_email(email)).await?;
        found.map(|(user, _)| user.id).ok_or(Error::NotFound("user"))
    }

    /// The system does it, each time under a name of its own.
    fn operator(&self) -> Cause {
        Cause { correlation_id: self.0.clock.id(), ..Cause::default() }
    }
}
