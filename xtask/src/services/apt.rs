//! Packages of a Debian-like distribution, installed only when we are root anyway.

use std::process::Command;

use anyhow::Result;

use super::account;
use crate::process;

/// Whether packages can be installed here without asking anybody.
pub fn can_install() -> bool {
    let there = || process::capture(Command::new("apt-get").arg("--version")).is_ok_and(|apt| apt.ok);
    account::we_are_root() && there()
}

/// Installs one package.
pub fn install(package: &str) -> Result<()> {
    let apt = |arguments: &[&str]| {
        let mut apt = Command::new("apt-get");
        apt.env("DEBIAN_FRONTEND", "noninteractive").arg("--quiet=2").args(arguments);
        process::show(&mut apt)
    };
    apt(&["update"])?;
    apt(&["install", "--yes", "--no-install-recommends", package])
}
