//! The real services and what is done to them, by the program that started them: `cargo xtask services`.

use std::process::Command;

use serde::Serialize;
use taskpost_testkit::Part;

/// A service that Taskpost uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Service {
    /// The database: without it Taskpost is not ready.
    Postgres,
    /// The event log.
    Kafka,
    /// The delivery queue.
    Rabbitmq,
    /// The rate limiter.
    Redis,
}

impl Service {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Postgres, Self::Kafka, Self::Rabbitmq, Self::Redis];

    /// Its name, also for xtask.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::Kafka => "kafka",
            Self::Rabbitmq => "rabbitmq",
            Self::Redis => "redis",
        }
    }

    /// The product's variable for it.
    pub const fn variable(self) -> &'static str {
        match self {
            Self::Postgres => "DATABASE_URL",
            Self::Kafka => Part::Kafka.variable(),
            Self::Rabbitmq => Part::RabbitMq.variable(),
            Self::Redis => Part::Redis.variable(),
        }
    }

    /// Runs `services VERB NAME`, which must work: kill, up, pause, resume.
    pub async fn tell(self, verb: &'static str) {
        if let Err(why) = self.try_tell(&[verb]).await {
            panic!("services {verb} {}: {why}", self.name());
        }
    }

    /// Runs `services WORDS… NAME`; what it says when it does not work.
    pub async fn try_tell(self, words: &[&'static str]) -> Result<(), String> {
        // Addresses in our environment would make it believe that the services are somebody else's.
        let mut command = Command::new(variable("TASKPOST_XTASK"));
        for service in Self::ALL {
            command.env_remove(service.variable());
        }
        command.arg("services").args(words).arg(self.name());
        // Beside the load, which must not stand still meanwhile.
        let ran = tokio::task::spawn_blocking(move || command.output()).await.expect("it ends");
        let ran = ran.expect("xtask runs");
        if ran.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&ran.stderr).into_owned()) }
    }
}

/// A variable that `cargo xtask drill` sets.
#[expect(clippy::disallowed_methods, reason = "the drill's own variables")]
pub fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set; run `cargo xtask drill`"))
}
