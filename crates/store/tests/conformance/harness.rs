//! A fresh store for each case, and what cases put into it.

use std::{future::Future, sync::Arc, time::Duration};

use sqlx::AssertSqlSafe;
use taskpost_common::{
    Cause, Clock, Envelope, Position, TaskId, UserId,
    task::{Priority, StatusCategory, Task, TaskState},
    user::{Roles, User, UserStatus},
};
use taskpost_store::{
    Change, Db, Session, StoreError, Tx, Viewer, events,
    tasks::{self, NewTask},
    users,
};
use tempfile::TempDir;
use uuid::Uuid;

/// No case takes nearly so long; one that does hangs.
const DEADLINE: Duration = Duration::from_mins(2);
/// Where the cases' time stands at first, with all six digits of its fraction.
const START: i64 = 1_800_000_000_123_456;

/// Makes of each case the tests `case::sqlite` and `case::postgres`.
macro_rules! both {
    ($($case:ident),+ $(,)?) => {$(
        mod $case {
            use crate::harness::{Store, run};

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn sqlite() {
                run(Store::sqlite().await, super::$case).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn postgres() {
                run(Store::postgres().await, super::$case).await;
            }
        }
    )+};
}

/// Runs a case to its end, removes its store whatever became of it, then fails if it failed.
pub async fn run<F>(store: Store, case: impl FnOnce(Store) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let outcome = tokio::spawn(tokio::time::timeout(DEADLINE, case(store.clone()))).await;
    store.remove().await;
    match outcome {
        Ok(in_time) => in_time.expect("the case hangs"),
        Err(failure) => std::panic::resume_unwind(failure.into_panic()),
    }
}

/// Looks again and again until there is something, as long as a case may take.
pub async fn until<T, F: Future<Output = Option<T>>>(what: &str, mut look: impl FnMut() -> F) -> T {
    let mut ticks = tokio::time::interval(Duration::from_millis(2));
    let found = tokio::time::timeout(DEADLINE / 2, async {
        loop {
            ticks.tick().await;
            if let Some(found) = look().await {
                return found;
            }
        }
    });
    found.await.unwrap_or_else(|_| panic!("waited in vain until {what}"))
}

/// The URL of the Postgres that tests may use.
pub fn postgres_url() -> String {
    #[expect(clippy::disallowed_methods, reason = "which Postgres tests may use is known to their starter only")]
    std::env::var("TASKPOST_TEST_POSTGRES_URL").expect(
        "TASKPOST_TEST_POSTGRES_URL names no Postgres; run these tests by `cargo xtask test -- -p taskpost-store`",
    )
}

/// `url` with `?schema=` added, and with patience: logging in takes a while on a machine that is busy with other cases.
pub fn in_schema(url: &str, schema: &str) -> String {
    let and = if url.contains('?') { '&' } else { '?' };
    format!("{url}{and}schema={schema}&pool_timeout=40")
}

/// A store, its time, and who changes it. Clones are the same store.
#[derive(Clone)]
pub struct Store {
    pub db: Db,
    pub clock: Clock,
    pub cause: Cause,
    place: Place,
}

#[derive(Clone)]
enum Place {
    Folder(Arc<TempDir>),
    Schema(String),
}

impl Store {
    pub async fn sqlite() -> Self {
        let store = Self::sqlite_bare().await;
        store.db.migrate().await.unwrap();
        store
    }

    pub async fn postgres() -> Self {
        let store = Self::postgres_bare().await;
        store.db.migrate().await.unwrap();
        store
    }

    /// Without any table.
    pub async fn sqlite_bare() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self::new(Db::sqlite(folder.path()).await.unwrap(), Place::Folder(Arc::new(folder)))
    }

    /// Without any table.
    pub async fn postgres_bare() -> Self {
        let schema = format!("test_{}", Clock::system().id::<Uuid>().simple());
        Self::new(Db::postgres(&in_schema(&postgres_url(), &schema), 6).await.unwrap(), Place::Schema(schema))
    }

    fn new(db: Db, place: Place) -> Self {
        let clock = Clock::manual(chrono::DateTime::from_timestamp_micros(START).unwrap());
        let cause = Cause { actor_id: Some(clock.id()), correlation_id: clock.id(), ..Cause::default() };
        Self { db, clock, cause, place }
    }

    /// The schema on Postgres; on SQLite the file.
    pub fn place(&self) -> String {
        match &self.place {
            Place::Folder(folder) => folder.path().join("taskpost.db").display().to_string(),
            Place::Schema(name) => name.clone(),
        }
    }

    /// The schema goes by one of the store's own connections, because logging in costs a debug build more than all else.
    async fn remove(self) {
        let removed = tokio::time::timeout(DEADLINE / 4, async {
            if let (Place::Schema(name), Db::Postgres { write, read }) = (&self.place, &self.db) {
                write.close().await;
                let drop = format!("DROP SCHEMA \"{name}\" CASCADE");
                sqlx::query(AssertSqlSafe(drop)).execute(read).await.unwrap();
            }
            self.db.close().await;
        });
        removed.await.expect("a connection is still held");
    }

    /// On a machine that is busy with other cases a connection may take longer than the store waits for one.
    pub async fn begin(&self) -> Tx {
        until("a connection is free", async || patiently(self.db.begin().await)).await
    }

    pub async fn reader(&self) -> Session {
        until("a connection is free", async || patiently(self.db.reader().await)).await
    }

    pub fn change(&self) -> Change<'_> {
        Change { clock: &self.clock, cause: &self.cause }
    }

    /// All events that have a position by now, and on Postgres those that waited for one.
    pub async fn log(&self) -> Vec<Envelope> {
        while events::sequence(&self.db, 500).await.unwrap() > 0 {}
        events::after(&mut self.reader().await, Position(0), i64::MAX).await.unwrap()
    }

    /// The types of an aggregate's events, in their order.
    pub async fn told_of(&self, aggregate: Uuid) -> Vec<String> {
        let log = self.log().await;
        log.into_iter().filter(|event| event.aggregate_id == aggregate).map(|event| event.type_name).collect()
    }

    /// Somebody who is not registered yet.
    pub fn somebody(&self, handle: &str) -> User {
        let now = self.clock.now();
        User {
            id: self.clock.id(),
            handle: handle.to_owned(),
            email: format!("{handle}@example.org"),
            name: handle.to_owned(),
            roles: Roles::default(),
            status: UserStatus::Active,
            timezone: "Europe/Berlin".to_owned(),
            locale: "de".to_owned(),
            version: 1,
            created_at: now,
            updated_at: now,
        }
    }

    /// Registers somebody.
    pub async fn user(&self, handle: &str) -> User {
        let user = self.somebody(handle);
        let mut tx = self.begin().await;
        users::insert(&mut tx, self.change(), &user, "hash").await.unwrap();
        tx.commit().await.unwrap();
        user
    }

    /// An open task that is not stored yet.
    pub fn task(&self, reporter: UserId, assignee: Option<UserId>) -> Task {
        let now = self.clock.now();
        Task {
            id: self.clock.id(),
            key: None,
            project_id: None,
            category_id: None,
            task_type: "task".to_owned(),
            title: "Water the plants".to_owned(),
            description: String::new(),
            status: "todo".to_owned(),
            status_category: StatusCategory::Todo,
            state: TaskState::Open,
            priority: Priority::None,
            resolution: None,
            assignee_id: assignee,
            reporter_id: reporter,
            labels: Vec::new(),
            due_at: None,
            comment_count: 0,
            version: 1,
            created_at: now,
            updated_at: now,
            completed_at: None,
        }
    }

    /// Stores tasks with their events, all in one transaction.
    pub async fn store(&self, rows: &[Task]) {
        let rows: Vec<NewTask> =
            rows.iter().map(|task| NewTask::new(self.change(), task.clone()).unwrap()).collect();
        let mut tx = self.begin().await;
        tasks::insert(&mut tx, &rows.iter().collect::<Vec<_>>()).await.unwrap();
        tx.commit().await.unwrap();
    }

    /// A task as it is stored.
    pub async fn stored(&self, id: TaskId) -> Option<Task> {
        tasks::visible(&mut self.reader().await, self.admin(), id).await.unwrap()
    }

    pub fn id<T: From<Uuid>>(&self) -> T {
        self.clock.id()
    }

    /// Who sees everything.
    pub fn admin(&self) -> Viewer {
        Viewer { user_id: self.id(), admin: true }
    }
}

/// Nothing when the pool gave up waiting.
pub fn patiently<T>(answer: Result<T, StoreError>) -> Option<T> {
    match answer {
        Err(StoreError::Unavailable(sqlx::Error::PoolTimedOut)) => None,
        answer => Some(answer.unwrap()),
    }
}

/// Who sees what is theirs.
pub fn plain(user_id: UserId) -> Viewer {
    Viewer { user_id, admin: false }
}
