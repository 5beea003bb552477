//! Which parts a run of the end-to-end suite uses. Each variable swaps one part alone, and the last swaps all.

use std::fmt;
use std::process::Command;

use clap::ValueEnum;

use crate::binaries::ALL_PACKAGES;

/// A way to run tests.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Combination {
    /// Every test of every crate; its end-to-end tests are `embedded` and `postgres`
    Workspace,
    /// The end-to-end tests on SQLite, nothing else
    Embedded,
    /// The end-to-end tests on Postgres, nothing else
    Postgres,
    /// On SQLite, the log in Kafka
    Kafka,
    /// On SQLite, the queue in RabbitMQ
    Rabbitmq,
    /// On SQLite, the limits in Redis
    Redis,
    /// On Postgres, Kafka, RabbitMQ and Redis
    Full,
    /// The tests of the load test itself, which brings other features of what it shares
    Loadtest,
    /// The drill's short set, which counts as one test
    Drill,
}

/// What runs when nothing else is said.
pub const ALL: &[Combination] = &[
    Combination::Workspace,
    Combination::Kafka,
    Combination::Rabbitmq,
    Combination::Redis,
    Combination::Full,
    Combination::Loadtest,
    Combination::Drill,
];

/// The end-to-end tests' variable: a comma list of the parts that are servers.
const PARTS: &str = "TASKPOST_TEST_PARTS";
const EVERY_PART: &str = "kafka,rabbitmq,redis";

impl Combination {
    /// The packages to be tested.
    pub const fn packages(self) -> &'static [&'static str] {
        match self {
            Self::Loadtest => &["--package", "taskpost-loadtest"],
            // The same each time: cargo would otherwise choose other features, and build everything anew.
            _ => &ALL_PACKAGES,
        }
    }

    /// Tells `cargo test`, which the drill does without, which tests to run, and the tests which parts to use. Where
    /// `alone` names tests, only those.
    pub fn tell(self, cargo: &mut Command, suite: &[String], alone: &[String]) {
        match self.parts() {
            Some(parts) => cargo.env(PARTS, parts),
            None => cargo.env_remove(PARTS),
        };
        let targets = match self {
            Self::Workspace | Self::Loadtest | Self::Drill => Vec::new(),
            _ => suite.iter().map(String::as_str).collect(),
        };
        cargo.args(targets.iter().flat_map(|target| ["--test", target]));
        if !alone.is_empty() {
            cargo.args(["--", "--exact"]).args(alone);
            return;
        }
        match self {
            Self::Workspace | Self::Loadtest | Self::Drill => {}
            Self::Embedded | Self::Kafka | Self::Rabbitmq | Self::Redis => {
                cargo.args(["--", "sqlite"]);
            }
            Self::Postgres | Self::Full => {
                cargo.args(["--", "postgres"]);
            }
        }
    }

    fn parts(self) -> Option<&'static str> {
        match self {
            Self::Workspace | Self::Embedded | Self::Postgres | Self::Loadtest | Self::Drill => None,
            Self::Kafka => Some("kafka"),
            Self::Rabbitmq => Some("rabbitmq"),
            Self::Redis => Some("redis"),
            Self::Full => Some(EVERY_PART),
        }
    }
}

impl fmt::Display for Combination {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.to_possible_value();
        out.write_str(value.as_ref().map_or("", |value| value.get_name()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(combination: Combination) -> (String, Option<String>) {
        told_alone(combination, &[])
    }

    fn told_alone(combination: Combination, alone: &[String]) -> (String, Option<String>) {
        let mut cargo = Command::new("cargo");
        combination.tell(&mut cargo, &["tasks".to_owned(), "times".to_owned()], alone);
        let words: Vec<_> = cargo.get_args().map(|word| word.to_string_lossy()).collect();
        let parts = cargo.get_envs().find(|(name, _)| *name == PARTS).and_then(|(_, value)| value);
        (words.join(" "), parts.map(|parts| parts.to_string_lossy().into_owned()))
    }

    #[test]
    fn each_swaps_what_it_says() {
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(told(Combination::Workspace), (String::new(), None));
        let suite = "--test tasks --test times -- ".to_owned();
        assert_eq!(told(Combination::Rabbitmq), (suite.clone() + "sqlite", some("rabbitmq")));
        assert_eq!(told(Combination::Full), (suite.clone() + "postgres", some(EVERY_PART)));
        let alone = ["a::sqlite".to_owned(), "b::postgres".to_owned()];
        let again = suite + "--exact a::sqlite b::postgres";
        assert_eq!(told_alone(Combination::Full, &alone), (again, some(EVERY_PART)));
    }

    #[test]
    fn the_default_is_everything_once() {
        let twice = [Combination::Embedded, Combination::Postgres];
        for combination in Combination::value_variants() {
            assert_ne!(ALL.contains(combination), twice.contains(combination), "{combination}");
        }
    }
}
