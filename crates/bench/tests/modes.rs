//! The hidden modes as processes: that they start, and do what is measured of them.
#![expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use std::{
    fs::{self, File},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use reqwest::Client;
use serde_json::{Value, json};
use tempfile::TempDir;

/// How long a start may take on a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);

/// A running mode. Dropping it kills it.
struct Mode {
    child: Child,
    folder: TempDir,
}

impl Mode {
    fn start(words: &[&str], variables: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let said = File::create(folder.path().join("said")).unwrap();
        let mut command = bench(words, folder.path());
        command.env("DATA_DIR", folder.path()).env("HTTP_PORT", "0").envs(variables.iter().copied());
        command.stdout(said.try_clone().unwrap()).stderr(said);
        Self { child: command.spawn().unwrap(), folder }
    }

    fn says(&self) -> String {
        fs::read_to_string(self.folder.path().join("said")).unwrap()
    }

    /// Waits until it says where it listens.
    async fn listens(&mut self) -> String {
        let end = Instant::now() + PATIENCE;
        loop {
            let said = self.says();
            let address = said.split_once("listens on ").and_then(|(_, rest)| rest.split_whitespace().next());
            if let Some(address) = address {
                return address.to_owned();
            }
            assert!(self.child.try_wait().unwrap().is_none() && Instant::now() < end, "{said}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for Mode {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn bench(words: &[&str], folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bench"));
    command.args(words).current_dir(folder).env_clear().stdin(Stdio::null());
    command
}

fn client() -> Client {
    taskpost::wire::install_crypto();
    Client::builder().no_proxy().timeout(PATIENCE).build().unwrap()
}

async fn post(url: String, token: Option<&str>, body: Value) -> (u16, Value) {
    let mut request = client().post(url).json(&body);
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    let answer = request.send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

/// Registers a user and makes a task.
async fn makes_a_task(address: &str) {
    let account =
        json!({"email": "ada@example.org", "name": "Ada", "password": "a password that is long enough"});
    let (status, session) = post(format!("{address}/v1/auth/register"), None, account).await;
    assert_eq!(status, 201, "{session}");
    let token = session["access_token"].as_str();
    let (status, task) = post(format!("{address}/v1/tasks"), token, json!({"title": "measured"})).await;
    assert_eq!((status, task["title"].as_str()), (201, Some("measured")), "{task}");
}

#[tokio::test]
async fn nothing_is_served_with_201() {
    let mut mode = Mode::start(&["serve-nothing"], &[]);
    let address = mode.listens().await;
    let (status, answer) = post(format!("{address}/v1/tasks"), None, json!({"title": "x"})).await;
    assert_eq!(status, 201);
    assert!(answer["id"].is_string(), "{answer}");
}

#[tokio::test]
async fn the_api_alone_takes_tasks() {
    let mut mode = Mode::start(&["serve-api"], &[]);
    let address = mode.listens().await;
    makes_a_task(&address).await;
}

#[tokio::test]
async fn the_intake_takes_tasks_and_makes_deliveries_of_them() {
    let mut mode = Mode::start(&["serve-intake"], &[]);
    let address = mode.listens().await;
    makes_a_task(&address).await;
    let end = Instant::now() + PATIENCE;
    let db = taskpost_store::Db::sqlite(mode.folder.path()).await.unwrap();
    // The mail that welcomes a user: it is made, and nobody sends it.
    loop {
        let mut reader = db.reader().await.unwrap();
        let open = taskpost_store::deliveries::unfinished(&mut reader).await.unwrap();
        if open == [("email".to_owned(), 1)] {
            break;
        }
        assert!(Instant::now() < end, "{open:?}");
        drop(reader);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    db.close().await;
}

#[tokio::test]
async fn movers_say_what_they_need() {
    let folder = tempfile::tempdir().unwrap();
    let migrated = taskpost_store::Db::sqlite(folder.path()).await.unwrap();
    migrated.migrate().await.unwrap();
    migrated.close().await;
    let ended = bench(&["serve-movers"], folder.path()).env("DATA_DIR", folder.path()).output().unwrap();
    let said = String::from_utf8(ended.stderr).unwrap();
    assert!(!ended.status.success() && said.contains("DATABASE_URL"), "{said}");
}

#[test]
fn the_engine_drains_what_there_is() {
    let folder = tempfile::tempdir().unwrap();
    let drained =
        bench(&["drain-engine", "700"], folder.path()).env("DATA_DIR", folder.path()).output().unwrap();
    let said = String::from_utf8(drained.stdout).unwrap();
    let line: Value = serde_json::from_str(said.lines().last().unwrap_or_default()).unwrap();
    assert_eq!(line["jobs"], 700, "{said}");
    assert!(
        drained.status.success() && line["seconds"].as_f64().is_some_and(|seconds| seconds > 0.0),
        "{said}"
    );
}

#[test]
fn every_row_is_listed_and_can_be_chosen() {
    let folder = tempfile::tempdir().unwrap();
    let list = |words: &[&str]| {
        let listed = bench(&[&["--list"], words].concat(), folder.path()).output().unwrap();
        String::from_utf8(listed.stdout).unwrap()
    };
    let all = list(&[]);
    assert!(all.lines().count() > 20 && all.contains("floor ") && all.contains("river "), "{all}");
    let some = list(&["--only", "webhooks", "--only", "floor"]);
    assert_eq!(some.lines().count(), 3, "{some}");
    let special = list(&["--growth", "--soak", "10", "--scale", "--projects"]);
    for row in ["growth-full", "soak-full", "scale-api-1", "projects-embedded", "projects-full"] {
        assert!(special.contains(row) && !all.contains(row), "{row}: {special}");
    }
    assert!(!special.contains("floor"), "{special}");
}
