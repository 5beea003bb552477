//! What is in force, and where each value came from. The default is the embedded product.

mod older;
mod vars;

use std::{net::IpAddr, path::PathBuf, time::Duration};

use secrecy::SecretString;
use url::Url;

use crate::{net::TrustedProxies, rate::Rate};
use vars::Vars;

/// Everything an operator can say.
#[derive(Clone, Debug)]
pub struct Config {
    /// `HTTP_HOST`, `HTTP_PORT`: where the API listens; port 0 takes a free one.
    pub http: (IpAddr, u16),
    /// `DATA_DIR`: the SQLite file, the generated secret and written mails.
    pub data_dir: PathBuf,
    /// `DB_TYPE=memdb`: the data folder is a temporary one, gone at the end.
    pub temporary: bool,
    /// `DATABASE_URL`.
    pub database: Database,
    /// `KAFKA_BROKERS` and its kin; none is the store's own log.
    pub kafka: Option<Kafka>,
    /// `RABBITMQ_URL`; none is the store's own queue.
    pub rabbitmq: Option<SecretString>,
    /// `REDIS_URL`; none limits each process by itself.
    pub redis: Option<SecretString>,
    /// `SMTP_URL`; none writes mails to files.
    pub smtp: Option<SecretString>,
    /// `OTEL_EXPORTER_OTLP_ENDPOINT`: where traces go.
    pub otlp: Option<Url>,
    /// `OPERATE_PORT`: where consumers and workers answer /health and /metrics; none takes 3001 and 3002, or a free one.
    pub operate_port: Option<u16>,
    /// `JWT_SECRET`: the first signs, all verify. Empty: generated into the data folder.
    pub jwt_secrets: Vec<SecretString>,
    /// `ENVIRONMENT` is `production`.
    pub production: bool,
    /// `INSTANCE`: prefix of names outside the store.
    pub instance: String,
    /// `FIRST_USER_IS_ADMIN`.
    pub first_user_is_admin: bool,
    /// `PUBLIC_URL`: how people reach this instance; in mails.
    pub public_url: Option<Url>,
    /// `MAIL_FROM`.
    pub mail_from: String,
    /// `RATE_LIMIT_*` and `TRUSTED_PROXIES`.
    pub limits: Limits,
    /// `RETRY_DELAYS`: the waits between the tries of a delivery.
    pub retry_delays: Vec<Duration>,
    /// `WEBHOOK_*`.
    pub webhooks: Webhooks,
    /// `LOG_FORMAT`.
    pub log_format: LogFormat,
    /// `METRICS_TOKEN`: lets others than loopback read /metrics.
    pub metrics_token: Option<SecretString>,
    /// `CORS_ORIGINS`.
    pub cors_origins: Vec<String>,
    /// `COMMIT_QUEUE`: how many tasks may wait for the committer before an answer is 503.
    pub commit_queue: usize,
    /// `COMMIT_WAIT`: new tasks are refused when what waits there would take longer, at the pace of the last groups.
    pub commit_wait: Duration,
    /// `DELIVERY_CONCURRENCY`: how many deliveries one process sends at once.
    pub delivery_concurrency: usize,
    /// `DELIVERY_PREFETCH`: how many messages of each class RabbitMQ sends one process ahead of their acknowledgement.
    pub delivery_prefetch: usize,
    /// `SEED_*`.
    pub seed: Seed,
    /// Name, value (secrets masked) and origin of every variable.
    pub origins: Vec<Setting>,
}

/// The store.
#[derive(Clone, Debug)]
pub enum Database {
    /// A file in the data folder.
    Sqlite,
    /// A server.
    Postgres(SecretString),
}

/// The event log in Kafka.
#[derive(Clone, Debug)]
pub struct Kafka {
    /// `KAFKA_BROKERS`: a comma list of host:port.
    pub brokers: String,
    /// `KAFKA_TOPIC_PREFIX`, by default `INSTANCE`.
    pub topic_prefix: String,
    /// `KAFKA_PARTITIONS`: of each topic, when it is made; never changed in place.
    pub partitions: u16,
    /// `KAFKA_REPLICATION`: copies of each topic, when it is made.
    pub replication: u16,
    /// `KAFKA_SECURITY_PROTOCOL`: plaintext, ssl, sasl_plaintext or sasl_ssl.
    pub security_protocol: String,
    /// `KAFKA_CA_FILE`: whose certificates are believed, besides the system's.
    pub ca_file: Option<PathBuf>,
    /// `KAFKA_SASL_MECHANISM`, `KAFKA_USERNAME` and `KAFKA_PASSWORD`.
    pub sasl: Option<Sasl>,
}

/// How Kafka is logged in to.
#[derive(Clone, Debug)]
pub struct Sasl {
    /// PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512.
    pub mechanism: String,
    /// The user.
    pub username: String,
    /// Its password.
    pub password: SecretString,
}

/// How often one may call.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Logging in and registering, by address.
    pub auth: Rate,
    /// Changes.
    pub write: Rate,
    /// Everything else.
    pub read: Rate,
    /// Whose X-Forwarded-For is believed.
    pub trusted_proxies: TrustedProxies,
}

/// Where webhooks may go.
#[derive(Clone, Debug)]
pub struct Webhooks {
    /// `WEBHOOK_ALLOW_PRIVATE`: also to private addresses and any port.
    pub allow_private: bool,
    /// `WEBHOOK_PORTS`.
    pub ports: Vec<u16>,
    /// `WEBHOOK_TIMEOUT`: for one try, the body included.
    pub timeout: Duration,
    /// `WEBHOOK_CONCURRENCY`: tries at once for each endpoint.
    pub per_endpoint: usize,
}

/// What `taskpost seed` makes.
#[derive(Clone, Copy, Debug)]
pub struct Seed {
    /// `SEED_USER_COUNT`.
    pub users: usize,
    /// `SEED_PROJECT_COUNT`.
    pub projects: usize,
    /// `SEED_RELATIONSHIPS`: a start makes it too; never in production.
    pub at_start: bool,
}

/// How logs are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Pretty,
    /// For machines.
    Json,
}

/// A variable, for `taskpost config`.
#[derive(Clone, Debug)]
pub struct Setting {
    /// The variable.
    pub name: &'static str,
    /// What is in force; `***` for a secret.
    pub value: String,
    /// Who said so.
    pub origin: Origin,
}

/// Where a value came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody said anything.
    Default,
    /// The environment.
    Environment,
    /// `.env` in the working folder.
    File,
    /// An older name, which says the same in other words.
    Older(&'static str),
    /// Nobody said anything, and it is made and kept in the data folder.
    Generated,
}

/// A value that cannot be used; says which variable and what it may be.
#[derive(Debug, thiserror::Error)]
#[error("{name}: {problem}")]
pub struct ConfigError {
    /// The variable.
    pub name: &'static str,
    /// What it may be.
    pub problem: String,
}

impl Config {
    /// Reads all variables through `var`, so that tests never touch the environment.
    pub fn load(var: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        Self::load_over(var, |_| None)
    }

    /// As [`Config::load`]; what the environment does not have, a `file` may.
    pub fn load_over(
        environment: impl Fn(&str) -> Option<String>,
        file: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, ConfigError> {
        let var = |name: &str| environment(name).or_else(|| file(name));
        let in_environment = |name: &str| environment(name).is_some();
        let mut vars = Vars::new(&var, &in_environment)?;
        let production = vars.one_of("ENVIRONMENT", "development", &["development", "test", "production"])?
            == "production";
        let database = vars.database()?;
        let instance = vars.instance()?;
        let config = Self {
            http: (
                vars.parse("HTTP_HOST", "127.0.0.1", "an IP address")?,
                vars.parse("HTTP_PORT", "3000", "a port")?,
            ),
            data_dir: PathBuf::from(vars.text("DATA_DIR", "./data")),
            temporary: older::is_temporary(&var),
            database,
            kafka: vars.kafka(&instance)?,
            rabbitmq: vars.secret_url(
                "RABBITMQ_URL",
                &["amqp", "amqps"],
                "amqp://user:password@host:port/vhost",
            )?,
            redis: vars.secret_url("REDIS_URL", &["redis", "rediss"], "redis://user:password@host:port/0")?,
            smtp: vars.secret_url(
                "SMTP_URL",
                &["smtp", "smtps"],
                "smtp://user:password@host:587?tls=required",
            )?,
            otlp: vars.optional("OTEL_EXPORTER_OTLP_ENDPOINT", "a URL such as http://localhost:4318")?,
            operate_port: vars.optional("OPERATE_PORT", "a port")?,
            jwt_secrets: vars.jwt_secrets(production)?,
            production,
            instance,
            first_user_is_admin: vars.flag("FIRST_USER_IS_ADMIN", !production)?,
            public_url: vars.optional("PUBLIC_URL", "a URL such as https://tasks.example.org")?,
            mail_from: vars.text("MAIL_FROM", "Taskpost <taskpost@localhost>"),
            limits: Limits {
                auth: vars.parse("RATE_LIMIT_AUTH", "60/m,30", "rate/unit[,burst] such as 60/m,30")?,
                write: vars.parse("RATE_LIMIT_WRITE", "200/s,400", "rate/unit[,burst] such as 200/s,400")?,
                read: vars.parse("RATE_LIMIT_READ", "500/s,1000", "rate/unit[,burst] such as 500/s,1000")?,
                trusted_proxies: vars.parse(
                    "TRUSTED_PROXIES",
                    "",
                    "a comma list of addresses or networks",
                )?,
            },
            retry_delays: vars.delays("RETRY_DELAYS", "5s,30s,5m,30m,2h")?,
            webhooks: Webhooks {
                allow_private: vars.flag("WEBHOOK_ALLOW_PRIVATE", false)?,
                ports: vars.list("WEBHOOK_PORTS", "80,443,8443", "a comma list of ports")?,
                timeout: vars.duration("WEBHOOK_TIMEOUT", "15s")?,
                per_endpoint: vars.at_least_one("WEBHOOK_CONCURRENCY", "2")?,
            },
            log_format: match vars.one_of("LOG_FORMAT", "pretty", &["pretty", "json"])?.as_str() {
                "json" => LogFormat::Json,
                _ => LogFormat::Pretty,
            },
            metrics_token: vars.secret("METRICS_TOKEN"),
            cors_origins: vars.list("CORS_ORIGINS", "", "a comma list of origins")?,
            commit_queue: vars.at_least_one("COMMIT_QUEUE", "4096")?,
            commit_wait: vars.duration("COMMIT_WAIT", "50ms")?,
            delivery_concurrency: vars.at_least_one("DELIVERY_CONCURRENCY", "32")?,
            delivery_prefetch: vars.at_least_one("DELIVERY_PREFETCH", "32")?,
            seed: Seed {
                users: vars.at_least_one("SEED_USER_COUNT", "5")?,
                projects: vars.parse("SEED_PROJECT_COUNT", "5", "a whole number")?,
                at_start: vars.seed_at_start(production)?,
            },
            origins: Vec::new(),
        };
        Ok(Self { origins: vars.seen, ..config })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(pairs: &[(&str, &str)]) -> Result<Config, ConfigError> {
        Config::load(|name| pairs.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned()))
    }

    #[test]
    fn nothing_said_is_the_embedded_product() {
        let config = load(&[]).unwrap();
        assert!(matches!(config.database, Database::Sqlite));
        assert_eq!(config.http.1, 3000);
        assert_eq!(config.retry_delays.len(), 5);
        assert!(config.first_user_is_admin);
        let generated =
            |setting: &Setting| setting.name == "JWT_SECRET" && setting.origin == Origin::Generated;
        assert!(config.origins.iter().all(|it| it.origin == Origin::Default || generated(it)));
    }

    #[test]
    fn each_value_has_its_origin_and_no_password() {
        let file = |name: &str| match name {
            "HTTP_PORT" => Some("4000".to_owned()),
            "MAIL_FROM" => Some("Ada <ada@example.org>".to_owned()),
            "DB_TYPE" => Some("postgres".to_owned()),
            "POSTGRES_PASSWORD" => Some("hunter2".to_owned()),
            "RABBITMQ_URL" => Some("amqp://ada:hunter2@queue/%2f".to_owned()),
            _ => None,
        };
        let environment = |name: &str| match name {
            "HTTP_PORT" => Some("5000".to_owned()),
            "SMTP_URL" => Some("smtp://mail:25?tls=none&password=hunter2".to_owned()),
            _ => None,
        };
        let config = Config::load_over(environment, file).unwrap();
        let of = |name: &str| {
            let setting = config.origins.iter().find(|setting| setting.name == name).unwrap();
            (setting.value.as_str(), setting.origin)
        };
        assert_eq!(of("HTTP_PORT"), ("5000", Origin::Environment));
        assert_eq!(of("MAIL_FROM"), ("Ada <ada@example.org>", Origin::File));
        assert_eq!(
            of("DATABASE_URL"),
            ("postgres://postgres:***@localhost:5432/taskpost", Origin::Older("DB_TYPE"))
        );
        assert_eq!(of("RABBITMQ_URL"), ("amqp://ada:***@queue/%2f", Origin::File));
        assert_eq!(of("SMTP_URL"), ("smtp://mail:25?tls=none&password=***", Origin::Environment));
        assert_eq!(of("JWT_SECRET"), ("***", Origin::Generated));
        assert_eq!(of("LOG_FORMAT"), ("pretty", Origin::Default));
    }

    #[test]
    fn a_bad_value_names_its_variable_and_what_it_may_be() {
        for (name, value, says) in [
            ("HTTP_PORT", "70000", "a port"),
            ("DATABASE_URL", "mysql://x/y", "postgres://"),
            ("RATE_LIMIT_WRITE", "fast", "rate/unit"),
            ("RETRY_DELAYS", "5s,soon", "ms, s, m or h"),
            ("RETRY_DELAYS", "", ""),
            ("JWT_SECRET", "short", "at least 32"),
            ("ENVIRONMENT", "prod", "production"),
            ("WEBHOOK_ALLOW_PRIVATE", "maybe", "true or false"),
            ("INSTANCE", "Task Post", "a-z"),
            ("KAFKA_BROKERS", "localhost", "host:port"),
            ("RABBITMQ_URL", "http://localhost", "amqp://"),
            ("REDIS_URL", "localhost:6379", "redis://"),
            ("SMTP_URL", "mail.example.org", "smtp://"),
            ("COMMIT_QUEUE", "0", "above 0"),
            ("SEED_USER_COUNT", "0", "above 0"),
            ("SEED_PROJECT_COUNT", "few", "a whole number"),
        ] {
            match load(&[(name, value)]) {
                Err(error) => assert!(
                    error.to_string().starts_with(name) && error.to_string().contains(says),
                    "{error}"
                ),
                Ok(_) => assert!(value.is_empty(), "{name}={value} was taken"),
            }
        }
    }

    #[test]
    fn production_wants_a_secret_and_makes_nobody_admin() {
        assert_eq!(load(&[("ENVIRONMENT", "production")]).unwrap_err().name, "JWT_SECRET");
        let secret = "0123456789abcdef0123456789abcdef";
        let config = load(&[("ENVIRONMENT", "production"), ("JWT_SECRET", secret)]).unwrap();
        assert!(!config.first_user_is_admin);
        let seeded = [("ENVIRONMENT", "production"), ("JWT_SECRET", secret), ("SEED_RELATIONSHIPS", "true")];
        assert_eq!(load(&seeded).unwrap_err().name, "SEED_RELATIONSHIPS");
        assert!(config.origins.iter().all(|setting| !setting.value.contains(secret)));
    }
}
