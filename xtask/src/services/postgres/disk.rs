//! A disk that can be filled: a tmpfs of its own, in it a tablespace `small`. Tables go there by
//! `default_tablespace = small`; the rest of the cluster, its WAL included, never notices.
//!
//! A cluster whose tmpfs is gone, after a restart of the machine, starts all the same. For that the folder stays: a
//! server that recovers repeats what it finds in its log, and wants the folder of a tablespace even when it is dropped.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::{Cluster, existing};
use crate::exit::Exit;
use crate::process;
use crate::services::account::{Account, we_are_root};
use crate::services::disk::Disk;
use crate::services::state::State;

const SIZE: &str = "64m";
/// The file that takes the room.
const BALLAST: &str = "ballast";

/// What crashed runs left in the tablespace goes with its schema.
const CLEAR: &str = "
    DO $$
    DECLARE
        left_over text;
    BEGIN
        FOR left_over IN
            SELECT DISTINCT quote_ident(nspname)
            FROM pg_class
            JOIN pg_namespace ON pg_namespace.oid = relnamespace
            JOIN pg_tablespace ON pg_tablespace.oid = reltablespace
            WHERE spcname = 'small' AND relkind IN ('r', 'p', 'm') AND nspname <> 'public'
        LOOP
            EXECUTE 'DROP SCHEMA ' || left_over || ' CASCADE';
        END LOOP;
    END $$";
const DROP: &str = "DROP TABLESPACE IF EXISTS small";
/// From here on a recovery does not repeat what was done to the tablespace.
const SETTLE: &str = "CHECKPOINT";

/// Does it, and says what Postgres has now.
pub fn change(disk: Disk, state: &State) -> Result<&'static str> {
    let (cluster, place) = (existing(state)?.context("postgres has no data yet")?, place(state)?);
    match disk {
        Disk::Small => {
            remove(&cluster, state, &place)?;
            make(&cluster, state, &place)?;
            Ok("has a fresh tablespace `small`")
        }
        Disk::Full => {
            fill(&place)?;
            Ok("its tablespace `small` is full")
        }
        Disk::Free => {
            empty(&place)?;
            Ok("its tablespace `small` has room")
        }
        Disk::Normal => {
            remove(&cluster, state, &place)?;
            Ok("has no tablespace `small`")
        }
    }
}

/// Takes the tmpfs away from a server that is about to be deleted.
pub fn forget(state: &State) -> Result<()> {
    match &state.home {
        Some(_) => unmount(&place(state)?),
        None => Ok(()),
    }
}

fn place(state: &State) -> Result<PathBuf> {
    Ok(state.home.as_deref().context("postgres runs elsewhere")?.join("small"))
}

fn make(cluster: &Cluster, state: &State, place: &Path) -> Result<()> {
    let location = place.to_str().filter(|path| !path.contains(['\'', '\\']));
    let location = location.context("the folder's name cannot be told to Postgres")?;
    if !we_are_root() {
        return Err(Exit::not_here("only root may mount a small disk for postgres").into());
    }
    fs::create_dir_all(place).with_context(|| format!("could not create {}", place.display()))?;
    let account = Account::owner_of(place.parent().unwrap_or(place))?;
    account.give(place)?;
    let options = format!("size={SIZE},mode=0700");
    let mut mount = Command::new("mount");
    let mounted = process::capture(mount.args(["-t", "tmpfs", "-o", &options, "taskpost-small"]).arg(place));
    match mounted {
        Ok(outcome) if outcome.ok => {}
        Ok(outcome) => {
            return Err(Exit::not_here(format!("no small disk can be mounted: {}", outcome.said())).into());
        }
        Err(error) => return Err(Exit::not_here(format!("no small disk can be mounted: {error:#}")).into()),
    }
    account.give(place)?;
    cluster.tell(state, &[&format!("CREATE TABLESPACE small LOCATION '{location}'"), SETTLE])
}

fn remove(cluster: &Cluster, state: &State, place: &Path) -> Result<()> {
    cluster
        .tell(state, &["SET lock_timeout = '10s'", CLEAR, DROP, SETTLE])
        .context("the tablespace `small` cannot be dropped")?;
    unmount(place)
}

/// A backend may keep a file open for a while that is deleted already, so the disk goes when the last one lets go.
fn unmount(place: &Path) -> Result<()> {
    if is_mounted(place) {
        process::must(Command::new("umount").arg("--lazy").arg(place))?;
    }
    Ok(())
}

fn fill(place: &Path) -> Result<()> {
    must_be_mounted(place)?;
    let path = place.join(BALLAST);
    let mut ballast = OpenOptions::new().append(true).create(true).open(&path)?;
    let block = vec![0; 1 << 16];
    loop {
        match ballast.write(&block) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::StorageFull => return Ok(()),
            Err(error) => return Err(error).with_context(|| format!("could not write {}", path.display())),
        }
    }
}

fn empty(place: &Path) -> Result<()> {
    must_be_mounted(place)?;
    match fs::remove_file(place.join(BALLAST)) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error).context("could not make room"),
        _ => Ok(()),
    }
}

fn must_be_mounted(place: &Path) -> Result<()> {
    ensure!(
        is_mounted(place),
        "postgres has no small disk; `cargo xtask services disk small postgres` makes one"
    );
    Ok(())
}

/// Whether it is another disk than the folder it is in.
fn is_mounted(place: &Path) -> bool {
    let device = |path: &Path| fs::metadata(path).map(|found| found.dev()).ok();
    device(place).is_some_and(|found| place.parent().and_then(device) != Some(found))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machines_own_disk_is_never_filled() {
        let folder = std::env::temp_dir().join(format!("xtask-small-{}", std::process::id()));
        let place = folder.join("small");
        fs::create_dir_all(&place).unwrap();
        assert!(fill(&place).unwrap_err().to_string().contains("has no small disk"));
        assert!(empty(&place).is_err());
        assert_eq!(fs::read_dir(&place).unwrap().count(), 0);
        unmount(&place).unwrap();
        fs::remove_dir_all(&folder).unwrap();
    }
}
