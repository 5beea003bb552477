//! `cargo xtask drill`: the services, the drill's own program against them, and the services put in order again.

use std::process::Command;

use anyhow::{Context, Result};

use crate::binaries::{self, BINARY};
use crate::process;
use crate::progress::Progress;
use crate::services;
use crate::workspace::Workspace;

/// What `cargo xtask drill` may be told: whatever the drill itself may be told.
#[derive(clap::Args, Default)]
#[command(disable_help_flag = true)]
pub struct Options {
    /// `--help` says what there is; `--release` drills the product as it is released, but for its crash points
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "OPTIONS")]
    words: Vec<String>,
}

impl Options {
    /// The short set, the same each time.
    pub fn short() -> Self {
        Self { words: ["--short", "--seed", "1"].map(str::to_owned).into() }
    }

    fn say(&self, word: &str) -> bool {
        self.words.iter().any(|said| said == word)
    }
}

/// Runs the drill. Its exit code becomes ours, and whatever it did to the services is undone.
pub fn run(workspace: &Workspace, options: &Options, progress: &Progress) -> Result<()> {
    let only_tells = ["--list", "--help", "-h"].iter().any(|word| options.say(word));
    if !only_tells {
        services::must_be_ours(workspace)?;
    }
    let folder = binaries::build(workspace, &["taskpost", "drill"], options.say("--release"), progress)?;
    let mut drill = Command::new(folder.join("drill"));
    drill.current_dir(&workspace.root).args(&options.words).env(BINARY, folder.join("taskpost"));
    if only_tells {
        return process::hand_over(&mut drill, "the drill");
    }
    let services = services::up(workspace, &[], progress)?;
    services::name(workspace, &mut drill, &services)?;
    progress.step("the drill");
    let result = process::hand_over(&mut drill, "the drill");
    let restored = services::restore(workspace, progress).context("after the drill");
    if let (Err(_), Err(error)) = (&result, &restored) {
        eprintln!("error: {error:#}");
    }
    result.and(restored)
}
