//! What is remembered of a service between two commands: `target/services/<name>/state.json`, readable by its owner
//! only, as it holds the password.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::{Service, port};
use crate::workspace::Workspace;

/// How a service runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum How {
    /// In a container.
    Docker,
    /// As a process of this machine.
    Native,
}

/// A service that was set up here.
#[derive(Debug, Serialize, Deserialize)]
pub struct State {
    /// How it runs; stays so until purged.
    pub how: How,
    /// Its port on 127.0.0.1.
    pub port: u16,
    /// The ports it needs besides, in the order of its module.
    #[serde(default)]
    pub other_ports: Vec<u16>,
    /// The password of the user `taskpost`.
    pub password: String,
    /// Native: the folder with its data and its log.
    pub home: Option<PathBuf>,
    #[serde(skip)]
    folder: PathBuf,
}

impl State {
    /// What is remembered, or none when the service was never set up here.
    pub fn load(workspace: &Workspace, service: Service) -> Result<Option<Self>> {
        let folder = workspace.service_folder(service.name());
        let path = folder.join(FILE);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => {
                let hint = "run this as the user who ran `cargo xtask services up`";
                return Err(error).with_context(|| format!("could not read {}; {hint}", path.display()));
            }
        };
        let state: Self = serde_json::from_str(&text)
            .with_context(|| format!("{} is damaged; delete {}", path.display(), folder.display()))?;
        Ok(Some(Self { folder, ..state }))
    }

    /// A new service with a free port and a new password; not saved yet.
    pub fn new(workspace: &Workspace, service: Service, how: How) -> Result<Self> {
        let folder = workspace.service_folder(service.name());
        fs::create_dir_all(&folder).with_context(|| format!("could not create {}", folder.display()))?;
        let (port, other_ports) = choose_ports(service)?;
        Ok(Self { how, port, other_ports, password: new_password()?, home: None, folder })
    }

    /// One of the ports it needs besides.
    pub fn other_port(&self, index: usize) -> Result<u16> {
        self.other_ports
            .get(index)
            .copied()
            .context("its state is of an older version; start it again to complete it")
    }

    /// Whether it has all its ports: one that an older version has set up may want more now.
    pub fn is_complete(&self, service: Service) -> bool {
        self.other_ports.len() >= service.other_ports()
    }

    /// Before a start: if somebody has taken one of its ports meanwhile, it gets others. A moment is waited first, as
    /// what was killed just now may still hold them.
    pub fn keep_or_choose_ports(&mut self, service: Service) -> Result<()> {
        if !self.is_complete(service) {
            self.other_ports = complete(service, self.port, std::mem::take(&mut self.other_ports))?;
            self.save()?;
        }
        let deadline = Instant::now() + Duration::from_secs(5);
        while !self.ports_are_free() {
            if Instant::now() > deadline {
                (self.port, self.other_ports) = choose_ports(service)?;
                return self.save();
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }

    fn ports_are_free(&self) -> bool {
        std::iter::once(&self.port).chain(&self.other_ports).all(|port| port::is_free(*port))
    }

    /// Whether there may be data. Without any, how it runs is still open: somebody may have started Docker since.
    pub fn is_begun(&self) -> bool {
        self.how == How::Docker || self.home.is_some()
    }

    /// Writes it down, whole or not at all.
    pub fn save(&self) -> Result<()> {
        let path = self.folder.join(FILE);
        let draft = self.folder.join("state.json.new");
        write_private(&draft, &serde_json::to_string_pretty(self)?)
            .and_then(|()| fs::rename(&draft, &path))
            .with_context(|| format!("could not write {}", path.display()))
    }

    /// Forgets the service and deletes its data.
    pub fn remove(&self) -> Result<()> {
        for folder in self.home.iter().chain([&self.folder]).filter(|folder| folder.exists()) {
            fs::remove_dir_all(folder).with_context(|| format!("could not delete {}", folder.display()))?;
        }
        if let Some(above) = self.home.as_deref().and_then(Path::parent) {
            // A folder of this checkout elsewhere goes with its last service; one that is in use stays.
            let _in_use = fs::remove_dir(above);
        }
        Ok(())
    }
}

/// Writes a file that only its owner can read.
pub fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    if path.exists() {
        fs::remove_file(path)?;
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

impl fmt::Display for How {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Docker => "docker",
            Self::Native => "native",
        })
    }
}

const FILE: &str = "state.json";

/// The port for its clients, and the others it needs, all free.
fn choose_ports(service: Service) -> Result<(u16, Vec<u16>)> {
    let first = port::choose(service.first_port())?;
    Ok((first, complete(service, first, Vec::new())?))
}

/// These ports, and those that are missing.
fn complete(service: Service, first: u16, mut others: Vec<u16>) -> Result<Vec<u16>> {
    while others.len() < service.other_ports() {
        others.push(port::choose(others.last().map_or(first, |last| *last) + 1)?);
    }
    Ok(others)
}

/// 128 random bits in hex, so that a URL needs no escapes.
fn new_password() -> Result<String> {
    let mut bytes = [0; 16];
    let mut source = File::open("/dev/urandom").context("this machine has no /dev/urandom")?;
    source.read_exact(&mut bytes)?;
    Ok(format!("{:032x}", u128::from_be_bytes(bytes)))
}

#[cfg(test)]
impl State {
    /// A native service with this port and password, nowhere.
    pub fn of(port: u16, password: &str) -> Self {
        let (password, folder) = (password.to_owned(), PathBuf::new());
        Self { how: How::Native, port, other_ports: Vec::new(), password, home: None, folder }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn workspace(name: &str) -> Workspace {
        let root = std::env::temp_dir().join(format!("xtask-state-{name}-{}", std::process::id()));
        fs::create_dir_all(&root).unwrap();
        Workspace { root }
    }

    #[test]
    fn a_saved_state_is_found_again_and_private() {
        let workspace = workspace("saved");
        assert!(State::load(&workspace, Service::Postgres).unwrap().is_none());
        let state = State::new(&workspace, Service::Postgres, How::Native).unwrap();
        state.save().unwrap();
        let found = State::load(&workspace, Service::Postgres).unwrap().unwrap();
        assert_eq!((found.port, &found.password), (state.port, &state.password));
        assert!(!found.is_begun());
        let mode = fs::metadata(state.folder.join(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        found.remove().unwrap();
        assert!(State::load(&workspace, Service::Postgres).unwrap().is_none());
        fs::remove_dir_all(&workspace.root).unwrap();
    }

    #[test]
    fn a_service_with_more_ports_gets_different_ones() {
        let (first, others) = choose_ports(Service::Rabbitmq).unwrap();
        assert_eq!(others.len(), Service::Rabbitmq.other_ports());
        let mut all = [&[first], &others[..]].concat();
        all.dedup();
        assert_eq!(all.len(), 1 + others.len());
    }

    #[test]
    fn a_state_with_too_few_ports_keeps_them_and_gets_the_rest() {
        let workspace = workspace("older");
        let mut state = State::new(&workspace, Service::Kafka, How::Native).unwrap();
        let (first, others) = (state.port, state.other_ports.clone());
        assert!(state.is_complete(Service::Kafka));
        state.other_ports.truncate(1);
        assert!(!state.is_complete(Service::Kafka));
        state.keep_or_choose_ports(Service::Kafka).unwrap();
        assert_eq!((state.port, state.other_ports[0]), (first, others[0]));
        let found = State::load(&workspace, Service::Kafka).unwrap().unwrap();
        assert!(found.is_complete(Service::Kafka));
        assert_eq!(found.other_ports, state.other_ports);
        fs::remove_dir_all(&workspace.root).unwrap();
    }

    #[test]
    fn passwords_are_long_and_differ() {
        let (one, other) = (new_password().unwrap(), new_password().unwrap());
        assert_eq!(one.len(), 32);
        assert_ne!(one, other);
    }
}
