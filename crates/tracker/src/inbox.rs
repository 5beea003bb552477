//! The caller's inbox.

use serde::Deserialize;
use taskpost_common::{NotificationId, notification::Notification};
use taskpost_store::notifications::{self, InboxFilter};
use utoipa::ToSchema;

use crate::{
    Answered, Caller, Error, Once, Tracker,
    pages::{Cursors, Page, Paging},
    tasks::present,
};

/// Marks to set or take back; what is absent stays.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MarkNotification {
    /// Read or unread.
    #[serde(default, deserialize_with = "present")]
    #[schema(nullable = false)]
    pub read: Option<bool>,
    /// Put away or brought back.
    #[serde(default, deserialize_with = "present")]
    #[schema(nullable = false)]
    pub archived: Option<bool>,
}

impl Tracker {
    /// A page of the caller's inbox, newest first.
    pub async fn inbox(
        &self,
        caller: &Caller,
        filter: InboxFilter,
        page: Paging,
    ) -> Result<Page<Notification>, Error> {
        let user = caller.user_id();
        let cursors = Cursors {
            key: &self.0.cursors,
            scope: format!("inbox {user} {filter:?}"),
            now: self.0.clock.now(),
        };
        let (start, came, limit) = page.start(&cursors)?;
        let mut reader = self.0.db.reader().await?;
        let items = notifications::list(&mut reader, user, &filter, start, limit).await?;
        match page {
            Paging::Numbered { .. } => {
                Ok(Page::numbered(items, notifications::count(&mut reader, user, &filter).await?))
            }
            Paging::Cursor(page) => cursors.page(items, page.limit, came, |item| item.id),
        }
    }

    /// How many items the caller has not read.
    pub async fn unread_count(&self, caller: &Caller) -> Result<i64, Error> {
        let unread = InboxFilter { unread: Some(true), ..InboxFilter::default() };
        Ok(notifications::count(&mut self.0.db.reader().await?, caller.user_id(), &unread).await?)
    }

    /// Marks one item.
    pub async fn mark(
        &self,
        caller: &Caller,
        id: NotificationId,
        input: MarkNotification,
    ) -> Result<Notification, Error> {
        let user = caller.user_id();
        self.change(&caller.cause, move |tx, change| {
            Box::pin(async move {
                let marked =
                    notifications::mark(tx, user, id, input.read, input.archived, change.clock.now()).await?;
                marked.ok_or(Error::NotFound("notification"))
            })
        })
        .await
    }

    /// Marks everything read; the outcome is how many items were unread.
    pub async fn mark_all_read(&self, caller: &Caller, once: Once<u64>) -> Result<Answered, Error> {
        let user = caller.user_id();
        self.change_once(caller, once, move |tx, change| {
            Box::pin(
                async move { Ok((notifications::mark_all_read(tx, user, change.clock.now()).await?, None)) },
            )
        })
        .await
    }
}
