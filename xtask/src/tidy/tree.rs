//! What the checks look at: the text git has or would have, and the crates cargo knows.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Command;

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::process;
use crate::workspace::Workspace;

/// One state of the repository.
#[derive(Default)]
pub struct Tree {
    /// Its text files.
    pub files: Vec<TextFile>,
    /// The paths of all its files and folders.
    pub paths: BTreeSet<String>,
    /// Its crates.
    pub packages: Vec<Package>,
}

/// A file and what is in it.
pub struct TextFile {
    /// Relative to the root.
    pub path: String,
    /// The whole of it.
    pub text: String,
}

/// A crate of the workspace.
#[derive(Deserialize)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// What its Cargo.toml names.
    pub dependencies: Vec<Dependency>,
    /// Its features, and what each turns on.
    pub features: BTreeMap<String, Vec<String>>,
}

/// A line of a Cargo.toml.
#[derive(Deserialize)]
pub struct Dependency {
    /// The crate's real name, whatever it is called here.
    pub name: String,
    /// None is a normal one; else `dev` or `build`.
    pub kind: Option<String>,
    /// The features it is asked for.
    pub features: Vec<String>,
}

impl Tree {
    /// Reads the checkout.
    pub fn read(workspace: &Workspace) -> Result<Self> {
        let mut git = Command::new("git");
        git.current_dir(&workspace.root);
        git.args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
        let listed =
            process::must(&mut git).context("tidy looks at the files git knows; run it in a git checkout")?;
        let mut tree = Self { packages: packages(workspace)?, ..Self::default() };
        for path in listed.split('\0').filter(|path| !path.is_empty()) {
            // A file that is listed but gone is being deleted; one that is not UTF-8 is no text.
            let Ok(bytes) = fs::read(workspace.root.join(path)) else { continue };
            tree.add(path, String::from_utf8(bytes).ok());
        }
        Ok(tree)
    }

    fn add(&mut self, path: &str, text: Option<String>) {
        let folders = path.match_indices('/').map(|(end, _)| path[..end].to_owned());
        self.paths.extend(folders);
        self.paths.insert(path.to_owned());
        if let Some(text) = text {
            self.files.push(TextFile { path: path.to_owned(), text });
        }
    }

    /// The files with one of these extensions.
    pub fn with_extension<'a>(&'a self, extensions: &'a [&str]) -> impl Iterator<Item = &'a TextFile> {
        self.files.iter().filter(|file| extensions.contains(&file.extension()))
    }
}

impl TextFile {
    /// What follows the last dot of its name.
    pub fn extension(&self) -> &str {
        let name = self.path.rsplit('/').next().unwrap_or_default();
        name.rsplit_once('.').map_or("", |(_, extension)| extension)
    }

    /// `path:line` of a place in the text.
    pub fn place(&self, offset: usize) -> String {
        let line = 1 + self.text[..offset].matches('\n').count();
        format!("{}:{line}", self.path)
    }

    /// Its lines, each with its offset.
    pub fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        let mut offset = 0;
        self.text.split_inclusive('\n').map(move |line| {
            let start = offset;
            offset += line.len();
            (start, line.trim_end_matches('\n'))
        })
    }
}

fn packages(workspace: &Workspace) -> Result<Vec<Package>> {
    #[derive(Deserialize)]
    struct Metadata {
        packages: Vec<Package>,
    }
    let json = process::must(workspace.cargo("metadata").args(["--no-deps", "--format-version", "1"]))?;
    let metadata: Metadata = serde_json::from_str(&json).context("could not read `cargo metadata`")?;
    Ok(metadata.packages)
}

#[cfg(test)]
impl Tree {
    /// A tree of these files.
    pub fn of(files: &[(&str, &str)]) -> Self {
        let mut tree = Self::default();
        for (path, text) in files {
            tree.add(path, Some((*text).to_owned()));
        }
        tree
    }

    /// A tree of these crates: "a: b c" is a crate with two dependencies, of which "dev=c" is a dev-dependency and
    /// "c+f" one with a feature.
    pub fn of_packages(lines: &[&str]) -> Self {
        let dependency = |word: &str| {
            let (kind, rest) = word.split_once('=').map_or((None, word), |(kind, rest)| (Some(kind), rest));
            let mut words = rest.split('+').map(str::to_owned);
            let name = words.next().unwrap();
            Dependency { name, kind: kind.map(str::to_owned), features: words.collect() }
        };
        let package = |line: &&str| {
            let (name, rest) = line.split_once(':').unwrap();
            let dependencies = rest.split_whitespace().map(dependency).collect();
            Package { name: name.to_owned(), dependencies, features: BTreeMap::new() }
        };
        Self { packages: lines.iter().map(package).collect(), ..Self::default() }
    }
}
