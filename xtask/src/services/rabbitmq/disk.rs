//! A disk that RabbitMQ takes for full: it is told to want more free space than any disk has.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::{LIMITS, node, programs};
use crate::process;
use crate::services::account::Account;
use crate::services::disk::Disk;
use crate::services::native::{Prepared, Processes};
use crate::services::state::State;

/// How long `rabbitmqctl` may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Does it, and says what RabbitMQ has now.
pub fn change(disk: Disk, state: &State) -> Result<&'static str> {
    match disk {
        Disk::Small => bail!("rabbitmq needs no small disk; it is told that the one it has is full"),
        Disk::Full => {
            demand(state, "9999GB")?;
            Ok("takes its disk for full, and nobody may publish")
        }
        Disk::Free | Disk::Normal => {
            demand(state, configured().context("no limit is configured")?)?;
            Ok("has room on its disk")
        }
    }
}

/// The alarm goes on or off before this returns.
fn demand(state: &State, free: &str) -> Result<()> {
    const NOT_UP: &str = "rabbitmq does not run; `cargo xtask services up rabbitmq`";
    let home = state.home.as_deref().context(NOT_UP)?;
    ensure!(Processes::of(home)?.main.is_some(), NOT_UP);
    let prepared = Prepared { program: programs::control()?, home, account: Account::owner_of(home)?, state };
    let mut control = prepared.helper(&prepared.program);
    node(&mut control, &prepared)?;
    control.env("RABBITMQ_CTL_ERL_ARGS", super::LOCAL_ONLY);
    // A frozen node would keep it waiting for five minutes.
    let outcome = process::capture_within(control.args(["set_disk_free_limit", free]), PATIENCE);
    let outcome = outcome.context("rabbitmq does not answer rabbitmqctl")?;
    ensure!(outcome.ok, "rabbitmqctl says: {}", outcome.said());
    Ok(())
}

fn configured() -> Option<&'static str> {
    LIMITS.lines().find_map(|line| line.strip_prefix("disk_free_limit.absolute = "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_goes_back_to_what_the_file_says() {
        assert!(configured().unwrap().ends_with("MB"));
    }
}
