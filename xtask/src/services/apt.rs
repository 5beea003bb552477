//! Packages of a Debian-like distribution, installed only when we are root anyway.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, bail};

use super::{Service, account};
use crate::environment;
use crate::process;
use crate::progress::Progress;

/// Whether packages can be installed here without asking anybody.
pub fn can_install() -> bool {
    let there = || process::capture(Command::new("apt-get").arg("--version")).is_ok_and(|apt| apt.ok);
    account::we_are_root() && there()
}

/// A program of the search path, or of Debian's folders for administrators; installed when it is missing.
pub fn find_or_install(
    program: &str,
    package: &str,
    service: Service,
    progress: &Progress,
) -> Result<PathBuf> {
    let find = || {
        let folders = environment::search_path().into_iter().chain(["/usr/sbin".into(), "/usr/bin".into()]);
        folders.map(|folder| folder.join(program)).find(|path| path.is_file())
    };
    if let Some(found) = find() {
        return Ok(found);
    }
    if !can_install() {
        bail!(
            "{program} is not installed. Install it (Debian, Ubuntu: `sudo apt-get install {package}`), or start \
             Docker, or set {} to a server you have",
            service.variable()
        );
    }
    progress.step(&format!("{}: installing the package {package}", service.name()));
    install(&[package])?;
    find().with_context(|| format!("{package} was installed, but {program} is in none of the usual folders"))
}

/// Installs packages, one call after the other, and keeps them from starting servers of their own.
pub fn install(packages: &[&str]) -> Result<()> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let policy = Policy::forbid_starts()?;
    let apt = |arguments: &[&str]| {
        let mut apt = Command::new("apt-get");
        apt.env("DEBIAN_FRONTEND", "noninteractive");
        apt.args(["--quiet=2", "--option", "DPkg::Lock::Timeout=300"]).args(arguments);
        process::show(&mut apt)
    };
    let installed = apt(&["update"])
        .and_then(|()| apt(&[&["install", "--yes", "--no-install-recommends"], packages].concat()));
    policy.lift()?;
    installed
}

/// Debian asks this program before a package starts or stops a server; 101 is "forbidden by policy".
struct Policy(Option<&'static Path>);

const FORBID: &str = "#!/bin/sh\n# Here only while `cargo xtask services` installs a package.\nexit 101\n";

impl Policy {
    /// Somebody's own policy stays as it is.
    fn forbid_starts() -> Result<Self> {
        let path = Path::new("/usr/sbin/policy-rc.d");
        if fs::read(path).is_ok_and(|there| there != FORBID.as_bytes()) {
            return Ok(Self(None));
        }
        fs::write(path, FORBID)
            .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(0o755)))
            .with_context(|| format!("could not write {}", path.display()))?;
        Ok(Self(Some(path)))
    }

    fn lift(&self) -> Result<()> {
        match self.0 {
            Some(path) => {
                fs::remove_file(path).with_context(|| format!("could not delete {}", path.display()))
            }
            None => Ok(()),
        }
    }
}
