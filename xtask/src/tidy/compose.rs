//! The compose files: what can be said about them without an engine. `docker compose config` checks the grammar.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::Value;

use super::Finding;
use super::settings;
use super::tree::{TextFile, Tree};

/// A compose file, as far as the checks look at it. Lists where we write maps are errors: one way is enough.
#[derive(Deserialize)]
pub struct Compose {
    /// By name.
    pub services: BTreeMap<String, Service>,
    #[serde(default)]
    volumes: BTreeMap<String, Value>,
}

/// A service of a compose file.
#[derive(Deserialize, Default)]
#[serde(default)]
pub struct Service {
    /// What it runs.
    pub image: Option<String>,
    build: Option<Value>,
    /// Its variables.
    pub environment: BTreeMap<String, Value>,
    /// Its command, word by word.
    pub command: Vec<String>,
    ports: Vec<String>,
    /// Its volumes, each `source:target[:mode]`.
    pub volumes: Vec<String>,
    depends_on: BTreeMap<String, Dependency>,
    healthcheck: Option<Healthcheck>,
    restart: Option<String>,
    stop_grace_period: Option<String>,
}

#[derive(Deserialize)]
struct Dependency {
    condition: String,
}

#[derive(Deserialize)]
struct Healthcheck {
    test: Vec<String>,
}

impl Service {
    /// Whether it runs our own image.
    fn is_ours(&self) -> bool {
        self.build.is_some()
    }

    /// Whether it does something and ends.
    fn is_one_shot(&self) -> bool {
        self.restart.as_deref() == Some("no")
    }
}

/// Reads a compose file of the tree.
pub fn read(file: &TextFile) -> Result<Compose, Finding> {
    serde_saphyr::from_str(&file.text)
        .map_err(|error| Finding::error(&file.path, format!("cannot be read: {error}")))
}

/// Every compose file by every rule.
pub fn files_are_sound(tree: &Tree) -> Vec<Finding> {
    let known = settings::known(tree);
    let files = tree.with_extension(&["yml", "yaml"]);
    files
        .filter(|file| file.path.starts_with("docker-compose"))
        .flat_map(|file| check(file, &known))
        .collect()
}

fn check(file: &TextFile, known: &BTreeSet<String>) -> Vec<Finding> {
    let compose = match read(file) {
        Ok(compose) => compose,
        Err(finding) => return vec![finding],
    };
    let mut problems = Vec::new();
    for (name, service) in &compose.services {
        let found = [
            image(service),
            health(service),
            dependencies(service, &compose),
            ports(service),
            volumes(service, &compose),
            variables(service, known),
            stops(service),
        ];
        problems.extend(found.into_iter().flatten().map(|problem| format!("{name}: {problem}")));
    }
    problems.into_iter().map(|problem| Finding::error(&file.path, problem)).collect()
}

/// What is built here has no tag to pin.
fn image(service: &Service) -> Vec<String> {
    match service.image.as_deref() {
        None if service.is_ours() => Vec::new(),
        None => vec!["has neither image nor build".to_owned()],
        Some(image) if service.is_ours() || is_pinned(image) => Vec::new(),
        Some(image) => vec![format!("{image} is not pinned to a version")],
    }
}

/// Whether an image has a tag with a number in it, or a digest.
pub fn is_pinned(image: &str) -> bool {
    let tag = image.rsplit('/').next().and_then(|name| name.split_once(':')).map_or("", |(_, tag)| tag);
    let names_a_release = ["bookworm", "trixie"].iter().any(|release| tag.contains(release));
    tag != "latest" && (names_a_release || tag.contains(|character: char| character.is_ascii_digit()))
}

fn health(service: &Service) -> Vec<String> {
    match &service.healthcheck {
        None if service.is_one_shot() => Vec::new(),
        None => vec!["has no healthcheck, and `restart: \"no\"` does not say that it ends".to_owned()],
        Some(check) if check.test.len() > 1 && check.test[0].starts_with("CMD") => Vec::new(),
        Some(_) => vec!["its healthcheck is not [CMD, …]".to_owned()],
    }
}

fn dependencies(service: &Service, compose: &Compose) -> Vec<String> {
    let problem = |(name, dependency): (&String, &Dependency)| {
        let Some(other) = compose.services.get(name) else {
            return Some(format!("depends on {name}, which is not there"));
        };
        let possible = match dependency.condition.as_str() {
            "service_started" => true,
            "service_healthy" => other.healthcheck.is_some(),
            "service_completed_successfully" => other.is_one_shot(),
            _ => false,
        };
        (!possible).then(|| format!("{name} never becomes {}", dependency.condition))
    };
    service.depends_on.iter().filter_map(problem).collect()
}

/// What is for others goes through somebody's own proxy.
fn ports(service: &Service) -> Vec<String> {
    let open = service.ports.iter().filter(|port| !port.starts_with("127.0.0.1:"));
    open.map(|port| format!("port {port} is not on 127.0.0.1")).collect()
}

fn volumes(service: &Service, compose: &Compose) -> Vec<String> {
    let sources = service.volumes.iter().filter_map(|volume| volume.split(':').next());
    let named = sources.filter(|source| !source.starts_with(['.', '/']));
    named
        .filter(|name| !compose.volumes.contains_key(*name))
        .map(|name| format!("the volume {name} is not declared"))
        .collect()
}

/// A variable that nobody reads is a mistake in its name.
fn variables(service: &Service, known: &BTreeSet<String>) -> Vec<String> {
    let unknown = service.environment.keys().filter(|name| service.is_ours() && !known.contains(*name));
    unknown.map(|name| format!("Taskpost does not know the variable {name}")).collect()
}

/// Docker kills after ten seconds otherwise.
fn stops(service: &Service) -> Vec<String> {
    if service.is_one_shot() || service.stop_grace_period.is_some() {
        return Vec::new();
    }
    vec!["has no stop_grace_period".to_owned()]
}

#[cfg(test)]
mod tests {
    use super::*;

    const FINE: &str = r#"
x-role: &role
  build: .
  environment: &settings
    DATABASE_URL: postgres://taskpost:${PASSWORD:-taskpost}@db:5432/taskpost
  volumes: [data:/data, ./here:/there:ro]
  depends_on:
    migrate: { condition: service_completed_successfully }
    db: { condition: service_healthy }
  stop_grace_period: 25s
services:
  migrate:
    <<: *role
    depends_on: { db: { condition: service_healthy } }
    restart: "no"
  api:
    <<: *role
    healthcheck: { test: [CMD, curl, "http://127.0.0.1:3000"] }
  db:
    image: postgres:17-bookworm
    ports: ["127.0.0.1:5432:5432"]
    stop_grace_period: 30s
    healthcheck: { test: [CMD, pg_isready] }
volumes: { data: }
"#;

    fn said(text: &str) -> Vec<String> {
        let tree = Tree::of(&[
            ("docker-compose.yml", text),
            ("crates/common/src/config.rs", "vars.text(\"DATABASE_URL\", \"\")"),
        ]);
        files_are_sound(&tree).into_iter().map(|finding| finding.what).collect()
    }

    #[test]
    fn a_sound_file_is_fine_and_merges_are_understood() {
        assert_eq!(said(FINE), Vec::<String>::new());
    }

    #[test]
    fn each_mistake_is_found() {
        for (right, wrong, expected) in [
            ("postgres:17-bookworm", "postgres:latest", "db: postgres:latest is not pinned"),
            ("postgres:17-bookworm", "postgres", "db: postgres is not pinned"),
            (
                "    healthcheck: { test: [CMD, pg_isready] }\n",
                "",
                "migrate: db never becomes service_healthy",
            ),
            ("    healthcheck: { test: [CMD, pg_isready] }\n", "", "db: has no healthcheck"),
            ("    restart: \"no\"\n", "", "api: migrate never becomes service_completed"),
            ("{ db: { condition", "{ bd: { condition", "migrate: depends on bd, which is not there"),
            ("127.0.0.1:5432:5432", "5432:5432", "db: port 5432:5432 is not on 127.0.0.1"),
            ("data:/data", "date:/data", "api: the volume date is not declared"),
            ("DATABASE_URL", "DATABASE", "api: Taskpost does not know the variable DATABASE"),
            ("    stop_grace_period: 30s\n", "", "db: has no stop_grace_period"),
            ("[CMD, pg_isready]", "[NONE]", "db: its healthcheck is not"),
            ("services:", "services: [", "cannot be read"),
        ] {
            assert!(FINE.contains(right), "{right}");
            let found = said(&FINE.replace(right, wrong));
            assert!(found.iter().any(|what| what.starts_with(expected)), "{expected}: {found:?}");
        }
    }

    #[test]
    fn a_pinned_image_has_a_number_or_a_release() {
        for image in ["apache/kafka:4.1.1", "debian:bookworm-slim", "a.b:5000/c:v1.2", "x@sha256:0a"] {
            assert!(is_pinned(image), "{image}");
        }
        for image in ["redis", "redis:latest", "redis:alpine", "a.b:5000/c"] {
            assert!(!is_pinned(image), "{image}");
        }
    }
}
