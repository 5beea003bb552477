//! Step 2 of 7: the committer. Before: the API has authenticated, limited and validated (`tasks.rs`). It stores whatever
//! is waiting in one transaction, task and event and idempotency key together, while the next group forms: an idle
//! instance answers at once, a busy one commits hundreds at a time. Next: `consumers/src/sequencer.rs`.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use taskpost_common::{
    UserId,
    crash::{self, CrashPoint},
    trace,
};
use taskpost_ports::Wakes;
use taskpost_store::{
    Db, MAX_BATCH, StoreError, Trouble, Tx,
    idempotency::{self, KeyId, KeyRow, StoredAnswer},
    tasks::{self, NewTask, Unstored},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, info_span};

use crate::{
    Answered, Error,
    auth::unknown_assignee,
    change::{replay, running_twin},
    shedding::{Pace, Shedding},
};

/// The longest a request waits for its commit.
const DEADLINE: Duration = Duration::from_secs(8);
/// The longest one transaction may take.
const TRANSACTION: Duration = Duration::from_secs(6);
/// How long a refusal of the store is told of, if nothing was stored since.
const REMEMBERED: Duration = Duration::from_secs(10);

/// What one request wants stored.
pub(crate) struct Submission {
    /// At most [`MAX_BATCH`].
    pub(crate) tasks: Vec<NewTask>,
    /// The answer if every task is stored.
    pub(crate) answer: StoredAnswer,
    /// The request's Idempotency-Key, with the same answer.
    pub(crate) key: Option<KeyRow>,
    /// What to do about tasks that cannot be stored.
    pub(crate) refused: Refused,
}

impl Submission {
    /// Whether nothing has to be asked before it is stored: it claims no key, and its tasks have no assignees.
    fn is_plain(&self) -> bool {
        self.key.is_none() && self.tasks.iter().all(|task| task.task().assignee_id.is_none())
    }

    /// What it is told when all of it is stored.
    fn stored(&self) -> Answered {
        Answered { answer: self.answer.clone(), replayed: false }
    }
}

/// What becomes of a request when some of its tasks cannot be stored.
pub(crate) enum Refused {
    /// It fails with the task's error.
    Whole,
    /// The others are stored; this makes the answer from the errors by place.
    Apart(Box<Retell>),
}

/// Makes the answer anew from the errors by place.
type Retell = dyn Fn(&[(usize, Error)]) -> Result<StoredAnswer, Error> + Send + Sync;

/// The way to the committer. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Committer {
    send: mpsc::UnboundedSender<Waiting>,
    /// Bounds the queue, in tasks.
    room: Arc<Semaphore>,
    size: usize,
    shedding: Arc<Shedding>,
    refusal: Arc<Refusal>,
}

/// Why the store took no tasks the last time, and when that was.
#[derive(Debug, Default)]
struct Refusal(Mutex<Option<(Instant, Trouble)>>);

impl Refusal {
    fn set(&self, refusal: Option<Trouble>) {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *last = refusal.map(|trouble| (Instant::now(), trouble));
    }

    fn get(&self) -> Option<Trouble> {
        let last = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        last.filter(|(at, _)| at.elapsed() < REMEMBERED).map(|(_, trouble)| trouble)
    }
}

/// The committer itself, to be run by its owner.
pub(crate) struct Run {
    db: Db,
    wakes: Wakes,
    receive: mpsc::UnboundedReceiver<Waiting>,
    shedding: Arc<Shedding>,
    refusal: Arc<Refusal>,
}

struct Waiting {
    submission: Submission,
    reply: oneshot::Sender<Result<Answered, Error>>,
    /// Its place in the queue, given back with the answer.
    _place: OwnedSemaphorePermit,
}

/// A committer whose queue holds `size` tasks, or as many as `shedding` admits.
pub(crate) fn new(db: Db, wakes: Wakes, size: usize, shedding: Shedding) -> (Committer, Run) {
    let (send, receive) = mpsc::unbounded_channel();
    // A batch must fit into an empty queue.
    let size = size.max(MAX_BATCH);
    let (shedding, refusal) = (Arc::new(shedding), Arc::<Refusal>::default());
    let run = Run { db, wakes, receive, shedding: Arc::clone(&shedding), refusal: Arc::clone(&refusal) };
    (Committer { send, room: Arc::new(Semaphore::new(size)), size, shedding, refusal }, run)
}

impl Committer {
    /// Waits until the tasks and their events are durable. A queue that is full, or takes too long, is [`Error::Busy`] at
    /// once; after that the submission is the committer's, and is stored even if the caller is dropped.
    pub(crate) async fn commit(&self, submission: Submission) -> Result<Answered, Error> {
        if !self.shedding.admits(self.waiting()) {
            metrics::counter!("taskpost_commit_shed_total").increment(1);
            return Err(Error::Busy("the queue for new tasks"));
        }
        let places = u32::try_from(submission.tasks.len().max(1)).unwrap_or(u32::MAX);
        let Ok(place) = self.room.clone().try_acquire_many_owned(places) else {
            metrics::counter!("taskpost_commit_queue_full_total").increment(1);
            return Err(Error::Busy("the queue for new tasks"));
        };
        let (reply, answer) = oneshot::channel();
        let waiting = Waiting { submission, reply, _place: place };
        self.send
            .send(waiting)
            .map_err(|_| Error::Busy("this process is stopping; the queue for new tasks"))?;
        let span = info_span!(target: trace::TARGET, "commit", tasks = places);
        match tokio::time::timeout(DEADLINE, answer).instrument(span).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) | Err(_) => Err(Error::Unknown),
        }
    }

    /// How full the queue is, from 0 to 1.
    #[expect(clippy::cast_precision_loss, reason = "a share for people, of numbers far below 2^52")]
    pub(crate) fn fullness(&self) -> f64 {
        self.waiting() as f64 / self.size as f64
    }

    /// How many tasks are in the queue, those that are being stored among them.
    fn waiting(&self) -> usize {
        self.size - self.room.available_permits()
    }

    /// Why the store takes no tasks: it may be asked about everything else, and answer.
    pub(crate) fn refusal(&self) -> Option<Trouble> {
        self.refusal.get()
    }
}

impl Run {
    /// Stores what comes, until `stop`; then what is already queued.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let mut queue = VecDeque::<Waiting>::new();
        let mut incoming = Vec::new();
        let mut pace = Pace::default();
        let sizes = metrics::histogram!("taskpost_commit_group_size");
        let seconds = metrics::histogram!("taskpost_commit_seconds");
        loop {
            if queue.is_empty() {
                let received = tokio::select! {
                    biased;
                    received = self.receive.recv_many(&mut incoming, MAX_BATCH) => received,
                    () = stop.cancelled() => {
                        self.receive.close();
                        self.receive.recv_many(&mut incoming, MAX_BATCH).await
                    }
                };
                if received == 0 {
                    return;
                }
                queue.extend(incoming.drain(..));
            }
            let group = next_group(&mut queue);
            let tasks = group.iter().map(|waiting| waiting.submission.tasks.len()).sum::<usize>();
            #[expect(clippy::cast_precision_loss, reason = "a count of at most 500")]
            sizes.record(tasks as f64);
            let started = Instant::now();
            self.settle(group).await;
            let took = started.elapsed();
            self.shedding.note(&mut pace, tasks, took);
            seconds.record(took.as_secs_f64());
        }
    }

    /// Stores a group and answers everybody in it. A group that the database refuses is taken apart, so that a bad
    /// one fails alone.
    async fn settle(&self, group: Vec<Waiting>) {
        let submissions: Vec<&Submission> = group.iter().map(|waiting| &waiting.submission).collect();
        match self.store(&submissions).await {
            Err(error) if group.len() > 1 && is_somebodys_fault(&error) => {
                for waiting in group {
                    let answer = self.store_alone(&waiting.submission).await;
                    // Nobody waits any more when the client is gone.
                    let _ = waiting.reply.send(answer);
                }
            }
            Err(error) if group.len() == 1 && is_somebodys_fault(&error) => {
                for waiting in group {
                    let answer = self.store_apart(&waiting.submission, error_of(&error)).await;
                    let _ = waiting.reply.send(answer);
                }
            }
            Err(error) => {
                self.refusal.set(error.trouble());
                tracing::warn!(%error, requests = group.len(), "could not store new tasks; their clients get 503");
                let unknown = matches!(error, Failure::Commit(_) | Failure::Late);
                for waiting in group {
                    let answer = if unknown { Error::Unknown } else { error_of(&error) };
                    let _ = waiting.reply.send(Err(answer));
                }
            }
            Ok(answers) => {
                self.refusal.set(None);
                self.wakes.committed(self.db.has_outbox());
                for (waiting, answer) in group.into_iter().zip(answers) {
                    let _ = waiting.reply.send(answer);
                }
            }
        }
    }

    async fn store_alone(&self, submission: &Submission) -> Result<Answered, Error> {
        match self.store(&[submission]).await {
            Ok(mut answers) => {
                self.wakes.committed(self.db.has_outbox());
                answers.pop().unwrap_or(Err(Error::Unknown))
            }
            Err(error) if is_somebodys_fault(&error) => self.store_apart(submission, error_of(&error)).await,
            Err(Failure::Commit(_) | Failure::Late) => Err(Error::Unknown),
            Err(error) => Err(error_of(&error)),
        }
    }

    /// One submission that the database refuses: a single task fails with `error`; of a batch, the tasks that are
    /// refused on their own are left out and the rest is stored.
    async fn store_apart(&self, submission: &Submission, error: Error) -> Result<Answered, Error> {
        let Refused::Apart(render) = &submission.refused else { return Err(error) };
        let mut bad = Vec::new();
        for (place, task) in submission.tasks.iter().enumerate() {
            let mut tx = self.db.begin().await?;
            let tried = tasks::insert(&mut tx, &[task]).await;
            // It was a trial only; a failed rollback is done by the server.
            let _ = tx.rollback().await;
            if let Err(error) = tried {
                bad.push((place, Error::from(error)));
            }
        }
        let answer = render(&bad)?;
        let bad: HashSet<usize> = bad.into_iter().map(|(place, _)| place).collect();
        let rest = Submission {
            tasks: submission
                .tasks
                .iter()
                .enumerate()
                .filter(|(i, _)| !bad.contains(i))
                .map(|(_, t)| t.clone())
                .collect(),
            key: submission.key.clone().map(|key| KeyRow { answer: answer.clone(), ..key }),
            answer,
            refused: Refused::Whole,
        };
        let mut answers = self.store(&[&rest]).await.map_err(|error| error_of(&error))?;
        self.wakes.committed(self.db.has_outbox());
        answers.pop().unwrap_or(Err(Error::Unknown))
    }

    /// One transaction. The outer result is the group's, the inner ones are each submission's own.
    async fn store(&self, group: &[&Submission]) -> Result<Vec<Result<Answered, Error>>, Failure> {
        let transaction = async {
            if self.db.has_outbox() && group.iter().all(|submission| submission.is_plain()) {
                let tasks: Vec<&NewTask> = group.iter().flat_map(|submission| &submission.tasks).collect();
                crash::within(CrashPoint::BatchCommitSent, tasks::insert_alone(&self.db, &tasks)).await?;
                return Ok(group.iter().map(|submission| Ok(submission.stored())).collect());
            }
            let mut tx = self.db.begin().await?;
            let answers = store_in(&mut tx, group).await?;
            crash::at(CrashPoint::BatchInserted);
            crash::within(CrashPoint::BatchCommitSent, tx.commit()).await.map_err(Failure::Commit)?;
            Ok(answers)
        };
        tokio::time::timeout(TRANSACTION, transaction).await.unwrap_or(Err(Failure::Late))
    }
}

/// How a group failed.
#[derive(Debug, thiserror::Error)]
enum Failure {
    /// Before the commit: nothing is stored.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An answer could not be made: nothing is stored.
    #[error(transparent)]
    Answer(#[from] Error),
    /// In the commit: it may be stored.
    #[error("the commit did not return: {0}")]
    Commit(StoreError),
    /// It took too long: it may be stored.
    #[error("the transaction took too long")]
    Late,
}

impl From<Unstored> for Failure {
    fn from(error: Unstored) -> Self {
        match error {
            Unstored::Surely(error) => Self::Store(error),
            Unstored::Perhaps(error) => Self::Commit(error),
        }
    }
}

impl Failure {
    /// What is wrong with the store, if it said so.
    fn trouble(&self) -> Option<Trouble> {
        match self {
            Self::Store(error) | Self::Commit(error) => Some(error.trouble()),
            Self::Answer(_) | Self::Late => None,
        }
    }
}

/// Whether one of the group is to blame, rather than the store: then the group is taken apart.
fn is_somebodys_fault(error: &Failure) -> bool {
    match error {
        Failure::Store(error) => !matches!(error, StoreError::Unavailable(_)),
        Failure::Answer(_) => true,
        Failure::Commit(_) | Failure::Late => false,
    }
}

fn error_of(error: &Failure) -> Error {
    match error {
        Failure::Store(StoreError::Unavailable(_)) => Error::Away,
        Failure::Store(StoreError::Locked(_)) => running_twin(),
        Failure::Store(StoreError::Constraint(_)) => refused_value(),
        Failure::Store(error) => Error::Internal(error.to_string()),
        Failure::Answer(error) => Error::Internal(error.to_string()),
        Failure::Commit(_) | Failure::Late => Error::Unknown,
    }
}

/// The last line of defence: the store refuses what no check should have let through.
pub(crate) fn refused_value() -> Error {
    Error::field("", "refused", "the store refuses a value of this task")
}

/// As many as fit into one transaction, in the order they came.
fn next_group(queue: &mut VecDeque<Waiting>) -> Vec<Waiting> {
    let mut group = Vec::new();
    let mut rows = 0;
    while let Some(next) = queue.front() {
        rows += next.submission.tasks.len();
        if rows > MAX_BATCH && !group.is_empty() {
            break;
        }
        group.extend(queue.pop_front());
    }
    group
}

/// Claims the keys, checks the assignees, stores the rest.
async fn store_in(tx: &mut Tx, group: &[&Submission]) -> Result<Vec<Result<Answered, Error>>, Failure> {
    let assignable = assignable(tx, group).await?;
    let mut plans: Vec<Plan<'_>> =
        group.iter().map(|submission| Plan::new(submission, &assignable)).collect::<Result<_, _>>()?;
    claim_keys(tx, &mut plans).await?;
    let fresh: Vec<&NewTask> = plans.iter().flat_map(|plan| plan.tasks.iter().copied()).collect();
    tasks::insert(tx, &fresh).await?;
    Ok(plans.into_iter().map(|plan| plan.outcome).collect())
}

/// What is to be stored of a submission, and what it will be told.
struct Plan<'a> {
    key: Option<KeyRow>,
    tasks: Vec<&'a NewTask>,
    outcome: Result<Answered, Error>,
}

impl<'a> Plan<'a> {
    fn new(submission: &'a Submission, assignable: &HashSet<UserId>) -> Result<Self, Error> {
        let unknown = |task: &NewTask| task.task().assignee_id.filter(|id| !assignable.contains(id));
        let bad: Vec<(usize, Error)> = submission
            .tasks
            .iter()
            .enumerate()
            .filter_map(|(place, task)| unknown(task).map(|id| (place, unknown_assignee(id))))
            .collect();
        if bad.is_empty() {
            return Ok(Self {
                key: submission.key.clone(),
                tasks: submission.tasks.iter().collect(),
                outcome: Ok(submission.stored()),
            });
        }
        match &submission.refused {
            Refused::Whole => {
                let first = bad.into_iter().next().map_or(Error::Unknown, |(_, error)| error);
                Ok(Self { key: None, tasks: Vec::new(), outcome: Err(first) })
            }
            Refused::Apart(render) => {
                let answer = render(&bad)?;
                Ok(Self {
                    key: submission.key.clone().map(|key| KeyRow { answer: answer.clone(), ..key }),
                    tasks: submission.tasks.iter().filter(|task| unknown(task).is_none()).collect(),
                    outcome: Ok(Answered { answer, replayed: false }),
                })
            }
        }
    }

    /// Tells it what is stored under its key already, and stores nothing.
    fn replay(&mut self, stored: &KeyRow) {
        if let Some(key) = self.key.take() {
            self.outcome = replay(&key, stored);
            self.tasks.clear();
        }
    }
}

async fn assignable(tx: &mut Tx, group: &[&Submission]) -> Result<HashSet<UserId>, StoreError> {
    let tasks = group.iter().flat_map(|submission| &submission.tasks);
    active(tx, tasks.filter_map(|task| task.task().assignee_id)).await
}

/// Which of these users may be given a task.
pub(crate) async fn active(
    tx: &mut Tx,
    wanted: impl Iterator<Item = UserId>,
) -> Result<HashSet<UserId>, StoreError> {
    let wanted: Vec<UserId> = wanted.collect::<HashSet<_>>().into_iter().collect();
    if wanted.is_empty() {
        return Ok(HashSet::new());
    }
    Ok(tasks::assignable(tx, &wanted).await?.into_iter().collect())
}

/// Claims every key once. Whoever finds its key taken, by another transaction or an earlier one of this group, gets
/// what is stored under it.
async fn claim_keys(tx: &mut Tx, plans: &mut [Plan<'_>]) -> Result<(), StoreError> {
    let mut firsts: HashMap<KeyId, (usize, KeyRow)> = HashMap::new();
    for (place, plan) in plans.iter().enumerate() {
        if let Some(key) = &plan.key {
            firsts.entry(key.id.clone()).or_insert_with(|| (place, key.clone()));
        }
    }
    if firsts.is_empty() {
        return Ok(());
    }
    let mut rows: Vec<&KeyRow> = firsts.values().map(|(_, row)| row).collect();
    let all_ours = idempotency::claim(tx, &mut rows).await? == rows.len() as u64;
    let ids: Vec<&KeyId> = if all_ours { Vec::new() } else { firsts.keys().collect() };
    let stored: HashMap<KeyId, KeyRow> =
        idempotency::get(tx, &ids).await?.into_iter().map(|row| (row.id.clone(), row)).collect();
    for (place, plan) in plans.iter_mut().enumerate() {
        let Some((first, ours)) = plan.key.as_ref().and_then(|key| firsts.get(&key.id)) else { continue };
        // The answer names the event, which is new in every request: only what we just wrote is equal to it.
        let theirs = stored.get(&ours.id).filter(|row| row.answer != ours.answer);
        // Twins of a first that came too late were too late as well.
        match theirs {
            Some(row) => plan.replay(row),
            None if place != *first => plan.replay(ours),
            None => {}
        }
    }
    Ok(())
}
