//! Step 2 of 7: the committer. Before: the API has authenticated, limited and validated (`tasks.rs`). It stores whatever
//! is waiting in one transaction, task and event and idempotency key together, while the next group forms: an idle
//! instance answers at once, a busy one commits hundreds at a time. Next: `consumers/src/sequencer.rs`.

mod plan;

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use taskpost_common::{
    Clock, EventId,
    crash::{self, CrashPoint},
    task::Task,
    trace,
};
use taskpost_ports::Wakes;
use taskpost_store::{
    Db, MAX_BATCH, StoreError, Trouble,
    idempotency::{KeyRow, StoredAnswer},
    tasks::{self, NewTask, Unstored},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, info_span};

use crate::{
    Answered, Error,
    change::running_twin,
    placing::Draft,
    shedding::{Pace, Shedding},
};
use plan::{Case, store_in, try_one};

/// The longest a request waits for its commit.
const DEADLINE: Duration = Duration::from_secs(8);
/// The longest one transaction may take.
const TRANSACTION: Duration = Duration::from_secs(6);
/// How long a refusal of the store is told of, if nothing was stored since.
const REMEMBERED: Duration = Duration::from_secs(10);

/// What one request wants stored.
pub(crate) struct Submission {
    /// At most [`MAX_BATCH`].
    pub(crate) drafts: Vec<Draft>,
    /// The answer if every task is stored, where it is known before: when none is in a project.
    pub(crate) ready: Option<StoredAnswer>,
    /// Makes the answer from what became of each draft, where `ready` does not hold.
    pub(crate) tell: Option<Box<Tell>>,
    /// The request's Idempotency-Key; its answer is filled in.
    pub(crate) key: Option<KeyRow>,
    /// Whether each task fails alone. Otherwise all fail with the first one's error.
    pub(crate) apart: bool,
}

/// Makes an answer from what became of each draft and the last event of what is stored.
pub(crate) type Tell =
    dyn Fn(&[Result<&Task, &Error>], Option<EventId>) -> Result<StoredAnswer, Error> + Send + Sync;

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
    clock: Clock,
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

impl Waiting {
    fn is_in_projects(&self) -> bool {
        self.submission.drafts.iter().any(|draft| draft.ready().is_none())
    }
}

/// A committer whose queue holds `size` tasks, or as many as `shedding` admits.
pub(crate) fn new(db: &Db, clock: Clock, wakes: Wakes, size: usize, shedding: Shedding) -> (Committer, Run) {
    let (send, receive) = mpsc::unbounded_channel();
    // A batch must fit into an empty queue.
    let size = size.max(MAX_BATCH);
    let (shedding, refusal) = (Arc::new(shedding), Arc::<Refusal>::default());
    let run = Run {
        db: db.lane(),
        clock,
        wakes,
        receive,
        shedding: Arc::clone(&shedding),
        refusal: Arc::clone(&refusal),
    };
    (Committer { send, room: Arc::new(Semaphore::new(size)), size, shedding, refusal }, run)
}

impl Committer {
    /// Waits until the tasks and their events are durable. A queue that is full, or takes too long, is [`Error::Busy`] at
    /// once; after that the submission is the committer's, and is stored even if the caller is dropped.
    pub(crate) async fn commit(&self, submission: Submission) -> Result<Answered, Error> {
        self.check()?;
        let places = u32::try_from(submission.drafts.len().max(1)).unwrap_or(u32::MAX);
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

    /// [`Error::Busy`] when one more task would wait for too long.
    pub(crate) fn check(&self) -> Result<(), Error> {
        if self.shedding.admits(self.waiting()) {
            return Ok(());
        }
        metrics::counter!("taskpost_commit_shed_total").increment(1);
        Err(Error::Busy("the queue for new tasks"))
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
            let tasks = group.iter().map(|waiting| waiting.submission.drafts.len()).sum::<usize>();
            #[expect(clippy::cast_precision_loss, reason = "a count of at most 500")]
            sizes.record(tasks as f64);
            let started = Instant::now();
            self.settle(group).await;
            let took = started.elapsed();
            self.shedding.note(&mut pace, tasks, took);
            seconds.record(took.as_secs_f64());
        }
    }

    /// Stores a group and answers everybody in it. Who wants a task in a project that somebody else holds does not keep the
    /// others waiting.
    async fn settle(&self, group: Vec<Waiting>) {
        if let Some(others) = self.try_settle(group).await {
            // Without projects there is nothing that could be held once more.
            self.try_settle(others).await;
        }
    }

    /// A group that the database refuses is taken apart, so that a bad one fails alone. Gives back those that are not
    /// answered, because a project of the others is held.
    async fn try_settle(&self, group: Vec<Waiting>) -> Option<Vec<Waiting>> {
        let cases = group.iter().map(|waiting| Case::new(&waiting.submission)).collect();
        match self.store(cases).await {
            Err(Failure::Store(StoreError::Locked(_))) if group.iter().any(Waiting::is_in_projects) => {
                let (held, others): (Vec<_>, Vec<_>) = group.into_iter().partition(Waiting::is_in_projects);
                metrics::counter!("taskpost_commit_held_total").increment(held.len() as u64);
                for waiting in held {
                    let _ = waiting.reply.send(Err(Error::Held));
                }
                return (!others.is_empty()).then_some(others);
            }
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
        None
    }

    async fn store_alone(&self, submission: &Submission) -> Result<Answered, Error> {
        match self.store(vec![Case::new(submission)]).await {
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
        if !submission.apart {
            return Err(error);
        }
        let mut bad = Vec::new();
        for (place, draft) in submission.drafts.iter().enumerate() {
            let mut tx = self.db.begin().await?;
            let tried = try_one(&mut tx, &self.clock, draft).await;
            // It was a trial only; a failed rollback is done by the server.
            let _ = tx.rollback().await;
            if let Err(error) = tried {
                bad.push((place, refusal_of(error)));
            }
        }
        let stored = self.store(vec![Case { submission, bad }]).await;
        let mut answers = stored.map_err(|error| error_of(&error))?;
        self.wakes.committed(self.db.has_outbox());
        answers.pop().unwrap_or(Err(Error::Unknown))
    }

    /// One transaction. The outer result is the group's, the inner ones are each submission's own.
    async fn store(&self, cases: Vec<Case<'_>>) -> Result<Vec<Result<Answered, Error>>, Failure> {
        let transaction = async {
            if self.db.has_outbox()
                && let Some(tasks) = cases.iter().map(Case::plain).collect::<Option<Vec<_>>>()
            {
                let tasks: Vec<&NewTask> = tasks.into_iter().flatten().collect();
                crash::within(CrashPoint::BatchCommitSent, tasks::insert_alone(&self.db, &tasks)).await?;
                return Ok(cases.iter().map(|case| case.submission.stored()).collect());
            }
            let mut tx = self.db.begin().await?;
            let answers = store_in(&mut tx, &self.clock, cases).await?;
            crash::at(CrashPoint::BatchInserted);
            crash::within(CrashPoint::BatchCommitSent, tx.commit()).await.map_err(Failure::Commit)?;
            Ok(answers)
        };
        tokio::time::timeout(TRANSACTION, transaction).await.unwrap_or(Err(Failure::Late))
    }
}

impl Submission {
    /// What it is told when all of it is stored as it was.
    fn stored(&self) -> Result<Answered, Error> {
        self.ready.clone().map(|answer| Answered { answer, replayed: false }).ok_or(Error::Unknown)
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

/// What a task is told that was refused alone.
fn refusal_of(error: Error) -> Error {
    match error {
        Error::Store(StoreError::Constraint(_)) => refused_value(),
        error => error,
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
        rows += next.submission.drafts.len();
        if rows > MAX_BATCH && !group.is_empty() {
            break;
        }
        group.extend(queue.pop_front());
    }
    group
}
