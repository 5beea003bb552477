//! What the text must not say. The words looked for are written in pieces here, so that this file passes too.

use super::Finding;
use super::tree::{TextFile, Tree};

/// SQL lives in crates/store; tests, the drill and the bench may ask a database what really is in it.
pub fn no_sql_outside_the_store(tree: &Tree) -> Vec<Finding> {
    const HOMES: [&str; 5] = [
        "crates/store/",
        "crates/testkit/",
        "crates/drill/",
        "crates/bench/",
        "xtask/src/services/postgres/",
    ];
    let mut findings = Vec::new();
    for file in tree.with_extension(&["rs"]).filter(|file| !is_below(file, &HOMES) && !is_test(file)) {
        for (offset, line) in code_lines(file) {
            // A statement may go on in the next lines, up to the end of its string.
            let rest = &file.text[offset..];
            let found = |start: &str, then: &str| {
                line.find(start).is_some_and(|at| {
                    let after = &rest[at + start.len()..];
                    after.split(['"', ';']).next().is_some_and(|rest| contains_word(rest, then))
                })
            };
            let select =
                found(concat!("SEL", "ECT "), "FROM") || line.trim_end().ends_with(concat!("SEL", "ECT"));
            let write =
                line.contains(concat!("INSERT", " INTO ")) || line.contains(concat!("DELETE", " FROM "));
            if select || write || found(concat!("UPD", "ATE "), "SET") {
                findings.push(Finding::error(file.place(offset), "SQL outside crates/store"));
            }
        }
    }
    findings
}

/// A path that only exists on one machine.
pub fn no_path_of_somebodys_machine(tree: &Tree) -> Vec<Finding> {
    const ROOTS: [&str; 4] =
        [concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/ho", "me/"), concat!("/Us", "ers/")];
    // After one of these it is the middle of a longer path.
    let inside = |character: char| character.is_alphanumeric() || "._-/~*{}()<>".contains(character);
    let mut findings = Vec::new();
    for file in tree.files.iter().filter(|file| file.path != "Cargo.lock") {
        for root in ROOTS {
            for (offset, _) in file.text.match_indices(root) {
                if !file.text[..offset].ends_with(inside) {
                    findings
                        .push(Finding::error(file.place(offset), format!("a path of one machine ({root}…)")));
                }
            }
        }
    }
    findings
}

/// Where packages come from is cargo's business; only Cargo.lock names it.
pub fn no_registry_host(tree: &Tree) -> Vec<Finding> {
    const HOSTS: [&str; 5] = [
        concat!("crates", ".io"),
        concat!("registry", ".npmjs"),
        concat!("pypi", ".org"),
        concat!("proxy", ".golang.org"),
        concat!("repo", ".maven"),
    ];
    let mut findings = Vec::new();
    for file in tree.files.iter().filter(|file| file.path != "Cargo.lock") {
        for host in HOSTS {
            let found = file.text.match_indices(host);
            findings
                .extend(found.map(|(offset, _)| Finding::error(file.place(offset), format!("names {host}"))));
        }
    }
    findings
}

/// An exception is an `expect` with its reason, so that it goes when it is no longer needed.
pub fn no_allow_attribute(tree: &Tree) -> Vec<Finding> {
    let has = |line: &str| line.contains(concat!("#[al", "low(")) || line.contains(concat!("#![al", "low("));
    in_lines(tree.with_extension(&["rs"]), has, "use #[expect(…, reason = \"…\")]")
}

/// Work that is left belongs in an issue.
pub fn no_note_of_work_left(tree: &Tree) -> Vec<Finding> {
    const NOTES: [&str; 3] = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];
    const CODE: [&str; 12] =
        ["rs", "toml", "sql", "proto", "md", "sh", "yml", "yaml", "html", "css", "js", "example"];
    let has = |line: &str| NOTES.iter().any(|note| contains_word(line, note));
    in_lines(tree.with_extension(&CODE), has, "a note of work left; do it or open an issue")
}

/// Space that no editor shows.
pub fn no_tab_or_trailing_space(tree: &Tree) -> Vec<Finding> {
    let has = |line: &str| line.contains(['\t', '\r']) || line.ends_with(' ');
    in_lines(
        tree.with_extension(&["rs", "md", "toml", "sql"]),
        has,
        "a tab or a space at the end of the line",
    )
}

/// Time, ids and settings are parameters; only these crates read the real ones.
pub fn no_hidden_input(tree: &Tree) -> Vec<Finding> {
    const HOMES: [&str; 6] =
        ["crates/common/", "crates/taskpost/", "crates/testkit/", "crates/drill/", "xtask/", "loadtest/"];
    const INPUTS: [&str; 4] = ["Utc::now(", "Uuid::new_v4", "Uuid::now_v7", "env::var"];
    let mut findings = Vec::new();
    for file in tree.with_extension(&["rs"]).filter(|file| !is_below(file, &HOMES) && !is_test(file)) {
        for (offset, line) in code_lines(file) {
            let inputs = INPUTS.iter().filter(|input| line.contains(**input));
            findings.extend(inputs.map(|input| {
                Finding::error(
                    file.place(offset),
                    format!("{input} is a hidden input; take it as a parameter"),
                )
            }));
        }
    }
    findings
}

fn in_lines<'a>(
    files: impl Iterator<Item = &'a TextFile>,
    has: impl Fn(&str) -> bool,
    what: &str,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in files {
        let lines = file.lines().filter(|(_, line)| has(line));
        findings.extend(lines.map(|(offset, _)| Finding::error(file.place(offset), what)));
    }
    findings
}

/// The lines that are not wholly a comment.
fn code_lines(file: &TextFile) -> impl Iterator<Item = (usize, &str)> {
    file.lines().filter(|(_, line)| !line.trim_start().starts_with("//"))
}

/// Tests are told by `cargo xtask test` where their services are.
fn is_test(file: &TextFile) -> bool {
    file.path.contains("/tests/")
}

fn is_below(file: &TextFile, folders: &[&str]) -> bool {
    folders.iter().any(|folder| file.path.starts_with(folder))
}

fn contains_word(text: &str, word: &str) -> bool {
    let in_word = |character: char| character.is_alphanumeric() || character == '_';
    text.match_indices(word).any(|(start, _)| {
        !text[..start].ends_with(in_word) && !text[start + word.len()..].starts_with(in_word)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether the check says anything about a file with this text.
    fn trips(check: fn(&Tree) -> Vec<Finding>, path: &str, text: &str) -> bool {
        !check(&Tree::of(&[(path, text)])).is_empty()
    }

    #[test]
    fn sql_is_found_outside_the_store_only() {
        for sql in [
            concat!("let q = \"SEL", "ECT a FROM b\";"),
            concat!("let q = \"SEL", "ECT a\n    FROM b\";"),
            concat!("const SQL: &str = r#\"\n  SEL", "ECT\n a FROM b\"#;"),
            concat!("\"INSERT", " INTO a VALUES ($1)\""),
            concat!("\"DELETE", " FROM a\""),
            concat!("\"UPD", "ATE a\n SET b = 1\""),
        ] {
            assert!(trips(no_sql_outside_the_store, "api/src/lib.rs", sql), "{sql}");
            assert!(!trips(no_sql_outside_the_store, "crates/store/src/task.rs", sql), "{sql}");
        }
        for other in [
            concat!("// SEL", "ECT the row FROM there"),
            "say(\"SELECT 1\"); say(\"FROM\");",
            "let UPDATE = 1;",
        ] {
            assert!(!trips(no_sql_outside_the_store, "api/src/lib.rs", other), "{other}");
        }
    }

    #[test]
    fn a_path_of_one_machine_is_found_and_the_middle_of_a_path_is_not() {
        let check = no_path_of_somebodys_machine;
        assert!(trips(check, "a.md", concat!("see /ho", "me/ann/x")));
        assert!(trips(check, "a.sh", concat!("cd \"/wo", "rk/main\"")));
        assert!(!trips(check, "a.md", concat!("see crates/wo", "rk/x and https://a.b/ho", "me/x")));
    }

    #[test]
    fn a_registry_host_is_found_but_in_the_lock_file() {
        let text = concat!("from https://index.crates", ".io/ it comes");
        assert!(trips(no_registry_host, "README.md", text));
        assert!(!trips(no_registry_host, "Cargo.lock", text));
    }

    #[test]
    fn an_allow_attribute_is_found() {
        assert!(trips(no_allow_attribute, "a.rs", concat!("#[al", "low(dead_code)]")));
        assert!(trips(no_allow_attribute, "a.rs", concat!("#![al", "low(dead_code)]")));
        assert!(!trips(no_allow_attribute, "a.rs", "#[expect(dead_code, reason = \"b\")]"));
    }

    #[test]
    fn a_note_of_work_left_is_found_and_part_of_a_word_is_not() {
        assert!(trips(no_note_of_work_left, "a.rs", concat!("// TO", "DO: later")));
        assert!(trips(no_note_of_work_left, "a.sql", concat!("-- FIX", "ME")));
        assert!(!trips(no_note_of_work_left, "a.sh", concat!("mktemp a.XX", "XXXX")));
    }

    #[test]
    fn invisible_space_is_found() {
        assert!(trips(no_tab_or_trailing_space, "a.sql", "a \nb\n"));
        assert!(trips(no_tab_or_trailing_space, "a.rs", "\ta\n"));
        assert!(trips(no_tab_or_trailing_space, "a.md", "a\r\n"));
        assert!(!trips(no_tab_or_trailing_space, "Makefile", "\ta\n"));
    }

    #[test]
    fn a_hidden_input_is_found_outside_its_homes() {
        for text in ["let t = Utc::now();", "Uuid::new_v4()", "std::env::var(\"A\")", "env::vars()"] {
            assert!(trips(no_hidden_input, "api/src/lib.rs", text), "{text}");
            assert!(!trips(no_hidden_input, "crates/common/src/clock.rs", text), "{text}");
        }
        assert!(!trips(no_hidden_input, "api/src/lib.rs", "// not Utc::now()"));
    }

    #[test]
    fn a_finding_names_the_line() {
        let found = no_allow_attribute(&Tree::of(&[("a.rs", concat!("\n\n#[al", "low(x)]\n"))]));
        assert_eq!(found[0].place, "a.rs:3");
    }
}
