//! What serde says of a value that does not fit, in our words: where it stands, a code, a sentence.
//!
//! Serde has no other way to tell what was wrong than its text, whose beginnings are fixed by `serde::de::Error`; a
//! test holds us to them. Values that were sent are left out: they may be secrets.

use std::fmt::Display;

use serde_path_to_error::{Path, Segment};

/// The longest text of a client's that is said back.
const LONGEST: usize = 100;

/// A value that does not fit.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    /// The way to it from the top.
    pub(crate) path: Vec<String>,
    pub(crate) code: &'static str,
    pub(crate) detail: String,
}

impl Fault {
    pub(crate) fn of<E: Display>(error: &serde_path_to_error::Error<E>) -> Self {
        let mut path = steps(error.path());
        let text = error.inner().to_string();
        let text = text.rsplit_once(" at line ").map_or(text.as_str(), |(text, _)| text);
        let (code, detail) = if text.starts_with("unknown field") {
            ("unknown_field", format!("is not known here{}", choices(text)))
        } else if let Some(name) = quoted(text, "missing field") {
            path.push(name.to_owned());
            ("missing_field", "is required".to_owned())
        } else if let Some(name) = quoted(text, "duplicate field") {
            if path.last().is_none_or(|last| last != name) {
                path.push(name.to_owned());
            }
            ("duplicate_field", "is given more than once".to_owned())
        } else if text.starts_with("invalid type") {
            ("wrong_type", must_be(text))
        } else if text.starts_with("invalid value") || text.starts_with("unknown variant") {
            ("invalid_value", must_be(text))
        } else if text == "expected value" {
            // What serde_json says where a word of an enum should stand.
            ("wrong_type", "must be a string".to_owned())
        } else {
            ("invalid_value", short(text))
        };
        Self { path, code, detail }
    }

    /// The way as a JSON pointer (RFC 6901).
    pub(crate) fn pointer(&self) -> String {
        let escape = |step: &String| format!("/{}", short(step).replace('~', "~0").replace('/', "~1"));
        self.path.iter().map(escape).collect()
    }
}

/// At most a hundred characters of a text.
pub(crate) fn short(text: &str) -> String {
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

fn steps(path: &Path) -> Vec<String> {
    let step = |segment: &Segment| match segment {
        Segment::Seq { index } => Some(index.to_string()),
        Segment::Map { key } => Some(key.clone()),
        Segment::Enum { .. } | Segment::Unknown => None,
    };
    path.iter().filter_map(step).collect()
}

/// The name in backticks after `lead`.
fn quoted<'a>(text: &'a str, lead: &str) -> Option<&'a str> {
    text.strip_prefix(lead)?.trim_start().strip_prefix('`')?.split('`').next()
}

fn choices(text: &str) -> String {
    match text.rsplit_once("`, expected ") {
        Some((_, choices)) => format!("; there is {}", choices.trim_start_matches("one of ")),
        None => String::new(),
    }
}

fn must_be(text: &str) -> String {
    let wanted = text.rsplit_once(", expected ").map_or("something else", |(_, wanted)| wanted);
    let wanted = match wanted {
        "a sequence" => "an array",
        "a map" => "an object",
        // The name of a Rust type tells a client nothing.
        wanted if wanted.starts_with("struct ") => "an object",
        wanted if wanted.starts_with("enum ") => "one of the known words",
        wanted => wanted,
    };
    format!("must be {wanted}")
}
