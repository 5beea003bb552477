//! The table of who may be told of what. The columns that need the store are judged in the parent module.

use taskpost_common::{
    Event, TaskId, UserId,
    notification::{Channel, NotificationType, Reason},
    task::{StatusCategory, TaskRef},
};

use super::text::{self, Text};

/// The types for which [`candidates`] may find somebody; the others are not even decoded.
pub(super) const CONCERNED: &[&str] =
    &["user.registered", "task.assigned", "task.unassigned", "task.status_changed", "task.completed"];

/// Somebody who may be told.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    pub user_id: UserId,
    pub kind: NotificationType,
    pub reason: Reason,
    pub about: About,
    pub text: Text,
    /// A rule of the table itself that keeps it from being sent.
    pub veto: Option<&'static str>,
}

/// What a notification is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum About {
    Task(TaskId),
    /// The recipient's account.
    Account,
}

/// Who may be told of an event, each user once, for the strongest reason.
pub(super) fn candidates(event: &Event) -> Vec<Candidate> {
    let mut found = match event {
        Event::UserRegistered(data) => vec![Candidate {
            user_id: data.user.id,
            kind: NotificationType::Welcome,
            reason: Reason::Account,
            about: About::Account,
            text: text::welcome(),
            veto: None,
        }],
        Event::TaskAssigned(data) => {
            let new = assignee(
                &data.task,
                data.assignee_id,
                NotificationType::TaskAssigned,
                text::assigned(&data.task),
            );
            let previous = data.previous_assignee_id.map(|user| unassigned(&data.task, user));
            std::iter::once(new).chain(previous).collect()
        }
        Event::TaskUnassigned(data) => vec![unassigned(&data.task, data.previous_assignee_id)],
        Event::TaskStatusChanged(data) => {
            let text = text::status_changed(&data.task, &data.from, &data.to);
            // Closing a task makes both events, and one action is told once.
            let veto = match data.category {
                StatusCategory::Done | StatusCategory::Cancelled => Some("completed says it"),
                StatusCategory::Backlog | StatusCategory::Todo | StatusCategory::InProgress => None,
            };
            concerned(&data.task, NotificationType::TaskStatusChanged, &text, veto)
        }
        Event::TaskCompleted(data) => concerned(
            &data.task,
            NotificationType::TaskCompleted,
            &text::completed(&data.task, &data.resolution),
            None,
        ),
        // These have no notification yet.
        Event::UserLoggedIn(_)
        | Event::UserLoggedOut(_)
        | Event::TaskCreated(_)
        | Event::TaskUpdated(_)
        | Event::TaskDeleted(_)
        | Event::TaskReopened(_)
        | Event::DeliveryExhausted(_)
        | Event::EndpointDisabled(_) => Vec::new(),
    };
    found.sort_by_key(|candidate| (candidate.user_id, candidate.reason));
    found.dedup_by_key(|candidate| candidate.user_id);
    found
}

/// The channels of a type by default.
pub(super) const fn channels(kind: NotificationType) -> &'static [Channel] {
    match kind {
        NotificationType::Welcome | NotificationType::TaskAssigned | NotificationType::TaskUnassigned => {
            &[Channel::InApp, Channel::Email]
        }
        // Their e-mail is a digest, and there are no digests yet.
        NotificationType::TaskStatusChanged | NotificationType::TaskCompleted => &[Channel::InApp],
    }
}

/// Whether it is for the one who brought it about as well.
pub(super) const fn tells_the_actor(kind: NotificationType) -> bool {
    match kind {
        NotificationType::Welcome => true,
        NotificationType::TaskAssigned
        | NotificationType::TaskUnassigned
        | NotificationType::TaskStatusChanged
        | NotificationType::TaskCompleted => false,
    }
}

/// Whether it is only for those who can read its task when it is sent. Who loses a task may lose the right to read it
/// by that very change, and must hear of it all the same: they see a title that was theirs a moment ago.
pub(super) const fn tells_only_readers(kind: NotificationType) -> bool {
    match kind {
        NotificationType::Welcome | NotificationType::TaskUnassigned => false,
        NotificationType::TaskAssigned
        | NotificationType::TaskStatusChanged
        | NotificationType::TaskCompleted => true,
    }
}

fn assignee(task: &TaskRef, user_id: UserId, kind: NotificationType, text: Text) -> Candidate {
    Candidate { user_id, kind, reason: Reason::Assigned, about: About::Task(task.id), text, veto: None }
}

fn unassigned(task: &TaskRef, previous: UserId) -> Candidate {
    assignee(task, previous, NotificationType::TaskUnassigned, text::unassigned(task))
}

/// Reporter and assignee.
fn concerned(
    task: &TaskRef,
    kind: NotificationType,
    text: &Text,
    veto: Option<&'static str>,
) -> Vec<Candidate> {
    let reporter = (task.reporter_id, Reason::Author);
    let assignee = task.assignee_id.map(|user| (user, Reason::Assigned));
    std::iter::once(reporter)
        .chain(assignee)
        .map(|(user_id, reason)| Candidate {
            user_id,
            kind,
            reason,
            about: About::Task(task.id),
            text: text.clone(),
            veto,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use taskpost_common::{
        event::{TaskCompleted, TaskStatusChanged},
        task::Priority,
    };
    use uuid::Uuid;

    use super::*;

    fn user(number: u128) -> UserId {
        UserId(Uuid::from_u128(number))
    }

    fn task(reporter: u128, assignee: Option<u128>) -> TaskRef {
        TaskRef {
            id: TaskId(Uuid::from_u128(99)),
            key: None,
            title: "Fix the lift".to_owned(),
            project_id: None,
            reporter_id: user(reporter),
            assignee_id: assignee.map(user),
            priority: Priority::None,
            version: 2,
        }
    }

    #[test]
    fn the_types_that_concern_it_exist() {
        for name in CONCERNED {
            assert!(Event::TYPES.contains(name), "{name}");
        }
    }

    #[test]
    fn one_person_is_told_once_for_the_strongest_reason() {
        let completed = |task: TaskRef| {
            let assignee_id = task.assignee_id;
            Event::TaskCompleted(TaskCompleted { task, assignee_id, resolution: "done".to_owned() })
        };
        let same = candidates(&completed(task(1, Some(1))));
        assert_eq!(
            same.iter().map(|c| (c.user_id, c.reason)).collect::<Vec<_>>(),
            [(user(1), Reason::Assigned)]
        );
        let two = candidates(&completed(task(1, Some(2))));
        let expected = [(user(1), Reason::Author), (user(2), Reason::Assigned)];
        assert_eq!(two.iter().map(|c| (c.user_id, c.reason)).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_closing_is_told_by_completed_alone() {
        for (category, veto) in [
            (StatusCategory::InProgress, None),
            (StatusCategory::Done, Some("completed says it")),
            (StatusCategory::Cancelled, Some("completed says it")),
        ] {
            let (from, to) = ("todo".to_owned(), "next".to_owned());
            let event =
                Event::TaskStatusChanged(TaskStatusChanged { task: task(1, None), from, to, category });
            assert_eq!(candidates(&event)[0].veto, veto);
        }
    }
}
