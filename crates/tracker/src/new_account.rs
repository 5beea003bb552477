//! What makes an account, whoever makes it: a person who registers, or an admin.

use rand::RngExt as _;
use serde_json::json;
use taskpost_common::{
    EventId,
    user::{Roles, User, UserStatus},
};
use taskpost_store::{
    Change, Session, Tx,
    audit::{self, NewAudit},
    users,
};

use crate::{
    Error, Tracker, passwords,
    validate::{Checks, Lines},
};

/// The one letter beyond ASCII whose lower case is an ASCII letter.
const KELVIN: &str = "\u{212a}";
/// How many handles are tried for one name before chance decides.
const HANDLES: usize = 20;

/// An account that was checked; nobody has looked yet whether its e-mail is free.
#[derive(Clone)]
pub(crate) struct NewAccount {
    email: String,
    name: String,
    password_hash: String,
}

impl Tracker {
    /// Checks an account and hashes its password.
    pub(crate) async fn new_account(
        &self,
        email: &str,
        name: &str,
        password: String,
    ) -> Result<NewAccount, Error> {
        let (email, name) = (normal_email(email), name.trim().to_owned());
        let mut checks = Checks::default();
        checks.email("/email", &email);
        check_name(&mut checks, &name);
        check_password(&mut checks, "/password", &password);
        checks.finish()?;
        Ok(NewAccount { email, name, password_hash: self.0.passwords.hash(password).await? })
    }
}

impl NewAccount {
    /// The user it would be, if the e-mail is free. [`NewAccount::store`] may still find that somebody was faster.
    pub(crate) async fn user(
        &self,
        session: &mut Session,
        change: Change<'_>,
        roles: Roles,
    ) -> Result<User, Error> {
        if users::by_email(session, &self.email).await?.is_some() {
            return Err(Error::Conflict("an account with this e-mail exists; log in instead".to_owned()));
        }
        Ok(User {
            id: change.clock.id(),
            handle: free_handle(session, &self.name).await?,
            email: self.email.clone(),
            name: self.name.clone(),
            roles,
            status: UserStatus::Active,
            timezone: "UTC".to_owned(),
            locale: "en".to_owned(),
            version: 1,
            created_at: change.clock.now(),
            updated_at: change.clock.now(),
        })
    }

    /// Stores the user.
    pub(crate) async fn store(&self, tx: &mut Tx, change: Change<'_>, user: &User) -> Result<EventId, Error> {
        let event = users::insert(tx, change, user, &self.password_hash).await?;
        let row = NewAudit {
            action: "user.registered",
            subject_type: "user",
            subject_id: user.id.0,
            project_id: None,
            detail: json!({"roles": user.roles}),
        };
        audit::record(tx, change, row).await?;
        Ok(event.id)
    }
}

/// Without blanks around it, in lower case. The Kelvin sign stays as it is: its lower case is our k, so that it would
/// open the account of another address.
pub(crate) fn normal_email(email: &str) -> String {
    let parts: Vec<String> = email.trim().split(KELVIN).map(str::to_lowercase).collect();
    parts.join(KELVIN)
}

/// One line of 1 to 100 characters.
pub(crate) fn check_name(checks: &mut Checks, name: &str) {
    checks.text("/name", name, 1, 100, Lines::One);
}

/// A password that somebody chooses.
pub(crate) fn check_password(checks: &mut Checks, pointer: &str, password: &str) {
    let length = password.chars().count();
    if !(12..=128).contains(&length) || password.len() > passwords::LONGEST {
        checks.fault(pointer, "invalid_length", "must have 12 to 128 characters");
    }
}

/// The name in lower case with dashes, and a number when others have it.
async fn free_handle(session: &mut Session, name: &str) -> Result<String, Error> {
    let mut base: String = name
        .to_lowercase()
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join("-");
    base.truncate(40);
    if base.is_empty() {
        base.push_str("user");
    }
    let candidates: Vec<String> =
        std::iter::once(base.clone()).chain((2..=HANDLES).map(|n| format!("{base}-{n}"))).collect();
    let taken = users::taken_handles(session, &candidates).await?;
    let free = candidates.into_iter().find(|candidate| !taken.contains(candidate));
    Ok(free.unwrap_or_else(|| format!("{base}-{:08x}", rand::rng().random::<u32>())))
}
