//! Checks of single values; what is wrong is collected, so that a client learns of all at once.

use taskpost_common::problem::FieldError;

use crate::Error;

/// Whether a text may have more than one line.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lines {
    One,
    Many,
}

/// Collects what is wrong in a body.
#[derive(Default)]
pub(crate) struct Checks(Vec<FieldError>);

impl Checks {
    /// Notes a fault.
    pub(crate) fn fault(&mut self, pointer: &str, code: &str, detail: impl Into<String>) {
        self.0.push(FieldError::new(pointer, code, detail));
    }

    /// Between `least` and `most` characters, none of them a control character but, with many lines, tab and newline.
    pub(crate) fn text(&mut self, pointer: &str, text: &str, least: usize, most: usize, lines: Lines) {
        let length = text.chars().count();
        if length < least || (least > 0 && text.trim().is_empty()) {
            self.fault(
                pointer,
                "too_short",
                format!("must have at least {least} characters that are not blank"),
            );
        } else if length > most {
            self.fault(pointer, "too_long", format!("must have at most {most} characters, has {length}"));
        }
        let plain = |c: char| !c.is_control() || (lines == Lines::Many && matches!(c, '\n' | '\r' | '\t'));
        if !text.chars().all(plain) {
            self.fault(pointer, "control_character", "must not contain control characters");
        }
    }

    /// An e-mail address that mail servers take: words joined by dots, an @, and the labels of a domain (RFC 5321).
    pub(crate) fn email(&mut self, pointer: &str, email: &str) {
        let good = email.len() <= 254
            && email.split_once('@').is_some_and(|(local, domain)| {
                local.len() <= 64 && local.split('.').all(is_atom) && domain.split('.').all(is_label)
            });
        if !good {
            self.fault(pointer, "invalid_email", "must be an e-mail address such as ada@example.org");
        }
    }

    /// All faults at once, if there are any.
    pub(crate) fn finish(self) -> Result<(), Error> {
        if self.0.is_empty() { Ok(()) } else { Err(Error::Invalid(self.0)) }
    }
}

fn is_atom(word: &str) -> bool {
    !word.is_empty() && word.chars().all(|c| c.is_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(c))
}

fn is_label(label: &str) -> bool {
    (1..=63).contains(&label.len())
        && !label.starts_with('-')
        && !label.ends_with('-')
        && label.chars().all(|c| c.is_alphanumeric() || c == '-')
}
