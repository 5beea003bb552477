//! Kafka.

use std::time::{Duration, Instant};

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng, seq::SliceRandom as _};
use rdkafka::{
    ClientConfig, Message as _, Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions},
    client::DefaultClientContext,
    consumer::{BaseConsumer, CommitMode, Consumer as _},
    message::OwnedMessage,
    producer::{FutureProducer, FutureRecord},
};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use taskpost_testkit::Part;
use url::Url;

use super::{BETWEEN, fail_some};
use crate::{case::Arena, history::Mark, stack::Role};

/// The topics that carry events, and those beside them.
const EVENTS: [&str; 3] = ["identity", "work", "delivery"];
const BESIDE: [&str; 2] = ["ingest", "dlq"];
const GROUPS: [&str; 2] = ["notifier", "webhooks"];
/// How long one question may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// One of so many records is doubled.
const SHARE: u32 = 10;
/// How often.
const ROUNDS: usize = 3;
/// What the product says when it finds its records gone.
const GONE: &str = "no longer has records that it had acknowledged";

/// The instance's things in Kafka.
#[derive(Clone)]
struct Log {
    instance: String,
}

/// By topic and partition.
type Offsets = Vec<((String, i32), i64)>;

impl Log {
    fn of(arena: &Arena) -> Self {
        Self { instance: arena.stack.api().instance().to_owned() }
    }

    fn name(&self, of: &str) -> String {
        format!("{}.{of}", self.instance)
    }

    fn client() -> ClientConfig {
        let mut config = ClientConfig::new();
        // A question after a topic must not make it.
        config.set("bootstrap.servers", Part::Kafka.url()).set("allow.auto.create.topics", "false");
        config
    }

    fn admin() -> AdminClient<DefaultClientContext> {
        Self::client().create().expect("a client of Kafka")
    }

    fn patience() -> AdminOptions {
        AdminOptions::new().request_timeout(Some(PATIENCE)).operation_timeout(Some(PATIENCE))
    }

    /// Asks something that blocks, as a consumer of this group.
    async fn ask<T: Send + 'static>(
        &self,
        group: &str,
        question: impl FnOnce(&BaseConsumer) -> T + Send + 'static,
    ) -> T {
        let group = self.name(group);
        let asked = tokio::task::spawn_blocking(move || {
            let mut config = Self::client();
            config
                .set("group.id", group)
                .set("enable.auto.commit", "false")
                .set("enable.partition.eof", "true");
            let consumer: BaseConsumer = config.create().expect("a consumer");
            question(&consumer)
        });
        asked.await.expect("it ends")
    }

    /// The partitions of the topics that carry events; fewer while topics are missing.
    async fn partitions(&self) -> Vec<(String, i32)> {
        let topics = EVENTS.map(|topic| self.name(topic));
        self.ask("drill", move |consumer| {
            let metadata = consumer.fetch_metadata(None, PATIENCE).expect("Kafka answers");
            let ours =
                metadata.topics().iter().filter(|topic| topics.iter().any(|name| name == topic.name()));
            ours.flat_map(|topic| {
                topic.partitions().iter().map(|found| (topic.name().to_owned(), found.id()))
            })
            .collect()
        })
        .await
    }

    /// The offset that the next record of each partition gets.
    async fn ends(&self) -> Offsets {
        let partitions = self.partitions().await;
        self.ask("drill", move |consumer| {
            let end = |(topic, partition): &(String, i32)| {
                consumer.fetch_watermarks(topic, *partition, PATIENCE).expect("Kafka answers").1
            };
            partitions.into_iter().map(|partition| (partition.clone(), end(&partition))).collect()
        })
        .await
    }

    /// Where a group would read on.
    async fn committed(&self, group: &str) -> Offsets {
        let partitions = self.partitions().await;
        self.ask(group, move |consumer| {
            let mut list = TopicPartitionList::new();
            for (topic, partition) in &partitions {
                list.add_partition(topic, *partition);
            }
            let found = consumer.committed_offsets(list, PATIENCE).expect("Kafka answers");
            let offset = |offset| if let Offset::Offset(offset) = offset { offset } else { 0 };
            let elements = found.elements();
            let of = |found: &rdkafka::topic_partition_list::TopicPartitionListElem<'_>| {
                ((found.topic().to_owned(), found.partition()), offset(found.offset()))
            };
            elements.iter().map(of).collect()
        })
        .await
    }

    /// Has a group read on there. It must have no members.
    async fn commit(&self, group: &str, offsets: &Offsets) -> Result<(), String> {
        let mut list = TopicPartitionList::new();
        for ((topic, partition), offset) in offsets {
            let added = list.add_partition_offset(topic, *partition, Offset::Offset(*offset));
            added.expect("an offset");
        }
        self.ask(group, move |consumer| {
            consumer.commit(&list, CommitMode::Sync).map_err(|error| format!("offsets are not set: {error}"))
        })
        .await
    }

    /// Every record there is.
    async fn records(&self) -> Vec<OwnedMessage> {
        let ends = self.ends().await;
        self.ask("drill", move |consumer| {
            let mut list = TopicPartitionList::new();
            for ((topic, partition), _) in &ends {
                list.add_partition_offset(topic, *partition, Offset::Beginning).expect("an offset");
            }
            consumer.assign(&list).expect("they can be read");
            let all: i64 = ends.iter().map(|(_, end)| end).sum();
            let mut records = Vec::new();
            while i64::try_from(records.len()).is_ok_and(|some| some < all) {
                match consumer.poll(PATIENCE) {
                    Some(Ok(record)) => records.push(record.detach()),
                    Some(Err(rdkafka::error::KafkaError::PartitionEOF(_))) => {}
                    Some(Err(error)) => panic!("{error}"),
                    None => panic!("Kafka gives {} records of {all}", records.len()),
                }
            }
            records
        })
        .await
    }

    /// Waits until the groups have passed these offsets.
    async fn passed(&self, arena: &Arena, ends: &Offsets) {
        arena
            .until(|| async {
                for group in GROUPS {
                    let at = self.committed(group).await;
                    let behind = |(key, end): &&((String, i32), i64)| {
                        *end > 0 && at.iter().any(|(of, at)| of == key && at < end)
                    };
                    if let Some((key, end)) = ends.iter().find(behind) {
                        return Err(format!("{group} has not passed {end} of {key:?}: {at:?}"));
                    }
                }
                Ok(())
            })
            .await;
    }
}

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
        arena
            .until(|| async {
                let said = consumers.stderr().matches(GONE).count();
                if said >= round { Ok(()) } else { Err("the relay did not miss its records".to_owned()) }
            })
            .await;
        arena
            .until(|| async {
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
    arena
        .until(|| async {
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
    let unread = ends.iter().map(|(_, end)| end).sum::<i64>() * 2 - committed(&log).await;
    assert!(unread > 0, "there was nothing that the groups had not read");
    set(arena, &log, &ends).await;
    server.restart().await;
    history.mark(Mark::Up(name));
    history
        .mark(Mark::Fault(format!("kafka: offsets set forward past {unread} records that were not applied")));
    arena.load.wait_for_more(BETWEEN).await;
}

/// Sets the offsets of both groups, once their members are gone.
async fn set(arena: &Arena, log: &Log, offsets: &Offsets) {
    for group in GROUPS {
        arena.until(|| log.commit(group, offsets)).await;
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
        const SQL: &str = "BEGIN; SELECT position FROM group_progress WHERE group_name IN ('notifier', 'webhooks') FOR UPDATE";
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

/// Records that are no event become dead letters of both groups, and the others go on.
pub(super) async fn poison(arena: &Arena) {
    let log = Log::of(arena);
    let producer: FutureProducer = Log::client().create().expect("a producer");
    let mut random = StdRng::seed_from_u64(arena.seed);
    let records = log.records().await;
    let good = records.first().and_then(rdkafka::Message::payload).expect("a record");
    let good = String::from_utf8_lossy(good).into_owned();
    let cut = good.as_bytes()[..good.len() / 2].to_vec();
    let displaced = good.replacen("\"position\":", "\"position\":-", 1).into_bytes();
    let bodies =
        [None, Some(Vec::new()), Some(vec![0xff, 0xfe]), Some(b"[1]".to_vec()), Some(cut), Some(displaced)];
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
    arena
        .until(|| async {
            const SQL: &str = "SELECT handler, count(*) FROM dead_letters
                WHERE source = 'log' AND reason LIKE 'the record %' GROUP BY handler ORDER BY handler";
            let letters = arena.stack.rows(SQL).await;
            let all = GROUPS.map(|group| (group.to_owned(), sent));
            if letters == all { Ok(()) } else { Err(format!("letters {letters:?}, and {all:?} were sent")) }
        })
        .await;
    arena.history.mark(Mark::Fault(format!(
        "kafka: {sent} records that are no event, each a dead letter of both groups"
    )));
}
