//! Where this machine keeps RabbitMQ's programs.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::environment;
use crate::progress::Progress;
use crate::services::apt;

/// The script that becomes the server; as root on a Debian-like system its package is installed when there is none.
/// The program of that name in the search path may be the package's wrapper, which would start the system's broker.
pub fn find(progress: &Progress) -> Result<PathBuf> {
    if let Some(script) = installed() {
        return Ok(script);
    }
    if !apt::can_install() {
        bail!(
            "RabbitMQ is not installed. Install it (Debian, Ubuntu: `sudo apt-get install rabbitmq-server`; Fedora: \
             `sudo dnf install rabbitmq-server`), or start Docker, or set RABBITMQ_URL to a broker you have"
        );
    }
    progress.step("rabbitmq: installing the package (about a minute)");
    apt::install(&["rabbitmq-server"])?;
    installed().context("rabbitmq-server was installed, but its programs are in none of the usual folders")
}

/// The program that speaks to a running server; it stands beside the script.
pub fn control() -> Result<PathBuf> {
    Ok(installed().context("RabbitMQ's programs are gone")?.with_file_name("rabbitmqctl"))
}

fn installed() -> Option<PathBuf> {
    // Debian; RabbitMQ's own packages and Fedora; an unpacked archive in the search path.
    let mut folders = vec![PathBuf::from("/usr/lib/rabbitmq/bin")];
    let versions = fs::read_dir("/usr/lib/rabbitmq/lib").into_iter().flatten().flatten();
    folders.extend(versions.map(|version| version.path().join("sbin")));
    folders.extend(environment::search_path());
    folders.into_iter().find(|folder| is_real(folder)).map(|folder| folder.join("rabbitmq-server"))
}

/// The wrapper stands without the files that the script reads.
fn is_real(folder: &Path) -> bool {
    ["rabbitmq-server", "rabbitmq-env", "rabbitmq-defaults"].iter().all(|name| folder.join(name).is_file())
}
