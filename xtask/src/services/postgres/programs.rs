//! Where this machine keeps PostgreSQL's programs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::environment;
use crate::process;
use crate::progress::Progress;
use crate::services::apt;

/// One installed version.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Programs {
    folder: PathBuf,
    major: u32,
}

/// Older ones do not know the authentication and the settings we use.
const OLDEST: u32 = 13;

impl Programs {
    /// The newest version there is; as root on a Debian-like system it is installed when there is none.
    pub fn newest_or_install(progress: &Progress) -> Result<Self> {
        if let Some(programs) = Self::newest() {
            return Ok(programs);
        }
        if !apt::can_install() {
            bail!(
                "PostgreSQL {OLDEST} or newer is not installed. Install it (Debian, Ubuntu: `sudo apt-get install \
                 postgresql`; Fedora: `sudo dnf install postgresql-server`; macOS: `brew install postgresql@17`), \
                 or start Docker, or set DATABASE_URL to a server you have"
            );
        }
        progress.step("postgres: installing the package (about a minute)");
        install()?;
        Self::newest().context("postgresql was installed, but its programs are in none of the usual folders")
    }

    /// The installed version with this number.
    pub fn of_version(major: u32) -> Option<Self> {
        installed().into_iter().find(|programs| programs.major == major)
    }

    /// The path of one program.
    pub fn path(&self, program: &str) -> PathBuf {
        self.folder.join(program)
    }

    fn newest() -> Option<Self> {
        installed()
            .into_iter()
            .filter(|programs| programs.major >= OLDEST)
            .max_by_key(|programs| programs.major)
    }

    /// None unless the folder has every program we use.
    fn in_folder(folder: &Path) -> Option<Self> {
        let complete = ["initdb", "pg_ctl", "postgres", "psql", "createdb"];
        if !complete.iter().all(|program| folder.join(program).is_file()) {
            return None;
        }
        let version = process::capture(Command::new(folder.join("postgres")).arg("--version")).ok()?;
        Some(Self { folder: folder.to_path_buf(), major: major_in(&version.stdout)? })
    }
}

fn installed() -> Vec<Programs> {
    let mut folders = Vec::new();
    // Debian; Fedora's and PostgreSQL's own packages; Homebrew on both kinds of Mac.
    for (above, prefix) in [
        ("/usr/lib/postgresql", ""),
        ("/usr", "pgsql-"),
        ("/opt/homebrew/opt", "postgresql"),
        ("/usr/local/opt", "postgresql"),
    ] {
        let entries = fs::read_dir(above).into_iter().flatten().flatten();
        let matching = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix));
        folders.extend(matching.map(|entry| entry.path().join("bin")));
    }
    if let Ok(said) = process::must(Command::new("pg_config").arg("--bindir")) {
        folders.push(PathBuf::from(said));
    }
    folders.extend(environment::search_path());
    folders.iter().filter_map(|folder| Programs::in_folder(folder)).collect()
}

/// "postgres (PostgreSQL) 15.18 (Debian …)" is 15.
fn major_in(version: &str) -> Option<u32> {
    let number = version.split_once("(PostgreSQL) ")?.1;
    number.split(|character: char| !character.is_ascii_digit()).next()?.parse().ok()
}

/// Debian's package starts a server of its own on the usual port unless it is told not to while it installs.
fn install() -> Result<()> {
    let folder = Path::new("/etc/postgresql-common/createcluster.d");
    let note = folder.join("taskpost.conf");
    fs::create_dir_all(folder)
        .and_then(|()| fs::write(&note, "create_main_cluster = false\n"))
        .with_context(|| format!("could not write {}", note.display()))?;
    let installed = apt::install(&["postgresql"]);
    fs::remove_file(&note).with_context(|| format!("could not delete {}", note.display()))?;
    installed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_read_from_what_postgres_says() {
        assert_eq!(major_in("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)"), Some(15));
        assert_eq!(major_in("postgres (PostgreSQL) 18beta1"), Some(18));
        assert_eq!(major_in("something else"), None);
    }

    #[test]
    fn a_folder_without_the_programs_is_passed_over() {
        assert_eq!(Programs::in_folder(&std::env::temp_dir()), None);
    }
}
