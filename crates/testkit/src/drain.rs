//! Knowing when nothing moves any more.

use std::time::Duration;

use taskpost_common::Clock;
use taskpost_consumers::Standing;
use taskpost_store::{Db, dead_letters};

use crate::{PATIENCE, database, until_within};

/// What is due within this time is waited for.
const SOON: Duration = Duration::from_secs(3);

/// Waits until nothing moves any more.
pub(crate) async fn drain(db: &Db, clock: &Clock) {
    drain_within(db, clock, PATIENCE).await;
}

/// As [`drain`], with a patience of its own.
pub(crate) async fn drain_within(db: &Db, clock: &Clock, patience: Duration) {
    until_within(patience, || async {
        let before = Standing::read(db).await.map_err(|error| error.to_string())?;
        let moving = deliveries(db, clock).await.map_err(|error| error.to_string())?;
        // What was given up meanwhile has appended an event.
        let after = Standing::read(db).await.map_err(|error| error.to_string())?;
        if after.is_still() && before == after && moving.is_empty() {
            return Ok(());
        }
        Err(format!("still moving: {after:?}, deliveries and letters {moving:?}"))
    })
    .await;
}

/// The reasons of the letters nobody has decided on.
pub(crate) async fn buried(db: &Db) -> Vec<String> {
    let filter = dead_letters::LetterFilter { state: Some("dead".to_owned()), ..Default::default() };
    let mut reader = db.reader().await.expect("a reader");
    let letters = dead_letters::list(&mut reader, &filter, None, 20).await.expect("the dead letters");
    letters
        .into_iter()
        .map(|letter| format!("{} {}: {}", letter.source, letter.handler, letter.reason))
        .collect()
}

/// The deliveries that are under way or due soon, and the letters that wait for their group.
async fn deliveries(db: &Db, clock: &Clock) -> Result<Vec<(String, i64)>, sqlx::Error> {
    // A lease moves due_at to its end, so what is being sent is told by its state.
    const SQL: &str = "
        SELECT channel || ' ' || state, count(*) FROM deliveries
        WHERE finished_at IS NULL AND (state = 'sending' OR due_at <= $1) GROUP BY channel, state
        UNION ALL SELECT 'redriving', count(*) FROM dead_letters WHERE state = 'redriving' HAVING count(*) > 0";
    database::counts(db, SQL, clock.now() + SOON).await
}
