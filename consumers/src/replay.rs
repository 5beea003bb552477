//! Builds the board anew from the log beside the live one, compares the two, and shows the new one in place of the old.
//!
//! The live board goes on meanwhile. Its group is kept from writing only while the last few events are taken and the
//! cards that differed are looked at once more.

mod difference;
mod page;

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use taskpost_common::{Clock, Position, TaskId};
use taskpost_store::{
    Db, MAX_BATCH, StoreError, Tx,
    board::{
        self, BoardChange,
        rebuild::{self, Standing},
    },
    leases,
};
use tokio::time::sleep;
use uuid::Uuid;

pub use difference::{CardDifference, DifferenceKind, Differences, FieldDifference};
use page::{Page, Reading};

/// Events that may be left for the time in which the live board stands still.
const FEW: i64 = 2_000;
/// Of two replays one waits. A lease, because an operator may cut one off.
const LEASE: &str = "replay.board";
/// How long one that was cut off keeps the next from beginning.
const LASTS: Duration = Duration::from_secs(30);
const RENEWED: Duration = Duration::from_secs(5);
/// How often in a row the store may be busy or away.
const TRIES: u32 = 50;
const PAUSE: Duration = Duration::from_millis(200);

/// How a replay failed. The live board is as it was.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Somebody else is at it.
    #[error(
        "another replay of the board is under way, or was cut off less than {} s ago; try again when it has ended",
        LASTS.as_secs()
    )]
    Busy,
    /// Events are gone that a board is made of.
    #[error(
        "the event at position {0} is not in the store any more, so that nothing can be built from the log"
    )]
    Incomplete(i64),
}

/// How far a replay is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The last event that was read.
    pub at: Position,
    /// The last event to be read, as far as is known.
    pub goal: Position,
}

/// What a replay did.
#[derive(Clone, Debug)]
pub struct Replayed {
    /// The last event that was read.
    pub up_to: Position,
    /// How many events went into the board.
    pub applied: u64,
    /// How many should have and cannot be understood; the live board has dead letters of them.
    pub unreadable: u64,
    /// What differed from the live board, if that was asked for.
    pub differences: Option<Differences>,
    /// The build that is shown now.
    pub build: i64,
}

/// A replay of the board.
#[derive(Debug)]
pub struct Replay {
    db: Db,
    clock: Clock,
    holder: Uuid,
    renewed: Option<Instant>,
    live: i64,
    build: i64,
    /// What is read and stored.
    read: Reading,
    goal: Position,
    /// The tasks whose cards differed at a first look.
    suspects: Option<Vec<TaskId>>,
    /// What was done by a swap that may have happened.
    done: Option<Replayed>,
}

impl Replay {
    /// Begins, when no other one is under way, and removes what one that was cut off has left.
    pub async fn begin(db: &Db, clock: &Clock) -> Result<Self, ReplayError> {
        let mut replay = Self {
            db: db.clone(),
            clock: clock.clone(),
            holder: clock.id(),
            renewed: None,
            live: 0,
            build: 0,
            read: Reading::default(),
            goal: Position(0),
            suspects: None,
            done: None,
        };
        replay.renew().await?;
        replay.live = board::live_build(&mut db.reader().await?, board::NAME).await?;
        replay.build = replay.live + 1;
        for left in [replay.live - 1, replay.build] {
            replay.remove(left).await?;
        }
        Ok(replay)
    }

    /// Rebuilds the board and shows it; compares it with the live one before, if that is asked for. `say` is told of
    /// each step. A store that is away for a moment is waited for.
    pub async fn run(
        &mut self,
        compare: bool,
        mut say: impl FnMut(Progress),
    ) -> Result<Replayed, ReplayError> {
        let mut failures = 0;
        loop {
            match self.step(compare).await {
                Ok(Some(done)) => return Ok(done),
                Ok(None) => failures = 0,
                Err(ReplayError::Store(error)) if error.is_transient() && failures < TRIES => {
                    tracing::debug!(%error, "a step of the replay is tried again");
                    failures += 1;
                    sleep(PAUSE).await;
                }
                Err(error) => return Err(error),
            }
            say(Progress { at: self.read.at, goal: self.goal.max(self.read.at) });
        }
    }

    /// Removes the build that is not shown, the old one after a swap, and lets others begin.
    pub async fn end(mut self) -> Result<(), ReplayError> {
        let shown = board::live_build(&mut self.db.reader().await?, board::NAME).await?;
        let hidden = if shown == self.build { self.live } else { self.build };
        self.remove(hidden).await?;
        Ok(leases::give_back(&self.db, LEASE, self.holder).await?)
    }

    /// One step: a page of events, a first look at the cards, or the swap.
    async fn step(&mut self, compare: bool) -> Result<Option<Replayed>, ReplayError> {
        self.renew().await?;
        self.goal = rebuild::standing(&mut self.db.reader().await?).await?.highest;
        if self.goal.0 - self.read.at.0 > FEW {
            self.next_page().await?;
        } else if compare && self.suspects.is_none() {
            self.suspects = Some(self.look().await?);
        } else {
            return self.swap().await;
        }
        Ok(None)
    }

    async fn next_page(&mut self) -> Result<(), ReplayError> {
        let mut reader = self.db.reader().await?;
        let page = Page::read(&mut reader, self.read, self.goal).await?;
        drop(reader);
        if !page.changes.is_empty() {
            let began = Instant::now();
            let mut tx = self.db.begin().await?;
            board::apply(&mut tx, self.build, &page.changes).await?;
            tx.commit().await?;
            self.give_way(began).await;
        }
        self.read = page.after;
        Ok(())
    }

    /// The tasks whose cards are not the same in both builds now. Cards that are the same stay so, as both take the
    /// same events; of the others some are only ahead or behind, which is looked at while nobody writes.
    async fn look(&mut self) -> Result<Vec<TaskId>, ReplayError> {
        let mut suspects = Vec::new();
        let mut after = None;
        loop {
            self.renew().await?;
            let mut reader = self.db.reader().await?;
            let mut live = rebuild::page(&mut reader, self.live, after, MAX_BATCH).await?;
            let mut rebuilt = rebuild::page(&mut reader, self.build, after, MAX_BATCH).await?;
            drop(reader);
            let full = [&live, &rebuilt].into_iter().filter(|page| page.len() == MAX_BATCH);
            // Behind the end of the page that ends first, the other one is not known yet.
            let end = full.filter_map(|page| page.last()).map(|card| card.task_id).min();
            if let Some(end) = end {
                live.retain(|card| card.task_id <= end);
                rebuilt.retain(|card| card.task_id <= end);
            }
            suspects.extend(difference::unequal(&live, &rebuilt));
            if end.is_none() {
                return Ok(suspects);
            }
            after = end;
        }
    }

    /// Takes the last events, compares, and shows the new build, all while nobody writes into the live one. None when
    /// there is too much to take yet.
    async fn swap(&mut self) -> Result<Option<Replayed>, ReplayError> {
        let mut tx = self.db.begin().await?;
        let live = rebuild::lock(&mut tx).await?;
        if live == self.build && self.done.is_some() {
            // It was committed, and only the answer was lost.
            tx.rollback().await?;
            return Ok(self.done.take());
        }
        if live != self.live || !leases::holds(&mut tx, LEASE, self.holder).await? {
            tx.rollback().await?;
            return Err(ReplayError::Busy);
        }
        let standing = rebuild::standing(&mut tx).await?;
        if standing.highest.0 - self.read.at.0 > 2 * FEW {
            tx.rollback().await?;
            return Ok(None);
        }
        // Counts only if the transaction is committed.
        let mut read = self.read;
        let mut suspects: Option<BTreeSet<TaskId>> =
            self.suspects.as_ref().map(|suspects| suspects.iter().copied().collect());
        while read.at < standing.highest {
            let page = Page::read(&mut tx, read, standing.highest).await?;
            board::apply(&mut tx, self.build, &page.changes).await?;
            // What came after the first look was not looked at.
            if let Some(suspects) = &mut suspects {
                suspects.extend(page.changes.iter().filter_map(BoardChange::task_id));
            }
            read = page.after;
        }
        let differences = match suspects {
            Some(suspects) => {
                Some(self.compare(&mut tx, &suspects.into_iter().collect::<Vec<_>>(), standing).await?)
            }
            None => None,
        };
        rebuild::show(&mut tx, self.build, self.clock.now()).await?;
        let (applied, unreadable) = (read.applied, read.unreadable);
        let done = Replayed { up_to: read.at, applied, unreadable, differences, build: self.build };
        self.done = Some(done.clone());
        tx.commit().await?;
        self.read = read;
        Ok(Some(done))
    }

    async fn compare(
        &self,
        tx: &mut Tx,
        suspects: &[TaskId],
        standing: Standing,
    ) -> Result<Differences, ReplayError> {
        let mut found = Differences::default();
        for ids in suspects.chunks(MAX_BATCH) {
            let live = rebuild::by_ids(tx, self.live, ids).await?;
            let rebuilt = rebuild::by_ids(tx, self.build, ids).await?;
            for id in ids {
                if let Some(card) = difference::difference(live.get(id), rebuilt.get(id), standing.applied) {
                    found.add(card);
                }
            }
        }
        for count in rebuild::count_differences(tx, self.live, self.build).await? {
            // Behind that the rebuilt board may only be ahead.
            if board::position(tx, self.build, count.project_id).await? <= standing.applied {
                found.counts.push(count);
            }
        }
        Ok(found)
    }

    async fn remove(&mut self, build: i64) -> Result<(), ReplayError> {
        loop {
            self.renew().await?;
            let began = Instant::now();
            let mut tx = self.db.begin().await?;
            let removed = rebuild::remove(&mut tx, build, MAX_BATCH).await?;
            tx.commit().await?;
            if removed == 0 {
                return Ok(());
            }
            self.give_way(began).await;
        }
    }

    /// SQLite has one writer: others get as much of the time as we took.
    async fn give_way(&self, began: Instant) {
        if !self.db.has_outbox() {
            sleep(began.elapsed()).await;
        }
    }

    async fn renew(&mut self) -> Result<(), ReplayError> {
        if self.renewed.is_some_and(|at| at.elapsed() < RENEWED) {
            return Ok(());
        }
        let (asked, now) = (Instant::now(), self.clock.now());
        if !leases::take(&self.db, LEASE, self.holder, now, now + LASTS).await? {
            return Err(ReplayError::Busy);
        }
        self.renewed = Some(asked);
        Ok(())
    }
}
