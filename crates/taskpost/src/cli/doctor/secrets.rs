//! What must not be printed, whoever says it.

use secrecy::{ExposeSecret as _, SecretString};
use taskpost_common::config::{Config, Database};
use url::Url;

use super::Finding;

/// A shorter one is a part of many words.
const SHORT: usize = 4;

/// Passwords and keys of the configuration.
pub(super) struct Secrets(Vec<SecretString>);

impl Secrets {
    pub(super) fn of(config: &Config) -> Self {
        let database = match &config.database {
            Database::Postgres(url) => Some(url),
            Database::Sqlite => None,
        };
        let urls = [database, config.rabbitmq.as_ref(), config.redis.as_ref(), config.smtp.as_ref()];
        let urls = urls.into_iter().flatten();
        let mut secrets: Vec<SecretString> = urls.clone().cloned().collect();
        secrets.extend(urls.filter_map(password));
        secrets.extend(config.jwt_secrets.iter().cloned());
        secrets.extend(config.metrics_token.clone());
        let sasl = config.kafka.as_ref().and_then(|kafka| kafka.sasl.as_ref());
        secrets.extend(sasl.map(|sasl| sasl.password.clone()));
        Self(secrets)
    }

    pub(super) fn hide(&self, finding: Finding) -> Finding {
        Finding {
            detail: self.hidden(finding.detail),
            mend: finding.mend.map(|mend| self.hidden(mend)),
            ..finding
        }
    }

    fn hidden(&self, text: String) -> String {
        let secrets = self.0.iter().map(SecretString::expose_secret);
        secrets
            .filter(|secret| secret.len() >= SHORT)
            .fold(text, |text, secret| if text.contains(secret) { text.replace(secret, "***") } else { text })
    }
}

fn password(url: &SecretString) -> Option<SecretString> {
    Some(Url::parse(url.expose_secret()).ok()?.password()?.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_says_a_secret_it_is_not_printed() {
        let config = Config::load(|name| match name {
            "DATABASE_URL" => Some("postgres://ada:hunter2@db/x".to_owned()),
            "METRICS_TOKEN" => Some("a token".to_owned()),
            _ => None,
        });
        let secrets = Secrets::of(&config.unwrap());
        let said =
            Finding::fail("store", "ada says hunter2", "not a token, and not postgres://ada:hunter2@db/x");
        let hidden = secrets.hide(said);
        assert_eq!(
            (hidden.detail.as_str(), hidden.mend.as_deref()),
            ("ada says ***", Some("not ***, and not ***"))
        );
    }
}
