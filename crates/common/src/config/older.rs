//! Older names of variables, which say the same in other words. Where both are set, the newer one counts.

use url::Url;

use super::{ConfigError, vars::wrong};

/// What an older name says, in the newer one.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Newer {
    pub(super) name: &'static str,
    pub(super) value: String,
    /// The older name.
    pub(super) by: &'static str,
}

/// What the older names say, in the newer ones.
pub(super) fn translate(var: &dyn Fn(&str) -> Option<String>) -> Result<Vec<Newer>, ConfigError> {
    let said = |name: &str| var(name).filter(|value| !value.is_empty());
    let mut newer = Vec::new();
    let mut say = |name, value, by| newer.push(Newer { name, value, by });
    match said("DB_TYPE").as_deref() {
        None | Some("sqlite" | "memdb") => {}
        Some("postgres") => say("DATABASE_URL", postgres(&said)?, "DB_TYPE"),
        Some(other) => return Err(wrong("DB_TYPE", other, "sqlite, memdb or postgres")),
    }
    match said("CACHE_TYPE").as_deref() {
        None | Some("memory") => {}
        Some("redis") => {
            let address = said("REDIS_ADDR").unwrap_or_else(|| "localhost:6379".to_owned());
            say("REDIS_URL", format!("redis://{address}/0"), "CACHE_TYPE");
        }
        Some(other) => return Err(wrong("CACHE_TYPE", other, "memory or redis")),
    }
    match said("COMMUNICATION_METHOD").as_deref() {
        None | Some("stream") => {}
        Some("kafka") => say("KAFKA_BROKERS", "localhost:9092".to_owned(), "COMMUNICATION_METHOD"),
        Some(other) => return Err(wrong("COMMUNICATION_METHOD", other, "stream or kafka")),
    }
    Ok(newer)
}

/// Whether the store is to be gone at the end: `DB_TYPE=memdb`.
pub(super) fn is_temporary(var: &dyn Fn(&str) -> Option<String>) -> bool {
    var("DB_TYPE").as_deref() == Some("memdb") && var("DATABASE_URL").is_none_or(|url| url.is_empty())
}

fn postgres(said: &dyn Fn(&str) -> Option<String>) -> Result<String, ConfigError> {
    let of = |name, default: &str| said(name).unwrap_or_else(|| default.to_owned());
    let host = of("POSTGRES_HOST", "localhost");
    let bad_host = || wrong("POSTGRES_HOST", &host, "a host name or address");
    let mut url = Url::parse(&format!("postgres://{host}")).map_err(|_| bad_host())?;
    let port = of("POSTGRES_PORT", "5432");
    let number = port.parse().map_err(|_| wrong("POSTGRES_PORT", &port, "a port"))?;
    url.set_port(Some(number)).map_err(|()| bad_host())?;
    url.set_username(&of("POSTGRES_USER", "postgres")).map_err(|()| bad_host())?;
    let password = said("POSTGRES_PASSWORD");
    url.set_password(password.as_deref()).map_err(|()| bad_host())?;
    url.set_path(&of("POSTGRES_DB", "taskpost"));
    Ok(url.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(pairs: &[(&str, &str)]) -> Result<Vec<Newer>, ConfigError> {
        translate(&|name| pairs.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned()))
    }

    #[test]
    fn older_names_are_put_into_newer_ones() {
        let newer = said(&[
            ("DB_TYPE", "postgres"),
            ("POSTGRES_HOST", "db"),
            ("POSTGRES_USER", "ada"),
            ("POSTGRES_PASSWORD", "p@ss/word"),
            ("CACHE_TYPE", "redis"),
            ("REDIS_ADDR", "cache:6380"),
            ("COMMUNICATION_METHOD", "kafka"),
        ])
        .unwrap();
        assert_eq!(
            newer,
            [
                ("DATABASE_URL", "postgres://ada:p%40ss%2Fword@db:5432/taskpost", "DB_TYPE"),
                ("REDIS_URL", "redis://cache:6380/0", "CACHE_TYPE"),
                ("KAFKA_BROKERS", "localhost:9092", "COMMUNICATION_METHOD"),
            ]
            .map(|(name, value, by)| Newer { name, value: value.to_owned(), by })
        );
        assert_eq!(said(&[("DB_TYPE", "memdb"), ("CACHE_TYPE", "memory")]).unwrap(), []);
    }

    #[test]
    fn a_bad_older_value_names_its_variable() {
        for (name, value) in
            [("DB_TYPE", "oracle"), ("CACHE_TYPE", "disk"), ("COMMUNICATION_METHOD", "pigeon")]
        {
            assert_eq!(said(&[(name, value)]).unwrap_err().name, name);
        }
        assert_eq!(
            said(&[("DB_TYPE", "postgres"), ("POSTGRES_PORT", "x")]).unwrap_err().name,
            "POSTGRES_PORT"
        );
    }
}
