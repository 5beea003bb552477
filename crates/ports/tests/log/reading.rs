//! What holds on either log.

use taskpost_ports::log::Batch;

use crate::harness::{Reader, Site, once_and_in_order, things};

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

async fn what_was_handed_out_comes_again_after_a_rewind(site: Site) {
    let things = things(1);
    site.publish(&things, 30).await;
    let mut reader = site.reader();
    let positions = |batch: &Batch| batch.events.iter().map(|event| event.position.0).collect::<Vec<_>>();
    let first = reader.batch(10).await;
    assert_eq!((first.from.0, positions(&first)), (0, (1..=10).collect()));
    let second = reader.batch(10).await;
    assert_eq!((second.from.0, positions(&second)), (10, (11..=20).collect()), "each is handed out once");
    reader.subscription.rewind();
    let again = reader.batch(20).await;
    assert_eq!((again.from.0, positions(&again)), (0, (1..=20).collect()));
    // Somebody else records the first of them.
    assert!(reader.record(&first.partition, first.from, first.to()).await);
    reader.subscription.rewind();
    let rest = reader.batch(30).await;
    assert_eq!((rest.from.0, positions(&rest)), (10, (11..=30).collect()));
    assert!(reader.commit(rest).await);
    reader.applies_only_new(&things, 5).await;
}

async fn a_restart_goes_on_from_the_recorded_progress(site: Site) {
    let things = things(1);
    site.publish(&things, 30).await;
    let mut reader = site.reader();
    let first = reader.batch(10).await;
    assert!(reader.commit(first).await);
    // This one is recorded, but reading never heard of it: whatever it keeps of its own must not count.
    let second = reader.batch(10).await;
    assert!(reader.record(&second.partition, second.from, second.to()).await);
    let third = reader.batch(10).await;
    assert_eq!(third.from.0, 20);
    reader.close().await;
    let mut reader = site.reader();
    let mut at = 20;
    // However many come at once.
    while at < 30 {
        let rest = reader.batch(30).await;
        assert_eq!((rest.from.0, rest.events[0].position.0), (at, at + 1));
        at = rest.to().0;
        assert!(reader.commit(rest).await);
    }
    reader.applies_only_new(&things, 5).await;
}

async fn of_two_that_commit_the_same_one_is_fenced(site: Site) {
    let things = things(1);
    site.publish(&things, 20).await;
    let mut reader = site.reader();
    let batch = reader.batch(20).await;
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
    while reader.applied.len() < 200 {
        let read = tokio::time::timeout(std::time::Duration::from_micros(300), reader.subscription.next(7));
        let Ok(read) = read.await else { continue };
        let taskpost_ports::log::Read::Events(batch) = read.unwrap() else { panic!("no event") };
        assert!(reader.commit(batch).await);
    }
    publishing.await.unwrap();
    once_and_in_order(&reader.close().await, &site.events().await);
}
