//! What may be changed of an account.

use serde::Deserialize;
use taskpost_common::user::{User, UserStatus};
use utoipa::ToSchema;

use crate::{Error, new_account::check_name, tasks::present, validate::Checks};

/// A merge patch of an account: what is absent stays, null goes back to what a new account has.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PatchUser {
    /// How others see the user; 1 to 100 characters.
    #[serde(default, deserialize_with = "present")]
    pub name: Option<Option<String>>,
    /// An IANA time zone.
    #[serde(default, deserialize_with = "present")]
    #[schema(example = "Europe/Berlin")]
    pub timezone: Option<Option<String>>,
    /// A BCP 47 language tag.
    #[serde(default, deserialize_with = "present")]
    #[schema(example = "de-AT")]
    pub locale: Option<Option<String>>,
    /// Whether the account may be used; for admins to say.
    #[serde(default)]
    pub status: Option<UserStatus>,
}

/// The user after the change.
pub(super) fn patched(mut user: User, patch: PatchUser) -> User {
    if let Some(Some(name)) = patch.name {
        name.trim().clone_into(&mut user.name);
    }
    if let Some(timezone) = patch.timezone {
        user.timezone = timezone.unwrap_or_else(|| "UTC".to_owned());
    }
    if let Some(locale) = patch.locale {
        user.locale = locale.unwrap_or_else(|| "en".to_owned());
    }
    if let Some(status) = patch.status {
        user.status = status;
    }
    user
}

/// Checks what can be checked without the store.
pub(super) fn check_patch(patch: &PatchUser) -> Result<(), Error> {
    let mut checks = Checks::default();
    match &patch.name {
        Some(Some(name)) => check_name(&mut checks, name.trim()),
        Some(None) => checks.fault("/name", "missing_field", "a user must have a name"),
        None => {}
    }
    if let Some(Some(timezone)) = &patch.timezone
        && !is_timezone(timezone)
    {
        checks.fault("/timezone", "invalid_timezone", "must be an IANA time zone such as Europe/Berlin");
    }
    if let Some(Some(locale)) = &patch.locale
        && !is_locale(locale)
    {
        checks.fault("/locale", "invalid_locale", "must be a language tag such as de or pt-BR");
    }
    checks.finish()
}

/// Whether it has the form of a name in the IANA time zone database.
fn is_timezone(name: &str) -> bool {
    let is_letter = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '+');
    let is_part = |part: &str| !part.is_empty() && part.chars().all(is_letter);
    name.len() <= 64 && name.starts_with(|c: char| c.is_ascii_alphabetic()) && name.split('/').all(is_part)
}

/// Whether it has the form of a language tag (BCP 47): a language, and what narrows it.
fn is_locale(tag: &str) -> bool {
    let is_part = |part: &str| {
        (1..=8).contains(&part.len()) && part.bytes().all(|letter| letter.is_ascii_alphanumeric())
    };
    let language = tag.split('-').next().unwrap_or_default();
    let is_language = language.len() >= 2 && language.bytes().all(|letter| letter.is_ascii_alphabetic());
    tag.len() <= 35 && is_language && tag.split('-').all(is_part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_zones_and_languages_have_their_form() {
        for good in ["UTC", "Europe/Berlin", "America/Argentina/Buenos_Aires", "Etc/GMT+5", "EST5EDT"] {
            assert!(is_timezone(good), "{good}");
        }
        for bad in ["", "/", "Europe/", "+05:00", "Europe Berlin", "../etc/passwd", &"a".repeat(65)] {
            assert!(!is_timezone(bad), "{bad}");
        }
        for good in ["de", "pt-BR", "zh-Hant-TW", "de-CH-1996"] {
            assert!(is_locale(good), "{good}");
        }
        for bad in ["", "d", "de_DE", "de-", "1de", "de-abcdefghi", "english is fine"] {
            assert!(!is_locale(bad), "{bad}");
        }
    }
}
