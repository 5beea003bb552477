//! What may be changed of an account.

use std::ops::RangeInclusive;

use chrono_tz::Tz;
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
    #[schema(nullable = false, min_length = 1, max_length = 100)]
    pub name: Option<Option<String>>,
    /// A name of the IANA time zone database.
    #[serde(default, deserialize_with = "present")]
    #[schema(example = "Europe/Berlin", min_length = 1, max_length = 64)]
    pub timezone: Option<Option<String>>,
    /// A well-formed BCP 47 language tag of at most 35 characters.
    #[serde(default, deserialize_with = "present")]
    #[schema(example = "de-AT", min_length = 2, max_length = 35)]
    pub locale: Option<Option<String>>,
    /// Whether the account may be used; for admins to say.
    #[serde(default, deserialize_with = "present")]
    #[schema(nullable = false)]
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
        && timezone.parse::<Tz>().is_err()
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

/// Whether it is a well-formed language tag (BCP 47): a language, and in this order what narrows it, with no word on
/// whether there is such a thing.
fn is_locale(tag: &str) -> bool {
    let letters = |part: &str, lengths| is_word(part, lengths, u8::is_ascii_alphabetic);
    let digits = |part: &str, lengths| is_word(part, lengths, u8::is_ascii_digit);
    let mixed = |part: &str, lengths| is_word(part, lengths, u8::is_ascii_alphanumeric);
    let mut parts = tag.split('-').peekable();
    let Some(language) = parts.next_if(|part| letters(part, 2..=8)) else { return false };
    let mut room = if language.len() <= 3 { 3 } else { 0 };
    while room > 0 && parts.next_if(|part| letters(part, 3..=3)).is_some() {
        room -= 1;
    }
    let _script = parts.next_if(|part| letters(part, 4..=4));
    let _region = parts.next_if(|part| letters(part, 2..=2) || digits(part, 3..=3));
    let is_variant = |part: &str| {
        mixed(part, 5..=8) || (mixed(part, 4..=4) && part.starts_with(|c: char| c.is_ascii_digit()))
    };
    while parts.next_if(|part| is_variant(part)).is_some() {}
    while let Some(extension) = parts.next_if(|part| mixed(part, 1..=1)) {
        let shortest = if extension.eq_ignore_ascii_case("x") { 1 } else { 2 };
        if parts.next_if(|part| mixed(part, shortest..=8)).is_none() {
            return false;
        }
        while parts.next_if(|part| mixed(part, shortest..=8)).is_some() {}
    }
    tag.len() <= 35 && parts.next().is_none()
}

fn is_word(part: &str, lengths: RangeInclusive<usize>, of: fn(&u8) -> bool) -> bool {
    lengths.contains(&part.len()) && part.as_bytes().iter().all(of)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_zone_is_one_of_the_database() {
        for good in ["UTC", "Europe/Berlin", "America/Argentina/Buenos_Aires", "Etc/GMT+5", "EST5EDT"] {
            assert!(good.parse::<Tz>().is_ok(), "{good}");
        }
        for bad in ["", "/", "Europe/", "Europe/Atlantis", "europe/berlin", "+05:00", "Europe/Berlin "] {
            assert!(bad.parse::<Tz>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_language_tag_is_well_formed() {
        for good in [
            "de",
            "pt-BR",
            "es-419",
            "zh-Hant-TW",
            "zh-yue-HK",
            "de-CH-1996",
            "sl-rozaj-biske",
            "de-u-co-phonebk-x-a",
            "qaa",
        ] {
            assert!(is_locale(good), "{good}");
        }
        for bad in [
            "",
            "d",
            "de_DE",
            "de-",
            "1de",
            "de-abcdefghi",
            "de-DE-DE",
            "de-TW-Hant",
            "de-u",
            "de-u-a",
            "de-x",
            "x-a",
            "deutsch-abc",
            "english is fine",
            "de-a12",
            "de-CH-1996-1996-1996-1996-1996-1996-1996",
        ] {
            assert!(!is_locale(bad), "{bad}");
        }
    }
}
