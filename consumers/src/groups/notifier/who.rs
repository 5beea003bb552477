//! The table of who may be told of what. The columns that need the store are judged in the parent module.

use taskpost_common::{
    Event, PostId, ProjectId, TaskId, UserId,
    event::{
        AssignCause, CommentEvent, ProjectMemberRemoved, TaskAssigned, TaskStatusChanged, TaskUnassigned,
        TaskUpdated,
    },
    notification::{NotificationType, Reason},
    post::PostRef,
    project::ProjectRef,
    task::{StatusCategory, TaskRef, TaskState},
};

use super::text::{self, Text};

/// The types for which [`candidates`] may find somebody, or which are news; the others are not even decoded.
pub(super) const CONCERNED: &[&str] = &[
    "user.registered",
    "user.role_changed",
    "user.password_changed",
    "project.created",
    "project.member_added",
    "project.member_removed",
    "task.updated",
    "task.assigned",
    "task.unassigned",
    "task.status_changed",
    "task.completed",
    "task.reopened",
    "task.due_soon",
    "task.overdue",
    "comment.created",
    "comment.updated",
    "post.published",
];

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

/// What a notification is about: of a comment, what that is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum About {
    Task(TaskId),
    Post(PostId),
    Project(ProjectId),
    /// The recipient's account.
    Account,
}

/// Who may be told of an event that `actor` brought about, each user once, for the strongest reason.
pub(super) fn candidates(actor: Option<UserId>, event: &Event) -> Vec<Candidate> {
    use NotificationType as Kind;
    let mut found = match event {
        Event::UserRegistered(data) => vec![account(data.user.id, Kind::Welcome, text::welcome())],
        Event::UserRoleChanged(data) => {
            vec![account(data.user.id, Kind::Security, text::roles_changed(&data.to))]
        }
        Event::UserPasswordChanged(data) => {
            vec![account(data.user.id, Kind::Security, text::password_changed())]
        }
        Event::ProjectCreated(data) => {
            let text = text::project_created(&data.project);
            actor.map(|maker| member(&data.project, maker, Kind::ProjectCreated, text)).into_iter().collect()
        }
        Event::ProjectMemberAdded(data) => {
            let text = text::member_added(&data.project, data.role);
            vec![member(&data.project, data.user_id, Kind::ProjectMemberAdded, text)]
        }
        Event::ProjectMemberRemoved(data) => vec![removed(data)],
        Event::TaskUpdated(data) => updated(data),
        Event::TaskAssigned(data) => assigned(data),
        Event::TaskUnassigned(data) => vec![taken(data)],
        Event::TaskStatusChanged(data) => moved(data),
        Event::TaskCompleted(data) => {
            concerned(&data.task, Kind::TaskCompleted, &text::completed(&data.task, &data.resolution), None)
        }
        Event::TaskReopened(data) => {
            concerned(&data.task, Kind::TaskReopened, &text::reopened(&data.task), None)
        }
        Event::TaskDueSoon(data) => {
            vec![due(&data.task, Kind::TaskDueSoon, text::due_soon(&data.task, data.due_at))]
        }
        Event::TaskOverdue(data) => {
            vec![due(&data.task, Kind::TaskOverdue, text::overdue(&data.task, data.due_at))]
        }
        Event::CommentCreated(data) => commented(data),
        Event::CommentUpdated(data) => mentioned(data, &data.new_mentions),
        // The first is told to many, the second member by member; the others have no notification yet.
        Event::PostPublished(_)
        | Event::ProjectDeleted(_)
        | Event::UserLoggedIn(_)
        | Event::UserLoggedOut(_)
        | Event::UserUpdated(_)
        | Event::UserDisabled(_)
        | Event::ProjectUpdated(_)
        | Event::ProjectMemberRoleChanged(_)
        | Event::TaskCreated(_)
        | Event::TaskDeleted(_)
        | Event::CommentDeleted(_)
        | Event::PostCreated(_)
        | Event::PostUpdated(_)
        | Event::PostUnpublished(_)
        | Event::PostDeleted(_)
        | Event::DeliveryExhausted(_)
        | Event::EndpointDisabled(_) => Vec::new(),
    };
    found.sort_by_key(|candidate| (candidate.user_id, candidate.reason));
    found.dedup_by_key(|candidate| candidate.user_id);
    found
}

fn account(user_id: UserId, kind: NotificationType, text: Text) -> Candidate {
    Candidate { user_id, kind, reason: Reason::Account, about: About::Account, text, veto: None }
}

fn member(project: &ProjectRef, user_id: UserId, kind: NotificationType, text: Text) -> Candidate {
    Candidate { user_id, kind, reason: Reason::Member, about: About::Project(project.id), text, veto: None }
}

/// Who is out, or was in until the whole project was deleted.
fn removed(data: &ProjectMemberRemoved) -> Candidate {
    let (kind, text) = if data.cascade {
        (NotificationType::ProjectDeleted, text::project_deleted(&data.project))
    } else {
        (NotificationType::ProjectMemberRemoved, text::member_removed(&data.project))
    };
    member(&data.project, data.user_id, kind, text)
}

/// Somebody whom a published post is for.
pub(super) fn reader(post: &PostRef, user_id: UserId) -> Candidate {
    let reason = if post.author_id == user_id { Reason::Author } else { Reason::Member };
    let (kind, about) = (NotificationType::PostPublished, About::Post(post.id));
    Candidate { user_id, kind, reason, about, text: text::published(post), veto: None }
}

/// The assignee, of a change of what matters to them.
fn updated(data: &TaskUpdated) -> Vec<Candidate> {
    const MATTERS: [(&str, &str); 3] = [("title", "title"), ("priority", "priority"), ("due_at", "due date")];
    let changed = MATTERS.iter().filter(|(field, _)| data.changes.contains_key(*field));
    let names: Vec<&str> = changed.map(|(_, name)| *name).collect();
    let told = data.task.assignee_id.filter(|_| !names.is_empty()).map(|user| {
        assignee(&data.task, user, NotificationType::TaskUpdated, text::updated(&data.task, &names))
    });
    told.into_iter().collect()
}

/// The new assignee and the one before.
fn assigned(data: &TaskAssigned) -> Vec<Candidate> {
    let text = text::assigned(&data.task);
    let new = assignee(&data.task, data.assignee_id, NotificationType::TaskAssigned, text);
    let previous = data.previous_assignee_id.map(|user| unassigned(&data.task, user));
    std::iter::once(new).chain(previous).collect()
}

/// Who is out of a project is told that, and not of each task they had there.
fn taken(data: &TaskUnassigned) -> Candidate {
    let veto = (data.cause == AssignCause::Removal).then_some("member_removed says it");
    Candidate { veto, ..unassigned(&data.task, data.previous_assignee_id) }
}

fn unassigned(task: &TaskRef, previous: UserId) -> Candidate {
    assignee(task, previous, NotificationType::TaskUnassigned, text::unassigned(task))
}

fn assignee(task: &TaskRef, user_id: UserId, kind: NotificationType, text: Text) -> Candidate {
    Candidate { user_id, kind, reason: Reason::Assigned, about: About::Task(task.id), text, veto: None }
}

fn moved(data: &TaskStatusChanged) -> Vec<Candidate> {
    let text = text::status_changed(&data.task, &data.from, &data.to);
    // Closing a task, or opening it again, makes both events, and one action is told once.
    let before = data.from_category.map_or(TaskState::Open, StatusCategory::state);
    let veto = match (before, data.category.state()) {
        (TaskState::Open, TaskState::Closed) => Some("completed says it"),
        (TaskState::Closed, TaskState::Open) => Some("reopened says it"),
        (TaskState::Open, TaskState::Open) | (TaskState::Closed, TaskState::Closed) => None,
    };
    concerned(&data.task, NotificationType::TaskStatusChanged, &text, veto)
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

/// The assignee; while there is none, the reporter.
fn due(task: &TaskRef, kind: NotificationType, text: Text) -> Candidate {
    let (user_id, reason) = match task.assignee_id {
        Some(assignee) => (assignee, Reason::Assigned),
        None => (task.reporter_id, Reason::Author),
    };
    Candidate { user_id, kind, reason, about: About::Task(task.id), text, veto: None }
}

/// What a comment is on, and whose that is.
struct Root {
    about: About,
    named: String,
    title: String,
    author: UserId,
    assignee: Option<UserId>,
}

impl Root {
    /// None of an event that says neither task nor post.
    fn of(data: &CommentEvent) -> Option<Self> {
        match (&data.task, &data.post) {
            (Some(task), _) => Some(Self {
                about: About::Task(task.id),
                named: text::named(task),
                title: task.title.clone(),
                author: task.reporter_id,
                assignee: task.assignee_id,
            }),
            (None, Some(post)) => Some(Self {
                about: About::Post(post.id),
                named: text::quoted(&post.title),
                title: post.title.clone(),
                author: post.author_id,
                assignee: None,
            }),
            (None, None) => None,
        }
    }
}

/// Whom it names, who made what it is on, and the assignee. Who is named is told so, for whatever reason.
fn commented(data: &CommentEvent) -> Vec<Candidate> {
    let Some(root) = Root::of(data) else { return Vec::new() };
    let mut found = mentioned(data, &data.comment.mentions);
    let text = text::commented(&root.named, &root.title, &data.comment.excerpt);
    let author = (root.author, Reason::Author);
    let others = root.assignee.map(|user| (user, Reason::Assigned)).into_iter().chain([author]);
    for (user_id, reason) in others.filter(|(user, _)| !data.comment.mentions.contains(user)) {
        let kind = NotificationType::CommentCreated;
        found.push(Candidate { user_id, kind, reason, about: root.about, text: text.clone(), veto: None });
    }
    found
}

/// Those of `users`, whom a comment names.
fn mentioned(data: &CommentEvent, users: &[UserId]) -> Vec<Candidate> {
    let Some(root) = Root::of(data) else { return Vec::new() };
    let text = text::mentioned(&root.named, &root.title, &data.comment.excerpt);
    let named = users.iter().map(|&user_id| Candidate {
        user_id,
        kind: NotificationType::Mention,
        reason: if root.assignee == Some(user_id) { Reason::Assigned } else { Reason::Mentioned },
        about: root.about,
        text: text.clone(),
        veto: None,
    });
    named.collect()
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use serde_json::json;
    use taskpost_common::{
        CommentId,
        comment::{CommentRef, Subject, SubjectType},
        event::TaskCompleted,
        task::Priority,
    };
    use uuid::Uuid;

    use super::*;
    use crate::groups::notifier::news;

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
    fn it_is_given_just_the_types_of_which_somebody_may_be_told() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../schemas/examples");
        for name in Event::TYPES {
            let example = fs::read_to_string(folder.join(format!("{name}.json"))).unwrap();
            let event = Event::decode(name, &example).unwrap();
            let told = !candidates(Some(user(1)), &event).is_empty() || news::published(&event).is_some();
            assert_eq!(CONCERNED.contains(name), told, "{name}");
        }
        assert!(CONCERNED.iter().all(|name| Event::TYPES.contains(name)));
    }

    fn comment(task: TaskRef, mentions: &[u128], new: &[u128]) -> CommentEvent {
        let users =
            |numbers: &[u128]| -> Vec<UserId> { numbers.iter().map(|&number| user(number)).collect() };
        let subject = Subject { kind: SubjectType::Task, id: task.id.0 };
        CommentEvent {
            comment: CommentRef {
                id: CommentId(Uuid::nil()),
                subject,
                author_id: user(9),
                excerpt: "Look".to_owned(),
                mentions: users(mentions),
            },
            comment_count: 1,
            task: Some(task),
            post: None,
            new_mentions: users(new),
        }
    }

    #[test]
    fn whom_a_comment_names_is_told_so_and_the_others_once_of_the_comment() {
        use NotificationType as Kind;
        let found = candidates(None, &Event::CommentCreated(comment(task(1, Some(2)), &[3, 2, 3], &[])));
        assert_eq!(
            found.iter().map(|c| (c.user_id, c.kind, c.reason)).collect::<Vec<_>>(),
            [
                (user(1), Kind::CommentCreated, Reason::Author),
                (user(2), Kind::Mention, Reason::Assigned),
                (user(3), Kind::Mention, Reason::Mentioned),
            ]
        );
        let edited = candidates(None, &Event::CommentUpdated(comment(task(1, Some(2)), &[3, 4], &[4])));
        assert_eq!(
            edited.iter().map(|c| (c.user_id, c.kind)).collect::<Vec<_>>(),
            [(user(4), Kind::Mention)]
        );
    }

    #[test]
    fn one_person_is_told_once_for_the_strongest_reason() {
        let completed = |task: TaskRef| {
            let assignee_id = task.assignee_id;
            Event::TaskCompleted(TaskCompleted { task, assignee_id, resolution: "done".to_owned() })
        };
        let same = candidates(None, &completed(task(1, Some(1))));
        assert_eq!(
            same.iter().map(|c| (c.user_id, c.reason)).collect::<Vec<_>>(),
            [(user(1), Reason::Assigned)]
        );
        let two = candidates(None, &completed(task(1, Some(2))));
        let expected = [(user(1), Reason::Author), (user(2), Reason::Assigned)];
        assert_eq!(two.iter().map(|c| (c.user_id, c.reason)).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_closing_or_an_opening_is_told_by_its_own_event_alone() {
        use StatusCategory::{Cancelled, Done, InProgress, Todo};
        for (from_category, category, veto) in [
            (Some(Todo), InProgress, None),
            (Some(InProgress), Done, Some("completed says it")),
            (Some(Todo), Cancelled, Some("completed says it")),
            (Some(Done), Todo, Some("reopened says it")),
            (Some(Done), Cancelled, None),
            (None, InProgress, None),
            (None, Done, Some("completed says it")),
        ] {
            let (from, to) = ("todo".to_owned(), "next".to_owned());
            let task = task(1, None);
            let event =
                Event::TaskStatusChanged(TaskStatusChanged { task, from, to, category, from_category });
            assert_eq!(candidates(None, &event)[0].veto, veto);
        }
    }

    #[test]
    fn an_assignee_is_told_of_what_matters_to_them() {
        let updated = |assignee: Option<u128>, fields: &[&str]| {
            let changes = fields.iter().map(|&field| (field.to_owned(), [json!(1), json!(2)])).collect();
            candidates(None, &Event::TaskUpdated(TaskUpdated { task: task(1, assignee), changes }))
        };
        let told = updated(Some(2), &["description", "due_at", "title"]);
        assert_eq!(
            told.iter().map(|c| (c.user_id, c.kind)).collect::<Vec<_>>(),
            [(user(2), NotificationType::TaskUpdated)]
        );
        assert_eq!(told[0].text.body, "“Fix the lift” has another title and due date.");
        assert!(updated(Some(2), &["labels", "type"]).is_empty());
        assert!(updated(None, &["title"]).is_empty());
    }
}
