//! A product of a command's own: where it runs, its variables, and its process.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::environment;
use crate::process;
use crate::progress::Progress;
use crate::services::Service;
use crate::workspace::Workspace;

/// How long the product may take to listen, and to end after it was asked to.
const START: Duration = Duration::from_mins(1);
const END: Duration = Duration::from_secs(25);
const PAUSE: Duration = Duration::from_millis(50);

/// The older names of what chooses a store, a cache or a log.
const OLDER: [&str; 6] =
    ["DB_TYPE", "POSTGRES_", "CACHE_TYPE", "REDIS_ADDR", "COMMUNICATION_METHOD", "KAFKA_"];

/// A variable of the product, and its value.
pub type Setting = (&'static str, &'static str);

/// Where a product runs, and on what: a scratch folder, which is removed with it. What it keeps at the services has a
/// name of its own; `services down --purge` removes it.
pub struct Place {
    binary: PathBuf,
    home: PathBuf,
    folder: PathBuf,
    name: String,
    settings: &'static [Setting],
    services: Vec<(Service, String)>,
}

impl Place {
    /// A fresh place in `target/<command>`. The settings hold where the environment does not say otherwise.
    pub fn new(
        workspace: &Workspace,
        command: &str,
        binary: PathBuf,
        settings: &'static [Setting],
        services: Vec<(Service, String)>,
    ) -> Result<Self> {
        let home = workspace.root.join("target").join(command);
        let folder = home.join(format!("product-{}", std::process::id()));
        // One of a process that had our number and was killed.
        let _none = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).with_context(|| format!("could not create {}", folder.display()))?;
        let name = format!("{command}-{}", std::process::id());
        Ok(Self { binary, home, folder, name, settings, services })
    }

    /// Where the product's log goes; it stays.
    pub fn log(&self) -> PathBuf {
        self.home.join("product.log")
    }

    /// One of the product's commands, here.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        // In its folder no .env is found.
        command.current_dir(&self.folder).args(words).stdin(Stdio::null());
        self.settle(&mut command);
        command
    }

    /// Starts the product, and waits until it listens.
    pub fn start(self, progress: &Progress) -> Result<Product> {
        let log = self.log();
        progress.step(&format!("starting the product; it logs to {}", log.display()));
        let banner = self.folder.join("stdout");
        let file =
            |path: &Path| File::create(path).with_context(|| format!("could not write {}", path.display()));
        let mut command = self.command(&[]);
        command.stdout(file(&banner)?).stderr(file(&log)?);
        let child = command.spawn().context("could not start the product")?;
        let mut product = Product { base: String::new(), child, _place: self };
        product.base = product.listens(&banner, &log)?;
        Ok(product)
    }

    fn settle(&self, command: &mut Command) {
        for older in OLDER {
            environment::hide_all(command, older);
        }
        for (name, value) in self.settings {
            // Where made-up webhooks and mails go is not the shell's to say.
            if name.starts_with("WEBHOOK_") || environment::variable(name).is_none() {
                command.env(name, value);
            }
        }
        command.env_remove("SMTP_URL");
        command
            .env("DATA_DIR", &self.folder)
            .env("HTTP_HOST", "127.0.0.1")
            .env("HTTP_PORT", "0")
            .env("INSTANCE", &self.name);
        for service in Service::ALL {
            let url = self.services.iter().find(|(it, _)| *it == service).map(|(_, url)| url);
            match (url, service) {
                (Some(url), Service::Postgres) => {
                    command.env(service.variable(), with_schema(url, &self.name))
                }
                (Some(url), _) => command.env(service.variable(), url),
                (None, _) => command.env_remove(service.variable()),
            };
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // It is under target/ in any case.
        let _left = fs::remove_dir_all(&self.folder);
    }
}

/// A product that runs. Dropping it kills it.
pub struct Product {
    /// Where it listens.
    pub base: String,
    child: Child,
    /// Goes when the process is gone.
    _place: Place,
}

impl Product {
    /// How it ended, if it has.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Asks it to end, and waits for that.
    pub fn stop(mut self, progress: &Progress) -> Result<()> {
        progress.step("stopping the product");
        let deadline = Instant::now() + END;
        process::capture(Command::new("kill").args(["-s", "TERM", &self.child.id().to_string()]))?;
        loop {
            match self.ended()? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => bail!("the product ended with {status}"),
                None if Instant::now() > deadline => {
                    bail!("the product did not end within {} s; it is killed", END.as_secs())
                }
                None => std::thread::sleep(PAUSE),
            }
        }
    }

    /// The address that its banner names.
    fn listens(&mut self, banner: &Path, log: &Path) -> Result<String> {
        let deadline = Instant::now() + START;
        loop {
            if let Some(base) = address(&fs::read_to_string(banner).unwrap_or_default()) {
                return Ok(base);
            }
            if let Some(status) = self.ended()? {
                let said = fs::read_to_string(log).unwrap_or_default();
                bail!("the product did not start ({status}): {}", said.trim());
            }
            if Instant::now() > deadline {
                bail!("the product does not listen after {} s; see {}", START.as_secs(), log.display());
            }
            std::thread::sleep(PAUSE);
        }
    }
}

impl Drop for Product {
    fn drop(&mut self) {
        // It may have ended already.
        let _ended = self.child.kill().and_then(|()| self.child.wait());
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
