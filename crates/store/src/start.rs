//! Where a page starts of a list by id, newest first.

use taskpost_common::page::Direction;
use uuid::Uuid;

use crate::dynamic::{Bind, Statement};

/// Where a page starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start<Id> {
    /// At the newest.
    Newest,
    /// At rows older than this one.
    OlderThan(Id),
    /// At rows newer than this one, the nearest to it.
    NewerThan(Id),
    /// After so many of the newest.
    Offset(i64),
}

impl<Id> From<Option<(Direction, Id)>> for Start<Id> {
    /// As a cursor says it; none is at the newest.
    fn from(cursor: Option<(Direction, Id)>) -> Self {
        match cursor {
            None => Self::Newest,
            Some((Direction::Next, id)) => Self::OlderThan(id),
            Some((Direction::Previous, id)) => Self::NewerThan(id),
        }
    }
}

impl<Id: Into<Uuid> + Copy> Start<Id> {
    /// Adds the starting point, the order and the limit to a statement that has a condition.
    pub(crate) fn page(self, statement: &mut Statement, limit: usize) {
        match self {
            Self::OlderThan(id) => {
                statement.push(" AND id < ").bind(Bind::Uuid(id.into())).push(" ORDER BY id DESC")
            }
            Self::NewerThan(id) => {
                statement.push(" AND id > ").bind(Bind::Uuid(id.into())).push(" ORDER BY id")
            }
            Self::Newest | Self::Offset(_) => statement.push(" ORDER BY id DESC"),
        };
        statement.push(" LIMIT ").bind(Bind::Int(i64::try_from(limit).unwrap_or(i64::MAX)));
        if let Self::Offset(offset) = self {
            statement.push(" OFFSET ").bind(Bind::Int(offset));
        }
    }

    /// What that statement gave, in the order of the list.
    pub(crate) fn newest_first<T>(self, mut rows: Vec<T>) -> Vec<T> {
        if matches!(self, Self::NewerThan(_)) {
            rows.reverse();
        }
        rows
    }
}
