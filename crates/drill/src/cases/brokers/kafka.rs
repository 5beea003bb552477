//! Kafka.

mod log;

use std::time::Instant;

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng, seq::SliceRandom as _};
use rdkafka::{
    Message as _,
    producer::{FutureProducer, FutureRecord},
};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use url::Url;

use super::{super::processes::until_seldom, BETWEEN, fail_some};
use crate::{case::Arena, history::Mark, stack::Role};
use log::{EVENTS, Log, Offsets, PATIENCE};

/// The topics beside those that carry events.
const BESIDE: [&str; 2] = ["ingest", "dlq"];
const GROUPS: [&str; 3] = ["notifier", "projections", "webhooks"];
/// One of so many records is doubled.
const SHARE: u32 = 10;
/// How often everything is deleted, doubled or poisoned.
const ROUNDS: usize = 3;
/// What the product says when it finds its records gone.
const GONE: &str = "no longer has records that it had acknowledged";

/// Every topic is deleted, with what is in it.
pub(super) async fn topics_deleted(arena: &Arena) {
    let (log, consumers) = (Log::of(arena), arena.stack.server(Role::Consumers));
    let names: Vec<String> = EVENTS.iter().chain(&BESIDE).map(|topic| log.name(topic)).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    for round in 1..=ROUNDS {
        let records: i64 = log.ends().await.iter().map(|(_, end)| end).sum();
        let began = Instant::now();
        let deleted = Log::admin().delete_topics(&names, &Log::patience()).await.expect("Kafka answers");
        let failed: Vec<_> = deleted.iter().filter(|topic| topic.is_err()).collect();
        assert!(failed.is_empty(), "{failed:?}");
        until_seldom(arena, || async {
            let said = consumers.stderr().matches(GONE).count();
            if said >= round { Ok(()) } else { Err("the relay did not miss its records".to_owned()) }
        })
        .await;
        until_seldom(arena, || async {
            let found = log.partitions().await.len();
            if found >= EVENTS.len() { Ok(()) } else { Err(format!("there are {found} partitions")) }
        })
        .await;
        arena.history.mark(Mark::Fault(format!(
            "kafka: {} topics with {records} records deleted; missed and made again within {:.1} s",
            names.len(),
            began.elapsed().as_secs_f64(),
        )));
        arena.load.wait_for_more(BETWEEN).await;
    }
}

/// Kafka forgets where the groups are.
pub(super) async fn groups_deleted(arena: &Arena) {
    let (log, history) = (Log::of(arena), &arena.history);
    let (server, name) = (arena.stack.server(Role::Consumers), arena.stack.name(Role::Consumers));
    history.mark(Mark::Down(name));
    server.terminate().await;
    let groups = GROUPS.map(|group| log.name(group));
    let groups = groups.each_ref().map(String::as_str);
    let known: i64 = committed(&log).await;
    assert!(known > 0, "Kafka knows of no progress");
    until_seldom(arena, || async {
        let deleted = Log::admin().delete_groups(&groups, &Log::patience()).await.expect("Kafka answers");
        match deleted.into_iter().find_map(Result::err) {
            None => Ok(()),
            Some((group, error)) => Err(format!("{group}: {error}")),
        }
    })
    .await;
    let left = committed(&log).await;
    assert_eq!(left, 0, "Kafka still knows where the groups are");
    arena.load.wait_for_more(BETWEEN).await;
    server.restart().await;
    history.mark(Mark::Up(name));
    let ends = log.ends().await;
    log.passed(arena, &ends).await;
    history.mark(Mark::Fault(format!(
        "kafka: {} groups deleted, {known} records were read again",
        groups.len()
    )));
}

/// How many records the groups are past, all together.
async fn committed(log: &Log) -> i64 {
    let mut sum = 0;
    for group in GROUPS {
        sum += log.committed(group).await.iter().map(|(_, offset)| offset).sum::<i64>();
    }
    sum
}

/// An operator sets the groups back to the beginning, and then forward past what they have not read.
pub(super) async fn offsets_moved(arena: &Arena) {
    let (log, history) = (Log::of(arena), &arena.history);
    let (server, name) = (arena.stack.server(Role::Consumers), arena.stack.name(Role::Consumers));
    history.mark(Mark::Down(name));
    server.terminate().await;
    let known = committed(&log).await;
    let start: Offsets = log.partitions().await.into_iter().map(|partition| (partition, 0)).collect();
    set(arena, &log, &start).await;
    server.restart().await;
    history.mark(Mark::Up(name));
    log.passed(arena, &log.ends().await).await;
    history.mark(Mark::Fault(format!("kafka: offsets set back to 0, {known} records were read again")));
    arena.load.wait_for_more(BETWEEN).await;

    // What is relayed and not applied is there only while the groups stand still.
    let hold = Hold::begin(arena).await;
    arena.load.wait_for_more(BETWEEN).await;
    history.mark(Mark::Down(name));
    server.kill();
    hold.end().await;
    let ends = log.ends().await;
    let each = i64::try_from(GROUPS.len()).expect("a few groups");
    let (all, read) = (ends.iter().map(|(_, end)| end).sum::<i64>() * each, committed(&log).await);
    assert!(read < all, "there was nothing that the groups had not read");
    set(arena, &log, &ends).await;
    server.restart().await;
    history.mark(Mark::Up(name));
    history.mark(Mark::Fault(format!(
        "kafka: offsets set forward from {read} to {all} past records that were not applied"
    )));
    arena.load.wait_for_more(BETWEEN).await;
}

/// Sets the offsets of all groups, once their members are gone.
async fn set(arena: &Arena, log: &Log, offsets: &Offsets) {
    for group in GROUPS {
        until_seldom(arena, || log.commit(group, offsets)).await;
        assert_eq!(sorted(log.committed(group).await), sorted(offsets.clone()), "{group}");
    }
}

fn sorted(mut offsets: Offsets) -> Offsets {
    offsets.sort();
    offsets
}

/// Keeps the groups from recording anything, while the relay goes on.
struct Hold(PgConnection);

impl Hold {
    async fn begin(arena: &Arena) -> Self {
        const SQL: &str = "BEGIN; SELECT position FROM group_progress
             WHERE group_name IN ('notifier', 'projections', 'webhooks') FOR UPDATE";
        let url: Url =
            arena.stack.api().beside().variable("DATABASE_URL").expect("a database").parse().expect("a URL");
        let schema = url.query_pairs().find(|(name, _)| name == "schema").expect("a schema").1.into_owned();
        let mut server = url.clone();
        server.set_query(None);
        let mut connection = PgConnection::connect(server.as_str()).await.expect("Postgres answers");
        let hold = format!("SET search_path TO {schema}; {SQL}");
        sqlx::raw_sql(AssertSqlSafe(hold)).execute(&mut connection).await.expect("the rows can be locked");
        Self(connection)
    }

    async fn end(self) {
        self.0.close().await.expect("Postgres answers");
    }
}

/// Records come again, whole and with their headers, in any order.
pub(super) async fn duplicates(arena: &Arena) {
    let log = Log::of(arena);
    let producer: FutureProducer = Log::client().create().expect("a producer");
    let mut random = StdRng::seed_from_u64(arena.seed);
    for _ in 0..ROUNDS {
        fail_some(arena);
        let mut records = log.records().await;
        let all = records.len();
        records.retain(|_| random.random_ratio(1, SHARE));
        records.shuffle(&mut random);
        for record in &records {
            let again = FutureRecord::<[u8], [u8]> {
                topic: record.topic(),
                partition: Some(record.partition()),
                payload: record.payload(),
                key: record.key(),
                timestamp: None,
                headers: record.headers().cloned(),
            };
            producer.send(again, PATIENCE).await.expect("Kafka takes it");
        }
        let ends = log.ends().await;
        log.passed(arena, &ends).await;
        arena.history.mark(Mark::Fault(format!("kafka: {} of {all} records came again", records.len())));
        arena.load.wait_for_more(BETWEEN).await;
    }
}

/// Records that are no event become dead letters of every group, and the others go on.
pub(super) async fn poison(arena: &Arena) {
    let log = Log::of(arena);
    let producer: FutureProducer = Log::client().create().expect("a producer");
    let mut random = StdRng::seed_from_u64(arena.seed);
    let records = log.records().await;
    let good = records.first().and_then(rdkafka::Message::payload).expect("a record");
    let good = String::from_utf8_lossy(good).into_owned();
    let cut = good.as_bytes()[..good.len() / 2].to_vec();
    let nowhere = good.replacen("\"position\":", "\"place\":", 1).into_bytes();
    let bodies =
        [None, Some(Vec::new()), Some(vec![0xff, 0xfe]), Some(b"[1]".to_vec()), Some(cut), Some(nowhere)];
    let partitions = log.partitions().await;
    let mut sent = 0;
    for _ in 0..ROUNDS {
        for body in &bodies {
            let (topic, partition) = &partitions[random.random_range(0..partitions.len())];
            let record = FutureRecord::<[u8], [u8]> {
                topic,
                partition: Some(*partition),
                payload: body.as_deref(),
                key: None,
                timestamp: None,
                headers: None,
            };
            producer.send(record, PATIENCE).await.expect("Kafka takes it");
            sent += 1;
        }
        arena.load.wait_for_more(BETWEEN).await;
    }
    until_seldom(arena, || async {
        const SQL: &str = "SELECT handler, count(*) FROM dead_letters
                WHERE source = 'log' AND reason LIKE 'the record %' GROUP BY handler ORDER BY handler";
        let letters = arena.stack.rows(SQL).await;
        let all = GROUPS.map(|group| (group.to_owned(), sent));
        if letters == all { Ok(()) } else { Err(format!("letters {letters:?}, and {all:?} were sent")) }
    })
    .await;
    arena.history.mark(Mark::Fault(format!(
        "kafka: {sent} records that are no event, each a dead letter of every group"
    )));
}
