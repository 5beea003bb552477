//! `cargo xtask loadtest`: the product as it is released, the load test's own program against it, and its exit code.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::environment;
use crate::process;
use crate::progress::Progress;
use crate::services::{self, Service};
use crate::tools;
use crate::workspace::Workspace;

/// How long the product may take to listen, and to end after it was asked to.
const START: Duration = Duration::from_mins(1);
const END: Duration = Duration::from_secs(25);
const PAUSE: Duration = Duration::from_millis(50);

/// What the product is started with where the environment does not say otherwise: nothing but the work itself is to
/// stand in the way.
const USUAL: [(&str, &str); 7] = [
    ("COMMIT_WAIT", "5s"),
    ("RATE_LIMIT_AUTH", "10000/s"),
    ("RATE_LIMIT_WRITE", "1000000/s"),
    ("RATE_LIMIT_READ", "1000000/s"),
    ("WEBHOOK_ALLOW_PRIVATE", "true"),
    // One receiver gets all; the usual 2 at once would measure that limit.
    ("WEBHOOK_CONCURRENCY", "32"),
    // An admin's webhook and lists would have everybody's tasks.
    ("FIRST_USER_IS_ADMIN", "false"),
];

/// The older names of what chooses a store, a cache or a log.
const OLDER: [&str; 6] =
    ["DB_TYPE", "POSTGRES_", "CACHE_TYPE", "REDIS_ADDR", "COMMUNICATION_METHOD", "KAFKA_"];

/// What `cargo xtask loadtest` may be told: whatever the load test itself may be told, and `--full`.
#[derive(clap::Args)]
#[command(disable_help_flag = true)]
pub struct Options {
    /// `--help` says what there is; `--full` loads the product on Postgres, Kafka, RabbitMQ and Redis
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "OPTIONS")]
    words: Vec<String>,
}

impl Options {
    fn say(&self, option: &str) -> bool {
        let value = format!("{option}=");
        self.words.iter().any(|word| word == option || word.starts_with(&value))
    }

    /// Whether a scenario may run that needs oha: one is named, or none at all.
    fn want_oha(&self) -> bool {
        let named = |word: &String| word.trim_start_matches("--scenario=").starts_with("oha-");
        !self.say("--scenario") || self.words.iter().any(named)
    }

    /// What the load test is told.
    fn handed_over(&self) -> impl Iterator<Item = &String> {
        self.words.iter().filter(|word| *word != "--full")
    }
}

/// Runs the load test. Its exit code becomes ours.
pub fn run(workspace: &Workspace, options: &Options, progress: &Progress) -> Result<()> {
    let (given, full) = (options.say("--host"), options.say("--full"));
    if given && full {
        bail!("--full starts a product, --host names one: say one of them");
    }
    let mut loadtest = Command::new(build(workspace, "taskpost-loadtest", progress)?);
    loadtest.current_dir(&workspace.root).args(options.handed_over());
    if ["--list", "--help", "-h"].iter().any(|word| options.say(word)) {
        return process::hand_over(&mut loadtest, LOADTEST);
    }
    if options.want_oha() && !options.say("--oha") {
        loadtest.arg("--oha").arg(tools::oha(workspace, progress)?);
    }
    if given {
        return process::hand_over(&mut loadtest, LOADTEST);
    }
    let binary = build(workspace, "taskpost", progress)?;
    let services = if full { services::up(workspace, &[], progress)? } else { Vec::new() };
    let product = Product::start(workspace, &binary, &services, progress)?;
    progress.step(LOADTEST);
    // A proxy would not reach this machine's loopback.
    loadtest.args(["--host", &product.base]).env("NO_PROXY", "127.0.0.1");
    let result = process::hand_over(&mut loadtest, LOADTEST);
    let stopped = product.stop(progress);
    if let (Err(_), Err(error)) = (&result, &stopped) {
        eprintln!("error: {error:#}");
    }
    result.and(stopped)
}

const LOADTEST: &str = "the load test";

/// Builds one package as it is released, by itself: together with others it would get features that it does not need.
fn build(workspace: &Workspace, package: &str, progress: &Progress) -> Result<PathBuf> {
    progress.step(&format!("building {package} (release)"));
    let mut cargo = workspace.cargo("build");
    cargo.args(["--release", "--package", package, "--bin", package]);
    process::show(&mut cargo)?;
    Ok(workspace.target_folder()?.join("release").join(package))
}

/// A product of its own, with a scratch folder. Dropping it kills it and removes the folder.
struct Product {
    base: String,
    folder: PathBuf,
    child: Child,
}

impl Product {
    fn start(
        workspace: &Workspace,
        binary: &Path,
        services: &[(Service, String)],
        progress: &Progress,
    ) -> Result<Self> {
        let home = workspace.root.join("target").join("loadtest");
        let folder = home.join(format!("product-{}", std::process::id()));
        let log = home.join("product.log");
        progress.step(&format!("starting the product; it logs to {}", log.display()));
        fs::create_dir_all(&folder).with_context(|| format!("could not create {}", folder.display()))?;
        let banner = folder.join("stdout");
        let file =
            |path: &Path| File::create(path).with_context(|| format!("could not write {}", path.display()));
        let mut command = Command::new(binary);
        // In its folder no .env is found.
        command.current_dir(&folder).stdin(Stdio::null()).stdout(file(&banner)?).stderr(file(&log)?);
        settle(&mut command, &folder, services);
        let child = command.spawn().context("could not start the product")?;
        let mut product = Self { base: String::new(), folder, child };
        product.base = product.listens(&banner, &log)?;
        Ok(product)
    }

    /// The address that its banner names.
    fn listens(&mut self, banner: &Path, log: &Path) -> Result<String> {
        let deadline = Instant::now() + START;
        loop {
            if let Some(base) = address(&fs::read_to_string(banner).unwrap_or_default()) {
                return Ok(base);
            }
            if let Some(status) = self.child.try_wait()? {
                let said = fs::read_to_string(log).unwrap_or_default();
                bail!("the product did not start ({status}): {}", said.trim());
            }
            if Instant::now() > deadline {
                bail!("the product does not listen after {} s; see {}", START.as_secs(), log.display());
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// Asks it to end, and waits for that.
    fn stop(mut self, progress: &Progress) -> Result<()> {
        progress.step("stopping the product");
        let deadline = Instant::now() + END;
        process::capture(Command::new("kill").args(["-s", "TERM", &self.child.id().to_string()]))?;
        loop {
            match self.child.try_wait()? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => bail!("the product ended with {status}"),
                None if Instant::now() > deadline => {
                    bail!("the product did not end within {} s; it is killed", END.as_secs())
                }
                None => std::thread::sleep(PAUSE),
            }
        }
    }
}

impl Drop for Product {
    fn drop(&mut self) {
        // It may have ended already, and the folder is under target/ in any case.
        let _ended = self.child.kill().and_then(|()| self.child.wait());
        let _left = fs::remove_dir_all(&self.folder);
    }
}

/// The product's variables. What it keeps at the services has a name of its own; `services down --purge` removes it.
fn settle(command: &mut Command, folder: &Path, services: &[(Service, String)]) {
    for older in OLDER {
        environment::hide_all(command, older);
    }
    for (name, value) in USUAL {
        if environment::variable(name).is_none() {
            command.env(name, value);
        }
    }
    let name = format!("load-{}", std::process::id());
    command
        .env("DATA_DIR", folder)
        .env("HTTP_HOST", "127.0.0.1")
        .env("HTTP_PORT", "0")
        .env("INSTANCE", &name);
    for service in Service::ALL {
        let url = services.iter().find(|(it, _)| *it == service).map(|(_, url)| url);
        match (url, service) {
            (Some(url), Service::Postgres) => command.env(service.variable(), with_schema(url, &name)),
            (Some(url), _) => command.env(service.variable(), url),
            (None, _) => command.env_remove(service.variable()),
        };
    }
}

/// A schema of its own.
fn with_schema(url: &str, name: &str) -> String {
    let sign = if url.contains('?') { '&' } else { '?' };
    format!("{url}{sign}schema={}", name.replace('-', "_"))
}

/// The address in the product's banner.
fn address(banner: &str) -> Option<String> {
    let (_, rest) = banner.split_once("listens on ")?;
    // The line may not be whole yet.
    let (address, _) = rest.split_once(' ')?;
    Some(address.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(line: &str) -> Options {
        Options { words: line.split_whitespace().map(str::to_owned).collect() }
    }

    #[test]
    fn oha_is_built_only_for_its_scenarios() {
        for line in [
            "",
            "--full",
            "--scenario oha-open",
            "--scenario=oha-closed",
            "--scenario burst --scenario oha-open",
        ] {
            assert!(options(line).want_oha(), "{line}");
        }
        for line in ["--scenario burst", "--scenario=mixed --seconds 5"] {
            assert!(!options(line).want_oha(), "{line}");
        }
    }

    #[test]
    fn only_full_is_not_for_the_load_test() {
        let options = options("--seconds 5 --full --host=http://127.0.0.1:3000");
        assert!(options.say("--host") && options.say("--full") && !options.say("--rate"));
        let handed: Vec<&String> = options.handed_over().collect();
        assert_eq!(handed, ["--seconds", "5", "--host=http://127.0.0.1:3000"]);
    }

    #[test]
    fn the_banner_says_where_it_listens() {
        let banner = "Taskpost 0.1.0 listens on http://127.0.0.1:45123 (ready after 12 ms)\n";
        assert_eq!(address(banner).as_deref(), Some("http://127.0.0.1:45123"));
        assert_eq!(address("Taskpost 0.1.0 listens on http://127.0.0.1:4"), None);
        assert_eq!(address(""), None);
    }

    #[test]
    fn the_schema_joins_whatever_the_address_says() {
        assert_eq!(with_schema("postgres://a@b/c", "load-7"), "postgres://a@b/c?schema=load_7");
        assert_eq!(with_schema("postgres://a@b/c?d=e", "load-7"), "postgres://a@b/c?d=e&schema=load_7");
    }
}
