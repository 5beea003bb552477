//! Self-hosted task intake that never loses a task and never loses a notification.
