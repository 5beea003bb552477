//! The scenarios: each makes its accounts, loads the instance and gives its rows.

mod arrival;
mod batch;
mod burst;
mod delivered;
mod logins;
mod mixed;
mod oha_closed;
mod oha_open;
mod respond_async;
mod retries;
mod webhooks;

use anyhow::Result;
use clap::ValueEnum;

use crate::{
    record::Recorder,
    row::{Loop, Row},
    run::Context,
};

/// How many accounts the users of a scenario share at most: making one costs a hash.
const ACCOUNTS: u16 = 16;

macro_rules! scenarios {
    ($($(#[doc = $what:literal])+ $variant:ident $name:literal $module:ident;)+) => {
        /// A scenario.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
        pub enum Scenario { $($(#[doc = $what])+ $variant,)+ }

        impl Scenario {
            /// Its name on the command line and in the table.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// What it does.
            const fn what(self) -> &'static str {
                match self { $(Self::$variant => concat!($($what),+),)+ }
            }

            /// All of them, in the order in which they run.
            pub fn all() -> Vec<Self> {
                vec![$(Self::$variant),+]
            }

            /// Runs it.
            pub async fn run(self, context: &Context) -> Result<Vec<Row>> {
                match self { $(Self::$variant => $module::run(context).await,)+ }
            }
        }
    };
}

scenarios! {
    /// POST /tasks as fast as answers come (goose)
    Burst "burst" burst;
    /// Three writes and seven reads: post, show, list, move (goose)
    Mixed "mixed" mixed;
    /// Every POST sent twice under one Idempotency-Key; the second answer must be the first (goose)
    Retries "retries" retries;
    /// POST /tasks/batch of 100 (goose)
    Batch "batch" batch;
    /// POST /tasks with Prefer: respond-async (goose)
    Async "async" respond_async;
    /// All users log in at once, again and again (goose)
    Logins "logins" logins;
    /// POST /tasks as fast as answers come (oha)
    OhaClosed "oha-closed" oha_closed;
    /// POST /tasks at a constant rate, with corrected times (oha)
    OhaOpen "oha-open" oha_open;
    /// POST /tasks at a constant rate, timed from when each was due
    Arrival "arrival" arrival;
    /// From the POST of a task to its webhook, 100 in a second
    Delivered "delivered" delivered;
    /// A backlog of webhooks: how many are delivered in a second
    Webhooks "webhooks" webhooks;
}

impl Scenario {
    /// Whether goose makes the load.
    pub fn is_goose(self) -> bool {
        use Scenario::{Async, Batch, Burst, Logins, Mixed, Retries};
        matches!(self, Burst | Mixed | Retries | Batch | Async | Logins)
    }

    /// Which loop makes the load.
    pub fn kind(self) -> Loop {
        match self {
            Self::OhaOpen | Self::Arrival | Self::Delivered => Loop::Open,
            _ => Loop::Closed,
        }
    }

    /// Whether oha makes the load.
    pub fn is_oha(self) -> bool {
        matches!(self, Self::OhaClosed | Self::OhaOpen)
    }
}

/// The scenarios with what each does.
pub fn list() -> String {
    let line = |it: Scenario| format!("{:<12}{}\n", it.name(), it.what().trim());
    Scenario::all().into_iter().map(line).collect()
}

/// As many accounts as so many users share.
fn shared(users: u16) -> u16 {
    users.clamp(1, ACCOUNTS)
}

/// The row of a scenario.
fn row(recorder: &Recorder, scenario: Scenario) -> Row {
    recorder.row(scenario.name(), scenario.kind())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_and_the_table_use_the_same_names() {
        for scenario in Scenario::all() {
            assert_eq!(Scenario::from_str(scenario.name(), false), Ok(scenario));
            assert!(!(scenario.is_goose() && scenario.is_oha()));
        }
        assert_eq!(Scenario::value_variants(), Scenario::all());
        assert_eq!(list().lines().count(), Scenario::all().len());
        assert!(list().starts_with("burst       POST /tasks as fast"), "{}", list());
    }

    #[test]
    fn users_share_a_few_accounts() {
        assert_eq!((shared(1), shared(8), shared(64)), (1, 8, ACCOUNTS));
    }
}
