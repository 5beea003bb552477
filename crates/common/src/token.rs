//! Tokens for machines.

use std::fmt;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    ids::ApiTokenId,
    text_enum::{UnknownWord, text_enum},
};

text_enum! {
    /// What a token may be used for. None reaches the account itself: passwords, sessions and tokens.
    Scope {
        /// Whatever changes nothing.
        Read = "read",
        /// Changes.
        Write = "write",
        /// Making tasks, and nothing else.
        TasksCreate = "tasks:create",
        /// What only admins may, for as long as its owner is one.
        Admin = "admin",
    }
}

/// A set of scopes: an array in JSON, words joined by commas in SQL.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(from = "Vec<Scope>", into = "Vec<Scope>")]
#[schema(value_type = Vec<Scope>)]
pub struct Scopes(Vec<Scope>);

impl Scopes {
    /// Whether the set holds `scope`.
    pub fn has(&self, scope: Scope) -> bool {
        self.0.contains(&scope)
    }

    /// Whether it holds none.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<Vec<Scope>> for Scopes {
    fn from(mut scopes: Vec<Scope>) -> Self {
        scopes.sort_unstable();
        scopes.dedup();
        Self(scopes)
    }
}

impl From<Scopes> for Vec<Scope> {
    fn from(scopes: Scopes) -> Self {
        scopes.0
    }
}

impl TryFrom<String> for Scopes {
    type Error = UnknownWord;
    fn try_from(words: String) -> Result<Self, Self::Error> {
        let scopes = words.split(',').filter(|word| !word.is_empty()).map(str::parse);
        scopes.collect::<Result<Vec<Scope>, _>>().map(Self::from)
    }
}

impl fmt::Display for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<&str> = self.0.iter().map(|scope| scope.as_str()).collect();
        f.write_str(&words.join(","))
    }
}

/// A token without its secret.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ApiToken {
    /// Its id.
    pub id: ApiTokenId,
    /// What it is for, in its owner's words.
    pub name: String,
    /// What it may be used for.
    pub scopes: Scopes,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it ends; absent when it does not.
    pub expires_at: Option<DateTime<Utc>>,
    /// When it was last used, to the minute.
    pub used_at: Option<DateTime<Utc>>,
}
