//! The image: pinned bases, nobody's root, a healthcheck, no secrets.

use super::Finding;
use super::compose::is_pinned;
use super::features::CRASH_POINTS;
use super::tree::Tree;

const FILE: &str = "Dockerfile";
const IGNORE: &str = ".dockerignore";
/// What must stay out of the build: large, or secret.
const IGNORED: [&str; 4] = ["target", "data", ".git", ".env"];

/// Every rule for the Dockerfile and what it copies.
pub fn the_image_is_sound(tree: &Tree) -> Vec<Finding> {
    let text = |path: &str| tree.files.iter().find(|file| file.path == path).map(|file| file.text.as_str());
    let Some(dockerfile) = text(FILE) else { return Vec::new() };
    let instructions = instructions(dockerfile);
    let mut problems = bases(&instructions);
    problems.extend(last_stage(&instructions));
    problems.extend(instructions.iter().filter_map(secret));
    problems.extend(instructions.iter().filter_map(packages));
    problems.extend(instructions.iter().filter_map(build));
    let ignored: Vec<&str> = text(IGNORE).unwrap_or_default().lines().collect();
    let missing = IGNORED.iter().filter(|name| !ignored.contains(name));
    problems.extend(missing.map(|name| format!("{IGNORE} does not leave out {name}")));
    problems.into_iter().map(|problem| Finding::error(FILE, problem)).collect()
}

/// A word in capitals and what it is told, on one line.
type Instruction = (String, String);

fn instructions(text: &str) -> Vec<Instruction> {
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim_start().starts_with('#')).collect();
    let joined = lines.join("\n").replace("\\\n", " ");
    let words = joined.lines().filter_map(|line| line.trim().split_once(' '));
    words.map(|(word, rest)| (word.to_uppercase(), rest.trim().to_owned())).collect()
}

/// Each base is pinned, or is a stage above.
fn bases(instructions: &[Instruction]) -> Vec<String> {
    let (mut problems, mut stages) = (Vec::new(), Vec::new());
    for (_, rest) in instructions.iter().filter(|(word, _)| word == "FROM") {
        let mut words = rest.split_whitespace();
        let base = words.next().unwrap_or_default();
        if !stages.contains(&base) && !is_pinned(base) {
            problems.push(format!("{base} is not pinned to a version"));
        }
        stages.extend(words.nth(1));
    }
    problems
}

fn last_stage(instructions: &[Instruction]) -> Vec<String> {
    let from = instructions.iter().rposition(|(word, _)| word == "FROM").unwrap_or(0);
    let last = |wanted: &str| instructions[from..].iter().rfind(|(word, _)| word == wanted);
    let mut problems = Vec::new();
    match last("USER") {
        None => problems.push("the image runs as root: it has no USER".to_owned()),
        Some((_, user)) if matches!(user.split(':').next(), Some("root" | "0")) => {
            problems.push("the image runs as root".to_owned());
        }
        Some(_) => {}
    }
    if last("HEALTHCHECK").is_none_or(|(_, check)| check == "NONE") {
        problems.push("the image has no HEALTHCHECK".to_owned());
    }
    problems
}

/// A layer is readable by whoever has the image.
fn secret((word, rest): &Instruction) -> Option<String> {
    if word != "ENV" && word != "ARG" {
        return None;
    }
    let is_secret =
        |name: &str| ["PASSWORD", "SECRET", "TOKEN", "_KEY"].iter().any(|part| name.contains(part));
    let names = rest.split_whitespace().map(|pair| pair.split('=').next().unwrap_or_default());
    names
        .into_iter()
        .find(|name| is_secret(name))
        .map(|name| format!("{word} {name} puts a secret into a layer"))
}

fn packages((word, rest): &Instruction) -> Option<String> {
    let installs = word == "RUN" && rest.contains("apt-get install");
    let tidy = rest.contains("--no-install-recommends") && rest.contains("rm -rf /var/lib/apt/lists/*");
    (installs && !tidy)
        .then(|| "apt-get install without --no-install-recommends, or without deleting its lists".to_owned())
}

/// Cargo adds up the features of all packages it builds together, so those for tests stay out only when the product is
/// built alone.
fn build((word, rest): &Instruction) -> Option<String> {
    let mut words = rest.split_whitespace().skip_while(|word| *word != "cargo").skip(1);
    if word != "RUN" || words.next() != Some("build") {
        return None;
    }
    let words: Vec<&str> = words.take_while(|word| !["&&", "||", ";"].contains(word)).collect();
    let after = |names: [&str; 2]| {
        let pairs = words.windows(2).filter(move |pair| names.contains(&pair[0]));
        pairs.map(|pair| pair[1]).collect::<Vec<_>>()
    };
    let alone = after(["--package", "-p"]) == ["taskpost"];
    let asked = after(["--features", "-F"]).iter().any(|features| features.contains(CRASH_POINTS));
    (!alone || asked || words.contains(&"--all-features"))
        .then(|| format!("cargo build is not of taskpost alone without {CRASH_POINTS}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FINE: &str = "# syntax=docker/dockerfile:1.7\nFROM rust:1.95 AS build\nRUN apt-get install -y \\\n    # why\n    \
                        --no-install-recommends a && rm -rf /var/lib/apt/lists/*\nFROM build AS more\n\
                        RUN touch a \\\n && cargo build --release --package taskpost --features kafka-tls\n\
                        FROM debian:bookworm-slim\nUSER taskpost\nENV A=b\nHEALTHCHECK CMD c\n";

    fn said(dockerfile: &str, ignore: &str) -> Vec<String> {
        let found = the_image_is_sound(&Tree::of(&[(FILE, dockerfile), (IGNORE, ignore)]));
        found.into_iter().map(|finding| finding.what).collect()
    }

    #[test]
    fn a_sound_image_is_fine_and_each_mistake_is_found() {
        let ignore = IGNORED.join("\n");
        assert_eq!(said(FINE, &ignore), Vec::<String>::new());
        for (right, wrong, expected) in [
            ("rust:1.95", "rust:latest", "rust:latest is not pinned"),
            ("FROM build", "FROM rust", "rust is not pinned"),
            ("USER taskpost", "USER root", "the image runs as root"),
            ("USER taskpost\n", "", "the image runs as root: it has no USER"),
            ("HEALTHCHECK CMD c", "HEALTHCHECK NONE", "the image has no HEALTHCHECK"),
            ("ENV A=b", "ENV A=b JWT_SECRET=c", "ENV JWT_SECRET puts a secret"),
            ("ENV A=b", "ARG DB_PASSWORD", "ARG DB_PASSWORD puts a secret"),
            ("--no-install-recommends", "", "apt-get install without"),
            ("--package taskpost", "--workspace", "cargo build is not of taskpost alone"),
            ("--package taskpost", "-p taskpost -p taskpost-testkit", "cargo build is not of taskpost alone"),
            (
                "kafka-tls",
                "kafka-tls,crash-points",
                "cargo build is not of taskpost alone without crash-points",
            ),
            ("--release", "--release --all-features", "cargo build is not of taskpost alone"),
        ] {
            assert!(FINE.contains(right), "{right}");
            let found = said(&FINE.replace(right, wrong), &ignore);
            assert!(found.iter().any(|what| what.starts_with(expected)), "{expected}: {found:?}");
        }
        assert_eq!(said(FINE, "target\ndata\n.git"), [".dockerignore does not leave out .env"]);
    }
}
