//! What holds on either log.

use std::time::Duration;

use taskpost_ports::log::{Batch, Read};

use crate::harness::{Reader, Site, once_and_in_order, soon, things};

both!(
    each_event_reaches_each_group_in_order,
    what_was_handed_out_comes_again_after_a_rewind,
    a_restart_goes_on_from_the_recorded_progress,
    of_two_that_commit_the_same_one_is_fenced,
    a_read_that_is_dropped_half_way_loses_nothing,
);

async fn each_event_reaches_each_group_in_order(site: Site) {
    let things = things(7);
    site.publish(&things, 700).await;
    for group in ["readers", "others"] {
        let mut reader = site.reader_of(group);
        reader.apply(700).await;
        let applied = reader.close().await;
        once_and_in_order(&applied, &site.events().await);
    }
}

/// Takes what comes until the event at `to` has come, however many come at once: each batch begins where the one before
/// ended, and no event is left out. Gives all of it as one.
async fn take(reader: &mut Reader, from: i64, to: i64) -> Batch {
    let mut all: Option<Batch> = None;
    let mut at = from;
    while at < to {
        let batch = reader.batch(usize::try_from(to - at).unwrap()).await;
        let positions: Vec<i64> = batch.events.iter().map(|event| event.position.0).collect();
        assert_eq!(batch.from.0, at, "it begins where the one before ended");
        assert_eq!(positions, (at + 1..=batch.to().0).collect::<Vec<_>>());
        at = batch.to().0;
        match &mut all {
            Some(all) => all.events.extend(batch.events),
            None => all = Some(batch),
        }
    }
    assert_eq!(at, to, "more than was asked for");
    all.unwrap()
}

async fn what_was_handed_out_comes_again_after_a_rewind(site: Site) {
    let things = things(1);
    site.publish(&things, 30).await;
    let mut reader = site.reader();
    let first = take(&mut reader, 0, 10).await;
    // Each is handed out once.
    take(&mut reader, 10, 20).await;
    reader.subscription.rewind();
    take(&mut reader, 0, 20).await;
    // Somebody else records the first of them.
    assert!(reader.record(&first.partition, first.from, first.to()).await);
    reader.subscription.rewind();
    let rest = take(&mut reader, 10, 30).await;
    assert!(reader.commit(rest).await);
    reader.applies_only_new(&things, 5).await;
}

async fn a_restart_goes_on_from_the_recorded_progress(site: Site) {
    let things = things(1);
    site.publish(&things, 30).await;
    let mut reader = site.reader();
    let first = take(&mut reader, 0, 10).await;
    assert!(reader.commit(first).await);
    // This one is recorded, but reading never heard of it: whatever it keeps of its own must not count.
    let second = take(&mut reader, 10, 20).await;
    assert!(reader.record(&second.partition, second.from, second.to()).await);
    take(&mut reader, 20, 30).await;
    reader.close().await;
    let mut reader = site.reader();
    let rest = take(&mut reader, 20, 30).await;
    assert!(reader.commit(rest).await);
    reader.applies_only_new(&things, 5).await;
}

async fn of_two_that_commit_the_same_one_is_fenced(site: Site) {
    let things = things(1);
    site.publish(&things, 20).await;
    let mut reader = site.reader();
    let batch = take(&mut reader, 0, 20).await;
    assert!(reader.record(&batch.partition, batch.from, batch.to()).await);
    assert!(!reader.commit(batch).await, "somebody else was faster");
    reader.subscription.rewind();
    reader.applies_only_new(&things, 5).await;
}

async fn a_read_that_is_dropped_half_way_loses_nothing(site: Site) {
    let things = things(5);
    let mut reader: Reader = site.reader();
    let publishing = tokio::spawn({
        let (site, things) = (site.clone(), things.clone());
        async move {
            for _ in 0..10 {
                site.publish(&things, 20).await;
            }
        }
    });
    soon("all are applied", async {
        // As short as can be while batches come; longer each time that nothing does, or a slow store would never be read.
        let mut patience = Duration::ZERO;
        while reader.applied.len() < 200 {
            patience += Duration::from_micros(300);
            let read = tokio::time::timeout(patience, reader.subscription.next(7));
            let Ok(read) = read.await else { continue };
            let Read::Events(batch) = read.unwrap() else { panic!("no event") };
            assert!(reader.commit(batch).await);
            patience = Duration::ZERO;
        }
    })
    .await;
    publishing.await.unwrap();
    once_and_in_order(&reader.close().await, &site.events().await);
}
