//! A store with events in it, and loops that are started and ended.

use std::{future::Future, sync::Arc, time::Duration};

use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use taskpost_common::{
    Cause, Clock, Envelope, Position, TaskId, UserId, config,
    notification::Notification,
    task::{Priority, StatusCategory, Task, TaskState},
    user::{Roles, User, UserStatus},
};
use taskpost_consumers::{Consumers, Group, Runner, redrive, relay, sequencer};
use taskpost_ports::{Log, Wakes, log::kafka::trial::Topics};
use taskpost_store::{
    Change, Db, Session, Start, Tx,
    dead_letters::{self, DeadLetter, LetterFilter},
    events,
    notifications::{self, InboxFilter},
    progress,
    tasks::{self, NewTask},
    users,
};
use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

const DEADLINE: Duration = Duration::from_secs(40);
/// Of each topic on Kafka.
pub const PARTITIONS: u16 = 3;

/// Looks again and again until there is something, at most [`DEADLINE`].
pub async fn until<T, F: Future<Output = Option<T>>>(what: &str, mut look: impl FnMut() -> F) -> T {
    let mut ticks = tokio::time::interval(Duration::from_millis(5));
    let found = tokio::time::timeout(DEADLINE, async {
        loop {
            ticks.tick().await;
            if let Some(found) = look().await {
                return found;
            }
        }
    });
    found.await.unwrap_or_else(|_| panic!("waited in vain until {what}"))
}

/// Connects to Postgres. A machine that is busy with other tests may take longer than the product would wait.
pub async fn connect(url: &str, connections: u32) -> Db {
    until("Postgres answers", || async { Db::postgres(url, connections).await.ok() }).await
}

/// A transaction, as soon as there is a connection for it.
pub async fn begin(db: &Db) -> Tx {
    until("the store begins a transaction", || async { db.begin().await.ok() }).await
}

/// A store and what works on it.
pub struct Stage {
    pub consumers: Consumers,
    pub folder: TempDir,
    /// Of topics and groups that nobody else has.
    pub name: String,
    topics: Option<Topics>,
    _schema: Option<Schema>,
}

impl Stage {
    /// On SQLite.
    pub async fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let db = Db::sqlite(folder.path()).await.unwrap();
        db.migrate().await.unwrap();
        Self { folder, ..Self::new(db) }
    }

    /// On Postgres, in a new schema.
    pub async fn postgres() -> Self {
        let schema = Schema::new();
        let db = connect(&schema.url, 4).await;
        db.migrate().await.unwrap();
        Self { _schema: Some(schema), ..Self::new(db) }
    }

    /// On each of them.
    pub async fn both() -> [Self; 2] {
        [Self::sqlite().await, Self::postgres().await]
    }

    /// On SQLite, with topics of its own on the Kafka of the tests.
    pub async fn kafka() -> Self {
        let mut stage = Self::sqlite().await;
        stage.switch_to(&brokers());
        stage
    }

    /// Reads from this Kafka from now on.
    pub fn switch_to(&mut self, brokers: &str) {
        self.topics.get_or_insert_with(|| Topics::new(brokers, &self.name));
        let settings = config::Kafka {
            brokers: brokers.to_owned(),
            topic_prefix: self.name.clone(),
            partitions: PARTITIONS,
            replication: 1,
            security_protocol: "plaintext".to_owned(),
            ca_file: None,
            sasl: None,
        };
        let (db, clock) = (self.db().clone(), self.clock().clone());
        self.consumers.log = Log::kafka(&settings, &self.name, db, clock).unwrap();
    }

    /// Reads from the store's own log from now on.
    pub fn switch_back(&mut self) {
        let Consumers { db, wakes, clock, .. } = &self.consumers;
        self.consumers.log = Log::local(db.clone(), wakes.clone(), clock.clone());
    }

    /// On this store, with an empty folder.
    pub fn new(db: Db) -> Self {
        let (wakes, clock) = (Wakes::default(), Clock::system());
        let log = Log::local(db.clone(), wakes.clone(), clock.clone());
        let folder = tempfile::tempdir().unwrap();
        let name = format!("test-{}", clock.id::<TaskId>().0.simple());
        Self { consumers: Consumers { db, log, wakes, clock }, folder, name, topics: None, _schema: None }
    }

    pub fn db(&self) -> &Db {
        &self.consumers.db
    }

    pub fn clock(&self) -> &Clock {
        &self.consumers.clock
    }

    pub async fn reader(&self) -> Session {
        until("the store can be read", || async { self.db().reader().await.ok() }).await
    }

    pub async fn commit(&self, tx: Tx) {
        tx.commit().await.unwrap();
        self.consumers.wakes.committed(self.db().has_outbox());
    }

    pub fn cause(&self, actor: UserId) -> Cause {
        Cause { actor_id: Some(actor), correlation_id: self.clock().id(), ..Cause::default() }
    }

    /// Registers somebody.
    pub async fn user(&self, name: &str, roles: &str, status: UserStatus) -> UserId {
        let clock = self.clock();
        let user = self.person(name, roles, status);
        let cause = self.cause(user.id);
        let mut tx = begin(self.db()).await;
        users::insert(&mut tx, Change { clock, cause: &cause }, &user, "no hash").await.unwrap();
        self.commit(tx).await;
        user.id
    }

    /// Registers so many people at once.
    pub async fn crowd(&self, count: usize) -> Vec<UserId> {
        let clock = self.clock();
        let mut ids = Vec::with_capacity(count);
        let mut tx = begin(self.db()).await;
        for number in 0..count {
            let user = self.person(&format!("one-of-many-{number}"), "", UserStatus::Active);
            let cause = self.cause(user.id);
            users::insert(&mut tx, Change { clock, cause: &cause }, &user, "no hash").await.unwrap();
            ids.push(user.id);
        }
        self.commit(tx).await;
        ids
    }

    fn person(&self, name: &str, roles: &str, status: UserStatus) -> User {
        let (clock, now) = (self.clock(), self.clock().now());
        User {
            id: clock.id(),
            handle: name.to_owned(),
            email: format!("{name}@example.org"),
            name: name.to_owned(),
            roles: Roles::try_from(roles.to_owned()).unwrap(),
            status,
            timezone: "UTC".to_owned(),
            locale: "en".to_owned(),
            version: 1,
            created_at: now,
            updated_at: now,
        }
    }

    pub async fn member(&self, name: &str) -> UserId {
        self.user(name, "", UserStatus::Active).await
    }

    /// Makes a task by its reporter.
    pub async fn task(&self, title: &str, reporter: UserId, assignee: Option<UserId>) -> Task {
        let cause = self.cause(reporter);
        let change = Change { clock: self.clock(), cause: &cause };
        let task = NewTask::new(change, task(self.clock(), title, reporter, assignee)).unwrap();
        let mut tx = begin(self.db()).await;
        tasks::insert(&mut tx, &[&task]).await.unwrap();
        self.commit(tx).await;
        task.task().clone()
    }

    /// Changes a task.
    pub async fn change(&self, actor: UserId, before: &Task, edit: impl FnOnce(&mut Task)) -> Task {
        let mut after = before.clone();
        edit(&mut after);
        let cause = self.cause(actor);
        let mut tx = begin(self.db()).await;
        let change = Change { clock: self.clock(), cause: &cause };
        let (after, _) = tasks::update(&mut tx, change, before, after).await.unwrap();
        self.commit(tx).await;
        after
    }

    pub async fn events(&self) -> Vec<Envelope> {
        events::after(&mut self.reader().await, Position(0), 100_000).await.unwrap()
    }

    pub async fn letters(&self, handler: &str) -> Vec<DeadLetter> {
        let filter = LetterFilter { handler: Some(handler.to_owned()), ..LetterFilter::default() };
        let mut letters = dead_letters::list(&mut self.reader().await, &filter, None, 1_000).await.unwrap();
        letters.reverse();
        letters
    }

    pub async fn progress(&self, group: &str) -> Position {
        progress::get(&mut self.reader().await, group, "").await.unwrap()
    }

    /// A user's inbox, oldest first.
    pub async fn inbox(&self, user: UserId) -> Vec<Notification> {
        let (filter, start) = (InboxFilter::default(), Start::Newest);
        let mut items =
            notifications::list(&mut self.reader().await, user, &filter, start, 1_000).await.unwrap();
        items.reverse();
        items
    }

    /// Whether the group has applied all that was committed. Its own place is read first: what it commits with that is in
    /// the outbox or has a position when these are read.
    pub async fn caught_up(&self, group: &str) -> bool {
        let mut reader = self.reader().await;
        let applied = progress::applied(&mut reader, group).await.unwrap();
        let (waiting, _) = events::outbox_backlog(&mut reader).await.unwrap();
        waiting == 0 && events::head(&mut reader).await.unwrap() == applied
    }

    pub async fn until_caught_up<G: Group>(&self) {
        until("the group has caught up", || async { self.caught_up(G::NAME).await.then_some(()) }).await;
    }

    /// Waits until everything is in Kafka.
    pub async fn until_relayed(&self) {
        until("everything is relayed", || async {
            let relayed = progress::relay::cursor(&mut self.reader().await).await.unwrap();
            (relayed == events::head(&mut self.reader().await).await.unwrap()).then_some(())
        })
        .await;
    }

    pub fn sequencer(&self, db: Db, stop: CancellationToken) -> impl Future<Output = ()> + Send + 'static {
        sequencer::run(db, self.consumers.wakes.clone(), self.clock().clone(), stop)
    }

    /// A relay to Kafka for one group.
    pub fn relay<G: Group>(&self, stop: CancellationToken) -> impl Future<Output = ()> + Send + 'static {
        let Log::Kafka(kafka) = &self.consumers.log else { panic!("the log is not Kafka") };
        relay::run(self.consumers.clone(), kafka.clone(), const { &[G::NAME] }, stop)
    }

    /// Starts a sequencer where there is an outbox, a relay where there is Kafka, and `runners` of the group.
    pub fn start<G: Group>(&self, group: &Arc<G>, runners: usize) -> Running {
        let mut running = Running::default();
        if self.db().has_outbox() {
            running.tasks.spawn(self.sequencer(self.db().clone(), running.stop.clone()));
        }
        if matches!(self.consumers.log, Log::Kafka(_)) {
            running.tasks.spawn(self.relay::<G>(running.stop.clone()));
        }
        for _ in 0..runners {
            running.tasks.spawn(Runner::new(Arc::clone(group), &self.consumers).run(running.stop.clone()));
        }
        running
    }

    /// Runs the group until it has applied everything.
    pub async fn drain<G: Group>(&self, group: &Arc<G>) {
        let running = self.start(group, 1);
        self.until_caught_up::<G>().await;
        running.end().await;
    }

    /// Starts `loops` redrive loops of the group.
    pub fn start_redrive<G: Group>(&self, group: &Arc<G>, loops: usize) -> Running {
        let mut running = Running::default();
        for _ in 0..loops {
            running.tasks.spawn(redrive::run(
                Arc::clone(group),
                self.consumers.clone(),
                running.stop.clone(),
            ));
        }
        running
    }
}

/// Where the Kafka is that tests may use.
pub fn brokers() -> String {
    #[expect(clippy::disallowed_methods, reason = "which Kafka tests may use is known to their starter only")]
    std::env::var("TASKPOST_TEST_KAFKA_BROKERS").expect(
        "TASKPOST_TEST_KAFKA_BROKERS names no Kafka; run these tests by `cargo xtask test -- -p taskpost-consumers`",
    )
}

/// A schema that nobody has used. Gone when dropped.
pub struct Schema {
    pub url: String,
    name: String,
    server: String,
}

impl Schema {
    pub fn new() -> Self {
        #[expect(
            clippy::disallowed_methods,
            reason = "which database tests may use is known to their starter only"
        )]
        let server = std::env::var("TASKPOST_TEST_POSTGRES_URL")
            .expect("TASKPOST_TEST_POSTGRES_URL names no Postgres; run these tests by `cargo xtask test -- -p taskpost-consumers`");
        let id: TaskId = Clock::system().id();
        let name = format!("test_{}", id.0.simple());
        let and = if server.contains('?') { '&' } else { '?' };
        // Logging in takes a while on a machine that is busy with other tests.
        let url = format!("{server}{and}schema={name}&pool_timeout=40");
        Self { url, name, server }
    }
}

impl Drop for Schema {
    /// The test has no runtime to wait in any more, so this brings its own.
    fn drop(&mut self) {
        let drop = format!("SET lock_timeout = '10s'; DROP SCHEMA IF EXISTS {} CASCADE", self.name);
        let dropping = async {
            let mut connection = PgConnection::connect(&self.server).await?;
            sqlx::raw_sql(AssertSqlSafe(drop)).execute(&mut connection).await?;
            connection.close().await
        };
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                // What fails here must not hide why a test failed.
                let _ = runtime.map(|runtime| runtime.block_on(dropping));
            });
        });
    }
}

/// A new task.
pub fn task(clock: &Clock, title: &str, reporter: UserId, assignee: Option<UserId>) -> Task {
    let now = clock.now();
    Task {
        id: clock.id(),
        key: None,
        project_id: None,
        category_id: None,
        task_type: "task".to_owned(),
        title: title.to_owned(),
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

/// Loops that run.
#[derive(Default)]
pub struct Running {
    pub tasks: JoinSet<()>,
    pub stop: CancellationToken,
}

impl Running {
    /// Stops them and waits for each; one that panicked fails the test.
    pub async fn end(mut self) {
        self.stop.cancel();
        let joined = tokio::time::timeout(DEADLINE, async {
            while let Some(ended) = self.tasks.join_next().await {
                ended.unwrap();
            }
        });
        joined.await.expect("the loops end when they are told to");
    }
}
