//! The rules of a workflow: which moves between its statuses are legal.

use taskpost_common::{
    task::{StatusCategory, TaskState},
    workflow::{Status, Workflow},
};

use crate::Error;

/// A legal move.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Move {
    /// The new status.
    pub(crate) to: Status,
    /// The resolution, on entering a closed status.
    pub(crate) resolution: Option<String>,
}

/// The status a new task gets.
pub(crate) fn first(workflow: &Workflow) -> Status {
    let first = workflow.statuses.first().or_else(|| Workflow::standard().statuses.first()).cloned();
    first.unwrap_or_else(|| Status { name: "todo".to_owned(), category: StatusCategory::Todo })
}

/// Checks a move from the status `from` to `to`. Any is legal but those out of a closed status, which go only to the first
/// status that means todo and the first that means in progress; a resolution is required on closing, and refused elsewhere.
pub(crate) fn check_move(
    workflow: &Workflow,
    from: &str,
    to: &str,
    resolution: Option<&str>,
) -> Result<Move, Error> {
    let names = || workflow.statuses.iter().map(|status| status.name.as_str());
    let to = workflow.status(to).ok_or_else(|| one_of("/to", "unknown_status", names()))?;
    let resolution = match (to.category.state(), resolution) {
        (TaskState::Closed, Some(given)) if workflow.resolutions.iter().any(|known| known == given) => {
            Some(given.to_owned())
        }
        (TaskState::Closed, Some(_)) => {
            let known = workflow.resolutions.iter().map(String::as_str);
            return Err(one_of("/resolution", "unknown_resolution", known));
        }
        (TaskState::Closed, None) => {
            return Err(Error::field(
                "/resolution",
                "missing_field",
                "a resolution is required to close a task",
            ));
        }
        (TaskState::Open, Some(_)) => {
            return Err(Error::field("/resolution", "not_allowed", "only a closed task has a resolution"));
        }
        (TaskState::Open, None) => None,
    };
    let leaves_closed = workflow.status(from).is_some_and(|from| from.category.state() == TaskState::Closed);
    if from == to.name || (leaves_closed && !reopens(workflow, to)) {
        return Err(Error::Conflict(format!("a task cannot go from {from} to {}", to.name)));
    }
    Ok(Move { to: to.clone(), resolution })
}

fn reopens(workflow: &Workflow, to: &Status) -> bool {
    [StatusCategory::Todo, StatusCategory::InProgress]
        .into_iter()
        .any(|category| workflow.statuses.iter().find(|status| status.category == category) == Some(to))
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
        let standard = Workflow::standard();
        for from in &standard.statuses {
            for to in &standard.statuses {
                let (from, to) = (from.name.as_str(), to.name.as_str());
                let resolution = matches!(to, "done" | "cancelled").then_some("done");
                let legal = from != to
                    && (!matches!(from, "done" | "cancelled") || matches!(to, "todo" | "in_progress"));
                assert_eq!(check_move(standard, from, to, resolution).is_ok(), legal, "{from} to {to}");
            }
        }
    }

    #[test]
    fn closing_needs_a_known_resolution_and_opening_none() {
        let check = |to: &str, resolution| check_move(Workflow::standard(), "todo", to, resolution);
        assert!(matches!(check("done", None), Err(Error::Invalid(_))));
        assert!(matches!(check("done", Some("because")), Err(Error::Invalid(_))));
        assert!(matches!(check("in_progress", Some("done")), Err(Error::Invalid(_))));
        assert!(matches!(check("nowhere", None), Err(Error::Invalid(_))));
        assert_eq!(check("cancelled", Some("wont_do")).unwrap().resolution.as_deref(), Some("wont_do"));
    }

    #[test]
    fn a_project_may_call_them_otherwise() {
        let status = |name: &str, category| Status { name: name.to_owned(), category };
        let workflow = Workflow {
            statuses: vec![
                status("inbox", StatusCategory::Backlog),
                status("next", StatusCategory::Todo),
                status("later", StatusCategory::Todo),
                status("shipped", StatusCategory::Done),
            ],
            ..Workflow::standard().clone()
        };
        assert_eq!(first(&workflow).name, "inbox");
        assert!(check_move(&workflow, "inbox", "shipped", Some("done")).is_ok());
        assert!(check_move(&workflow, "shipped", "next", None).is_ok());
        for not in ["later", "inbox", "shipped"] {
            let resolution = (not == "shipped").then_some("done");
            assert!(
                matches!(check_move(&workflow, "shipped", not, resolution), Err(Error::Conflict(_))),
                "{not}"
            );
        }
    }
}
