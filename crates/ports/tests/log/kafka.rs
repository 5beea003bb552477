//! What only Kafka does to a group: partitions that come and go, offsets that are lost, records that are no events.

use std::{collections::HashSet, sync::Arc, time::Duration};

use taskpost_common::{Envelope, Position};
use taskpost_ports::{
    Log,
    log::{Poison, Read},
};
use tokio::{
    sync::{Mutex, watch},
    time::timeout,
};
use uuid::Uuid;

use crate::harness::{Reader, Site, once_and_in_order, settings, soon, things, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_group_reads_from_the_earliest_and_skips_what_is_applied() {
    let site = Site::kafka().await;
    let things = things(9);
    site.publish(&things, 90).await;
    let mut reader = site.reader();
    reader.apply(90).await;
    reader.close().await;
    site.forget_group().await;
    site.reader().applies_only_new(&things, 30).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_kafka_dropped_by_age_is_taken_from_the_store() {
    let site = Site::kafka().await;
    let things = things(9);
    site.publish(&things, 45).await;
    let mut reader = site.reader();
    reader.apply(45).await;
    reader.close().await;
    site.publish(&things, 2_700).await;
    // Of what the group has yet to read, Kafka keeps the last record of each partition.
    site.age("delivery", 3).await;
    let mut reader = site.reader();
    reader.apply(2_700).await;
    let mut applied = reader.close().await;
    applied.sort_unstable_by_key(|event| event.position);
    once_and_in_order(&applied, &site.events().await[45..]);
    // So does a group that is new.
    let mut reader = site.reader_of("newcomers");
    reader.apply(2_745).await;
    once_and_in_order(&reader.close().await, &site.events().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_is_no_event_comes_until_it_is_buried_and_holds_up_nobody() {
    let site = Site::kafka().await;
    let thing = things(1);
    site.publish(&thing, 10).await;
    let mut reader = site.reader();
    let batch = reader.batch(1).await;
    let number: i32 = batch.partition.rsplit_once('/').unwrap().1.parse().unwrap();
    assert!(batch.partition.starts_with("delivery/"), "{}", batch.partition);
    assert!(reader.commit(batch).await);
    reader.apply(10).await;
    site.smuggle("delivery", number, &[0xff, 0x00]).await;
    site.publish(&thing, 10).await;
    let broken = reader.broken().await;
    assert_eq!(
        (broken.payload.as_slice(), broken.key.as_deref()),
        (&[0xff, 0x00][..], Some(&b"smuggled"[..]))
    );
    assert!(broken.reason.starts_with("the record is no event"), "{}", broken.reason);
    reader.apply(20).await;
    // It was not buried, so it comes again, also after a restart, and is known as the same.
    reader.subscription.rewind();
    assert_eq!(reader.broken().await.id, broken.id);
    reader.close().await;
    let mut reader = site.reader();
    let again = reader.broken().await;
    assert_eq!((again.id, again.offset), (broken.id, broken.offset));
    reader.subscription.buried(&again);
    reader.subscription.rewind();
    reader.applies_only_new(&thing, 5).await;
    reader.close().await;
    site.reader().applies_only_new(&thing, 5).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_of_a_dead_letter_is_on_its_topic() {
    let site = Site::kafka().await;
    site.publish(&things(1), 1).await;
    let poison = Poison {
        id: Uuid::from_u128(7),
        type_name: Some("task.abducted"),
        traceparent: None,
        group: "readers",
        partition: "work/0",
        reason: "nobody knows it",
        key: Some(b"key"),
        payload: b"whole",
    };
    soon("it is there", site.log.bury(&poison)).await.unwrap();
    let (value, headers) = site.only_record("dlq", 3).await;
    assert_eq!(value, b"whole");
    let id = poison.id.to_string();
    let told = [
        ("ce_id", id.as_str()),
        ("ce_type", "task.abducted"),
        ("group", "readers"),
        ("partition", "work/0"),
        ("reason", "nobody knows it"),
    ];
    assert_eq!(headers, told.map(|(name, value)| (name.to_owned(), value.to_owned())));
    let large = vec![b'x'; 2_000_000];
    let too_large = Poison { payload: &large, ..poison };
    soon("what Kafka can never take holds up nobody", site.log.bury(&too_large)).await.unwrap();
}

/// What members of the group have applied together, in the order in which they committed.
type Applied = Arc<Mutex<Vec<(usize, Envelope)>>>;

/// A member that applies until it is told to leave.
fn member(
    site: &Site,
    number: usize,
    applied: &Applied,
    mut stop: watch::Receiver<bool>,
) -> tokio::task::JoinHandle<()> {
    let (mut reader, applied): (Reader, Applied) = (site.reader(), Arc::clone(applied));
    tokio::spawn(async move {
        loop {
            let read = tokio::select! {
                _ = stop.wait_for(|stop| *stop) => break,
                read = reader.subscription.next(20) => read.unwrap(),
            };
            let Read::Events(batch) = read else { panic!("{read:?} is no event") };
            // Held while committing, so that its order is that of the commits.
            let mut all = applied.lock().await;
            if reader.record(&batch.partition, batch.from, batch.to()).await {
                reader.subscription.done(&batch.partition, batch.to());
                all.extend(batch.events.into_iter().map(|event| (number, event)));
            } else {
                reader.subscription.rewind();
            }
        }
        reader.close().await;
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_share_the_partitions_and_nothing_is_lost_or_doubled_as_they_come_and_go() {
    let site = Site::kafka().await;
    let things = things(30);
    let applied: Applied = Arc::default();
    let (stop_one, heard_by_one) = watch::channel(false);
    let (stop_two, heard_by_two) = watch::channel(false);
    let by = async |number: usize| {
        let all = applied.lock().await;
        all.iter().filter(|(member, _)| *member == number).count()
    };
    let one = member(&site, 1, &applied, heard_by_one);
    site.publish(&things, 300).await;
    until("the first has applied everything", async || by(1).await >= 300).await;
    let two = member(&site, 2, &applied, heard_by_two);
    let mut published = 300;
    soon("both apply some", async {
        while by(2).await < 100 {
            site.publish(&things, 30).await;
            published += 30;
        }
    })
    .await;
    let before = by(1).await;
    soon("the first still applies", async {
        while by(1).await == before {
            site.publish(&things, 30).await;
            published += 30;
        }
    })
    .await;
    stop_one.send(true).unwrap();
    soon("the first leaves", one).await.unwrap();
    site.publish(&things, 300).await;
    published += 300;
    until("the second has the rest", async || applied.lock().await.len() >= published).await;
    stop_two.send(true).unwrap();
    soon("the second leaves", two).await.unwrap();
    let applied: Vec<Envelope> = applied.lock().await.iter().map(|(_, event)| event.clone()).collect();
    once_and_in_order(&applied, &site.events().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_backlog_is_held_back_and_read_whole() {
    let site = Site::kafka().await;
    let things = things(20);
    // More than a buffer takes.
    site.publish(&things, 12_000).await;
    let mut reader = site.reader();
    let first = reader.batch(100).await;
    let mut handed: HashSet<i64> = first.events.iter().map(|event| event.position.0).collect();
    // Nothing is recorded, so it all stays in the buffer, and some time nothing more comes: the broker was told to pause.
    while let Ok(read) = timeout(Duration::from_secs(1), reader.subscription.next(100)).await {
        let Read::Events(batch) = read.unwrap() else { panic!("no event") };
        handed.extend(batch.events.iter().map(|event| event.position.0));
    }
    assert!(handed.len() < 12_000, "everything is in memory");
    reader.subscription.rewind();
    reader.apply(12_000).await;
    once_and_in_order(&reader.close().await, &site.events().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn topics_are_made_once_and_never_changed() {
    let site = Site::kafka().await;
    let survey = site.survey().await;
    let names: HashSet<&str> = survey.partitions.keys().map(String::as_str).collect();
    assert_eq!(names, HashSet::from(["identity", "work", "content", "delivery"]));
    assert!(survey.partitions.values().all(|count| *count == 3) && survey.ends.len() == 12, "{survey:?}");
    site.publish(&things(40), 40).await;
    let wanted =
        taskpost_common::config::Kafka { partitions: 5, ..settings(&crate::harness::brokers(), &site.name) };
    let log = Log::kafka(&wanted, &site.name, site.db.clone(), site.clock.clone()).unwrap();
    let mut again = site.clone();
    again.log = log;
    let survey = again.survey().await;
    assert!(survey.partitions.values().all(|count| *count == 3), "{survey:?}");
    let written: i64 =
        survey.ends.iter().filter(|(name, _)| name.starts_with("delivery/")).map(|(_, end)| end).sum();
    assert_eq!((written, site.progress("delivery/0").await), (40, Position(0)));
}
