//! The values of a column, the same for both databases.

use chrono::{DateTime, Utc};
use sha2::{Digest as _, Sha256};
use sqlx::{Postgres, postgres::PgArguments, query::Query};
use uuid::Uuid;

use crate::StoreError;

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Uuid,
    Text,
    Int,
    Bool,
    Time,
}

impl Kind {
    /// By its type in Postgres.
    pub(super) fn of(data_type: &str) -> Result<Self, StoreError> {
        match data_type {
            "uuid" => Ok(Self::Uuid),
            "text" => Ok(Self::Text),
            "bigint" => Ok(Self::Int),
            "boolean" => Ok(Self::Bool),
            "timestamp with time zone" => Ok(Self::Time),
            other => Err(StoreError::Schema(format!("a column of the type {other} cannot be moved"))),
        }
    }

    /// Its type in Postgres, to cast an array to.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Uuid => "uuid",
            Self::Text => "text",
            Self::Int => "bigint",
            Self::Bool => "boolean",
            Self::Time => "timestamptz",
        }
    }
}

/// The values of one column of some rows.
pub(super) enum Cells {
    Uuid(Vec<Option<Uuid>>),
    Text(Vec<Option<String>>),
    Int(Vec<Option<i64>>),
    Bool(Vec<Option<bool>>),
    Time(Vec<Option<DateTime<Utc>>>),
}

impl Cells {
    /// Of no rows yet.
    pub(super) const fn new(kind: Kind) -> Self {
        match kind {
            Kind::Uuid => Self::Uuid(Vec::new()),
            Kind::Text => Self::Text(Vec::new()),
            Kind::Int => Self::Int(Vec::new()),
            Kind::Bool => Self::Bool(Vec::new()),
            Kind::Time => Self::Time(Vec::new()),
        }
    }

    /// Adds the value of a row to its digest. Each says how long it is, so that none runs into the next.
    pub(super) fn feed(&self, row: usize, hash: &mut Sha256) {
        let value: Option<Vec<u8>> = match self {
            Self::Uuid(values) => values.get(row).copied().flatten().map(|id| id.as_bytes().to_vec()),
            Self::Text(values) => values.get(row).and_then(|text| Some(text.as_ref()?.as_bytes().to_vec())),
            Self::Int(values) => values.get(row).copied().flatten().map(|int| int.to_be_bytes().to_vec()),
            Self::Bool(values) => values.get(row).copied().flatten().map(|flag| vec![u8::from(flag)]),
            Self::Time(values) => {
                values.get(row).copied().flatten().map(|at| at.timestamp_micros().to_be_bytes().to_vec())
            }
        };
        match value {
            None => hash.update([0_u8]),
            Some(value) => {
                hash.update([1_u8]);
                hash.update((value.len() as u64).to_be_bytes());
                hash.update(value);
            }
        }
    }

    /// Binds them as an array.
    pub(super) fn bind_to(self, query: Query<'_, Postgres, PgArguments>) -> Query<'_, Postgres, PgArguments> {
        match self {
            Self::Uuid(values) => query.bind(values),
            Self::Text(values) => query.bind(values),
            Self::Int(values) => query.bind(values),
            Self::Bool(values) => query.bind(values),
            Self::Time(values) => query.bind(values),
        }
    }
}

/// Reads rows of either database into cells, from the column at `$first` on.
macro_rules! cells_of {
    ($cells:expr, $rows:expr, $first:expr) => {{
        let mut cells: Vec<Cells> = $cells;
        for row in $rows {
            for (place, cells) in cells.iter_mut().enumerate() {
                let place = place + $first;
                match cells {
                    Cells::Uuid(values) => values.push(row.try_get(place)?),
                    Cells::Text(values) => values.push(row.try_get(place)?),
                    Cells::Int(values) => values.push(row.try_get(place)?),
                    Cells::Bool(values) => values.push(row.try_get(place)?),
                    Cells::Time(values) => values.push(row.try_get(place)?),
                }
            }
        }
        cells
    }};
}
pub(super) use cells_of;
