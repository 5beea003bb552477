//! The Java that Kafka runs on.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::environment;
use crate::process;
use crate::progress::Progress;
use crate::services::apt;

/// Kafka 4's brokers want it.
const OLDEST: u32 = 17;

/// A Java that is new enough; as root on a Debian-like system it is installed when there is none.
pub fn find(progress: &Progress) -> Result<PathBuf> {
    if let Some(java) = newest() {
        return Ok(java);
    }
    if !apt::can_install() {
        bail!(
            "Kafka needs Java {OLDEST} or newer. Install it (Debian, Ubuntu: `sudo apt-get install \
             default-jre-headless maven`; Fedora: `sudo dnf install java-21-openjdk-headless maven`), or start \
             Docker, or set KAFKA_BROKERS to brokers you have"
        );
    }
    progress.step("kafka: installing Java (about a minute)");
    apt::install(&["default-jre-headless"])?;
    newest().with_context(|| format!("Java was installed, but none is {OLDEST} or newer"))
}

/// Memory, classes and how it logs; the class and its arguments follow.
pub fn arguments(java: &mut Command, jars: &Path, heap: &str) {
    java.arg(format!("-Xmx{heap}")).args([
        "-XX:+ExitOnOutOfMemoryError",
        "-Djava.awt.headless=true",
        "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
        "-Dorg.slf4j.simpleLogger.showDateTime=true",
        "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd HH:mm:ss.SSS",
        "-cp",
    ]);
    java.arg(jars.join("*"));
}

fn newest() -> Option<PathBuf> {
    let chosen = environment::variable("JAVA_HOME").map(|home| Path::new(&home).join("bin"));
    let folders = chosen.into_iter().chain(environment::search_path());
    folders.map(|folder| folder.join("java")).find(|java| version(java).is_some_and(|major| major >= OLDEST))
}

fn version(java: &Path) -> Option<u32> {
    if !java.is_file() {
        return None;
    }
    major_in(&process::capture(Command::new(java).arg("-version")).ok()?.stderr)
}

/// `openjdk version "17.0.15" …` is 17, `"1.8.0_392"` is 1.
fn major_in(said: &str) -> Option<u32> {
    let number = said.split_once("version \"")?.1;
    number.split(|character: char| !character.is_ascii_digit()).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_read_from_what_java_says() {
        assert_eq!(major_in("openjdk version \"17.0.15\" 2025-04-15\nOpenJDK"), Some(17));
        assert_eq!(major_in("openjdk version \"21\" 2023-09-19"), Some(21));
        assert_eq!(major_in("java version \"1.8.0_392\""), Some(1));
        assert_eq!(major_in("command not found"), None);
    }
}
