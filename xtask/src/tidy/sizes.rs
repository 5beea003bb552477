//! Small rooms: a file is read in one sitting.

use super::Finding;
use super::tree::Tree;

const WRITTEN_BY_HAND: [&str; 9] = ["rs", "sql", "md", "proto", "sh", "toml", "html", "css", "js"];
const LONG: usize = 500;
const TOO_LONG: usize = 900;

/// A file of more than 500 lines is worth a look, one of more than 900 is an error.
pub fn files_are_small_rooms(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in tree.with_extension(&WRITTEN_BY_HAND) {
        let what = |lines: usize| format!("has {lines} lines; split it where a reader would");
        match file.text.lines().count() {
            lines if lines > TOO_LONG => findings.push(Finding::error(&file.path, what(lines))),
            lines if lines > LONG => findings.push(Finding::warning(&file.path, what(lines))),
            _ => {}
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_file_is_a_warning_and_a_longer_one_an_error() {
        let check = |lines: usize| files_are_small_rooms(&Tree::of(&[("a.rs", &"x\n".repeat(lines))]));
        assert_eq!(check(500), []);
        assert!(!check(501)[0].fatal);
        assert!(check(901)[0].fatal);
        assert_eq!(files_are_small_rooms(&Tree::of(&[("a.json", &"x\n".repeat(2000))])), []);
    }
}
