//! The product's variables: .env.example names exactly those that the configuration reads, with their defaults.

use std::collections::{BTreeMap, BTreeSet};

use super::Finding;
use super::tree::Tree;

const EXAMPLE: &str = ".env.example";
/// Older names still work and are no longer shown.
const OLDER: &str = "crates/common/src/config/older.rs";
/// Read by libraries.
const ELSEWHERE: [&str; 1] = ["RUST_LOG"];

/// Every variable that means something to the product.
pub fn known(tree: &Tree) -> BTreeSet<String> {
    read_by(tree, |_| true).into_keys().chain(ELSEWHERE.map(str::to_owned)).collect()
}

/// The example has every variable, no other, none twice, and shows the default where there is one.
pub fn the_example_is_complete(tree: &Tree) -> Vec<Finding> {
    let Some(example) = tree.files.iter().find(|file| file.path == EXAMPLE) else { return Vec::new() };
    let (read, known) = (read_by(tree, |path| path != OLDER), known(tree));
    let mut shown = BTreeSet::new();
    let mut findings = Vec::new();
    for (offset, line) in example.lines() {
        let Some((name, value)) = variable_of(line) else { continue };
        if !known.contains(name) {
            findings.push(Finding::error(example.place(offset), format!("nobody reads {name}")));
        }
        if !shown.insert(name) {
            findings.push(Finding::error(example.place(offset), format!("{name} is there twice")));
        }
        if let Some(default) = read.get(name).filter(|default| !default.is_empty() && *default != value) {
            findings
                .push(Finding::error(example.place(offset), format!("the default of {name} is {default}")));
        }
    }
    let missing = read.keys().filter(|name| !shown.contains(name.as_str()));
    findings.extend(missing.map(|name| Finding::error(EXAMPLE, format!("{name} is missing"))));
    findings
}

/// `#NAME=value`, or `NAME=value` for somebody's own. A value with blanks stands in quotes.
fn variable_of(line: &str) -> Option<(&str, &str)> {
    let (name, value) = line.strip_prefix('#').unwrap_or(line).split_once('=')?;
    is_variable(name).then(|| (name, value.trim_matches('\'')))
}

/// The configuration's calls whose first argument is a name in capitals, and the default that follows, if one does.
fn read_by(tree: &Tree, wanted: impl Fn(&str) -> bool) -> BTreeMap<String, String> {
    let is_config =
        |path: &str| path == "crates/common/src/config.rs" || path.starts_with("crates/common/src/config/");
    let files = tree.files.iter().filter(|file| is_config(&file.path) && wanted(&file.path));
    let mut defaults = BTreeMap::new();
    for file in files {
        let code = file.text.split("#[cfg(test)]").next().unwrap_or_default();
        for (start, _) in code.match_indices('"') {
            let Some(function) = code[..start].trim_end().strip_suffix('(') else { continue };
            let mut strings = code[start + 1..].split('"');
            let name = strings.next().unwrap_or_default();
            if !is_variable(name) {
                continue;
            }
            let has_default = WITH_DEFAULT.iter().any(|method| function.ends_with(method))
                && strings.next().is_some_and(|between| between.trim() == ",");
            let default = strings.next().filter(|_| has_default).unwrap_or_default();
            let entry: &mut String = defaults.entry(name.to_owned()).or_default();
            if entry.is_empty() {
                default.clone_into(entry);
            }
        }
    }
    defaults
}

/// The methods whose second argument is the default.
const WITH_DEFAULT: [&str; 7] =
    [".text", ".parse", ".one_of", ".list", ".duration", ".delays", ".at_least_one"];

fn is_variable(name: &str) -> bool {
    let in_name = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
    name.len() > 2 && name.starts_with(|first: char| first.is_ascii_uppercase()) && name.bytes().all(in_name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CODE: &str = "a: vars.text(\"HTTP_PORT\", \"3000\")?, b: vars.url(\n    \"REDIS_URL\", &[\"PLAIN\"]) \
                        #[cfg(test)] f(\"NOT_THIS\")";

    fn said(example: &str) -> Vec<String> {
        let tree = Tree::of(&[
            (EXAMPLE, example),
            ("crates/common/src/config.rs", CODE),
            (OLDER, "said(\"DB_TYPE\")"),
        ]);
        the_example_is_complete(&tree).into_iter().map(|finding| finding.what).collect()
    }

    #[test]
    fn a_complete_example_is_fine() {
        assert_eq!(said("# The port.\n#HTTP_PORT=3000\n#REDIS_URL=\n"), Vec::<String>::new());
        assert_eq!(
            said("#HTTP_PORT=3000\nREDIS_URL=a=b\n#DB_TYPE=x\n#RUST_LOG=info\n"),
            Vec::<String>::new()
        );
    }

    #[test]
    fn what_is_missing_unknown_doubled_or_no_default_is_found() {
        assert_eq!(said("#HTTP_PORT=3000"), ["REDIS_URL is missing"]);
        assert_eq!(said("#HTTP_PORT=3000\n#REDIS_URL=\n#PLAIN=\n"), ["nobody reads PLAIN"]);
        assert_eq!(said("#HTTP_PORT=3000\n#REDIS_URL=\n#REDIS_URL=\n"), ["REDIS_URL is there twice"]);
        assert_eq!(said("#HTTP_PORT=1\n#REDIS_URL=\n"), ["the default of HTTP_PORT is 3000"]);
    }
}
