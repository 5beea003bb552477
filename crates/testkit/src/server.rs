//! The real binary as a child process, for what only a process can show: signals, kills, the command line.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    future::IntoFuture,
    io::Write as _,
    net::SocketAddr,
    ops::Deref,
    path::{Path, PathBuf},
    pin::Pin,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use taskpost_common::Clock;
use taskpost_store::{Db, StoreError};

use crate::{
    Backend, Client, Mail, Part, Port, brokers::variable, database, drain, mail, place::Place, until,
};

/// Where the API and the operator's endpoints listen.
const PORTS: [&str; 2] = ["HTTP_PORT", "OPERATE_PORT"];

/// A server that is about to start: await it.
#[derive(Debug)]
#[must_use = "await it to start the server"]
pub struct ServerStarting {
    place: Arc<Place>,
    variables: BTreeMap<String, String>,
    once: Vec<(&'static str, String)>,
    arguments: Vec<&'static str>,
}

impl ServerStarting {
    /// Sets a variable.
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.variables.insert(name.to_owned(), value.into());
        self
    }

    /// Sets a variable for its first start, and not for later ones.
    pub fn once(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.once.push((name, value.into()));
        self
    }

    /// Leaves a variable unset.
    pub fn without(mut self, name: &str) -> Self {
        self.variables.remove(name);
        self
    }

    /// Runs one role only: api, consumers or workers.
    pub fn role(self, role: &'static str) -> Self {
        Self { arguments: vec![role], ..self }
    }

    /// Brings the schema up to date, which a single role does not do by itself.
    pub fn migrated(self) -> Self {
        let output = command(self.place.folder(), &self.variables, &["migrate", "up"]).output();
        let output = output.expect("the command runs");
        assert!(output.status.success(), "migrate up: {}", String::from_utf8_lossy(&output.stderr));
        self
    }

    /// The value of a variable.
    pub fn variable(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str)
    }

    /// Runs it to its end, which must come by itself: for starts that are refused.
    pub async fn exit(self) -> Exit {
        self.run(&self.arguments).await
    }

    /// Runs a command to its end, which must come by itself.
    pub async fn run(&self, arguments: &[&str]) -> Exit {
        // Building it is not its own time.
        binary();
        let began = Instant::now();
        let said = Said::new(&self.place);
        let child = Mutex::new(spawn(&said, &self.variables, arguments));
        let status = ended(&child).await;
        Exit { status, took: began.elapsed(), stdout: said.stdout(), stderr: said.stderr() }
    }

    async fn start(self) -> Server {
        let Self { place, mut variables, once, arguments } = self;
        place.used_with(&variables);
        let said = Said::new(&place);
        let port = Port::take();
        for name in PORTS {
            if variables.get(name).is_some_and(|chosen| chosen == "0") {
                variables.insert(name.to_owned(), port.address().port().to_string());
            }
        }
        let mut first = variables.clone();
        first.extend(once.into_iter().map(|(name, value)| (name.to_owned(), value)));
        let child = Mutex::new(spawn(&said, &first, &arguments));
        let address = listens(&said, &child).await;
        let client = Client::new(address);
        let server = Server { client, child, said, place, variables, arguments, _port: port };
        server.ready().await;
        server
    }
}

impl IntoFuture for ServerStarting {
    type Output = Server;
    type IntoFuture = Pin<Box<dyn Future<Output = Server> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.start())
    }
}

/// A process that has ended.
#[derive(Debug)]
pub struct Exit {
    /// Its exit code or signal.
    pub status: ExitStatus,
    /// How long it took to end.
    pub took: Duration,
    /// What it said.
    pub stdout: String,
    /// What it logged.
    pub stderr: String,
}

/// A running process, and the client that speaks to it. Dropping it kills it.
#[derive(Debug)]
pub struct Server {
    client: Client,
    child: Mutex<Child>,
    said: Said,
    place: Arc<Place>,
    variables: BTreeMap<String, String>,
    arguments: Vec<&'static str>,
    /// Kept while the process is away, so that a restart listens at the same address.
    _port: Port,
}

impl Deref for Server {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl Server {
    /// Starts the binary with a data folder and a database of its own, and waits until it is ready.
    pub fn start(backend: Backend) -> ServerStarting {
        let place = Place::new(backend);
        Self::start_in(place.unhurried(), place)
    }

    /// As [`Server::start`], with these real parts whatever the run of the tests uses, and the product's own haste.
    pub fn start_with(backend: Backend, parts: &[Part]) -> ServerStarting {
        let place = Place::with(backend, parts.to_vec());
        Self::start_in(place.variables(), place)
    }

    fn start_in(mut variables: BTreeMap<String, String>, place: Place) -> ServerStarting {
        variables.insert("OPERATE_PORT".to_owned(), "0".to_owned());
        ServerStarting { variables, place: Arc::new(place), once: Vec::new(), arguments: Vec::new() }
    }

    /// Another process of the same instance: the same data folder, database and brokers, a port of its own.
    pub fn beside(&self) -> ServerStarting {
        let mut variables = self.variables.clone();
        for name in PORTS {
            variables.insert(name.to_owned(), "0".to_owned());
        }
        let place = Arc::clone(&self.place);
        ServerStarting { place, variables, once: Vec::new(), arguments: Vec::new() }
    }

    /// The prefix of all names that the instance has at the brokers.
    pub fn instance(&self) -> &str {
        self.place.instance()
    }

    /// The mails written to its data folder so far.
    pub fn mails(&self) -> Vec<Mail> {
        mail::read(&self.place.folder().join("mail"))
    }

    /// The data folder.
    pub fn folder(&self) -> &Path {
        self.place.folder()
    }

    /// Its process, for signals.
    pub fn pid(&self) -> u32 {
        lock(&self.child).id()
    }

    /// What it said.
    pub fn stdout(&self) -> String {
        self.said.stdout()
    }

    /// What it logged.
    pub fn stderr(&self) -> String {
        self.said.stderr()
    }

    /// Ends it as a power cut would.
    pub fn kill(&self) {
        let mut child = lock(&self.child);
        child.kill().expect("the process can be killed");
        child.wait().expect("the process ends");
    }

    /// Sends a signal: TERM, STOP, CONT, …
    pub fn signal(&self, name: &str) {
        let id = lock(&self.child).id().to_string();
        let sent = Command::new("kill").args(["-s", name, &id]).status().expect("a signal can be sent");
        assert!(sent.success(), "no process {id}; it said {}", self.stderr());
    }

    /// How it ended, if it did.
    pub fn ended(&self) -> Option<ExitStatus> {
        exited(&self.child)
    }

    /// Asks it to end, and waits for that.
    pub async fn terminate(&self) -> Exit {
        let began = Instant::now();
        self.signal("TERM");
        let status = ended(&self.child).await;
        Exit { status, took: began.elapsed(), stdout: self.stdout(), stderr: self.stderr() }
    }

    /// Starts it again on the same data and the same port, after it has ended.
    pub async fn restart(&self) {
        assert!(exited(&self.child).is_some(), "the process still runs");
        *lock(&self.child) = spawn(&self.said, &self.variables, &self.arguments);
        self.ready().await;
    }

    /// Lets the leases end that a killed process held: its deliveries would fall due again after a minute.
    pub async fn end_leases(&self) {
        const SQL: &str = "UPDATE deliveries SET due_at = created_at WHERE state = 'sending'";
        let db = self.open_store().await;
        database::execute(&db, SQL).await.expect("leases can be ended");
        db.close().await;
    }

    /// The only number of a query, for what no public door shows.
    pub async fn number(&self, sql: &str) -> Result<i64, Box<dyn std::error::Error + Send + Sync>> {
        let db = self.try_open_store().await?;
        let number = database::number(&db, sql).await;
        db.close().await;
        Ok(number?)
    }

    /// The rows of a query that gives a text and a number.
    pub async fn rows(
        &self,
        sql: &str,
    ) -> Result<Vec<(String, i64)>, Box<dyn std::error::Error + Send + Sync>> {
        let db = self.try_open_store().await?;
        let rows = database::rows(&db, sql).await;
        db.close().await;
        Ok(rows?)
    }

    /// Runs statements, for what nobody can do through a public door.
    pub async fn execute(&self, sql: &'static str) {
        let db = self.open_store().await;
        database::execute(&db, sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
        db.close().await;
    }

    /// Waits until nothing moves any more, as [`TestApp::drain`](crate::TestApp::drain) does.
    pub async fn drain_within(&self, patience: Duration) {
        let db = self.open_store().await;
        drain::drain_within(&db, &Clock::system(), patience).await;
        db.close().await;
    }

    async fn open_store(&self) -> Db {
        self.try_open_store().await.expect("the store can be opened")
    }

    /// Not by the address that the process was given, which may lead through a fault.
    async fn try_open_store(&self) -> Result<Db, StoreError> {
        match self.place.variables().get("DATABASE_URL") {
            Some(url) => Db::postgres(url, 1).await,
            None => Db::sqlite(self.place.folder()).await,
        }
    }

    /// Runs another command of the same binary with the same variables, to its end.
    pub fn run(&self, arguments: &[&str]) -> (ExitStatus, String, String) {
        self.run_with(arguments, "")
    }

    /// As [`Server::run`], with this on its standard input.
    pub fn run_with(&self, arguments: &[&str], input: &str) -> (ExitStatus, String, String) {
        let mut command = command(self.place.folder(), &self.variables, arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the command runs");
        // One that refuses its arguments does not read it.
        let _ = child.stdin.take().map(|mut stdin| stdin.write_all(input.as_bytes()));
        let output = child.wait_with_output().expect("the command ends");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status, text(&output.stdout), text(&output.stderr))
    }

    /// Ends it and removes everything.
    pub async fn finish(mut self) {
        if exited(&self.child).is_none() {
            let exit = self.terminate().await;
            assert!(exit.status.success(), "it ended with {}: {}", exit.status, exit.stderr);
        }
        let nothing = Arc::new(Place::new(Backend::Sqlite));
        // The last process of an instance removes its things.
        if let Some(place) = Arc::into_inner(std::mem::replace(&mut self.place, nothing)) {
            place.remove().await;
        }
    }

    async fn ready(&self) {
        until(|| async {
            must_run(&self.said, &self.child);
            match self.client.get("/health/ready").try_send().await {
                Ok(answer) if answer.status == 200 => Ok(()),
                Ok(answer) => Err(answer.text()),
                Err(error) => Err(format!("{error:?}")),
            }
        })
        .await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let mut child = lock(&self.child);
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// Where a process writes what it says and logs.
#[derive(Debug)]
struct Said {
    folder: PathBuf,
    name: String,
}

impl Said {
    fn new(place: &Place) -> Self {
        static PROCESSES: AtomicUsize = AtomicUsize::new(0);
        let name = PROCESSES.fetch_add(1, Ordering::Relaxed).to_string();
        Self { folder: place.folder().to_owned(), name }
    }

    fn path(&self, stream: &str) -> PathBuf {
        self.folder.join(format!("{stream}-{}", self.name))
    }

    fn stdout(&self) -> String {
        fs::read_to_string(self.path("stdout")).unwrap_or_default()
    }

    fn stderr(&self) -> String {
        fs::read_to_string(self.path("stderr")).unwrap_or_default()
    }
}

fn spawn(said: &Said, variables: &BTreeMap<String, String>, arguments: &[&str]) -> Child {
    let file = |stream: &str| {
        let file = File::options().create(true).append(true).open(said.path(stream));
        Stdio::from(file.expect("a file for what it says"))
    };
    let mut command = command(&said.folder, variables, arguments);
    command.stdin(Stdio::null()).stdout(file("stdout")).stderr(file("stderr"));
    command.spawn().expect("the binary starts")
}

/// Sees nothing of our environment and no `.env`.
fn command(folder: &Path, variables: &BTreeMap<String, String>, arguments: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command.args(arguments).current_dir(folder).env_clear().envs(variables);
    command
}

/// The address that its banner names.
async fn listens(said: &Said, child: &Mutex<Child>) -> SocketAddr {
    until(|| async {
        must_run(said, child);
        let banner = said.stdout();
        let address =
            banner.split_once("listens on http://").and_then(|(_, rest)| rest.split_whitespace().next());
        address.and_then(|address| address.parse().ok()).ok_or_else(|| format!("no address in {banner:?}"))
    })
    .await
}

async fn ended(child: &Mutex<Child>) -> ExitStatus {
    until(|| async { exited(child).ok_or_else(|| "the process still runs".to_owned()) }).await
}

fn must_run(said: &Said, child: &Mutex<Child>) {
    let ended = exited(child);
    assert!(ended.is_none(), "it ended with {ended:?}: {}{}", said.stdout(), said.stderr());
}

fn exited(child: &Mutex<Child>) -> Option<ExitStatus> {
    lock(child).try_wait().expect("the process can be asked")
}

fn lock(child: &Mutex<Child>) -> MutexGuard<'_, Child> {
    child.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The binary that `TASKPOST_BINARY` names; otherwise the one beside this test, built once for each process of tests.
fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| variable("TASKPOST_BINARY").map_or_else(build, PathBuf::from))
}

fn build() -> PathBuf {
    let own = std::env::current_exe().expect("the path of this test");
    // target/<profile>/deps/<test>, or target/<profile>/<program>
    let folder = own.ancestors().skip(1).find(|folder| !folder.ends_with("deps"));
    let profile = folder.expect("the folder of the profile");
    let target = profile.parent().expect("the target folder");
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(env!("CARGO_MANIFEST_DIR")).args([
        "build",
        "--quiet",
        "--workspace",
        "--bin",
        "taskpost",
    ]);
    // As in `cargo xtask test`: with other features than the tests have, cargo would build everything once more.
    cargo.args(["--exclude", "taskpost-loadtest", "--test", "tracing", "--target-dir"]).arg(target);
    if profile.ends_with("release") {
        cargo.arg("--release");
    }
    let built = cargo.output().expect("cargo runs");
    assert!(built.status.success(), "cargo build: {}", String::from_utf8_lossy(&built.stderr));
    profile.join("taskpost")
}
