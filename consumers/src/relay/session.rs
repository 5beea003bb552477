//! One producer's life: read, send, record what is acknowledged.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use taskpost_common::{
    Clock, Envelope, Position,
    crash::{self, CrashPoint},
};
use taskpost_ports::{
    log::{
        Kafka, LogError,
        kafka::{Acknowledged, Head, RelayProducer, Sending, Start, Survey},
    },
    wake::Listener,
};
use taskpost_store::{
    Db, events,
    progress::relay::{self, Begin, Found},
};
use tokio_util::sync::CancellationToken;

use super::{Trouble, spans::Spans};
use crate::Consumers;

/// Events read at once while there are few, and at most while many wait.
const FEW: i64 = 500;
const MANY: i64 = 2_000;
/// Records under way.
const WINDOW: usize = 4_096;
/// How often the cursor is stored: what lies behind it is sent again after a crash.
const STORE: Duration = Duration::from_millis(100);
/// What a missed ring costs at most.
const POLL: Duration = Duration::from_millis(500);
/// Above the store's own limits: for a server that neither answers nor hangs up.
const LONGEST: Duration = Duration::from_secs(10);

pub(super) struct Session {
    db: Db,
    clock: Clock,
    producer: RelayProducer,
    bell: Listener,
    /// The last event that was sent.
    sent: Position,
    /// What was read and not sent yet.
    unsent: VecDeque<Envelope>,
    spans: Spans,
    limit: i64,
    /// There may be more to read.
    more: bool,
    /// The cursor as it is stored, and since when.
    stored: (Position, Instant),
    /// The heads as they are stored.
    heads: BTreeMap<String, Head>,
    /// How many records were acknowledged when that was last counted.
    counted: u64,
    /// This event is sent with nothing beside it.
    pub(super) alone: Option<Position>,
}

impl Session {
    /// Makes missing topics, settles where to begin, and makes a producer. `lost` when Kafka is known to have lost records.
    pub(super) async fn begin(
        stage: &Consumers,
        kafka: &Kafka,
        groups: &[&str],
        lost: bool,
    ) -> Result<Self, Trouble> {
        let survey = kafka.survey().await?;
        let start = in_time(settle(stage, groups, survey, lost)).await?;
        Ok(Self {
            db: stage.db.lane(),
            clock: stage.clock.clone(),
            producer: kafka.relay_producer(&start)?,
            bell: stage.wakes.log.listen(),
            sent: start.cursor,
            unsent: VecDeque::new(),
            spans: Spans::default(),
            limit: FEW,
            more: true,
            stored: (start.cursor, Instant::now()),
            heads: BTreeMap::new(),
            counted: 0,
            alone: None,
        })
    }

    /// Does what is next: records what is acknowledged, sends what was read, reads more, or waits. Never for long, so that
    /// the lease is kept.
    pub(super) async fn step(&mut self, stop: &CancellationToken) -> Result<(), Trouble> {
        if let Some(failure) = self.producer.failure() {
            return Err(failure.into());
        }
        self.spans.end(self.producer.cursor());
        if self.producer.cursor() > self.stored.0 && self.stored.1.elapsed() >= STORE {
            self.store().await?;
        }
        self.send();
        let room = WINDOW.saturating_sub(self.producer.in_flight());
        if self.more && self.unsent.is_empty() && room >= usize::try_from(self.limit).unwrap_or(WINDOW) {
            return self.read().await;
        }
        self.wait(stop).await;
        Ok(())
    }

    /// Up to where Kafka has everything.
    pub(super) fn cursor(&self) -> Position {
        self.producer.cursor()
    }

    /// Whether anything was acknowledged since this was last asked.
    pub(super) fn moves(&mut self) -> bool {
        let total = self.producer.total();
        let more = total - std::mem::replace(&mut self.counted, total);
        metrics::counter!("taskpost_relay_events_total").increment(more);
        more > 0
    }

    /// Waits a while for what is under way, and records how far it came.
    pub(super) async fn end(self) {
        let Self { db, clock, producer, stored: (from, _), heads, counted, mut spans, .. } = self;
        let acknowledged = producer.end().await;
        spans.end(acknowledged.cursor);
        metrics::counter!("taskpost_relay_events_total").increment(acknowledged.total - counted);
        if acknowledged.cursor > from
            && let Err(trouble) = in_time(advance(&db, &clock, from, &acknowledged, &heads)).await
        {
            tracing::debug!(%trouble, "the relay's last steps were not recorded; they are made again");
        }
    }

    async fn read(&mut self) -> Result<(), Trouble> {
        let (db, after, limit) = (self.db.clone(), self.sent, self.limit);
        let events = in_time(async move {
            let mut reader = db.reader().await?;
            Ok(events::after(&mut reader, after, limit).await?)
        })
        .await?;
        self.more = i64::try_from(events.len()) == Ok(limit);
        self.limit = if self.more { (limit * 2).min(MANY) } else { FEW };
        self.unsent = events.into();
        Ok(())
    }

    /// Sends what was read, as far as there is room.
    fn send(&mut self) {
        while let Some(event) = self.unsent.front() {
            let alone = self.alone.is_some_and(|alone| event.position == alone || self.sent == alone);
            if alone && self.producer.in_flight() > 0 {
                break;
            }
            if self.producer.send(event) != Sending::UnderWay {
                break;
            }
            crash::at(CrashPoint::RelayProduced);
            self.sent = event.position;
            self.spans.begin(event);
            self.unsent.pop_front();
        }
        metrics::gauge!("taskpost_relay_in_flight")
            .set(f64::from(u32::try_from(self.producer.in_flight()).unwrap_or(u32::MAX)));
    }

    /// Until there may be more to do.
    async fn wait(&mut self, stop: &CancellationToken) {
        let unstored = self.producer.cursor() > self.stored.0;
        let due = STORE.saturating_sub(self.stored.1.elapsed());
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.producer.moved() => {}
            () = tokio::time::sleep(due), if unstored => {}
            () = self.bell.wait(POLL) => self.more = true,
        }
    }

    async fn store(&mut self) -> Result<(), Trouble> {
        let acknowledged = self.producer.acknowledged();
        crash::at(CrashPoint::RelayAcked);
        let (db, clock, from) = (&self.db, &self.clock, self.stored.0);
        in_time(advance(db, clock, from, &acknowledged, &self.heads)).await?;
        self.stored = (acknowledged.cursor, Instant::now());
        self.heads = acknowledged.heads;
        Ok(())
    }
}

/// Where to begin.
async fn settle(stage: &Consumers, groups: &[&str], survey: Survey, lost: bool) -> Result<Start, Trouble> {
    let found = Found { partitions: &survey.partitions, ends: &survey.ends, lost };
    let cursor = match relay::begin(&stage.db, groups, found, stage.clock.now()).await? {
        Begin::GoesOn(position) => position,
        Begin::First(position) => {
            tracing::info!(%position, "begins to relay events to Kafka");
            position
        }
        Begin::Lost(position) => {
            tracing::error!(
                %position,
                "Kafka no longer has records that it had acknowledged; relays again what some group has yet to apply"
            );
            position
        }
        Begin::Repartitioned { topic, had, has } => {
            return Err(LogError::Refused(format!(
                "KAFKA_PARTITIONS: the topic {topic} has {has} partitions, but {had} when events were last put there, and some are not applied yet; give it {had} again, or unset KAFKA_BROKERS until every group has caught up"
            ))
            .into());
        }
    };
    let heads = relay::heads(&mut stage.db.reader().await?).await?;
    Ok(Start { cursor, partitions: survey.partitions, heads })
}

/// Records how far Kafka has everything, with the heads that differ from those recorded.
async fn advance(
    db: &Db,
    clock: &Clock,
    from: Position,
    to: &Acknowledged,
    recorded: &BTreeMap<String, Head>,
) -> Result<(), Trouble> {
    let changed = to.heads.iter().filter(|(partition, head)| recorded.get(*partition) != Some(*head));
    let heads = changed
        .map(|(partition, head)| {
            (partition.clone(), relay::Head { position: head.position, offset: head.offset })
        })
        .collect();
    if relay::advance_to(db, from, to.cursor, &heads, clock.now()).await? {
        Ok(())
    } else {
        Err(Trouble::Fenced)
    }
}

async fn in_time<T>(work: impl Future<Output = Result<T, Trouble>>) -> Result<T, Trouble> {
    tokio::time::timeout(LONGEST, work).await?
}
