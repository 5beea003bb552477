//! Where variables come from: the environment, else a `.env` in the working folder.

use std::collections::HashMap;

use anyhow::Context;
use taskpost_common::config::Config;

/// The configuration in force.
pub fn config() -> anyhow::Result<Config> {
    let file = dot_env()?;
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
    let environment = |name: &str| std::env::var(name).ok();
    Ok(Config::load_over(environment, |name| file.get(name).cloned())?)
}

fn dot_env() -> anyhow::Result<HashMap<String, String>> {
    match dotenvy::from_path_iter(".env") {
        Ok(lines) => lines.collect::<Result<_, _>>().context(".env: a line is not NAME=value"),
        Err(error) if error.not_found() => Ok(HashMap::new()),
        Err(error) => Err(error).context(".env: cannot be read"),
    }
}
