//! The only reader of environment variables in xtask.

use std::ffi::OsString;
use std::process::Command;

/// The variable's value, or none when it is unset or empty.
#[expect(clippy::disallowed_methods, reason = "xtask has no config to take settings from")]
pub fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// The folders programs are looked for in.
pub fn search_path() -> Vec<std::path::PathBuf> {
    variable("PATH").map(|path| std::env::split_paths(&path).collect()).unwrap_or_default()
}

/// Keeps every variable whose name starts so from the command.
#[expect(clippy::disallowed_methods, reason = "xtask has no config to take settings from")]
pub fn hide_all(command: &mut Command, prefix: &str) {
    let names: Vec<OsString> = std::env::vars_os().map(|(name, _)| name).collect();
    for name in names.iter().filter(|name| name.to_string_lossy().starts_with(prefix)) {
        command.env_remove(name);
    }
}
