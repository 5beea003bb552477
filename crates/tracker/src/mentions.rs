//! Whom a text names as `@handle`. What stands in code names nobody.

use std::collections::HashMap;

use taskpost_common::UserId;
use taskpost_store::{Session, StoreError, users};

/// The most users one text names; more are not looked at.
const MOST: usize = 50;
/// The longest handle, in bytes.
const LONGEST: usize = 60;

/// The users whom a text names, in its order, as far as there are such.
pub(crate) async fn named(session: &mut Session, body: &str) -> Result<Vec<UserId>, StoreError> {
    let handles = handles(body);
    if handles.is_empty() {
        return Ok(Vec::new());
    }
    let known: HashMap<String, UserId> = users::by_handles(session, &handles).await?.into_iter().collect();
    Ok(handles.iter().filter_map(|handle| known.get(handle).copied()).collect())
}

/// The handles in a text, in lower case and in its order, each once and at most 50 of them.
pub(crate) fn handles(body: &str) -> Vec<String> {
    let mut found = Vec::new();
    for paragraph in paragraphs(body) {
        collect(paragraph, &mut found);
    }
    found
}

/// The pieces of a text between its blank lines, without fenced code. A code span ends with its paragraph.
fn paragraphs(body: &str) -> Vec<&str> {
    let mut pieces = Vec::new();
    let mut open: Option<Fence> = None;
    let (mut start, mut at) = (0, 0);
    for line in body.split_inclusive('\n') {
        let end = at + line.len();
        if let Some(fence) = &open {
            if fence.is_closed_by(line) {
                open = None;
            }
            start = end;
        } else {
            open = Fence::opened_by(line);
            if open.is_some() || line.trim().is_empty() {
                pieces.push(&body[start..at]);
                start = end;
            }
        }
        at = end;
    }
    pieces.push(&body[start..at]);
    pieces
}

/// The line before, or after, fenced code.
struct Fence {
    mark: char,
    length: usize,
}

impl Fence {
    /// The fence at the beginning of a line, and what stands behind it.
    fn of(line: &str) -> Option<(Self, &str)> {
        let text = line.trim_start_matches(' ');
        let mark = text.chars().next().filter(|mark| matches!(mark, '`' | '~'))?;
        let rest = text.trim_start_matches(mark);
        let (indent, length) = (line.len() - text.len(), text.len() - rest.len());
        (indent <= 3 && length >= 3).then_some((Self { mark, length }, rest))
    }

    fn opened_by(line: &str) -> Option<Self> {
        let (fence, rest) = Self::of(line)?;
        // Backticks with more of them behind are a code span.
        (fence.mark == '~' || !rest.contains('`')).then_some(fence)
    }

    fn is_closed_by(&self, line: &str) -> bool {
        Self::of(line).is_some_and(|(fence, rest)| {
            fence.mark == self.mark && fence.length >= self.length && rest.trim().is_empty()
        })
    }
}

/// Adds the handles of a paragraph that are new.
fn collect(paragraph: &str, found: &mut Vec<String>) {
    let mut before = None;
    let mut rest = paragraph;
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '`' => code_span(rest),
            '@' if before.is_none_or(is_apart) => {
                let word = word(&rest[1..]);
                add(word, found);
                1 + word.len()
            }
            other => other.len_utf8(),
        };
        let (done, left) = rest.split_at(length);
        before = done.chars().next_back();
        rest = left;
    }
}

fn add(word: &str, found: &mut Vec<String>) {
    let handle = word.trim_end_matches('-').to_ascii_lowercase();
    if (1..=LONGEST).contains(&handle.len()) && found.len() < MOST && !found.contains(&handle) {
        found.push(handle);
    }
}

/// Whether an `@` behind this character begins something: inside a word, an address or a path it does not.
fn is_apart(before: char) -> bool {
    !before.is_alphanumeric() && !matches!(before, '.' | '_' | '-' | '/')
}

/// What a text begins with that may be a handle.
fn word(text: &str) -> &str {
    let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '-');
    &text[..end.unwrap_or(text.len())]
}

/// How long the code span is that a text begins with; without an end, only the backticks are passed over.
fn code_span(text: &str) -> usize {
    let mut rest = text.trim_start_matches('`');
    let ticks = text.len() - rest.len();
    while let Some(at) = rest.find('`') {
        let after = rest[at..].trim_start_matches('`');
        if rest.len() - at - after.len() == ticks {
            return text.len() - after.len();
        }
        rest = after;
    }
    ticks
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    #[test]
    fn handles_are_found_where_people_write_them() {
        let long = format!("@{}", "a".repeat(LONGEST));
        let (over, cut) = (format!("{long}b"), format!("{long}-"));
        for (body, expected) in [
            ("@bob please", &["bob"][..]),
            ("Ask @Ada-2, @bob and (@eve).", &["ada-2", "bob", "eve"]),
            ("@bob @BOB @bOb", &["bob"]),
            ("@bob-- and @bob- too", &["bob"]),
            ("line\n@bob\r\n@eve", &["bob", "eve"]),
            ("**@bob** \"@eve\" é@x ,@y", &["bob", "eve", "y"]),
            ("@bob's and @eve.", &["bob", "eve"]),
            ("mail bob@example.org, a.@b, a_@b, a-@b, /@b", &[]),
            ("@ @- @-- @_ @.", &[]),
            ("@bob@eve", &["bob"]),
            (long.as_str(), &[&long[1..]]),
            (over.as_str(), &[]),
            (cut.as_str(), &[&long[1..]]),
            ("@\u{212a}elvin", &[]),
            ("", &[]),
        ] {
            assert_eq!(handles(body), expected, "{body:?}");
        }
    }

    #[test]
    fn code_names_nobody() {
        for (body, expected) in [
            ("`@bob` @eve", &["eve"][..]),
            ("``a ` @bob`` @eve", &["eve"]),
            ("`@bob\n@ada` @eve", &["eve"]),
            ("`@bob", &["bob"]),
            ("a ` b\n\n@bob ` c", &["bob"]),
            ("``@bob`", &["bob"]),
            ("```\n@bob\n```\n@eve", &["eve"]),
            ("```rust\n@bob\n\n@ada\n````\n@eve", &["eve"]),
            ("~~~~\n@bob\n~~~\n```\n~~~~~  \n@eve", &["eve"]),
            ("   ```\r\n@bob\r\n   ```\r\n@eve", &["eve"]),
            ("```\n@bob", &[]),
            ("``` @bob ``` @eve", &["eve"]),
            ("@ada\n```\n@bob\n```", &["ada"]),
            ("~~ @bob ~~", &["bob"]),
        ] {
            assert_eq!(handles(body), expected, "{body:?}");
        }
    }

    #[test]
    fn of_many_the_first_are_taken() {
        let names: Vec<String> = (0..80).map(|i| format!("user-{i}")).collect();
        let body = format!("@{}", names.join(" @"));
        assert_eq!(handles(&body), &names[..MOST]);
    }

    proptest! {
        #[test]
        fn any_text_is_read(body in "[ab@`~\\-\n\r é.]{0,300}|.{0,300}") {
            let found = handles(&body);
            prop_assert!(found.len() <= MOST);
            for (i, handle) in found.iter().enumerate() {
                prop_assert!((1..=LONGEST).contains(&handle.len()) && !handle.ends_with('-'));
                prop_assert!(
                    handle.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-')
                );
                prop_assert!(!found[..i].contains(handle));
                let named = format!("@{handle}");
                prop_assert!(body.to_ascii_lowercase().contains(&named));
            }
        }

        #[test]
        fn what_was_planted_is_found(
            planted in vec(("[a-z ,!?()é\n]{0,20}", "[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?", any::<bool>()), 0..30),
        ) {
            let (mut body, mut expected) = (String::new(), Vec::new());
            for (filler, name, upper) in planted {
                let written = if upper { name.to_uppercase() } else { name.clone() };
                body.extend([filler.as_str(), " @", &written, " `@in-code` "]);
                if !expected.contains(&name) {
                    expected.push(name);
                }
            }
            prop_assert_eq!(handles(&body), expected);
            prop_assert_eq!(handles(&format!("```\n{body}\n```\n")), Vec::<String>::new());
        }
    }
}
