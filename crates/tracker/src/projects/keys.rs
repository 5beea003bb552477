//! Keys of projects, with which the keys of their tasks begin.

use rand::RngExt as _;
use taskpost_store::{Session, projects};

use crate::Error;

/// How many letters a key is made of when a project does not name one.
const LETTERS: usize = 4;
/// How many keys are tried for one title before chance decides.
const KEYS: usize = 50;

/// Whether a project may have this key.
pub(super) fn is_key(key: &str) -> bool {
    (2..=10).contains(&key.len())
        && key.starts_with(|c: char| c.is_ascii_uppercase())
        && key.bytes().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit())
}

/// The key, if no project has it.
pub(super) async fn unless_taken(session: &mut Session, key: String) -> Result<String, Error> {
    let taken = projects::taken_keys(session, std::slice::from_ref(&key)).await?;
    if taken.is_empty() {
        Ok(key)
    } else {
        Err(Error::Conflict(format!("there is a project of the key {key}; name another one")))
    }
}

/// A key made from the title, with a number when others have it. After the first attempt chance has a say, so
/// that those who make projects of one title at once do not meet again.
pub(super) async fn free_key(session: &mut Session, title: &str, attempt: u32) -> Result<String, Error> {
    let base = key_of(title);
    let candidates: Vec<String> =
        std::iter::once(base.clone()).chain((2..=KEYS).map(|n| format!("{base}{n}"))).collect();
    let taken = projects::taken_keys(session, &candidates).await?;
    let skipped = if attempt == 0 { 0 } else { rand::rng().random_range(0..KEYS / 2) };
    let free = candidates.into_iter().filter(|candidate| !taken.contains(candidate)).nth(skipped);
    Ok(free.unwrap_or_else(|| format!("{base}{:06}", rand::rng().random_range(0..1_000_000))))
}

/// The initials of a title of several words, else its first letters.
fn key_of(title: &str) -> String {
    let words: Vec<&str> =
        title.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty()).collect();
    let initials: String = words.iter().filter_map(|word| word.chars().next()).collect();
    for letters in [initials, words.concat()] {
        let letters = letters.trim_start_matches(|c: char| c.is_ascii_digit());
        let key: String = letters.chars().take(LETTERS).collect();
        if key.len() >= 2 {
            return key.to_ascii_uppercase();
        }
    }
    "PRJ".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_of_any_title() {
        for (title, key) in [
            ("Operations", "OPER"),
            ("Customer support desk", "CSD"),
            ("a b c d e f", "ABCD"),
            ("Phase 2", "P2"),
            ("2nd try", "NDTR"),
            ("IT", "IT"),
            ("x", "PRJ"),
            ("42", "PRJ"),
            ("東京", "PRJ"),
            ("Équipe rouge", "QR"),
        ] {
            assert_eq!(key_of(title), key, "{title}");
            assert!(is_key(&key_of(title)), "{title}");
        }
        for bad in ["O", "ops", "1OPS", "OPS-1", "ÄB", "ABCDEFGHIJK", ""] {
            assert!(!is_key(bad), "{bad}");
        }
    }
}
