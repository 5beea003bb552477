//! Passwords from the terminal, where nobody sees them, or from standard input. Never from an argument, which every user
//! of the machine can see.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use anyhow::{Context as _, bail};
use nix::sys::termios::{LocalFlags, SetArg, tcgetattr, tcsetattr};

/// Asks twice on a terminal, unless the password is to come from standard input; there it is the first line.
pub(super) fn read(from_stdin: bool) -> anyhow::Result<String> {
    if from_stdin || !io::stdin().is_terminal() {
        let password = line()?;
        if password.is_empty() {
            bail!("--password-stdin: there was no password on standard input");
        }
        return Ok(password);
    }
    let first = ask("Password: ")?;
    if ask("The same again: ")? != first {
        bail!("the two are not the same; nothing was changed");
    }
    Ok(first)
}

fn ask(prompt: &str) -> anyhow::Result<String> {
    let mut out = io::stderr();
    write!(out, "{prompt}")?;
    out.flush()?;
    let said = unseen(line);
    // What was typed to end the line was not shown either.
    writeln!(out)?;
    said
}

/// With the terminal's echo off.
fn unseen<T>(read: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
    let stdin = io::stdin();
    let before = tcgetattr(&stdin).context("the terminal cannot be asked")?;
    let mut silent = before.clone();
    silent.local_flags.remove(LocalFlags::ECHO);
    tcsetattr(&stdin, SetArg::TCSAFLUSH, &silent).context("the terminal's echo cannot be turned off")?;
    let said = read();
    tcsetattr(&stdin, SetArg::TCSAFLUSH, &before).context("the terminal's echo cannot be turned on again")?;
    said
}

fn line() -> anyhow::Result<String> {
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line).context("standard input cannot be read")?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}
