//! The feature `crash-points` lets whoever starts the product end it at will, so no product has it.

use super::Finding;
use super::tree::Tree;

/// Its name, in every crate that hands it on.
pub const CRASH_POINTS: &str = "crash-points";
/// The crate that turns it on, for itself and for all that is built together with it.
const TESTKIT: &str = "taskpost-testkit";

/// No feature but the one of that name turns it on, and no crate but testkit asks for it.
pub fn crash_points_are_for_tests(tree: &Tree) -> Vec<Finding> {
    let is_it = |part: &String| part.rsplit('/').next() == Some(CRASH_POINTS);
    let mut findings = Vec::new();
    for package in &tree.packages {
        let place = format!("crate {}", package.name);
        for (feature, parts) in &package.features {
            if feature != CRASH_POINTS && parts.iter().any(is_it) {
                findings
                    .push(Finding::error(&place, format!("its feature {feature} turns on {CRASH_POINTS}")));
            }
        }
        for dependency in &package.dependencies {
            if package.name != TESTKIT && dependency.features.iter().any(is_it) {
                let what =
                    format!("turns on {CRASH_POINTS} of {}, which is for {TESTKIT} only", dependency.name);
                findings.push(Finding::error(&place, what));
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_feature(feature: &str, part: &str) -> Tree {
        let mut tree = Tree::of_packages(&["taskpost: taskpost-common"]);
        tree.packages[0].features.insert(feature.to_owned(), vec![part.to_owned()]);
        tree
    }

    #[test]
    fn a_product_that_could_be_crashed_is_found() {
        let count = |tree: &Tree| crash_points_are_for_tests(tree).len();
        assert_eq!(count(&with_feature(CRASH_POINTS, "taskpost-common/crash-points")), 0);
        assert_eq!(count(&with_feature("default", "kafka-tls")), 0);
        for part in ["crash-points", "taskpost-common/crash-points", "taskpost-common?/crash-points"] {
            assert_eq!(count(&with_feature("default", part)), 1, "{part}");
            assert_eq!(count(&with_feature("kafka-tls", part)), 1, "{part}");
        }
        assert_eq!(count(&Tree::of_packages(&["taskpost-testkit: taskpost+crash-points"])), 0);
        for wrong in ["taskpost: taskpost-common+crash-points", "taskpost-api: dev=taskpost+crash-points"] {
            assert_eq!(count(&Tree::of_packages(&[wrong])), 1, "{wrong}");
        }
    }
}
