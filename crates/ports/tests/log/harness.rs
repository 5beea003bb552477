//! A log with events in it, and groups that read it as their runner would.

use std::{
    collections::{BTreeMap, HashMap},
    future::Future,
    sync::Arc,
    time::Duration,
};

use rdkafka::{
    ClientConfig, Message as _, Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions},
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer as _},
    error::RDKafkaErrorCode,
    message::Headers as _,
    producer::{FutureProducer, FutureRecord},
};
use taskpost_common::{Cause, Clock, EndpointId, Envelope, Event, Position, config, event::EndpointDisabled};
use taskpost_ports::{
    Log, Wakes,
    log::{
        Batch, Broken, Read, Subscription,
        kafka::{RelayProducer, Sending, Start, Survey},
    },
};
use taskpost_store::{
    Change, Db,
    events::{self, NewEvent, SeenBy},
    progress::{
        self,
        relay::{self, Begin, Found},
    },
};
use tempfile::TempDir;
use tokio::sync::Mutex;
use uuid::Uuid;

/// No step takes nearly so long.
pub const DEADLINE: Duration = Duration::from_secs(40);
/// The group of the cases.
pub const GROUP: &str = "readers";

/// Makes of each case the tests `case::local` and `case::kafka`.
macro_rules! both {
    ($($case:ident),+ $(,)?) => {$(
        mod $case {
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn local() {
                super::$case(crate::harness::Site::local().await).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn kafka() {
                super::$case(crate::harness::Site::kafka().await).await;
            }
        }
    )+};
}

/// Where the Kafka is that tests may use.
pub fn brokers() -> String {
    #[expect(clippy::disallowed_methods, reason = "which Kafka tests may use is known to their starter only")]
    std::env::var("TASKPOST_TEST_KAFKA_BROKERS").expect(
        "TASKPOST_TEST_KAFKA_BROKERS names no Kafka; run these tests by `cargo xtask test -- -p taskpost-ports`",
    )
}

/// What an operator would say of a Kafka.
pub fn settings(brokers: &str, prefix: &str) -> config::Kafka {
    config::Kafka {
        brokers: brokers.to_owned(),
        topic_prefix: prefix.to_owned(),
        partitions: 3,
        replication: 1,
        security_protocol: "plaintext".to_owned(),
        ca_file: None,
        sasl: None,
    }
}

/// Waits for something, but not for ever.
pub async fn soon<T>(what: &str, work: impl Future<Output = T>) -> T {
    let done = tokio::time::timeout(DEADLINE, work).await;
    done.unwrap_or_else(|_| panic!("waited in vain until {what}"))
}

/// What passes between two looks.
const PAUSE: Duration = Duration::from_millis(5);

/// Looks again and again until it is so, and leaves the machine to others in between.
pub async fn until(what: &str, mut so: impl AsyncFnMut() -> bool) {
    soon(what, async {
        while !so().await {
            tokio::time::sleep(PAUSE).await;
        }
    })
    .await;
}

/// A log of its own, on a store of its own. Clones are the same.
#[derive(Clone)]
pub struct Site {
    pub db: Db,
    pub clock: Clock,
    pub wakes: Wakes,
    pub log: Log,
    /// Prefix of topics and groups.
    pub name: String,
    relay: Arc<Mutex<Relay>>,
    /// Removes the topics when the last clone goes.
    topics: Option<Arc<Topics>>,
    _folder: Arc<TempDir>,
}

/// Topics on the Kafka of the tests. Gone when dropped.
struct Topics(Vec<String>);

impl Drop for Topics {
    fn drop(&mut self) {
        let admin: AdminClient<DefaultClientContext> = client().create().unwrap();
        let names: Vec<&str> = self.0.iter().map(String::as_str).collect();
        let options = AdminOptions::new().request_timeout(Some(DEADLINE));
        // Whatever is left costs a little room.
        let _ = futures::executor::block_on(admin.delete_topics(&names, &options));
    }
}

/// The relay of the cases: all that is in the store goes to Kafka.
#[derive(Default)]
struct Relay {
    producer: Option<RelayProducer>,
    sent: Position,
}

impl Site {
    /// On the store's own log.
    pub async fn local() -> Self {
        Self::new(|db, wakes, clock, _| Log::local(db, wakes, clock)).await
    }

    /// On the Kafka of the tests, with topics of its own.
    pub async fn kafka() -> Self {
        Self::on(&brokers()).await.cleaned()
    }

    /// Removes its topics at the end.
    pub fn cleaned(mut self) -> Self {
        let names = ["identity", "work", "content", "delivery", "ingest", "dlq"];
        let names = names.map(|topic| self.topic(topic));
        self.topics = Some(Arc::new(Topics(names.to_vec())));
        self
    }

    /// On this Kafka.
    pub async fn on(brokers: &str) -> Self {
        Self::new(|db, _, clock, name| Log::kafka(&settings(brokers, name), name, db, clock).unwrap()).await
    }

    async fn new(log: impl FnOnce(Db, Wakes, Clock, &str) -> Log) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let db = Db::sqlite(folder.path()).await.unwrap();
        db.migrate().await.unwrap();
        let (clock, wakes) = (Clock::system(), Wakes::default());
        let name = format!("test-{}", clock.id::<Uuid>().simple());
        let log = log(db.clone(), wakes.clone(), clock.clone(), &name);
        Self { db, clock, wakes, log, name, relay: Arc::default(), topics: None, _folder: Arc::new(folder) }
    }

    /// A topic by its full name.
    pub fn topic(&self, topic: &str) -> String {
        format!("{}.{topic}", self.name)
    }

    /// Commits `count` events, each of one of `things` in turn; on Kafka they are there when this returns.
    pub async fn publish(&self, things: &[Uuid], count: usize) {
        let cause = Cause { correlation_id: self.clock.id(), ..Cause::default() };
        let change = Change { clock: &self.clock, cause: &cause };
        let head = events::head(&mut self.db.reader().await.unwrap()).await.unwrap().0;
        let new: Vec<NewEvent> = (0..count)
            .map(|number| {
                let thing = things[number % things.len()];
                let event = Event::EndpointDisabled(EndpointDisabled {
                    endpoint_id: EndpointId(thing),
                    reason: format!("number {number}"),
                });
                // Any versions that grow.
                let version = head + 1 + i64::try_from(number).unwrap();
                NewEvent::new(change, &event, thing, version, SeenBy::default()).unwrap()
            })
            .collect();
        for new in new.chunks(500) {
            let mut tx = self.db.begin().await.unwrap();
            events::append(&mut tx, &new.iter().collect::<Vec<_>>()).await.unwrap();
            tx.commit().await.unwrap();
        }
        self.wakes.log.ring();
        if matches!(self.log, Log::Kafka(_)) {
            self.relay().await;
        }
    }

    pub async fn events(&self) -> Vec<Envelope> {
        events::after(&mut self.db.reader().await.unwrap(), Position(0), 1_000_000).await.unwrap()
    }

    async fn relay(&self) {
        let Log::Kafka(kafka) = &self.log else { return };
        let mut relay = self.relay.lock().await;
        if relay.producer.is_none() {
            relay.producer = Some(kafka.relay_producer(&self.start().await).unwrap());
        }
        let producer = relay.producer.take().unwrap();
        let sent = relay.sent;
        for event in self.events().await.into_iter().filter(|event| event.position > sent) {
            while producer.send(&event) != Sending::UnderWay {
                assert_eq!(producer.failure(), None);
                soon("there is room", producer.moved()).await;
            }
            relay.sent = event.position;
        }
        soon("Kafka has acknowledged everything", async {
            while producer.cursor() < relay.sent {
                assert_eq!(producer.failure(), None);
                producer.moved().await;
            }
        })
        .await;
        relay.producer = Some(producer);
    }

    /// What is in Kafka, once it answers: one that is new or busy takes its time to make topics.
    pub async fn survey(&self) -> Survey {
        let Log::Kafka(kafka) = &self.log else { panic!("no Kafka") };
        soon("there are topics", async {
            loop {
                if let Ok(survey) = kafka.survey().await {
                    return survey;
                }
                tokio::time::sleep(PAUSE).await;
            }
        })
        .await
    }

    /// Where the relay begins, settled as it does.
    pub async fn start(&self) -> Start {
        let survey = self.survey().await;
        let found = Found { partitions: &survey.partitions, ends: &survey.ends, lost: false };
        let begin = relay::begin(&self.db, &[GROUP], found, self.clock.now()).await.unwrap();
        let (Begin::First(cursor) | Begin::GoesOn(cursor)) = begin else { panic!("{begin:?}") };
        Start { cursor, partitions: survey.partitions, heads: BTreeMap::new() }
    }

    /// Has Kafka forget all records of a topic before the last of each partition.
    pub async fn age(&self, topic: &str, partitions: i32) {
        let admin: AdminClient<DefaultClientContext> = client().create().unwrap();
        let mut before = TopicPartitionList::new();
        for partition in 0..partitions {
            let (_, end) = admin.inner().fetch_watermarks(&self.topic(topic), partition, DEADLINE).unwrap();
            let last = Offset::Offset((end - 1).max(0));
            before.add_partition_offset(&self.topic(topic), partition, last).unwrap();
        }
        admin.delete_records(&before, &AdminOptions::new()).await.unwrap();
    }

    /// The value and the headers of the first record of a topic.
    pub async fn only_record(&self, topic: &str, partitions: i32) -> (Vec<u8>, Vec<(String, String)>) {
        let topic = self.topic(topic);
        let read = tokio::task::spawn_blocking(move || {
            let consumer: BaseConsumer =
                client().set("group.id", "spies").set("enable.auto.commit", "false").create().unwrap();
            let mut all = TopicPartitionList::new();
            for partition in 0..partitions {
                all.add_partition_offset(&topic, partition, Offset::Beginning).unwrap();
            }
            consumer.assign(&all).unwrap();
            let record = consumer.poll(DEADLINE).unwrap().unwrap();
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
            let headers = record.headers().unwrap().iter();
            let headers = headers.map(|header| (header.key.to_owned(), text(header.value.unwrap())));
            (record.payload().unwrap().to_vec(), headers.collect())
        });
        read.await.unwrap()
    }

    /// Puts bytes on a topic that no relay would put there.
    pub async fn smuggle(&self, topic: &str, partition: i32, value: &[u8]) {
        let producer: FutureProducer = client().create().unwrap();
        let topic = self.topic(topic);
        let record =
            FutureRecord::<str, [u8]>::to(&topic).partition(partition).payload(value).key("smuggled");
        producer.send(record, DEADLINE).await.unwrap();
    }

    /// Makes Kafka forget where the group was, once its last member has left it.
    pub async fn forget_group(&self) {
        let admin: AdminClient<DefaultClientContext> = client().create().unwrap();
        let group = format!("{}.{GROUP}", self.name);
        until("the group is deleted", async || {
            let deleted = admin.delete_groups(&[&group], &AdminOptions::new()).await.unwrap();
            match deleted.as_slice() {
                [Ok(_)] => true,
                [Err((_, RDKafkaErrorCode::NonEmptyGroup))] => false,
                refused => panic!("{refused:?}"),
            }
        })
        .await;
    }

    /// Begins to read.
    pub fn reader(&self) -> Reader {
        self.reader_of(GROUP)
    }

    pub fn reader_of(&self, group: &'static str) -> Reader {
        Reader { site: self.clone(), group, subscription: self.log.subscribe(group), applied: Vec::new() }
    }

    pub async fn progress(&self, partition: &str) -> Position {
        progress::get(&mut self.db.reader().await.unwrap(), GROUP, partition).await.unwrap()
    }
}

fn client() -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers());
    config
}

/// One member of a group.
pub struct Reader {
    site: Site,
    group: &'static str,
    pub subscription: Subscription,
    /// What this member has applied.
    pub applied: Vec<Envelope>,
}

impl Reader {
    /// The next batch.
    pub async fn batch(&mut self, limit: usize) -> Batch {
        match self.read(limit).await {
            Read::Events(batch) => batch,
            Read::Broken(broken) => panic!("{broken:?} instead of events"),
        }
    }

    pub async fn broken(&mut self) -> Broken {
        match self.read(100).await {
            Read::Broken(broken) => broken,
            Read::Events(batch) => panic!("{batch:?} instead of what is no event"),
        }
    }

    pub async fn read(&mut self, limit: usize) -> Read {
        soon("there is something to read", self.subscription.next(limit)).await.unwrap()
    }

    /// Commits a batch as the runner does: the progress first, conditional. `false` means fenced.
    pub async fn commit(&mut self, batch: Batch) -> bool {
        let to = batch.to();
        if !self.record(&batch.partition, batch.from, to).await {
            return false;
        }
        self.subscription.done(&batch.partition, to);
        self.applied.extend(batch.events);
        true
    }

    /// Records progress, and tells nobody.
    pub async fn record(&self, partition: &str, from: Position, to: Position) -> bool {
        let now = self.site.clock.now();
        let step = progress::Step { partition, from, to };
        let mut tx = self.site.db.begin().await.unwrap();
        let moved = progress::advance(&mut tx, self.group, &[step], now).await.unwrap();
        if moved {
            tx.commit().await.unwrap();
        }
        moved
    }

    /// Reads and commits until `count` events are applied.
    pub async fn apply(&mut self, count: usize) {
        while self.applied.len() < count {
            let batch = self.batch(100).await;
            if !self.commit(batch).await {
                self.subscription.rewind();
            }
        }
        assert_eq!(self.applied.len(), count, "more than there is");
    }

    /// Nothing more comes until `count` further events are published, which do.
    pub async fn applies_only_new(&mut self, things: &[Uuid], count: usize) {
        let before = self.applied.len();
        self.site.publish(things, count).await;
        self.apply(before + count).await;
        let head = events::head(&mut self.site.db.reader().await.unwrap()).await.unwrap().0;
        let first = head - i64::try_from(count).unwrap();
        let old = self.applied[before..].iter().filter(|event| event.position.0 <= first);
        assert_eq!(old.count(), 0, "what was applied came again");
    }

    pub async fn close(self) -> Vec<Envelope> {
        soon("reading ends", self.subscription.close()).await;
        self.applied
    }
}

/// Each event once, and those of a thing in order.
pub fn once_and_in_order(applied: &[Envelope], all: &[Envelope]) {
    let mut positions: Vec<i64> = applied.iter().map(|event| event.position.0).collect();
    positions.sort_unstable();
    let expected: Vec<i64> = all.iter().map(|event| event.position.0).collect();
    assert_eq!(positions, expected);
    let mut last: HashMap<Uuid, i64> = HashMap::new();
    for event in applied {
        let before = last.insert(event.aggregate_id, event.aggregate_version);
        assert!(before.is_none_or(|before| before < event.aggregate_version), "out of order");
        let original = all.iter().find(|original| original.position == event.position).unwrap();
        assert_eq!(event, original, "it comes back whole");
    }
}

pub fn things(count: usize) -> Vec<Uuid> {
    let clock = Clock::system();
    (0..count).map(|_| clock.id()).collect()
}
