//! What holds of every notification of a type: its columns in the table of [`super::who`].

use taskpost_common::notification::{Channel, Class, NotificationType};

/// The channels of a type by default.
pub(super) const fn channels(kind: NotificationType) -> &'static [Channel] {
    match kind {
        NotificationType::Welcome
        | NotificationType::TaskAssigned
        | NotificationType::TaskUnassigned
        | NotificationType::TaskDueSoon
        | NotificationType::TaskOverdue
        | NotificationType::Mention
        | NotificationType::ProjectDeleted
        | NotificationType::ProjectMemberAdded
        | NotificationType::Security => &[Channel::InApp, Channel::Email],
        // The e-mail of the first five is a digest, and there are no digests yet.
        NotificationType::TaskStatusChanged
        | NotificationType::TaskCompleted
        | NotificationType::TaskReopened
        | NotificationType::CommentCreated
        | NotificationType::PostPublished
        | NotificationType::TaskUpdated
        | NotificationType::ProjectCreated
        | NotificationType::ProjectMemberRemoved => &[Channel::InApp],
    }
}

/// How its e-mail travels.
pub(super) const fn class(kind: NotificationType) -> Class {
    match kind {
        NotificationType::Welcome
        | NotificationType::TaskAssigned
        | NotificationType::TaskUnassigned
        | NotificationType::TaskDueSoon
        | NotificationType::TaskOverdue
        | NotificationType::Mention
        | NotificationType::Security => Class::High,
        NotificationType::TaskStatusChanged
        | NotificationType::TaskCompleted
        | NotificationType::TaskReopened
        | NotificationType::CommentCreated
        | NotificationType::ProjectCreated
        | NotificationType::ProjectDeleted
        | NotificationType::ProjectMemberAdded
        | NotificationType::ProjectMemberRemoved => Class::Normal,
        NotificationType::TaskUpdated | NotificationType::PostPublished => Class::Low,
    }
}

/// Whether it is for the one who brought it about as well.
pub(super) const fn tells_the_actor(kind: NotificationType) -> bool {
    match kind {
        NotificationType::Welcome | NotificationType::ProjectCreated | NotificationType::Security => true,
        NotificationType::TaskAssigned
        | NotificationType::TaskUnassigned
        | NotificationType::TaskStatusChanged
        | NotificationType::TaskCompleted
        | NotificationType::TaskReopened
        | NotificationType::TaskUpdated
        | NotificationType::TaskDueSoon
        | NotificationType::TaskOverdue
        | NotificationType::CommentCreated
        | NotificationType::Mention
        | NotificationType::PostPublished
        | NotificationType::ProjectDeleted
        | NotificationType::ProjectMemberAdded
        | NotificationType::ProjectMemberRemoved => false,
    }
}

/// Whether it is only for those who can read what it is about when it is sent. Who loses a task or a project may
/// lose the right to read it by that very change, and must hear of it all the same: they see a title that was theirs
/// a moment ago.
pub(super) const fn tells_only_readers(kind: NotificationType) -> bool {
    match kind {
        NotificationType::Welcome
        | NotificationType::Security
        | NotificationType::TaskUnassigned
        | NotificationType::ProjectDeleted
        | NotificationType::ProjectMemberRemoved => false,
        NotificationType::TaskAssigned
        | NotificationType::TaskStatusChanged
        | NotificationType::TaskCompleted
        | NotificationType::TaskReopened
        | NotificationType::TaskUpdated
        | NotificationType::TaskDueSoon
        | NotificationType::TaskOverdue
        | NotificationType::CommentCreated
        | NotificationType::Mention
        | NotificationType::PostPublished
        | NotificationType::ProjectCreated
        | NotificationType::ProjectMemberAdded => true,
    }
}
