//! Users and their roles.

use std::fmt;

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    ids::UserId,
    text_enum::{UnknownWord, text_enum},
};

text_enum! {
    /// A role on the whole instance. Everyone is a member without it.
    Role {
        /// May do and see everything.
        Admin = "admin",
        /// May work with wallets, cycles and payouts.
        Finance = "finance",
        /// May decide moderation cases.
        Moderator = "moderator",
    }
}

text_enum! {
    /// Whether an account may be used.
    UserStatus {
        /// May log in.
        Active = "active",
        /// May not log in; its sessions are revoked.
        Disabled = "disabled",
    }
}

/// A set of roles: a sorted array in JSON, words joined by commas in SQL and tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, ToSchema)]
#[serde(from = "Vec<Role>", into = "Vec<Role>")]
#[schemars(with = "Vec<Role>")]
#[schema(value_type = Vec<Role>)]
pub struct Roles(Vec<Role>);

impl Roles {
    /// Whether the set holds `role`.
    pub fn has(&self, role: Role) -> bool {
        self.0.contains(&role)
    }

    /// Whether the set holds [`Role::Admin`].
    pub fn is_admin(&self) -> bool {
        self.has(Role::Admin)
    }
}

impl From<Vec<Role>> for Roles {
    fn from(mut roles: Vec<Role>) -> Self {
        roles.sort_unstable();
        roles.dedup();
        Self(roles)
    }
}

impl From<Roles> for Vec<Role> {
    fn from(roles: Roles) -> Self {
        roles.0
    }
}

impl TryFrom<String> for Roles {
    type Error = UnknownWord;
    fn try_from(words: String) -> Result<Self, Self::Error> {
        let roles = words.split(',').filter(|word| !word.is_empty()).map(str::parse);
        roles.collect::<Result<Vec<Role>, _>>().map(Self::from)
    }
}

impl fmt::Display for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, role) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str(",")?;
            }
            f.write_str(role.as_str())?;
        }
        Ok(())
    }
}

/// A user as its own owner sees it.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct User {
    /// Its id.
    pub id: UserId,
    /// Unique, lower case, derived from the name.
    pub handle: String,
    /// Unique; compared without case.
    pub email: String,
    /// The name as given.
    pub name: String,
    /// Roles on the instance.
    pub roles: Roles,
    /// Whether the account may be used.
    pub status: UserStatus,
    /// A name of the IANA time zone database.
    pub timezone: String,
    /// A BCP 47 language tag.
    pub locale: String,
    /// Raised by every change.
    pub version: i64,
    /// When the account was made.
    pub created_at: DateTime<Utc>,
    /// When it last changed.
    pub updated_at: DateTime<Utc>,
}
