//! Reads variables one by one, and notes what was said.

use std::{
    fmt::{Display, Write as _},
    str::FromStr,
    time::Duration,
};

use secrecy::SecretString;
use url::Url;

use super::{
    ConfigError, Database, Kafka, Origin, Sasl, Setting,
    older::{self, Newer},
};

/// What is shown in the place of a secret.
const MASK: &str = "***";

pub(super) struct Vars<'a> {
    var: &'a dyn Fn(&str) -> Option<String>,
    /// Whether the environment has the variable.
    in_environment: &'a dyn Fn(&str) -> bool,
    older: Vec<Newer>,
    pub(super) seen: Vec<Setting>,
}

impl<'a> Vars<'a> {
    pub(super) fn new(
        var: &'a dyn Fn(&str) -> Option<String>,
        in_environment: &'a dyn Fn(&str) -> bool,
    ) -> Result<Self, ConfigError> {
        Ok(Self { var, in_environment, older: older::translate(var)?, seen: Vec::new() })
    }

    /// What was said and where. An empty value counts as not said.
    fn raw(&self, name: &str) -> Option<(String, Origin)> {
        if let Some(value) = (self.var)(name).filter(|value| !value.is_empty()) {
            let here = (self.in_environment)(name);
            return Some((value, if here { Origin::Environment } else { Origin::File }));
        }
        let newer = self.older.iter().find(|newer| newer.name == name)?;
        Some((newer.value.clone(), Origin::Older(newer.by)))
    }

    fn note(&mut self, name: &'static str, value: &str, origin: Origin) {
        self.seen.push(Setting { name, value: masked(value), origin });
    }

    pub(super) fn text(&mut self, name: &'static str, default: &str) -> String {
        let (value, origin) = self.raw(name).unwrap_or_else(|| (default.to_owned(), Origin::Default));
        self.note(name, &value, origin);
        value
    }

    pub(super) fn secret(&mut self, name: &'static str) -> Option<SecretString> {
        let Some((value, origin)) = self.raw(name) else {
            self.note(name, "", Origin::Default);
            return None;
        };
        self.note(name, MASK, origin);
        Some(value.into())
    }

    pub(super) fn parse<T: FromStr>(
        &mut self,
        name: &'static str,
        default: &str,
        expected: &str,
    ) -> Result<T, ConfigError> {
        let text = self.text(name, default);
        text.parse().map_err(|_| wrong(name, &text, expected))
    }

    pub(super) fn optional<T: FromStr>(
        &mut self,
        name: &'static str,
        expected: &str,
    ) -> Result<Option<T>, ConfigError> {
        let text = self.text(name, "");
        if text.is_empty() {
            return Ok(None);
        }
        text.parse().map(Some).map_err(|_| wrong(name, &text, expected))
    }

    pub(super) fn at_least_one(&mut self, name: &'static str, default: &str) -> Result<usize, ConfigError> {
        match self.parse(name, default, "a whole number above 0")? {
            0 => Err(wrong(name, "0", "a whole number above 0")),
            n => Ok(n),
        }
    }

    pub(super) fn flag(&mut self, name: &'static str, default: bool) -> Result<bool, ConfigError> {
        let text = self.text(name, if default { "true" } else { "false" });
        match text.as_str() {
            "true" | "1" | "yes" => Ok(true),
            "false" | "0" | "no" => Ok(false),
            _ => Err(wrong(name, &text, "true or false")),
        }
    }

    pub(super) fn one_of(
        &mut self,
        name: &'static str,
        default: &str,
        allowed: &[&str],
    ) -> Result<String, ConfigError> {
        let text = self.text(name, default);
        if allowed.contains(&text.as_str()) { Ok(text) } else { Err(wrong(name, &text, &allowed.join(", "))) }
    }

    pub(super) fn list<T: FromStr>(
        &mut self,
        name: &'static str,
        default: &str,
        expected: &str,
    ) -> Result<Vec<T>, ConfigError> {
        let text = self.text(name, default);
        let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
        items.map(|item| item.parse().map_err(|_| wrong(name, &text, expected))).collect()
    }

    pub(super) fn duration(&mut self, name: &'static str, default: &str) -> Result<Duration, ConfigError> {
        let text = self.text(name, default);
        parse_duration(&text).ok_or_else(|| wrong(name, &text, DURATION))
    }

    pub(super) fn delays(&mut self, name: &'static str, default: &str) -> Result<Vec<Duration>, ConfigError> {
        let text = self.text(name, default);
        let expected = format!("one to ten waits, each {DURATION}, joined by commas");
        let delays: Option<Vec<Duration>> = text.split(',').map(parse_duration).collect();
        delays.filter(|delays| (1..=10).contains(&delays.len())).ok_or_else(|| wrong(name, &text, &expected))
    }

    pub(super) fn instance(&mut self) -> Result<String, ConfigError> {
        let name = self.text("INSTANCE", "taskpost");
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if (1..=40).contains(&name.len()) && name.chars().all(plain) {
            return Ok(name);
        }
        Err(wrong("INSTANCE", &name, "1 to 40 of a-z, 0-9 and -"))
    }

    pub(super) fn database(&mut self) -> Result<Database, ConfigError> {
        let expected = "postgres://user:password@host:port/database (unset it for SQLite)";
        let url = self.secret_url("DATABASE_URL", &["postgres", "postgresql"], expected)?;
        Ok(url.map_or(Database::Sqlite, Database::Postgres))
    }

    /// A URL that may hold a password.
    pub(super) fn secret_url(
        &mut self,
        name: &'static str,
        schemes: &[&str],
        expected: &str,
    ) -> Result<Option<SecretString>, ConfigError> {
        let text = self.text(name, "");
        if text.is_empty() {
            return Ok(None);
        }
        let url = Url::parse(&text).map_err(|_| wrong(name, MASK, expected))?;
        let good = schemes.contains(&url.scheme()) && url.host_str().is_some_and(|host| !host.is_empty());
        if good { Ok(Some(text.into())) } else { Err(wrong(name, MASK, expected)) }
    }

    pub(super) fn kafka(&mut self, instance: &str) -> Result<Option<Kafka>, ConfigError> {
        const BROKERS: &str = "a comma list of host:port (unset it for the store's own log)";
        let brokers = self.text("KAFKA_BROKERS", "");
        let topic_prefix = self.text("KAFKA_TOPIC_PREFIX", instance);
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if topic_prefix.len() > 100 || !topic_prefix.chars().all(plain) {
            return Err(wrong(
                "KAFKA_TOPIC_PREFIX",
                &topic_prefix,
                "at most 100 of a-z, A-Z, 0-9, -, _ and .",
            ));
        }
        let partitions = self.at_least_one("KAFKA_PARTITIONS", "6")?;
        let replication = self.at_least_one("KAFKA_REPLICATION", "1")?;
        let few = |name, n: usize| u16::try_from(n).map_err(|_| wrong(name, n, "a whole number below 65536"));
        let protocols = ["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"];
        let security_protocol = self.one_of("KAFKA_SECURITY_PROTOCOL", "plaintext", &protocols)?;
        let ca_file = self.optional("KAFKA_CA_FILE", "a path")?;
        let mechanisms = ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"];
        let mechanism = self.one_of("KAFKA_SASL_MECHANISM", "PLAIN", &mechanisms)?;
        let username = self.text("KAFKA_USERNAME", "");
        let password = self.secret("KAFKA_PASSWORD");
        let sasl = match (security_protocol.starts_with("sasl"), username.is_empty(), password) {
            (false, _, _) => None,
            (true, false, Some(password)) => Some(Sasl { mechanism, username, password }),
            (true, true, _) => {
                return Err(wrong("KAFKA_USERNAME", "", "a user, as KAFKA_SECURITY_PROTOCOL is sasl"));
            }
            (true, false, None) => return Err(wrong("KAFKA_PASSWORD", "", "the password of KAFKA_USERNAME")),
        };
        let is_broker = |broker: &str| {
            broker
                .rsplit_once(':')
                .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
        };
        if brokers.is_empty() {
            return Ok(None);
        }
        if !brokers.split(',').all(|broker| is_broker(broker.trim())) {
            return Err(wrong("KAFKA_BROKERS", &brokers, BROKERS));
        }
        Ok(Some(Kafka {
            brokers,
            topic_prefix,
            partitions: few("KAFKA_PARTITIONS", partitions)?,
            replication: few("KAFKA_REPLICATION", replication)?,
            security_protocol,
            ca_file,
            sasl,
        }))
    }

    pub(super) fn seed_at_start(&mut self, production: bool) -> Result<bool, ConfigError> {
        let said = self.flag("SEED_RELATIONSHIPS", false)?;
        if said && production {
            return Err(wrong("SEED_RELATIONSHIPS", "true", "false in production"));
        }
        Ok(said)
    }

    pub(super) fn jwt_secrets(&mut self, production: bool) -> Result<Vec<SecretString>, ConfigError> {
        let expected = "a comma list of secrets of at least 32 characters; the first signs, all verify";
        let Some((text, origin)) = self.raw("JWT_SECRET") else {
            self.note("JWT_SECRET", MASK, Origin::Generated);
            return if production { Err(wrong("JWT_SECRET", "", expected)) } else { Ok(Vec::new()) };
        };
        self.note("JWT_SECRET", MASK, origin);
        let secrets: Vec<&str> = text.split(',').map(str::trim).collect();
        if secrets.iter().any(|secret| secret.len() < 32) {
            return Err(wrong("JWT_SECRET", MASK, expected));
        }
        Ok(secrets.into_iter().map(SecretString::from).collect())
    }
}

/// As it may be shown: a URL without its password, and without what its query calls one.
fn masked(value: &str) -> String {
    let Some(mut url) = value.contains("://").then(|| Url::parse(value).ok()).flatten() else {
        return value.to_owned();
    };
    let is_secret =
        |name: &str| ["pass", "secret", "token", "key"].iter().any(|word| name.to_lowercase().contains(word));
    let in_query = url.query_pairs().any(|(name, _)| is_secret(&name));
    if url.password().is_none() && !in_query {
        return value.to_owned();
    }
    if url.password().is_some() && url.set_password(Some(MASK)).is_err() {
        return MASK.to_owned();
    }
    if in_query {
        let shown: Vec<(String, String)> = url
            .query_pairs()
            .map(|(name, value)| {
                let value = if is_secret(&name) { MASK.to_owned() } else { value.into_owned() };
                (name.into_owned(), value)
            })
            .collect();
        url.query_pairs_mut().clear().extend_pairs(shown);
    }
    url.into()
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

pub(super) fn wrong(name: &'static str, given: impl Display, expected: &str) -> ConfigError {
    let mut problem = format!("expected {expected}");
    let given = given.to_string();
    if !given.is_empty() {
        // Writing to a String cannot fail.
        let _ = write!(problem, "; got `{given}`");
    }
    ConfigError { name, problem }
}
