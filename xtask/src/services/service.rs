//! Which services there are, and what is fixed about each.

use anyhow::Result;
use clap::ValueEnum;

use super::native::Processes;
use super::state::State;
use super::{kafka, postgres, rabbitmq, redis};
use crate::progress::Progress;
use crate::workspace::Workspace;

/// A server that tests and benchmarks use.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Service {
    /// The database
    Postgres,
    /// The event log
    Kafka,
    /// The delivery queue
    Rabbitmq,
    /// The shared rate limits
    Redis,
}

/// What never changes about a service.
struct Facts {
    name: &'static str,
    variable: &'static str,
    test_variable: &'static str,
    schemes: &'static [&'static str],
    usual_port: u16,
    first_port: u16,
    other_ports: usize,
}

impl Service {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Postgres, Self::Kafka, Self::Rabbitmq, Self::Redis];

    /// The ports lie below those that systems give to clients: a client that tries again and again to reach a stopped
    /// server could otherwise be given the server's own port, and keep it from coming back.
    fn facts(self) -> Facts {
        match self {
            Self::Postgres => Facts {
                name: "postgres",
                variable: "DATABASE_URL",
                test_variable: "TASKPOST_TEST_POSTGRES_URL",
                schemes: &["postgres", "postgresql"],
                usual_port: 5432,
                first_port: 28400,
                other_ports: 0,
            },
            Self::Kafka => Facts {
                name: "kafka",
                variable: "KAFKA_BROKERS",
                test_variable: "TASKPOST_TEST_KAFKA_BROKERS",
                schemes: &[],
                usual_port: 9092,
                first_port: 28500,
                other_ports: kafka::OTHER_PORTS,
            },
            Self::Rabbitmq => Facts {
                name: "rabbitmq",
                variable: "RABBITMQ_URL",
                test_variable: "TASKPOST_TEST_RABBITMQ_URL",
                schemes: &["amqp", "amqps"],
                usual_port: 5672,
                first_port: 28600,
                other_ports: rabbitmq::OTHER_PORTS,
            },
            Self::Redis => Facts {
                name: "redis",
                variable: "REDIS_URL",
                test_variable: "TASKPOST_TEST_REDIS_URL",
                schemes: &["redis", "rediss"],
                usual_port: 6379,
                first_port: 28700,
                other_ports: 0,
            },
        }
    }

    /// Its name in commands, folders and the compose file.
    pub fn name(self) -> &'static str {
        self.facts().name
    }

    /// The product's variable for it.
    pub fn variable(self) -> &'static str {
        self.facts().variable
    }

    /// The tests' variable for it.
    pub fn test_variable(self) -> &'static str {
        self.facts().test_variable
    }

    /// The URL schemes its variable may have; none is a list of `host:port`.
    pub fn schemes(self) -> &'static [&'static str] {
        self.facts().schemes
    }

    /// The port an address without one means.
    pub fn usual_port(self) -> u16 {
        self.facts().usual_port
    }

    /// The first port to try.
    pub fn first_port(self) -> u16 {
        self.facts().first_port
    }

    /// How many ports it needs besides the one its clients use.
    pub fn other_ports(self) -> usize {
        self.facts().other_ports
    }

    /// What its variable would be.
    pub fn url(self, state: &State) -> String {
        match self {
            Self::Postgres => postgres::url(state),
            Self::Kafka => kafka::url(state),
            Self::Rabbitmq => rabbitmq::url(state),
            Self::Redis => redis::url(state),
        }
    }

    /// A page for people, where it has one.
    pub fn console(self, state: &State) -> Option<String> {
        match self {
            Self::Rabbitmq => rabbitmq::console(state),
            Self::Postgres | Self::Kafka | Self::Redis => None,
        }
    }

    /// Returns when it answers: found again, or started, or installed and set up.
    pub fn native_up(self, workspace: &Workspace, state: &mut State, progress: &Progress) -> Result<()> {
        match self {
            Self::Postgres => postgres::up(workspace, state, progress),
            Self::Kafka => kafka::SERVER.up(workspace, state, progress),
            Self::Rabbitmq => rabbitmq::SERVER.up(workspace, state, progress),
            Self::Redis => redis::SERVER.up(workspace, state, progress),
        }
    }

    /// Stops it, gently first.
    pub fn native_down(self, state: &State, progress: &Progress) -> Result<()> {
        match self {
            Self::Postgres => postgres::down(state, progress),
            Self::Kafka => kafka::SERVER.down(state, progress),
            Self::Rabbitmq => rabbitmq::SERVER.down(state, progress),
            Self::Redis => redis::SERVER.down(state, progress),
        }
    }

    /// Whether it answers to our password.
    pub fn native_answers(self, state: &State) -> Result<bool> {
        match self {
            Self::Postgres => Ok(postgres::pid(state)?.is_some()),
            Self::Kafka => Ok(kafka::SERVER.answers(state)),
            Self::Rabbitmq => Ok(rabbitmq::SERVER.answers(state)),
            Self::Redis => Ok(redis::SERVER.answers(state)),
        }
    }

    /// Its processes on this machine, whatever they are doing.
    pub fn processes(self, state: &State) -> Result<Processes> {
        let Some(home) = state.home.as_deref().filter(|home| home.is_dir()) else {
            return Ok(Processes::default());
        };
        match self {
            Self::Postgres => postgres::processes(state),
            Self::Kafka | Self::Rabbitmq | Self::Redis => Processes::of(home),
        }
    }
}
