//! `cargo xtask drill`: the services, the drill's own program against them, and the services put in order again.

use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use crate::binaries::{self, BINARY};
use crate::exit::Exit;
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
        return show(&mut drill);
    }
    let services = services::up(workspace, &[], progress)?;
    services::name(workspace, &mut drill, &services)?;
    progress.step("the drill");
    let result = show(&mut drill);
    let restored = services::restore(workspace, progress).context("after the drill");
    if let (Err(_), Err(error)) = (&result, &restored) {
        eprintln!("error: {error:#}");
    }
    result.and(restored)
}

fn show(drill: &mut Command) -> Result<()> {
    let status = drill.stdin(Stdio::null()).status().context("could not run the drill")?;
    if status.success() {
        return Ok(());
    }
    let code = status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1);
    Err(Exit::with(code, format!("the drill failed ({status})")).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_exit_code_is_ours() {
        let ended = |script: &str| show(Command::new("sh").args(["-c", script]));
        assert!(ended("exit 0").is_ok());
        for (script, expected) in [("exit 7", 7), ("kill -9 $$", 1)] {
            let error = ended(script).unwrap_err();
            assert_eq!(error.downcast_ref().map(|exit: &Exit| exit.code), Some(expected), "{error}");
        }
    }
}
