//! What an answer may be.

use reqwest::header::{HeaderMap, RETRY_AFTER};

/// The answers that a request may get.
#[derive(Clone, Copy, Debug)]
pub struct Expected {
    /// The good ones.
    pub statuses: &'static [u16],
    /// Whether the load is meant to be more than the server takes, so that it may also say 503 with Retry-After.
    pub overload: bool,
}

/// How an answer is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// As it should be.
    Good,
    /// Come again later, after so many seconds.
    Refused(u64),
    /// Must not be.
    Unexpected,
}

impl Expected {
    /// One of these statuses, or 429.
    pub const fn of(statuses: &'static [u16]) -> Self {
        Self { statuses, overload: false }
    }

    /// The same, or 503 with Retry-After.
    #[must_use]
    pub const fn or_overload(self) -> Self {
        Self { overload: true, ..self }
    }

    /// How an answer is taken.
    pub fn judge(self, status: u16, headers: &HeaderMap) -> Verdict {
        let after = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
        match (status, after) {
            _ if self.statuses.contains(&status) => Verdict::Good,
            (429, after) => Verdict::Refused(after.unwrap_or(1)),
            (503, Some(after)) if self.overload => Verdict::Refused(after),
            _ => Verdict::Unexpected,
        }
    }
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderValue;

    use super::*;

    #[test]
    fn only_what_is_told_to_come_again_may_be_refused() {
        let none = HeaderMap::new();
        let later = HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_static("2"))]);
        let created = Expected::of(&[201]);
        assert_eq!(created.judge(201, &none), Verdict::Good);
        assert_eq!(created.judge(429, &later), Verdict::Refused(2));
        assert_eq!(created.judge(200, &none), Verdict::Unexpected);
        assert_eq!(created.judge(503, &later), Verdict::Unexpected);
        assert_eq!(created.or_overload().judge(503, &later), Verdict::Refused(2));
        assert_eq!(created.or_overload().judge(503, &none), Verdict::Unexpected);
    }
}
