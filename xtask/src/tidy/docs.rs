//! Documents: numbered decisions, and links that lead somewhere.

use std::collections::BTreeMap;

use super::Finding;
use super::tree::Tree;

/// Every file of docs/adr is `NNNN-name.md`, and no number is used twice.
pub fn decisions_are_numbered(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut seen = BTreeMap::new();
    for path in &tree.paths {
        let Some(name) = path.strip_prefix("docs/adr/") else { continue };
        let number = name.strip_suffix(".md").and_then(|name| name.split_once('-')).map(|(number, _)| number);
        match number.filter(|number| number.len() == 4 && number.bytes().all(|byte| byte.is_ascii_digit())) {
            None => findings.push(Finding::error(path, "is not called NNNN-name.md")),
            Some(number) => {
                if let Some(first) = seen.insert(number, path) {
                    findings.push(Finding::error(path, format!("has the number of {first}")));
                }
            }
        }
    }
    findings
}

/// A relative link of a document leads to a file or folder that git has or would have.
pub fn links_lead_somewhere(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in tree.with_extension(&["md"]) {
        let mut fenced = false;
        for (offset, line) in file.lines() {
            if line.trim_start().starts_with("```") {
                fenced = !fenced;
            }
            if fenced {
                continue;
            }
            for target in links(&without_code(line)) {
                let path = target.split(['#', '?']).next().unwrap_or_default();
                let elsewhere = path.is_empty() || path.contains("://") || path.starts_with("mailto:");
                if !elsewhere && !leads_somewhere(tree, &file.path, path) {
                    findings.push(Finding::error(
                        file.place(offset),
                        format!("the link to {path} leads nowhere"),
                    ));
                }
            }
        }
    }
    findings
}

/// The targets of `[text](target)` and `[name]: target`.
fn links(line: &str) -> Vec<String> {
    let inline =
        line.match_indices("](").filter_map(|(at, opening)| line[at + opening.len()..].split(')').next());
    let reference = line.trim_start().starts_with('[').then(|| line.split_once("]: ")).flatten();
    let all = inline.chain(reference.map(|(_, target)| target));
    // What follows a space is the link's title.
    all.filter_map(|target| target.split_whitespace().next())
        .map(|target| target.trim_matches(['<', '>']).to_owned())
        .collect()
}

/// The line without its `code`.
fn without_code(line: &str) -> String {
    line.split('`').step_by(2).collect::<Vec<_>>().join("`")
}

fn leads_somewhere(tree: &Tree, from: &str, target: &str) -> bool {
    let mut folders: Vec<&str> = from.split('/').collect();
    folders.pop();
    if target.starts_with('/') {
        folders.clear();
    }
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                if folders.pop().is_none() {
                    return false;
                }
            }
            name => folders.push(name),
        }
    }
    folders.is_empty() || tree.paths.contains(&folders.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decisions_without_or_with_the_same_number_are_found() {
        let check = |names: &[&str]| {
            let files: Vec<(&str, &str)> = names.iter().map(|name| (*name, "")).collect();
            decisions_are_numbered(&Tree::of(&files)).len()
        };
        assert_eq!(check(&["docs/adr/0001-a.md", "docs/adr/0002-b.md"]), 0);
        assert_eq!(check(&["docs/adr/0001-a.md", "docs/adr/0001-b.md"]), 1);
        assert_eq!(check(&["docs/adr/a.md"]), 1);
        assert_eq!(check(&["docs/adr/01-a.md"]), 1);
    }

    #[test]
    fn a_link_to_nowhere_is_found() {
        let count = |text: &str| {
            links_lead_somewhere(&Tree::of(&[("docs/a.md", text), ("docs/b/c.md", ""), ("d.md", "")])).len()
        };
        let fine = "[c](b/c.md#top) [d](../d.md) [b](b/) [e](https://e.f/g) [h](#h) `[i](i.md)` [r](/d.md)\n[c]: b/c.md";
        assert_eq!(count(fine), 0);
        assert_eq!(count("```\n[i](i.md)\n```\n"), 0);
        assert_eq!(count("see [c](c.md)"), 1);
        assert_eq!(count("[x]: x.md"), 1);
        assert_eq!(count("[up](../../d.md)"), 1);
    }
}
