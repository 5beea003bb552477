//! The names that events had before this log.

/// Each older name and the types that say the same now; several where one name stood for several things.
/// `newNotif` has none: a notification is a row of the inbox and no fact of its own.
pub const OLDER_NAMES: &[(&str, &[&str])] = &[
    ("newUser", &["user.registered"]),
    ("newProject", &["project.created"]),
    ("newCard", &["task.created"]),
    ("deleteProject", &["project.deleted"]),
    ("updateCard", &["task.updated", "task.assigned", "task.unassigned"]),
    ("changeCardStatus", &["task.status_changed", "task.completed", "task.reopened"]),
    ("newComment", &["comment.created"]),
    ("deleteComment", &["comment.deleted"]),
    ("newNotif", &[]),
];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::Event;

    #[test]
    fn each_older_name_leads_to_types_that_exist() {
        let types: Vec<&str> = OLDER_NAMES.iter().flat_map(|(_, types)| *types).copied().collect();
        for name in &types {
            assert!(Event::TYPES.contains(name), "{name}");
        }
        let once: HashSet<&str> = types.iter().copied().collect();
        assert_eq!(once.len(), types.len(), "a type had two older names");
    }
}
