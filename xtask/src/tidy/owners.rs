//! Libraries that only one crate may touch, so that each can be exchanged in one place.

use super::Finding;
use super::tree::Tree;

/// A library and the crates that may use it. Brokers are reached through ports; `common` does no I/O.
const OWNERS: &[(&str, &[&str])] = &[
    ("backoff", &["taskpost-common"]),
    ("sqlx", &["taskpost-store", "taskpost-testkit", "taskpost-drill", "taskpost-bench"]),
    ("axum", &["taskpost-api", "taskpost-testkit", "taskpost-drill", "taskpost-bench"]),
    ("rdkafka", &["taskpost-ports", "taskpost-testkit", "taskpost-drill", "taskpost-bench"]),
    ("lapin", &["taskpost-ports", "taskpost-testkit", "taskpost-drill", "taskpost-bench"]),
    ("redis", &["taskpost-ports", "taskpost-testkit"]),
];

/// Whose tests may speak to databases and brokers directly: to break them, and to look at what is really in them.
const TESTERS: [&str; 3] = ["taskpost-ports", "taskpost-consumers", "taskpost-workers"];

/// Nobody but its owners names a library.
pub fn each_library_stays_in_its_crate(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for package in &tree.packages {
        for dependency in &package.dependencies {
            let for_tests =
                dependency.kind.as_deref() == Some("dev") && TESTERS.contains(&package.name.as_str());
            let owners =
                OWNERS.iter().filter(|_| !for_tests).find(|(library, _)| *library == dependency.name);
            if let Some((library, owners)) =
                owners.filter(|(_, owners)| !owners.contains(&package.name.as_str()))
            {
                let what = format!("uses {library}, which is only for {}", owners.join(" and "));
                findings.push(Finding::error(format!("crate {}", package.name), what));
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_outside_its_crate_is_found() {
        let fine = Tree::of_packages(&[
            "taskpost-common: backoff",
            "taskpost-store: sqlx",
            "taskpost-api: axum",
            "taskpost-ports: dev=sqlx",
            "taskpost-drill: sqlx axum lapin rdkafka",
        ]);
        assert_eq!(each_library_stays_in_its_crate(&fine), []);
        for wrong in [
            "taskpost-ports: backoff",
            "taskpost-ports: sqlx",
            "taskpost: axum",
            "taskpost-tracker: dev=sqlx",
        ] {
            assert_eq!(each_library_stays_in_its_crate(&Tree::of_packages(&[wrong])).len(), 1, "{wrong}");
        }
        for library in ["sqlx", "axum", "rdkafka", "lapin", "redis"] {
            let wrong = Tree::of_packages(&[&format!("taskpost-common: {library}")]);
            assert_eq!(each_library_stays_in_its_crate(&wrong).len(), 1, "{library}");
        }
    }
}
