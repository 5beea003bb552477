//! Kafka's published jars with all they need, by Maven. Maven's own cache outlives a purge of the service.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::process;
use crate::progress::Progress;
use crate::services::apt;
use crate::services::native::Prepared;
use crate::services::state::write_private;

/// The version that is in docker-compose.infra.yml too; a test compares them.
pub const KAFKA: &str = "4.1.1";
const SCALA: &str = "2.13";
/// The one that goes with the slf4j-api that Kafka brings.
const SLF4J: &str = "1.7.36";
const PLUGIN: &str = "org.apache.maven.plugins:maven-dependency-plugin:2.8:copy-dependencies";

/// The folder with the jars; they are fetched when they are not there.
pub fn get(server: &Prepared, progress: &Progress) -> Result<PathBuf> {
    let jars = server.home.join(format!("jars-{KAFKA}"));
    if jars.exists() {
        return Ok(jars);
    }
    let maven = maven(progress)?;
    progress.step(&format!("kafka: fetching Apache Kafka {KAFKA} by Maven"));
    let draft = server.home.join("jars.new");
    if draft.exists() {
        fs::remove_dir_all(&draft).with_context(|| format!("could not delete {}", draft.display()))?;
    }
    let pom = server.home.join("pom.xml");
    write_private(&pom, &project()).context("could not write the project for Maven")?;
    let mut fetch = Command::new(maven);
    fetch
        .current_dir(server.home)
        .args(["--batch-mode", "--quiet", "-Dstyle.color=never", "--file"])
        .arg(&pom)
        .arg(PLUGIN);
    fetch.arg("-DincludeScope=runtime").arg(format!("-DoutputDirectory={}", draft.display()));
    let fetched = process::capture(&mut fetch)?;
    if !fetched.ok {
        // It says what is wrong on its standard output.
        let first: Vec<&str> = fetched.stdout.lines().take(3).collect();
        bail!("Maven could not fetch Kafka's jars (is the network there?):\n{}", first.join("\n"));
    }
    for jar in fs::read_dir(&draft).context("Maven has fetched nothing")? {
        server.account.give(&jar?.path())?;
    }
    server.account.give(&draft)?;
    fs::rename(&draft, &jars).context("could not put the jars in their place")?;
    Ok(jars)
}

/// Maven, installed when it is missing and that is possible.
fn maven(progress: &Progress) -> Result<&'static str> {
    let there = || process::capture(Command::new("mvn").arg("--version")).is_ok_and(|maven| maven.ok);
    if there() {
        return Ok("mvn");
    }
    if !apt::can_install() {
        bail!(
            "Kafka's jars are fetched by Maven. Install it (Debian, Ubuntu: `sudo apt-get install maven`), or start \
             Docker, or set KAFKA_BROKERS to brokers you have"
        );
    }
    progress.step("kafka: installing Maven (about a minute)");
    apt::install(&["maven"])?;
    if there() { Ok("mvn") } else { bail!("maven was installed, but `mvn --version` fails") }
}

fn project() -> String {
    let dependency = |group: &str, artifact: &str, version: &str| {
        format!(
            "<dependency><groupId>{group}</groupId><artifactId>{artifact}</artifactId>\
             <version>{version}</version></dependency>"
        )
    };
    let kafka = dependency("org.apache.kafka", &format!("kafka_{SCALA}"), KAFKA);
    let slf4j = dependency("org.slf4j", "slf4j-simple", SLF4J);
    format!(
        "<project xmlns=\"http://maven.apache.org/POM/4.0.0\"><modelVersion>4.0.0</modelVersion>\
         <groupId>taskpost</groupId><artifactId>kafka</artifactId><version>1</version><packaging>pom</packaging>\
         <dependencies>{kafka}{slf4j}</dependencies></project>\n"
    )
}
