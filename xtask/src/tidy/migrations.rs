//! Both databases move together: a migration of one has its twin with the same number in the other.

use std::collections::BTreeMap;

use super::Finding;
use super::tree::Tree;

const FOLDER: &str = "prisma-free-migrations";

/// Every migration is `NNNN_name.sql` and has a twin; no number is used twice. Nothing to do before there are any.
pub fn each_has_its_twin(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    let postgres = numbered(tree, "postgres", &mut findings);
    let sqlite = numbered(tree, "sqlite", &mut findings);
    for (these, those, other) in [(&postgres, &sqlite, "sqlite"), (&sqlite, &postgres, "postgres")] {
        let alone = these.iter().filter(|(number, _)| !those.contains_key(*number));
        findings
            .extend(alone.map(|(_, path)| Finding::error(path, format!("has no twin in {FOLDER}/{other}"))));
    }
    findings
}

fn numbered(tree: &Tree, database: &str, findings: &mut Vec<Finding>) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let folder = format!("{FOLDER}/{database}/");
    for path in &tree.paths {
        let Some(name) = path.strip_prefix(&folder) else { continue };
        let number =
            name.strip_suffix(".sql").and_then(|name| name.split_once('_')).map(|(number, _)| number);
        match number.filter(|number| number.len() == 4 && number.bytes().all(|byte| byte.is_ascii_digit())) {
            None => findings.push(Finding::error(path, "is not called NNNN_name.sql")),
            Some(number) => {
                if let Some(first) = found.insert(number.to_owned(), path.clone()) {
                    findings.push(Finding::error(path, format!("has the number of {first}")));
                }
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(names: &[&str]) -> usize {
        let files: Vec<(String, &str)> = names.iter().map(|name| (format!("{FOLDER}/{name}"), "")).collect();
        let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (path.as_str(), *text)).collect();
        each_has_its_twin(&Tree::of(&files)).len()
    }

    #[test]
    fn twins_are_fine_and_so_is_nothing() {
        assert_eq!(check(&["postgres/0001_a.sql", "sqlite/0001_b.sql"]), 0);
        assert_eq!(each_has_its_twin(&Tree::default()), []);
    }

    #[test]
    fn a_lone_a_doubled_and_a_misnamed_migration_are_found() {
        assert_eq!(check(&["postgres/0001_a.sql"]), 1);
        assert_eq!(check(&["sqlite/0001_a.sql"]), 1);
        assert_eq!(check(&["postgres/0001_a.sql", "postgres/0001_b.sql", "sqlite/0001_a.sql"]), 1);
        assert_eq!(check(&["postgres/1_a.sql"]), 1);
    }
}
