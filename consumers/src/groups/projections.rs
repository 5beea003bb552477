//! The board of each project: a card for each task, and how many stand in each status.

use std::collections::BTreeMap;

use serde_json::Value;
use taskpost_common::{Envelope, Event, comment::SubjectType, event::CommentEvent, task::TaskRef};
use taskpost_store::{
    Session, Tx,
    board::{self, BoardChange, Card, Field, What},
};

use crate::{Applied, ApplyError, Decoded, Group};

/// What a board may show.
const CONCERNED: &[&str] = &[
    "project.deleted",
    "task.created",
    "task.updated",
    "task.deleted",
    "task.assigned",
    "task.unassigned",
    "task.status_changed",
    "task.completed",
    "task.reopened",
    "comment.created",
    "comment.deleted",
];

/// The group that keeps the boards.
#[derive(Clone, Copy, Debug)]
pub struct Projections;

impl Group for Projections {
    const NAME: &'static str = board::GROUP;
    type Plan = Vec<BoardChange>;

    /// Personal tasks, which the intake makes most of, are on no board.
    fn wants(&self, envelope: &Envelope) -> bool {
        envelope.project_id.is_some() && CONCERNED.contains(&envelope.type_name.as_str())
    }

    async fn plan(
        &self,
        _reader: &mut Session,
        events: &[Decoded],
    ) -> Result<Option<Self::Plan>, ApplyError> {
        let mut changes = Vec::with_capacity(events.len());
        for decoded in events {
            changes.extend(change(&decoded.envelope, &decoded.event)?);
        }
        Ok((!changes.is_empty()).then_some(changes))
    }

    async fn apply(&self, tx: &mut Tx, _events: &[Decoded], plan: Self::Plan) -> Result<Applied, ApplyError> {
        let build = board::hold(tx).await?;
        board::apply(tx, build, &plan).await?;
        Ok(Applied::default())
    }
}

/// What an event does to the board of its project, if it does anything.
pub(crate) fn change(envelope: &Envelope, event: &Event) -> Result<Option<BoardChange>, ApplyError> {
    let Some(project_id) = envelope.project_id else { return Ok(None) };
    let position = envelope.position;
    let changed = |task: &TaskRef, fields: Vec<Field>| {
        Some(What::Changed { task_id: task.id, version: task.version, fields })
    };
    let what = match event {
        Event::TaskCreated(data) => Some(What::Made(Box::new(Card::new(&data.task, project_id, position)))),
        Event::TaskUpdated(data) => changed(&data.task, fields(&data.changes)?),
        Event::TaskAssigned(data) => changed(&data.task, vec![Field::Assignee(Some(data.assignee_id))]),
        Event::TaskUnassigned(data) => changed(&data.task, vec![Field::Assignee(None)]),
        Event::TaskStatusChanged(data) => changed(&data.task, vec![Field::Status(data.to.clone())]),
        Event::TaskCompleted(data) => changed(&data.task, Vec::new()),
        Event::TaskReopened(data) => changed(&data.task, Vec::new()),
        Event::TaskDeleted(data) => Some(What::Deleted { task_id: data.task.id, version: data.task.version }),
        Event::CommentCreated(data) | Event::CommentDeleted(data) => commented(data),
        Event::ProjectDeleted(_) => Some(What::ProjectDeleted),
        Event::UserRegistered(_)
        | Event::UserLoggedIn(_)
        | Event::UserLoggedOut(_)
        | Event::UserUpdated(_)
        | Event::UserRoleChanged(_)
        | Event::UserDisabled(_)
        | Event::UserPasswordChanged(_)
        | Event::ProjectCreated(_)
        | Event::ProjectUpdated(_)
        | Event::ProjectMemberAdded(_)
        | Event::ProjectMemberRemoved(_)
        | Event::ProjectMemberRoleChanged(_)
        | Event::TaskDueSoon(_)
        | Event::TaskOverdue(_)
        | Event::CommentUpdated(_)
        | Event::PostCreated(_)
        | Event::PostUpdated(_)
        | Event::PostPublished(_)
        | Event::PostUnpublished(_)
        | Event::PostDeleted(_)
        | Event::DeliveryExhausted(_)
        | Event::EndpointDisabled(_) => None,
    };
    Ok(what.map(|what| BoardChange { position, project_id, what }))
}

fn commented(data: &CommentEvent) -> Option<What> {
    let subject = data.comment.subject;
    let on_task = subject.kind == SubjectType::Task;
    on_task.then(|| What::Commented { task_id: subject.id.into(), comment_count: data.comment_count })
}

/// The new values of the fields that a card has.
fn fields(changes: &BTreeMap<String, [Value; 2]>) -> Result<Vec<Field>, ApplyError> {
    let mut fields = Vec::with_capacity(changes.len());
    for (name, [_, new]) in changes {
        let new = new.clone();
        let field = match name.as_str() {
            "title" => serde_json::from_value(new).map(Field::Title),
            "type" => serde_json::from_value(new).map(Field::TaskType),
            "priority" => serde_json::from_value(new).map(Field::Priority),
            "category_id" => serde_json::from_value(new).map(Field::Category),
            "labels" => serde_json::from_value(new).map(Field::Labels),
            "due_at" => serde_json::from_value(new).map(Field::DueAt),
            _ => continue,
        };
        fields.push(field.map_err(|error| ApplyError::Refused(format!("the new `{name}`: {error}")))?);
    }
    Ok(fields)
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use taskpost_common::{
        EventId, Position, ProjectId, event::ProjectDeleted, project::ProjectRef, task::Priority,
    };
    use uuid::Uuid;

    use super::*;

    fn envelope(type_name: &str, project: bool) -> Envelope {
        Envelope {
            position: Position(7),
            id: EventId(Uuid::nil()),
            type_name: type_name.to_owned(),
            aggregate_id: Uuid::nil(),
            aggregate_version: 1,
            actor_id: None,
            project_id: project.then_some(ProjectId(Uuid::nil())),
            owner_id: None,
            assignee_id: None,
            correlation_id: Uuid::nil(),
            causation_id: None,
            traceparent: None,
            at: chrono::DateTime::UNIX_EPOCH,
            data: String::new(),
        }
    }

    #[test]
    fn only_what_a_board_may_show_is_wanted() {
        for (type_name, project, wanted) in [
            ("task.created", true, true),
            ("task.created", false, false),
            ("comment.deleted", true, true),
            ("comment.updated", true, false),
            ("project.updated", true, false),
            ("project.deleted", true, true),
            ("post.created", true, false),
        ] {
            assert_eq!(Projections.wants(&envelope(type_name, project)), wanted, "{type_name} {project}");
        }
        assert!(CONCERNED.iter().all(|name| Event::TYPES.contains(name)));
    }

    #[test]
    fn new_values_are_read_and_wrong_ones_refused() {
        let one = |name: &str, new: Value| fields(&BTreeMap::from([(name.to_owned(), [Value::Null, new])]));
        for (name, new, expected) in [
            ("title", json!("a"), Some(Field::Title("a".to_owned()))),
            ("type", json!("bug"), Some(Field::TaskType("bug".to_owned()))),
            ("priority", json!("high"), Some(Field::Priority(Priority::High))),
            ("category_id", json!(null), Some(Field::Category(None))),
            ("labels", json!(["a"]), Some(Field::Labels(vec!["a".to_owned()]))),
            ("due_at", json!("1970-01-01T00:00:00Z"), Some(Field::DueAt(Some(chrono::DateTime::UNIX_EPOCH)))),
            ("description", json!("long"), None),
        ] {
            assert_eq!(one(name, new).unwrap(), expected.into_iter().collect::<Vec<_>>(), "{name}");
        }
        for (name, new) in [("title", json!(1)), ("priority", json!("most")), ("labels", json!("a"))] {
            let error = one(name, new).unwrap_err().to_string();
            assert!(error.contains(name), "{error}");
        }
    }

    #[test]
    fn what_happens_outside_of_projects_changes_no_board() {
        let project = ProjectRef { id: ProjectId(Uuid::nil()), key: "OPS".to_owned(), title: String::new() };
        let event =
            Event::ProjectDeleted(ProjectDeleted { project, member_ids: Vec::new(), member_count: 0 });
        assert!(change(&envelope("project.deleted", false), &event).unwrap().is_none());
        let done = change(&envelope("project.deleted", true), &event).unwrap().unwrap();
        assert!(matches!(done.what, What::ProjectDeleted) && done.position == Position(7));
    }
}
