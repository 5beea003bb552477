//! A group's reading of Kafka, as its runner sees it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use taskpost_common::{Envelope, Position, event::Topic};
use taskpost_store::{
    StoreError, events,
    progress::{self, Place, relay},
};
use tokio::sync::oneshot;

use super::{
    super::{Batch, Broken, LogError, Read},
    Kafka,
    buffer::{Gap, Holding, Key, Next},
    placing,
    reader::{self, Feed},
};

/// How long leaving the group may take.
const LEAVE: Duration = Duration::from_secs(4);
/// How often the thread is looked after when nothing comes.
const LOOK: Duration = Duration::from_secs(1);

/// How often it is looked whether a partition stands still though events wait in it, at first and at most.
const WATCH: Duration = Duration::from_secs(20);
const WATCH_SELDOM: Duration = Duration::from_mins(10);
/// How often a partition that is not ours may be seen to stand still before we join the group anew.
const STRANGE: u32 = 3;
/// Events of the store that are searched at once for what Kafka did not bring.
const PAGE: i64 = 1_000;

/// A group's reading of Kafka, as one member of many.
#[derive(Debug)]
pub struct KafkaSubscription {
    kafka: Kafka,
    group: &'static str,
    feed: Arc<Feed>,
    /// Hears when the thread has ended.
    thread: Option<oneshot::Receiver<()>>,
    watch: Watch,
}

/// What was seen when the partitions were last looked at.
#[derive(Debug)]
struct Watch {
    at: Instant,
    wait: Duration,
    seen: Vec<Place>,
    /// How often something stood still that is not ours.
    strange: u32,
}

impl KafkaSubscription {
    pub(super) fn new(kafka: Kafka, group: &'static str) -> Self {
        let watch = Watch { at: Instant::now(), wait: WATCH, seen: Vec::new(), strange: 0 };
        Self { kafka, group, feed: Arc::default(), thread: None, watch }
    }

    pub(in super::super) async fn next(&mut self, limit: usize) -> Result<Read, LogError> {
        loop {
            self.keep_reading()?;
            if self.watch.at.elapsed() >= self.watch.wait {
                self.look_for_what_stands_still().await?;
            }
            let next = self.feed.lock().next(limit);
            match next {
                Next::Read(read) => {
                    self.feed.taken();
                    return Ok(read);
                }
                Next::Open(key, assignment) => {
                    let Kafka(inner) = &self.kafka;
                    let partition = super::partition_name(key.0, key.1);
                    let place = progress::open(&inner.db, self.group, &partition, inner.clock.now()).await?;
                    self.feed.lock().opened(key, assignment, place);
                }
                Next::Search(gap) => {
                    if let Some(batch) = self.search(gap, limit).await? {
                        return Ok(Read::Events(batch));
                    }
                }
                Next::Nothing => {
                    self.feed.taken();
                    // What becomes ready in between is heard at once.
                    let _ = tokio::time::timeout(LOOK, self.feed.ready.notified()).await;
                }
            }
        }
    }

    pub(in super::super) fn more(&mut self, limit: usize) -> Option<Read> {
        match self.feed.lock().next(limit) {
            Next::Read(read) => Some(read),
            // These need the store first, and change nothing until then.
            Next::Open(..) | Next::Search(_) | Next::Nothing => None,
        }
    }

    pub(in super::super) fn done(&mut self, partition: &str, position: Position) {
        if let Some(key) = key(partition) {
            self.feed.lock().done(key, position);
            self.feed.taken();
        }
    }

    pub(in super::super) fn buried(&mut self, broken: &Broken) {
        if let Some(key) = key(&broken.partition) {
            self.feed.lock().buried(key, broken.offset);
            self.feed.taken();
        }
    }

    pub(in super::super) fn rewind(&mut self) {
        self.feed.lock().rewind();
    }

    pub(in super::super) async fn close(mut self) {
        self.feed.stop();
        if let Some(gone) = self.thread.take()
            && tokio::time::timeout(LEAVE, gone).await.is_err()
        {
            tracing::warn!(group = self.group, "leaving the group takes longer than {} s", LEAVE.as_secs());
        }
    }

    /// Takes from the store what Kafka did not bring: it was dropped by age, or lost, or its topic was made anew while the
    /// consumer read on at its old offset. What is found is handed out like any other batch.
    async fn search(&self, gap: Gap, limit: usize) -> Result<Option<Batch>, StoreError> {
        let partition = super::partition_name(gap.key.0, gap.key.1);
        let mut reader = self.kafka.0.db.reader().await?;
        let count = relay::partitions(&mut reader, gap.key.0).await?.unwrap_or_default();
        let count = i32::try_from(count).unwrap_or_default();
        let of_topic = |topic: Topic| (topic.as_str() == gap.key.0).then_some(count);
        let is_ours =
            |event: &Envelope| placing::place(event, of_topic).is_some_and(|(_, number)| number == gap.key.1);
        let page = events::after(&mut reader, gap.after, PAGE).await?;
        // A page that is not full reaches to the end.
        let full = i64::try_from(page.len()) == Ok(PAGE);
        let end = page.last().filter(|_| full).map_or(gap.to, |event| event.position.min(gap.to));
        let missing = page.into_iter().filter(|event| event.position <= gap.to && is_ours(event));
        let events: Vec<Envelope> = missing.take(limit).collect();
        let last = events.last().map(|event| event.position);
        let to = last.filter(|_| events.len() == limit).unwrap_or(end);
        // From here to the return nothing waits: what is handed out is noted, or neither is.
        self.feed.lock().searched(gap, to, last);
        if events.is_empty() {
            return Ok(None);
        }
        tracing::warn!(
            group = self.group, partition, events = events.len(), from = %gap.place, to = %gap.to,
            "Kafka did not bring these events; they are taken from the store"
        );
        let found = u64::try_from(events.len()).unwrap_or_default();
        metrics::counter!("taskpost_group_missing_total", "group" => self.group).increment(found);
        Ok(Some(Batch { partition, from: gap.place, events }))
    }

    /// Looks for partitions that stand still though events wait in them. Of our own, the store is searched. One that is
    /// another's may be in work; but if that lasts, it may be nobody's, as after a topic was made anew, and joining the
    /// group once more has it given to somebody.
    async fn look_for_what_stands_still(&mut self) -> Result<(), StoreError> {
        self.watch.at = Instant::now();
        let places = progress::places(&mut self.kafka.0.db.reader().await?, self.group).await?;
        let mut strange = Vec::new();
        for place in places.iter().filter(|place| stands_still(place, &self.watch.seen)) {
            let Some(key) = key(&place.partition) else { continue };
            let mut buffer = self.feed.lock();
            match buffer.holding(key) {
                Holding::Some => {}
                Holding::Empty => buffer.want(key, place.head),
                Holding::NotOurs => strange.push(place.partition.as_str()),
            }
        }
        if strange.is_empty() {
            (self.watch.strange, self.watch.wait) = (0, WATCH);
        } else {
            self.watch.strange += 1;
        }
        if self.watch.strange >= STRANGE {
            self.watch.strange = 0;
            self.watch.wait = (self.watch.wait * 2).min(WATCH_SELDOM);
            tracing::warn!(
                group = self.group, partitions = ?strange,
                "events wait in Kafka and no member applies them; joins the group anew"
            );
            metrics::counter!("taskpost_group_rejoins_total", "group" => self.group).increment(1);
            self.feed.begin_anew();
        }
        self.watch.seen = places;
        Ok(())
    }

    /// Starts the thread, or another one after it panicked.
    fn keep_reading(&mut self) -> Result<(), LogError> {
        let ended = |thread: &mut oneshot::Receiver<()>| {
            !matches!(thread.try_recv(), Err(oneshot::error::TryRecvError::Empty))
        };
        if self.thread.as_mut().is_some_and(|thread| !ended(thread)) {
            return Ok(());
        }
        if self.thread.is_some() {
            tracing::error!(group = self.group, "the thread that reads from Kafka ended; starts another");
            self.feed.lock().clear();
        }
        let (kafka, group, feed) = (self.kafka.clone(), self.group, Arc::clone(&self.feed));
        let (done, gone) = oneshot::channel();
        std::thread::Builder::new()
            .name(format!("kafka-{group}"))
            .spawn(move || {
                reader::run(&kafka, group, &feed);
                // Whoever does not wait any more does not mind.
                let _ = done.send(());
            })
            .map_err(|error| LogError::Away(format!("no thread to read in: {error}")))?;
        self.thread = Some(gone);
        Ok(())
    }
}

impl Drop for KafkaSubscription {
    fn drop(&mut self) {
        self.feed.stop();
    }
}

/// Whether events wait that waited when it was last seen, and none was applied since.
fn stands_still(place: &Place, seen: &[Place]) -> bool {
    let before = seen.iter().find(|seen| seen.partition == place.partition);
    before.is_some_and(|before| before.lag() > 0 && before.applied == place.applied)
}

/// The key of a partition by its name.
fn key(partition: &str) -> Option<Key> {
    let (topic, number) = partition.split_once('/')?;
    let topic: Topic = topic.parse().ok()?;
    Some((topic.as_str(), number.parse().ok()?))
}
