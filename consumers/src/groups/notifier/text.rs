//! The words of a notification: short and plain, naming the thing and nobody but the reader.

use taskpost_common::task::{Priority, TaskRef};

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

pub(super) fn assigned(task: &TaskRef) -> Text {
    let priority = match task.priority {
        Priority::None => String::new(),
        Priority::Low | Priority::Medium | Priority::High | Priority::Urgent => {
            format!(" Its priority is {}.", task.priority)
        }
    };
    let body = format!("{} is yours to work on now.{priority}", named(task));
    Text { title: about(task, "was assigned to you"), body }
}

pub(super) fn unassigned(task: &TaskRef) -> Text {
    let body = format!("{} was taken from you; there is nothing left for you to do on it.", named(task));
    Text { title: about(task, "is no longer assigned to you"), body }
}

pub(super) fn status_changed(task: &TaskRef, from: &str, to: &str) -> Text {
    let (from, to) = (spoken(from), spoken(to));
    let body = format!("{} went from {from} to {to}.", named(task));
    Text { title: about(task, &format!("is now {to}")), body }
}

pub(super) fn completed(task: &TaskRef, resolution: &str) -> Text {
    let body = format!("{} was closed as {}.", named(task), spoken(resolution));
    Text { title: about(task, "was closed"), body }
}

/// `“Fix the lift” was closed`: of a long line the task's title is cut, not what happened to it.
fn about(task: &TaskRef, what: &str) -> String {
    let room = TITLE.saturating_sub(what.chars().count() + 3);
    let line = format!("“{}” {what}", cut(&plain(&task.title), room));
    cut(&line, TITLE)
}

/// `OPS-42 “Fix the lift”`.
fn named(task: &TaskRef) -> String {
    let title = plain(&task.title);
    match &task.key {
        Some(key) => format!("{key} “{title}”"),
        None => format!("“{title}”"),
    }
}

/// `in_progress` → `in progress`.
fn spoken(word: &str) -> String {
    plain(word).replace('_', " ")
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
    use taskpost_common::{TaskId, UserId};
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
    }
}
