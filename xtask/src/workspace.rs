//! Where this checkout is, and cargo as it should be called from inside a `cargo run`.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::environment;
use crate::process;

/// Tells an xtask that tests call which checkout's services they were given.
pub const CHECKOUT: &str = "TASKPOST_XTASK_CHECKOUT";

/// This checkout.
pub struct Workspace {
    /// The folder with the workspace's Cargo.toml.
    pub root: PathBuf,
}

impl Workspace {
    /// The checkout whose tests call us, else that of the crate cargo runs, else the one xtask was built from.
    pub fn find() -> Result<Self> {
        let said = [CHECKOUT, "CARGO_MANIFEST_DIR"].into_iter().find_map(environment::variable);
        let package = said.map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
        let root = package.ancestors().find(|folder| folder.join("Cargo.lock").is_file());
        let root = root.with_context(|| {
            format!("{} is not in a workspace; run `cargo xtask` in the checkout", package.display())
        })?;
        Ok(Self { root: root.to_path_buf() })
    }

    /// `cargo <subcommand>` in the root. What the outer `cargo run` told xtask about itself is hidden, so that build
    /// scripts do not take it for a change.
    pub fn cargo(&self, subcommand: &str) -> Command {
        let mut cargo = Command::new(environment::variable("CARGO").unwrap_or_else(|| "cargo".to_owned()));
        for prefix in ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_NAME", "CARGO_CRATE_NAME"] {
            environment::hide_all(&mut cargo, prefix);
        }
        cargo.current_dir(&self.root).arg(subcommand);
        cargo
    }

    /// The names of a package's integration tests.
    pub fn test_targets(&self, package: &str) -> Result<Vec<String>> {
        let found = self.metadata()?.packages.into_iter().find(|found| found.name == package);
        let targets = found.with_context(|| format!("there is no package {package}"))?.targets;
        let tests = targets.into_iter().filter(|target| target.kind.iter().any(|kind| kind == "test"));
        Ok(tests.map(|target| target.name).collect())
    }

    /// Where cargo puts what it builds.
    pub fn target_folder(&self) -> Result<PathBuf> {
        Ok(self.metadata()?.target_directory)
    }

    fn metadata(&self) -> Result<Metadata> {
        let json = process::must(self.cargo("metadata").args(["--no-deps", "--format-version", "1"]))?;
        serde_json::from_str(&json).context("could not read `cargo metadata`")
    }

    /// The folder of one service: its state, and its data where possible.
    pub fn service_folder(&self, service: &str) -> PathBuf {
        self.services_folder().join(service)
    }

    /// The folder of all services.
    pub fn services_folder(&self) -> PathBuf {
        self.root.join("target").join("services")
    }

    /// A short name that differs between checkouts and stays the same for one.
    pub fn tag(&self) -> String {
        format!("taskpost-{:016x}", fnv1a(&self.root))
    }
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    target_directory: PathBuf,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    targets: Vec<Target>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
}

/// FNV-1a: unlike the standard library's hasher it is the same under every compiler.
fn fnv1a(path: &Path) -> u64 {
    path.as_os_str()
        .as_encoded_bytes()
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checkouts_have_different_tags() {
        let tag = |root: &str| Workspace { root: PathBuf::from(root) }.tag();
        assert_eq!(tag("a/b"), tag("a/b"));
        assert_ne!(tag("a/b"), tag("a/c"));
        assert_eq!(fnv1a(Path::new("a")), 0xaf63_dc4c_8601_ec8c);
    }
}
