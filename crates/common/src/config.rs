//! What is in force, and where each value came from. The default is the embedded product.

use std::{
    fmt::{Display, Write as _},
    net::IpAddr,
    path::PathBuf,
    str::FromStr,
    time::Duration,
};

use secrecy::{ExposeSecret, SecretString};
use url::Url;

use crate::{net::TrustedProxies, rate::Rate};

/// Everything an operator can say.
#[derive(Clone, Debug)]
pub struct Config {
    /// `HTTP_HOST`, `HTTP_PORT`: where the API listens; port 0 takes a free one.
    pub http: (IpAddr, u16),
    /// `DATA_DIR`: the SQLite file, the generated secret and written mails.
    pub data_dir: PathBuf,
    /// `DATABASE_URL`.
    pub database: Database,
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
    /// `DELIVERY_CONCURRENCY`: how many deliveries one process sends at once.
    pub delivery_concurrency: usize,
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
    /// Whether somebody said so.
    pub origin: Origin,
}

/// Where a value came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody said anything.
    Default,
    /// The environment or `.env`.
    Environment,
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

/// Variables of parts that this version does not have; silence would let an operator believe that they are in use.
const NOT_YET: &[&str] = &["KAFKA_BROKERS", "RABBITMQ_URL", "REDIS_URL", "SMTP_URL"];

impl Config {
    /// Reads all variables through `var`, so that tests never touch the environment.
    pub fn load(var: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        for &name in NOT_YET {
            if var(name).is_some_and(|value| !value.is_empty()) {
                return Err(ConfigError {
                    name,
                    problem: "not supported by this version; unset it".to_owned(),
                });
            }
        }
        let mut vars = Vars { var: &var, seen: Vec::new() };
        let production = vars.one_of("ENVIRONMENT", "development", &["development", "test", "production"])?
            == "production";
        let database = vars.database()?;
        let config = Self {
            http: (
                vars.parse("HTTP_HOST", "127.0.0.1", "an IP address")?,
                vars.parse("HTTP_PORT", "3000", "a port")?,
            ),
            data_dir: PathBuf::from(vars.text("DATA_DIR", "./data")),
            database,
            jwt_secrets: vars.jwt_secrets(production)?,
            production,
            instance: vars.instance()?,
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
            delivery_concurrency: vars.at_least_one("DELIVERY_CONCURRENCY", "32")?,
            origins: Vec::new(),
        };
        Ok(Self { origins: vars.seen, ..config })
    }
}

struct Vars<'a> {
    var: &'a dyn Fn(&str) -> Option<String>,
    seen: Vec<Setting>,
}

impl Vars<'_> {
    /// An empty value counts as not said.
    fn raw(&self, name: &str) -> Option<String> {
        (self.var)(name).filter(|value| !value.is_empty())
    }

    fn note(&mut self, name: &'static str, value: &str, said: bool) {
        let origin = if said { Origin::Environment } else { Origin::Default };
        self.seen.push(Setting { name, value: value.to_owned(), origin });
    }

    fn text(&mut self, name: &'static str, default: &str) -> String {
        let said = self.raw(name);
        let value = said.clone().unwrap_or_else(|| default.to_owned());
        self.note(name, &value, said.is_some());
        value
    }

    fn secret(&mut self, name: &'static str) -> Option<SecretString> {
        let said = self.raw(name);
        self.note(name, if said.is_some() { "***" } else { "" }, said.is_some());
        said.map(SecretString::from)
    }

    fn parse<T: FromStr>(
        &mut self,
        name: &'static str,
        default: &str,
        expected: &str,
    ) -> Result<T, ConfigError> {
        let text = self.text(name, default);
        text.parse().map_err(|_| wrong(name, &text, expected))
    }

    fn optional<T: FromStr>(&mut self, name: &'static str, expected: &str) -> Result<Option<T>, ConfigError> {
        let text = self.text(name, "");
        if text.is_empty() {
            return Ok(None);
        }
        text.parse().map(Some).map_err(|_| wrong(name, &text, expected))
    }

    fn at_least_one(&mut self, name: &'static str, default: &str) -> Result<usize, ConfigError> {
        match self.parse(name, default, "a whole number above 0")? {
            0 => Err(wrong(name, "0", "a whole number above 0")),
            n => Ok(n),
        }
    }

    fn flag(&mut self, name: &'static str, default: bool) -> Result<bool, ConfigError> {
        let text = self.text(name, if default { "true" } else { "false" });
        match text.as_str() {
            "true" | "1" | "yes" => Ok(true),
            "false" | "0" | "no" => Ok(false),
            _ => Err(wrong(name, &text, "true or false")),
        }
    }

    fn one_of(&mut self, name: &'static str, default: &str, allowed: &[&str]) -> Result<String, ConfigError> {
        let text = self.text(name, default);
        if allowed.contains(&text.as_str()) { Ok(text) } else { Err(wrong(name, &text, &allowed.join(", "))) }
    }

    fn list<T: FromStr>(
        &mut self,
        name: &'static str,
        default: &str,
        expected: &str,
    ) -> Result<Vec<T>, ConfigError> {
        let text = self.text(name, default);
        let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
        items.map(|item| item.parse().map_err(|_| wrong(name, &text, expected))).collect()
    }

    fn duration(&mut self, name: &'static str, default: &str) -> Result<Duration, ConfigError> {
        let text = self.text(name, default);
        parse_duration(&text).ok_or_else(|| wrong(name, &text, DURATION))
    }

    fn delays(&mut self, name: &'static str, default: &str) -> Result<Vec<Duration>, ConfigError> {
        let text = self.text(name, default);
        let expected = format!("one to ten waits, each {DURATION}, joined by commas");
        let delays: Option<Vec<Duration>> = text.split(',').map(parse_duration).collect();
        delays.filter(|delays| (1..=10).contains(&delays.len())).ok_or_else(|| wrong(name, &text, &expected))
    }

    fn instance(&mut self) -> Result<String, ConfigError> {
        let name = self.text("INSTANCE", "taskpost");
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if (1..=40).contains(&name.len()) && name.chars().all(plain) {
            return Ok(name);
        }
        Err(wrong("INSTANCE", &name, "1 to 40 of a-z, 0-9 and -"))
    }

    fn database(&mut self) -> Result<Database, ConfigError> {
        let said = self.raw("DATABASE_URL");
        let Some(text) = said else {
            self.note("DATABASE_URL", "", false);
            return Ok(Database::Sqlite);
        };
        self.note("DATABASE_URL", "***", true);
        let expected = "postgres://user:password@host:port/database (unset it for SQLite)";
        let url = Url::parse(&text).map_err(|_| wrong("DATABASE_URL", "***", expected))?;
        if !matches!(url.scheme(), "postgres" | "postgresql") || url.host_str().is_none_or(str::is_empty) {
            return Err(wrong("DATABASE_URL", "***", expected));
        }
        Ok(Database::Postgres(text.into()))
    }

    fn jwt_secrets(&mut self, production: bool) -> Result<Vec<SecretString>, ConfigError> {
        let expected = "a comma list of secrets of at least 32 characters; the first signs, all verify";
        let Some(text) = self.secret("JWT_SECRET") else {
            return if production { Err(wrong("JWT_SECRET", "", expected)) } else { Ok(Vec::new()) };
        };
        let secrets: Vec<&str> = text.expose_secret().split(',').map(str::trim).collect();
        if secrets.iter().any(|secret| secret.len() < 32) {
            return Err(wrong("JWT_SECRET", "***", expected));
        }
        Ok(secrets.into_iter().map(SecretString::from).collect())
    }
}

const DURATION: &str = "a whole number with ms, s, m or h, such as 30s";

/// `250ms`, `5s`, `30m`, `2h`.
fn parse_duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let count: u32 = text[..digits].parse().ok()?;
    let unit = match &text[digits..] {
        "ms" => Duration::from_millis(1),
        "s" => Duration::from_secs(1),
        "m" => Duration::from_mins(1),
        "h" => Duration::from_hours(1),
        _ => return None,
    };
    unit.checked_mul(count)
}

fn wrong(name: &'static str, given: impl Display, expected: &str) -> ConfigError {
    let mut problem = format!("expected {expected}");
    let given = given.to_string();
    if !given.is_empty() {
        // Writing to a String cannot fail.
        let _ = write!(problem, "; got `{given}`");
    }
    ConfigError { name, problem }
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
        assert!(config.origins.iter().all(|setting| setting.origin == Origin::Default));
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
            ("KAFKA_BROKERS", "localhost:9092", "not supported"),
            ("COMMIT_QUEUE", "0", "above 0"),
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
        assert!(config.origins.iter().all(|setting| !setting.value.contains(secret)));
    }
}
