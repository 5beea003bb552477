//! `taskpost → {api, consumers, workers} → tracker → ports → store → common`: each may use anything to its right.

use super::Finding;
use super::tree::Tree;

const COMMON: &str = "taskpost-common";
const STORE: &str = "taskpost-store";
const PORTS: &str = "taskpost-ports";
const TRACKER: &str = "taskpost-tracker";
const API: &str = "taskpost-api";
const CONSUMERS: &str = "taskpost-consumers";
const WORKERS: &str = "taskpost-workers";
const PRODUCT: &str = "taskpost";
const TESTKIT: &str = "taskpost-testkit";
const DRILL: &str = "taskpost-drill";
const BENCH: &str = "taskpost-bench";

/// Every crate of the workspace and the crates it may use.
const MAY_USE: &[(&str, &[&str])] = &[
    (COMMON, &[]),
    (STORE, &[COMMON]),
    (PORTS, &[STORE, COMMON]),
    (TRACKER, &[PORTS, STORE, COMMON]),
    (API, &[TRACKER, PORTS, STORE, COMMON]),
    (CONSUMERS, &[TRACKER, PORTS, STORE, COMMON]),
    (WORKERS, &[TRACKER, PORTS, STORE, COMMON]),
    (PRODUCT, &[API, CONSUMERS, WORKERS, TRACKER, PORTS, STORE, COMMON]),
    (TESTKIT, &[PRODUCT, API, CONSUMERS, WORKERS, TRACKER, PORTS, STORE, COMMON]),
    (DRILL, &[TESTKIT, PRODUCT, API, CONSUMERS, WORKERS, TRACKER, PORTS, STORE, COMMON]),
    (BENCH, &[PRODUCT, API, CONSUMERS, WORKERS, TRACKER, PORTS, STORE, COMMON]),
    ("taskpost-loadtest", &[COMMON]),
    ("xtask", &[]),
];

/// These stay apart from the product's tests as well: what is measured must have no crash points.
const NO_TESTKIT: [&str; 3] = [BENCH, "taskpost-loadtest", "xtask"];

/// The arrows hold, for normal, dev- and build-dependencies; testkit is for tests and the drill only.
pub fn crates_only_use_those_to_their_right(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for package in &tree.packages {
        let place = format!("crate {}", package.name);
        let Some((_, right)) = MAY_USE.iter().find(|(name, _)| *name == package.name) else {
            findings.push(Finding::error(
                place,
                "has no place among the arrows; give it one in xtask's tidy/arrows.rs",
            ));
            continue;
        };
        for dependency in &package.dependencies {
            let name = dependency.name.as_str();
            let dev = dependency.kind.as_deref() == Some("dev");
            let ours = MAY_USE.iter().any(|(ours, _)| *ours == name);
            let tests_with_testkit = dev && name == TESTKIT && !NO_TESTKIT.contains(&package.name.as_str());
            // A crate may name itself to turn on features in its own tests.
            let itself = dev && name == package.name;
            if ours && !right.contains(&name) && !tests_with_testkit && !itself {
                let how = if name == TESTKIT && !dev { "outside its tests" } else { "against the arrows" };
                findings.push(Finding::error(&place, format!("uses {name} {how} (see ARCHITECTURE.md)")));
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(lines: &[&str]) -> Vec<String> {
        crates_only_use_those_to_their_right(&Tree::of_packages(lines))
            .into_iter()
            .map(|it| it.what)
            .collect()
    }

    #[test]
    fn the_arrows_of_the_plan_are_fine() {
        let fine = [
            "taskpost: taskpost-api taskpost-workers taskpost-common dev=taskpost-testkit",
            "taskpost-api: taskpost-tracker taskpost-common axum",
            "taskpost-store: taskpost-common sqlx dev=taskpost-testkit",
            "taskpost-drill: taskpost-testkit taskpost-store",
            "taskpost-bench: taskpost taskpost-workers taskpost-store",
            "xtask: anyhow",
        ];
        assert_eq!(check(&fine), Vec::<String>::new());
    }

    #[test]
    fn an_arrow_to_the_left_is_found() {
        for wrong in [
            "taskpost-common: taskpost-store",
            "taskpost-store: taskpost-ports",
            "taskpost-tracker: build=taskpost-api",
            "taskpost-workers: dev=taskpost-consumers",
            "taskpost-api: taskpost-testkit",
            "taskpost-loadtest: dev=taskpost-testkit",
            "taskpost-bench: dev=taskpost-testkit",
            "xtask: taskpost-common",
            "taskpost-testkit: taskpost-drill",
            "taskpost: dev=taskpost-drill",
            "taskpost-new: anyhow",
        ] {
            assert_eq!(check(&[wrong]).len(), 1, "{wrong}");
        }
    }
}
