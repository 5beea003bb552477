//! docker-compose.infra.yml sets the same as the native services, so that tests mean the same on both.

use std::collections::BTreeMap;

use super::Finding;
use super::compose::{self, Service};
use super::tree::Tree;
use crate::services::settings::{KAFKA, KAFKA_VERSION, POSTGRES, RABBITMQ_FILE, REDIS};

const FILE: &str = "docker-compose.infra.yml";

/// Compares the settings of all four.
pub fn containers_are_set_as_native_services_are(tree: &Tree) -> Vec<Finding> {
    let Some(file) = tree.files.iter().find(|file| file.path == FILE) else { return Vec::new() };
    let compose = match compose::read(file) {
        Ok(compose) => compose,
        Err(finding) => return vec![finding],
    };
    let mut problems = Vec::new();
    for (name, check) in CHECKS {
        match compose.services.get(*name) {
            Some(service) => problems.extend(check(service)),
            None => problems.push(format!("{name} is missing")),
        }
    }
    problems.into_iter().map(|problem| Finding::error(FILE, problem)).collect()
}

type Check = fn(&Service) -> Vec<String>;

const CHECKS: &[(&str, Check)] = &[
    ("postgres", |service| {
        let words = service.command.iter().filter_map(|word| word.strip_prefix("-c")?.split_once('='));
        differences("postgres", &POSTGRES, &words.collect())
    }),
    ("kafka", kafka),
    ("rabbitmq", |service| {
        let mounted = service.volumes.iter().any(|volume| volume.starts_with(&format!("./{RABBITMQ_FILE}:")));
        if mounted { Vec::new() } else { vec![format!("rabbitmq does not use {RABBITMQ_FILE}")] }
    }),
    ("redis", |service| {
        let words = service.command.iter().filter_map(|word| word.strip_prefix("--")?.split_once(' '));
        differences("redis", &REDIS, &words.filter(|(name, _)| *name != "requirepass").collect())
    }),
];

/// The image makes `a.b=c` of KAFKA_A_B=c. Addresses, folders and memory are each way's own; natively there is one
/// listener more, for a fault proxy.
fn kafka(service: &Service) -> Vec<String> {
    const OWN: [&str; 6] = [
        "listeners",
        "advertised.listeners",
        "listener.security.protocol.map",
        "controller.quorum.voters",
        "log.dirs",
        "heap.opts",
    ];
    let name = |variable: &str| Some(variable.strip_prefix("KAFKA_")?.to_lowercase().replace('_', "."));
    let set: Vec<(String, &str)> = service
        .environment
        .iter()
        .filter_map(|(variable, value)| Some((name(variable)?, value.as_str().unwrap_or_default())))
        .filter(|(name, _)| !OWN.contains(&name.as_str()))
        .collect();
    let mut problems =
        differences("kafka", &KAFKA, &set.iter().map(|(name, value)| (name.as_str(), *value)).collect());
    if service.image.as_deref().is_none_or(|image| !image.ends_with(&format!(":{KAFKA_VERSION}"))) {
        problems.push(format!("kafka is not {KAFKA_VERSION}, as it is natively"));
    }
    problems
}

fn differences(service: &str, native: &[(&str, &str)], set: &BTreeMap<&str, &str>) -> Vec<String> {
    let native: BTreeMap<&str, &str> = native.iter().copied().collect();
    let changed = native.iter().filter(|(name, value)| set.get(*name) != Some(*value));
    let changed = changed.map(|(name, value)| format!("{service}: {name} is not {value}, as it is natively"));
    let added = set.keys().filter(|name| !native.contains_key(*name));
    changed.chain(added.map(|name| format!("{service}: {name} is set here only"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str) -> Vec<String> {
        let found = containers_are_set_as_native_services_are(&Tree::of(&[(FILE, text)]));
        found.into_iter().map(|finding| finding.what).collect()
    }

    #[test]
    fn our_own_file_is_the_same_and_a_change_is_found() {
        let ours = include_str!("../../../docker-compose.infra.yml");
        assert_eq!(said(ours), Vec::<String>::new());
        for (right, wrong, expected) in [
            ("-cfsync=on", "-cfsync=off", "postgres: fsync is not on, as it is natively"),
            ("-cfsync=on", "-cjit=on", "postgres: jit is set here only"),
            (
                "NUM_PARTITIONS: \"5\"",
                "NUM_PARTITIONS: \"50\"",
                "kafka: offsets.topic.num.partitions is not 5",
            ),
            ("apache/kafka:", "apache/kafka:9", "kafka is not"),
            ("--appendonly no", "--appendonly yes", "redis: appendonly is not no, as it is natively"),
            ("rabbitmq.infra.conf", "rabbitmq.conf", "rabbitmq does not use"),
        ] {
            assert!(ours.contains(right), "{right}");
            let found = said(&ours.replace(right, wrong));
            assert!(found.iter().any(|what| what.starts_with(expected)), "{expected}: {found:?}");
        }
    }
}
