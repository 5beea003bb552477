//! The relay: everything once more or once, in order, and never past what Kafka will not take.

use std::{collections::HashMap, sync::Arc};

use taskpost_common::{Envelope, Position, UserId};
use taskpost_consumers::{Group as _, relay};
use taskpost_ports::{
    Log,
    log::{
        Read,
        kafka::trial::{Cluster, smuggle},
    },
};
use taskpost_store::progress::{self, Step};

use crate::{
    echo::Echo,
    redrive,
    support::{PARTITIONS, Running, Stage, brokers, until},
};

/// A Kafka that fails on demand, and a stage on it, which goes first.
async fn on_trial() -> (Cluster, Stage) {
    let mut stage = Stage::sqlite().await;
    let cluster = Cluster::start(&stage.name, PARTITIONS).unwrap();
    stage.switch_to(&cluster.brokers());
    (cluster, stage)
}

async fn tasks(stage: &Stage, reporter: UserId, count: usize) -> Vec<String> {
    let mut titles: Vec<String> = (0..count).map(|number| format!("task {number}")).collect();
    for title in &titles {
        stage.task(title, reporter, None).await;
    }
    titles.sort_unstable();
    titles
}

/// What Echo has answered; on Kafka the order between tasks is anybody's.
async fn answered(stage: &Stage) -> Vec<String> {
    let mut answered = Echo::answered(stage).await;
    answered.sort_unstable();
    answered
}

async fn cursor(stage: &Stage) -> Position {
    progress::relay::cursor(&mut stage.reader().await).await.unwrap()
}

fn start_relay(stage: &Stage) -> Running {
    let mut running = Running::default();
    running.tasks.spawn(stage.relay::<Echo>(running.stop.clone()));
    running
}

/// All records on Kafka, each partition in order.
async fn records(stage: &Stage, count: usize) -> Vec<Envelope> {
    let mut reading = stage.consumers.log.subscribe("records");
    let mut all = Vec::new();
    while all.len() < count {
        let read = tokio::time::timeout(std::time::Duration::from_secs(40), reading.next(1_000));
        match read.await.expect("as many as there should be").unwrap() {
            Read::Events(batch) => all.extend(batch.events),
            Read::Broken(broken) => panic!("{broken:?}"),
        }
    }
    reading.close().await;
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_event_arrives_whole_and_each_task_in_order() {
    let stage = Stage::kafka().await;
    let (ann, bob) = (stage.member("ann").await, stage.member("bob").await);
    for number in 0..40 {
        let task = stage.task(&format!("task {number}"), ann, Some(bob)).await;
        stage.change(ann, &task, |task| task.title.push('!')).await;
    }
    let relay = start_relay(&stage);
    stage.until_relayed().await;
    relay.end().await;
    let events = stage.events().await;
    let mut records = records(&stage, events.len()).await;
    let mut versions = HashMap::new();
    for record in &records {
        let before = versions.insert(record.aggregate_id, record.aggregate_version).unwrap_or_default();
        assert!(before <= record.aggregate_version, "{record:?} behind version {before}");
    }
    records.sort_unstable_by_key(|record| record.position);
    assert_eq!(records, events);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_crashed_sends_again_and_nothing_takes_effect_twice() {
    let stage = Stage::kafka().await;
    let ann = stage.member("ann").await;
    let titles = tasks(&stage, ann, 60).await;
    let echo = Arc::new(Echo::new(&stage));
    stage.drain(&echo).await;
    // As if it had crashed before it could store how far it was.
    let at = cursor(&stage).await;
    let mut tx = stage.db().begin().await.unwrap();
    let (from, now) = (Position(10), stage.clock().now());
    assert!(
        progress::advance(&mut tx, "relay", &[Step { partition: "", from: at, to: from }], now)
            .await
            .unwrap()
    );
    tx.commit().await.unwrap();
    assert!(!stage.caught_up(Echo::NAME).await);
    stage.drain(&echo).await;
    stage.task("task one more", ann, None).await;
    stage.drain(&echo).await;
    let mut expected = titles;
    expected.push("task one more".to_owned());
    assert_eq!(answered(&stage).await, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_relays_at_once_only_repeat() {
    // SQLite has no leases, so both work, like one that was stopped past the end of its lease.
    let stage = Stage::kafka().await;
    let ann = stage.member("ann").await;
    let echo = Arc::new(Echo::new(&stage));
    let (first, running) = (start_relay(&stage), stage.start(&echo, 2));
    let titles = tasks(&stage, ann, 80).await;
    stage.until_caught_up::<Echo>().await;
    running.end().await;
    first.end().await;
    assert_eq!(answered(&stage).await, titles);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_processes_one_relays_and_the_other_goes_on_when_it_stops() {
    let mut stage = Stage::postgres().await;
    stage.switch_to(&brokers());
    let ann = stage.member("ann").await;
    let echo = Arc::new(Echo::new(&stage));
    let (first, running) = (start_relay(&stage), stage.start(&echo, 1));
    stage.task("one", ann, None).await;
    stage.until_caught_up::<Echo>().await;
    first.end().await;
    stage.task("two", ann, None).await;
    stage.until_caught_up::<Echo>().await;
    running.end().await;
    assert_eq!(answered(&stage).await, ["one", "two"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_kafka_will_not_take_stops_the_relay_until_it_does() {
    let (cluster, stage) = on_trial().await;
    let ann = stage.member("ann").await;
    let echo = Arc::new(Echo::new(&stage));
    stage.drain(&echo).await;
    let before = cursor(&stage).await;
    cluster.refuse();
    let titles = tasks(&stage, ann, 30).await;
    let running = stage.start(&echo, 1);
    let problem = until("somebody is told", || async {
        let problem = stage.consumers.log.check().await.problem;
        problem.filter(|problem| problem.contains("Kafka will not take event"))
    })
    .await;
    let stuck_at = cursor(&stage).await;
    let event = stage.events().await.into_iter().find(|event| event.position.0 == stuck_at.0 + 1).unwrap();
    assert!(stuck_at >= before, "it never goes back");
    assert!(problem.contains(&event.id.to_string()), "{problem}");
    cluster.accept();
    stage.until_caught_up::<Echo>().await;
    until("all is well", || async { stage.consumers.log.check().await.problem.is_none().then_some(()) })
        .await;
    running.end().await;
    assert_eq!(answered(&stage).await, titles);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_producer_that_lost_its_place_is_replaced() {
    let (cluster, stage) = on_trial().await;
    let ann = stage.member("ann").await;
    let echo = Arc::new(Echo::new(&stage));
    let running = stage.start(&echo, 1);
    let mut titles = Vec::new();
    for round in 0..3 {
        cluster.confuse();
        for number in 0..10 {
            titles.push(format!("task {round} {number}"));
            stage.task(&titles[titles.len() - 1], ann, None).await;
        }
        stage.until_caught_up::<Echo>().await;
    }
    running.end().await;
    assert_eq!(answered(&stage).await, titles);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_of_kafka_holds_everything_and_loses_nothing() {
    let (cluster, stage) = on_trial().await;
    let ann = stage.member("ann").await;
    let echo = Arc::new(Echo::new(&stage));
    let running = stage.start(&echo, 1);
    stage.task("before", ann, None).await;
    stage.until_caught_up::<Echo>().await;
    cluster.down().unwrap();
    stage.task("during", ann, None).await;
    until("somebody is told", || async { stage.consumers.log.check().await.problem }).await;
    assert_eq!(answered(&stage).await, ["before"]);
    cluster.up().unwrap();
    stage.until_caught_up::<Echo>().await;
    cluster.down().unwrap();
    stage.task("late", ann, None).await;
    // It gives up in time what it cannot send, and another one sends it.
    running.end().await;
    cluster.up().unwrap();
    stage.drain(&echo).await;
    assert_eq!(answered(&stage).await, ["before", "during", "late"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn poison_of_either_kind_is_buried_once_and_the_rest_goes_on() {
    let stage = Stage::kafka().await;
    let ann = stage.member("ann").await;
    for title in ["one", "poison", "panic"] {
        stage.task(title, ann, None).await;
    }
    let echo = Arc::new(Echo::new(&stage));
    stage.drain(&echo).await;
    let topic = format!("{}.work", stage.name);
    for partition in 0..i32::from(PARTITIONS) {
        smuggle(&brokers(), &topic, partition, b"no event").await.unwrap();
        smuggle(&brokers(), &topic, partition, &[0xff, 0x00]).await.unwrap();
    }
    for number in 0..20 {
        stage.task(&format!("task {number}"), ann, None).await;
    }
    stage.drain(&echo).await;
    let count = 2 + 2 * usize::from(PARTITIONS);
    let running = stage.start(&echo, 1);
    until("all are buried", || async { (stage.letters(Echo::NAME).await.len() >= count).then_some(()) })
        .await;
    running.end().await;
    let letters = stage.letters(Echo::NAME).await;
    let of_records: Vec<_> = letters.iter().filter(|letter| letter.event_id.is_none()).collect();
    assert_eq!(of_records.len(), count - 2);
    assert_eq!(of_records.iter().filter(|letter| letter.payload == "no event").count(), 3);
    assert_eq!(of_records.iter().filter(|letter| letter.payload.contains(r#""base64":"/wA=""#)).count(), 3);
    assert!(of_records.iter().all(|letter| letter.position.is_none() && letter.reason.contains("no event")));
    assert_eq!(Echo::answered(&stage).await.len(), 21);
    // Somebody makes of one what it was meant to be.
    let mut meant = stage.events().await.into_iter().find(|event| event.type_name == "task.created").unwrap();
    meant.id = stage.clock().id();
    let payload = serde_json::to_string(&meant.to_cloudevent().unwrap()).unwrap();
    let loops = stage.start_redrive(&echo, 1);
    redrive::request(&stage, of_records[0].id, Some(&payload)).await;
    let settled = redrive::settled(&stage, of_records[0].id).await;
    loops.end().await;
    assert_eq!((settled.state.as_str(), Echo::answered(&stage).await.len()), ("redriven", 22));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_begins_where_the_group_that_is_furthest_behind_stands() {
    let mut stage = Stage::sqlite().await;
    let ann = stage.member("ann").await;
    tasks(&stage, ann, 10).await;
    let echo = Arc::new(Echo::new(&stage));
    stage.drain(&echo).await;
    let head = stage.events().await.len();
    stage.switch_to(&brokers());
    let Log::Kafka(kafka) = stage.consumers.log.clone() else { panic!("the log is not Kafka") };
    // A group that has never read anything needs everything.
    let mut running = Running::default();
    let both: &'static [&'static str] = &[Echo::NAME, "newcomer"];
    running.tasks.spawn(relay::run(stage.consumers.clone(), kafka, both, running.stop.clone()));
    stage.until_relayed().await;
    running.end().await;
    assert_eq!(records(&stage, head).await.len(), head);
}
