//! The words of a notification: short and plain, naming the thing and nobody but the reader.

use chrono::{DateTime, Utc};
use taskpost_common::{
    post::PostRef,
    project::{ProjectRef, ProjectRole},
    task::{Priority, TaskRef},
    user::Roles,
};

/// The longest title, in characters.
const TITLE: usize = 200;

/// A title and a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Text {
    pub title: String,
    pub body: String,
}

pub(super) fn welcome() -> Text {
    Text {
        title: "Welcome to Taskpost".to_owned(),
        body: "Your account is ready. You will be told here when a task is assigned to you.".to_owned(),
    }
}

pub(super) fn password_changed() -> Text {
    Text {
        title: "Your password was changed".to_owned(),
        body: "Your other sessions have ended. If it was not you, set a new password at once.".to_owned(),
    }
}

pub(super) fn roles_changed(roles: &Roles) -> Text {
    let now = match roles.to_string() {
        none if none.is_empty() => "You have no role on this instance now.".to_owned(),
        some => format!("Your roles on this instance are now: {}.", some.replace(',', ", ")),
    };
    let body = format!("{now} Your sessions have ended; log in again.");
    Text { title: "Your roles were changed".to_owned(), body }
}

pub(super) fn project_created(project: &ProjectRef) -> Text {
    let body = format!("{} is there, and you are its owner.", keyed(&project.key, &project.title));
    Text { title: line("Your project ", &project.title, " is ready"), body }
}

pub(super) fn project_deleted(project: &ProjectRef) -> Text {
    let body = format!("{} was deleted, with everything in it.", keyed(&project.key, &project.title));
    Text { title: line("", &project.title, " was deleted"), body }
}

pub(super) fn member_added(project: &ProjectRef, role: ProjectRole) -> Text {
    let body = format!("You belong to {} now, as {role}.", keyed(&project.key, &project.title));
    Text { title: line("You were added to ", &project.title, ""), body }
}

pub(super) fn member_removed(project: &ProjectRef) -> Text {
    let body = format!("You do not belong to {} any more.", keyed(&project.key, &project.title));
    Text { title: line("You were removed from ", &project.title, ""), body }
}

pub(super) fn assigned(task: &TaskRef) -> Text {
    let priority = match task.priority {
        Priority::None => String::new(),
        Priority::Low | Priority::Medium | Priority::High | Priority::Urgent => {
            format!(" Its priority is {}.", task.priority)
        }
    };
    let body = format!("{} is yours to work on now.{priority}", named(task));
    Text { title: line("", &task.title, " was assigned to you"), body }
}

pub(super) fn unassigned(task: &TaskRef) -> Text {
    let body = format!("{} was taken from you; there is nothing left for you to do on it.", named(task));
    Text { title: line("", &task.title, " is no longer assigned to you"), body }
}

pub(super) fn status_changed(task: &TaskRef, from: &str, to: &str) -> Text {
    let (from, to) = (spoken(from), spoken(to));
    let body = format!("{} went from {from} to {to}.", named(task));
    Text { title: line("", &task.title, &format!(" is now {to}")), body }
}

pub(super) fn completed(task: &TaskRef, resolution: &str) -> Text {
    let body = format!("{} was closed as {}.", named(task), spoken(resolution));
    Text { title: line("", &task.title, " was closed"), body }
}

pub(super) fn reopened(task: &TaskRef) -> Text {
    let body = format!("{} was opened again: there is work left on it.", named(task));
    Text { title: line("", &task.title, " was opened again"), body }
}

/// `names` are the fields that are different.
pub(super) fn updated(task: &TaskRef, names: &[&str]) -> Text {
    let body = format!("{} has another {}.", named(task), listed(names));
    Text { title: line("", &task.title, " was changed"), body }
}

pub(super) fn published(post: &PostRef) -> Text {
    let place = if post.project_id.is_some() { "a project that you belong to" } else { "the organisation" };
    let body = format!("There is news of {place}: {}.", quoted(&post.title));
    Text { title: line("", &post.title, " was published"), body }
}

pub(super) fn due_soon(task: &TaskRef, due_at: DateTime<Utc>) -> Text {
    let body = format!("{} is due on {}.", named(task), moment(due_at));
    Text { title: line("", &task.title, " is due soon"), body }
}

pub(super) fn overdue(task: &TaskRef, due_at: DateTime<Utc>) -> Text {
    let body = format!("{} was due on {}.", named(task), moment(due_at));
    Text { title: line("", &task.title, " is overdue"), body }
}

/// `named` is the whole name of what the comment is on, `title` its title.
pub(super) fn commented(named: &str, title: &str, excerpt: &str) -> Text {
    Text { title: line("", title, " has a new comment"), body: format!("{named}: {}", plain(excerpt)) }
}

pub(super) fn mentioned(named: &str, title: &str, excerpt: &str) -> Text {
    Text { title: line("You were mentioned on ", title, ""), body: format!("{named}: {}", plain(excerpt)) }
}

/// `OPS-42 “Fix the lift”`.
pub(super) fn named(task: &TaskRef) -> String {
    task.key.as_ref().map_or_else(|| quoted(&task.title), |key| keyed(key, &task.title))
}

/// `“Fix the lift”`.
pub(super) fn quoted(title: &str) -> String {
    format!("“{}”", plain(title))
}

fn keyed(key: &str, title: &str) -> String {
    format!("{key} {}", quoted(title))
}

/// `“Fix the lift” was closed`: of a long line the thing's title is cut, not what happened to it.
fn line(before: &str, title: &str, after: &str) -> String {
    let room = TITLE.saturating_sub(before.chars().count() + after.chars().count() + 2);
    cut(&format!("{before}“{}”{after}", cut(&plain(title), room)), TITLE)
}

/// `title, priority and due date`.
fn listed(names: &[&str]) -> String {
    match names {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

/// `in_progress` → `in progress`.
fn spoken(word: &str) -> String {
    plain(word).replace('_', " ")
}

/// `2026-12-01 at 17:00 UTC`.
fn moment(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d at %H:%M UTC").to_string()
}

/// Nothing that could begin a new line in a mail's head.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// The first `room` characters, the last of them an ellipsis when there are more.
fn cut(text: &str, room: usize) -> String {
    if text.chars().count() <= room {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(room.saturating_sub(1)).collect();
    short.push('…');
    short
}

#[cfg(test)]
mod tests {
    use taskpost_common::{ProjectId, TaskId, UserId, user::Role};
    use uuid::Uuid;

    use super::*;

    fn task(title: &str, key: Option<&str>, priority: Priority) -> TaskRef {
        TaskRef {
            id: TaskId(Uuid::nil()),
            key: key.map(str::to_owned),
            title: title.to_owned(),
            project_id: None,
            reporter_id: UserId(Uuid::nil()),
            assignee_id: None,
            priority,
            version: 1,
        }
    }

    #[test]
    fn says_what_happened_to_which_task() {
        let lift = task("Fix the lift", None, Priority::High);
        assert_eq!(assigned(&lift).title, "“Fix the lift” was assigned to you");
        assert_eq!(assigned(&lift).body, "“Fix the lift” is yours to work on now. Its priority is high.");
        assert_eq!(status_changed(&lift, "todo", "in_progress").title, "“Fix the lift” is now in progress");
        let keyed = task("Fix the lift", Some("OPS-42"), Priority::None);
        assert_eq!(completed(&keyed, "wont_do").body, "OPS-42 “Fix the lift” was closed as wont do.");
        assert_eq!(assigned(&keyed).body, "OPS-42 “Fix the lift” is yours to work on now.");
        assert_eq!(reopened(&keyed).title, "“Fix the lift” was opened again");
        for (names, changed) in [
            (&["priority"][..], "priority"),
            (&["title", "priority", "due date"], "title, priority and due date"),
        ] {
            let body = format!("OPS-42 “Fix the lift” has another {changed}.");
            assert_eq!(updated(&keyed, names).body, body);
        }
    }

    #[test]
    fn a_long_title_is_cut_and_a_line_stays_one_line() {
        let long = task(&"ü".repeat(200), None, Priority::None);
        let title = unassigned(&long).title;
        assert_eq!(title.chars().count(), TITLE);
        assert!(title.ends_with("…” is no longer assigned to you"), "{title}");
        assert!(status_changed(&long, "todo", &"x".repeat(300)).title.chars().count() <= TITLE);
        let broken = task("a\r\nBcc: b", None, Priority::None);
        assert_eq!(completed(&broken, "done").title, "“a  Bcc: b” was closed");
        let mentioned = mentioned(&quoted("a"), &"ü".repeat(250), "one\ntwo");
        assert_eq!((mentioned.title.chars().count(), mentioned.body.as_str()), (TITLE, "“a”: one two"));
    }

    #[test]
    fn says_what_became_of_somebody() {
        let project =
            ProjectRef { id: ProjectId(Uuid::nil()), key: "OPS".to_owned(), title: "Operations".to_owned() };
        let added = member_added(&project, ProjectRole::Maintainer);
        assert_eq!(project_created(&project).title, "Your project “Operations” is ready");
        assert_eq!(project_deleted(&project).body, "OPS “Operations” was deleted, with everything in it.");
        assert_eq!(added.title, "You were added to “Operations”");
        assert_eq!(added.body, "You belong to OPS “Operations” now, as maintainer.");
        let both = roles_changed(&Roles::from(vec![Role::Finance, Role::Admin]));
        assert_eq!(
            both.body,
            "Your roles on this instance are now: admin, finance. Your sessions have ended; log in again."
        );
        assert!(roles_changed(&Roles::default()).body.starts_with("You have no role"));
    }

    #[test]
    fn says_when_it_is_due() {
        let at = DateTime::from_timestamp(1_796_144_400, 0).unwrap();
        let lift = task("Fix the lift", Some("OPS-42"), Priority::None);
        assert_eq!(due_soon(&lift, at).body, "OPS-42 “Fix the lift” is due on 2026-12-01 at 17:00 UTC.");
        assert_eq!(overdue(&lift, at).title, "“Fix the lift” is overdue");
    }
}
