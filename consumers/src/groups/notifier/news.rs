//! News: a published post is told to the members of its project, and one of the organisation to everybody. They may be
//! many, so they are read and told in portions.

use std::collections::HashSet;

use taskpost_common::{
    Clock, Event, PostId,
    post::{PostRef, PostStatus},
};
use taskpost_store::{MAX_BATCH, Session, StoreError, Tx, notifications, posts};

use super::{Plan, facts, who};
use crate::{ApplyError, Decoded};

/// The post that an event published, if it did.
pub(super) fn published(event: &Event) -> Option<&PostRef> {
    let Event::PostPublished(data) = event else { return None };
    Some(&data.post)
}

/// Where in a batch posts were published that still are.
pub(super) async fn places(reader: &mut Session, events: &[Decoded]) -> Result<Vec<usize>, StoreError> {
    let posts: Vec<(usize, PostId)> = events
        .iter()
        .enumerate()
        .filter_map(|(place, decoded)| Some((place, published(&decoded.event)?.id)))
        .collect();
    if posts.is_empty() {
        return Ok(Vec::new());
    }
    let ids: Vec<PostId> = posts.iter().map(|(_, id)| *id).collect();
    let found = posts::by_ids(reader, &ids).await?;
    let shown: HashSet<PostId> =
        found.iter().filter(|post| post.status == PostStatus::Published).map(|post| post.id).collect();
    Ok(posts.into_iter().filter(|(_, id)| shown.contains(id)).map(|(place, _)| place).collect())
}

/// Tells those whom the post of an event is for.
pub(super) async fn tell(tx: &mut Tx, clock: &Clock, decoded: &Decoded) -> Result<(), ApplyError> {
    let Some(post) = published(&decoded.event) else { return Ok(()) };
    let mut after = None;
    loop {
        let people = notifications::audience(tx, post.project_id, after, MAX_BATCH).await?;
        let mut portion = Plan::default();
        for (user, status) in &people {
            let candidate = who::reader(post, *user);
            let verdict = facts::judge_reader(&decoded.envelope, &candidate, *status);
            portion.decide(clock, decoded, &candidate, verdict)?;
        }
        portion.store(tx, clock).await?;
        after = people.last().map(|(user, _)| *user);
        if people.len() < MAX_BATCH {
            return Ok(());
        }
    }
}
