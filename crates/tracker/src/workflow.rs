//! The default workflow, of personal tasks: which statuses there are and which moves are legal.

use taskpost_common::task::StatusCategory;

use crate::Error;

/// The status a new task gets.
pub const FIRST_STATUS: &str = "todo";
/// The statuses and what they mean.
pub const STATUSES: &[(&str, StatusCategory)] = &[
    ("todo", StatusCategory::Todo),
    ("in_progress", StatusCategory::InProgress),
    ("in_review", StatusCategory::InProgress),
    ("done", StatusCategory::Done),
    ("cancelled", StatusCategory::Cancelled),
];
/// Why a task was closed.
pub const RESOLUTIONS: &[&str] = &["done", "wont_do", "duplicate", "cannot_reproduce", "obsolete"];
/// The types; the first is the default.
pub const TASK_TYPES: &[&str] = &["task", "bug", "feature", "chore"];

/// A legal move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Move {
    /// The new status.
    pub to: &'static str,
    /// What it means.
    pub category: StatusCategory,
    /// The resolution, on entering done or cancelled.
    pub resolution: Option<&'static str>,
}

/// Checks a move from the status `from` to `to`. Any is legal but those out of done or cancelled, which go only to
/// `todo` or `in_progress`; a resolution is required on entering those two, and refused elsewhere.
pub fn check_move(from: &str, to: &str, resolution: Option<&str>) -> Result<Move, Error> {
    let &(to, category) = STATUSES
        .iter()
        .find(|(status, _)| *status == to)
        .ok_or_else(|| one_of("/to", "unknown_status", STATUSES.iter().map(|(status, _)| *status)))?;
    let closing = matches!(category, StatusCategory::Done | StatusCategory::Cancelled);
    let resolution = match (closing, resolution) {
        (true, Some(given)) => Some(
            *RESOLUTIONS
                .iter()
                .find(|known| **known == given)
                .ok_or_else(|| one_of("/resolution", "unknown_resolution", RESOLUTIONS.iter().copied()))?,
        ),
        (true, None) => {
            return Err(Error::field(
                "/resolution",
                "missing_field",
                "a resolution is required to close a task",
            ));
        }
        (false, Some(_)) => {
            return Err(Error::field("/resolution", "not_allowed", "only a closed task has a resolution"));
        }
        (false, None) => None,
    };
    let leaves_closed = matches!(from, "done" | "cancelled");
    if from == to || (leaves_closed && !matches!(to, "todo" | "in_progress")) {
        return Err(Error::Conflict(format!("a task cannot go from {from} to {to}")));
    }
    Ok(Move { to, category, resolution })
}

/// A fault that lists the words that would do.
pub(crate) fn one_of<'a>(pointer: &str, code: &str, words: impl Iterator<Item = &'a str>) -> Error {
    Error::field(pointer, code, format!("must be one of {}", words.collect::<Vec<_>>().join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_reopening_leaves_a_closed_task() {
        let statuses: Vec<&str> = STATUSES.iter().map(|(status, _)| *status).collect();
        for from in &statuses {
            for to in &statuses {
                let resolution = matches!(*to, "done" | "cancelled").then_some("done");
                let legal = from != to
                    && (!matches!(*from, "done" | "cancelled") || matches!(*to, "todo" | "in_progress"));
                assert_eq!(check_move(from, to, resolution).is_ok(), legal, "{from} to {to}");
            }
        }
    }

    #[test]
    fn closing_needs_a_known_resolution_and_opening_none() {
        assert!(matches!(check_move("todo", "done", None), Err(Error::Invalid(_))));
        assert!(matches!(check_move("todo", "done", Some("because")), Err(Error::Invalid(_))));
        assert!(matches!(check_move("todo", "in_progress", Some("done")), Err(Error::Invalid(_))));
        assert!(matches!(check_move("todo", "nowhere", None), Err(Error::Invalid(_))));
        assert_eq!(check_move("todo", "cancelled", Some("wont_do")).unwrap().resolution, Some("wont_do"));
    }
}
