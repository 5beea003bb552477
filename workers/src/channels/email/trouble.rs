//! What can go wrong between us and a mail server, and whose fault it is.

use std::{error::Error as _, fmt};

use lettre::{Address, transport::smtp};
use taskpost_common::delivery::AttemptOutcome;

use crate::channels::Failure;

/// The replies that say that we are not logged in (RFC 4954): the fault of a setting, whatever they answer.
const LOGIN_CODES: [u16; 4] = [530, 534, 535, 538];
/// The reply with which a server ends a connection.
const CLOSING: u16 = 421;
/// The most that is kept of what a server said.
const SAID_CAP: usize = 300;

/// What went wrong, by how far we got.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Trouble {
    #[error("the mail server cannot be reached")]
    Unreachable(Said),
    #[error("the mail server offers no STARTTLS, which tls=required in SMTP_URL asks for")]
    NoTls,
    #[error("the mail server refuses the login; check user and password in SMTP_URL")]
    Login(Said),
    #[error("the mail server does not take the sender; check MAIL_FROM and the login in SMTP_URL")]
    Sender(Said),
    #[error("the mail server does not take mails for the recipient")]
    Recipient(Said),
    #[error("the mail server takes no addresses beyond ASCII")]
    Ascii,
    #[error("the mail server does not take the mail")]
    Content(Said),
}

/// What a server said, or how the connection failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Said {
    /// The reply's code, if there was a reply.
    pub(super) code: Option<u16>,
    /// One line.
    pub(super) text: String,
}

impl Said {
    pub(super) fn new(code: Option<u16>, text: &str) -> Self {
        Self { code, text: printable(text) }
    }
}

impl From<smtp::Error> for Said {
    fn from(error: smtp::Error) -> Self {
        match (error.status(), error.source()) {
            (Some(code), Some(reply)) => Self::new(Some(code.into()), &reply.to_string()),
            (code, _) => Self::new(code.map(u16::from), &error.to_string()),
        }
    }
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.code {
            Some(code) => write!(f, "{code} {}", self.text),
            None => f.write_str(&self.text),
        }
    }
}

impl Trouble {
    /// Whether another try may end otherwise. Only what a server refuses for good, of the recipient or the mail, is the
    /// mail's own fault; all else may be mended, by time or by an operator.
    pub(super) fn outcome(&self) -> AttemptOutcome {
        let final_code = |code: u16| (500..600).contains(&code) && !LOGIN_CODES.contains(&code);
        match self {
            Self::Ascii => AttemptOutcome::Rejected,
            Self::Recipient(said) | Self::Content(said) if said.code.is_some_and(final_code) => {
                AttemptOutcome::Rejected
            }
            _ => AttemptOutcome::Failed,
        }
    }

    /// Whether the way to the server or a setting is at fault, so that every mail waits.
    pub(super) fn is_outage(&self) -> bool {
        match self {
            Self::Recipient(said) | Self::Content(said) => {
                said.code.is_none_or(|code| LOGIN_CODES.contains(&code))
            }
            Self::Ascii => false,
            _ => true,
        }
    }

    /// Whether the server just said no, so that the connection is as good as before.
    pub(super) fn leaves_connection(&self) -> bool {
        match self {
            Self::Recipient(said) | Self::Content(said) => said.code.is_some_and(|code| code != CLOSING),
            Self::Ascii => true,
            _ => false,
        }
    }

    /// For the log and /health.
    pub(super) fn sentence(&self) -> String {
        match self.said() {
            Some(said) => format!("{self} ({said})"),
            None => self.to_string(),
        }
    }

    /// For the attempt. What a server says often repeats the address, which is not kept.
    pub(super) fn failure(&self, to: &Address) -> Failure {
        let code = self.said().and_then(|said| said.code);
        let error = code.map_or_else(|| self.to_string(), |code| format!("{self} ({code})"));
        let excerpt = self.said().map(|said| without(&said.to_string(), to.as_ref()));
        Failure { excerpt, ..Failure::new(self.outcome(), error) }
    }

    fn said(&self) -> Option<&Said> {
        match self {
            Self::Unreachable(said)
            | Self::Login(said)
            | Self::Sender(said)
            | Self::Recipient(said)
            | Self::Content(said) => Some(said),
            Self::NoTls | Self::Ascii => None,
        }
    }
}

/// One line of what can be printed, and not much of it.
pub(super) fn printable(text: &str) -> String {
    let clean = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    clean.take(SAID_CAP).collect::<String>().trim().to_owned()
}

/// `text` without `word`, however its letters are written.
fn without(text: &str, word: &str) -> String {
    // ASCII lower case keeps every byte in its place.
    let (lower, word) = (text.to_ascii_lowercase(), word.to_ascii_lowercase());
    let mut kept = String::with_capacity(text.len());
    let mut from = 0;
    for (at, found) in lower.match_indices(&word) {
        kept.push_str(text.get(from..at).unwrap_or_default());
        kept.push('…');
        from = at + found.len();
    }
    kept.push_str(text.get(from..).unwrap_or_default());
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(code: u16) -> Said {
        Said::new(Some(code), "5.1.1 <Ann@Example.org>: ann@example.org is unknown")
    }

    #[test]
    fn only_what_is_the_mails_own_fault_is_final() {
        let lost = || Said::new(None, "network error: connection reset");
        for (trouble, is_final, is_outage, keeps) in [
            (Trouble::Unreachable(lost()), false, true, false),
            (Trouble::Unreachable(said(554)), false, true, false),
            (Trouble::NoTls, false, true, false),
            (Trouble::Login(said(535)), false, true, false),
            (Trouble::Sender(said(550)), false, true, false),
            (Trouble::Recipient(said(550)), true, false, true),
            (Trouble::Recipient(said(450)), false, false, true),
            (Trouble::Recipient(said(421)), false, false, false),
            (Trouble::Recipient(said(530)), false, true, true),
            (Trouble::Recipient(lost()), false, true, false),
            (Trouble::Content(said(554)), true, false, true),
            (Trouble::Content(said(452)), false, false, true),
            (Trouble::Content(lost()), false, true, false),
            (Trouble::Ascii, true, false, true),
        ] {
            assert_eq!(trouble.outcome() == AttemptOutcome::Rejected, is_final, "{trouble:?}");
            assert_eq!(trouble.is_outage(), is_outage, "{trouble:?}");
            assert_eq!(trouble.leaves_connection(), keeps, "{trouble:?}");
        }
    }

    #[test]
    fn an_attempt_keeps_no_address() {
        let failure = Trouble::Recipient(said(550)).failure(&"ann@example.org".parse().unwrap());
        assert_eq!(failure.error, "the mail server does not take mails for the recipient (550)");
        assert_eq!(failure.excerpt.as_deref(), Some("550 5.1.1 <…>: … is unknown"));
        assert_eq!(without("äb", "c"), "äb");
    }

    #[test]
    fn what_a_server_says_is_one_short_line() {
        assert_eq!(printable("a\r\nb\u{1b}[31m"), "a  b [31m");
        assert_eq!(printable(&"ä".repeat(1_000)).chars().count(), SAID_CAP);
    }
}
