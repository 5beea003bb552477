//! `cargo xtask drill`: the services, the drill's own program against them, and the services put in order again.

use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use crate::binaries::{self, BINARY};
use crate::exit::Exit;
use crate::progress::Progress;
use crate::services;
use crate::workspace::Workspace;

/// What `cargo xtask drill` may be told.
#[derive(clap::Args, Default)]
pub struct Options {
    /// Where every random choice comes from; without it one is drawn, and printed
    #[arg(long)]
    seed: Option<u64>,
    /// Only the cases whose name contains this
    #[arg(long)]
    case: Option<String>,
    /// Random cases, again and again for so many minutes, instead of each in its turn
    #[arg(long)]
    minutes: Option<u64>,
    /// The short set that is part of `cargo xtask test`
    #[arg(long)]
    short: bool,
    /// Say which cases there are, and do nothing
    #[arg(long)]
    list: bool,
    /// With the product as it is released, but for the places where it may be made to crash
    #[arg(long)]
    release: bool,
}

impl Options {
    /// The short set, the same each time.
    pub fn short() -> Self {
        Self { short: true, seed: Some(1), ..Self::default() }
    }

    /// The same for the drill itself.
    fn arguments(&self) -> Vec<String> {
        let mut words = Vec::new();
        let mut tell = |name: &str, value: Option<String>| {
            words.extend(value.map(|value| [format!("--{name}"), value]).into_iter().flatten());
        };
        tell("seed", self.seed.map(|seed| seed.to_string()));
        tell("case", self.case.clone());
        tell("minutes", self.minutes.map(|minutes| minutes.to_string()));
        let switches = [("--short", self.short), ("--list", self.list)];
        words.extend(switches.iter().filter(|(_, on)| *on).map(|(name, _)| (*name).to_owned()));
        words
    }
}

/// Runs the drill. Its exit code becomes ours, and whatever it did to the services is undone.
pub fn run(workspace: &Workspace, options: &Options, progress: &Progress) -> Result<()> {
    if !options.list {
        services::must_be_ours(workspace)?;
    }
    let folder = binaries::build(workspace, &["taskpost", "drill"], options.release, progress)?;
    let mut drill = Command::new(folder.join("drill"));
    drill.current_dir(&workspace.root).args(options.arguments()).env(BINARY, folder.join("taskpost"));
    if options.list {
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
    fn the_drill_is_told_what_we_were_told() {
        let all = Options {
            seed: Some(7),
            case: Some("kill-kafka".to_owned()),
            minutes: Some(30),
            list: true,
            release: true,
            ..Options::short()
        };
        assert_eq!(all.arguments().join(" "), "--seed 7 --case kill-kafka --minutes 30 --short --list");
        assert_eq!(Options::default().arguments(), Vec::<String>::new());
    }

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
