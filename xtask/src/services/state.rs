//! What is remembered of a service between two commands: `target/services/<name>/state.json`, readable by its owner
//! only, as it holds the password.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

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
        let port = port::choose(service.first_port())?;
        Ok(Self { how, port, password: new_password()?, home: None, folder })
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

/// 128 random bits in hex, so that a URL needs no escapes.
fn new_password() -> Result<String> {
    let mut bytes = [0; 16];
    let mut source = File::open("/dev/urandom").context("this machine has no /dev/urandom")?;
    source.read_exact(&mut bytes)?;
    Ok(format!("{:032x}", u128::from_be_bytes(bytes)))
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
    fn passwords_are_long_and_differ() {
        let (one, other) = (new_password().unwrap(), new_password().unwrap());
        assert_eq!(one.len(), 32);
        assert_ne!(one, other);
    }
}
