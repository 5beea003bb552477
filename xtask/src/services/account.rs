//! Under whose name a server runs. None runs as root: some refuse to, so as root they get
//! another account.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::process;
use crate::progress::Progress;
use crate::workspace::Workspace;

/// A user of this machine; none is the one who runs xtask.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Account(Option<(u32, u32)>);

/// Whether we may act as other users.
pub fn we_are_root() -> bool {
    number_of("-u", None).is_some_and(|uid| uid == 0)
}

impl Account {
    /// Who should run a server: ourselves, or as root the user its package made, or `nobody`.
    pub fn for_server(preferred: &str) -> Result<Self> {
        if !we_are_root() {
            return Ok(Self(None));
        }
        let find = |name| Some((number_of("-u", Some(name))?, number_of("-g", Some(name))?));
        let found = find(preferred).or_else(|| find("nobody"));
        let missing =
            || format!("a server should not run as root, and there is no user {preferred} or nobody");
        Ok(Self(Some(found.with_context(missing)?)))
    }

    /// Who has run the server whose folder this is.
    pub fn owner_of(home: &Path) -> Result<Self> {
        let owner = fs::metadata(home).with_context(|| format!("could not look at {}", home.display()))?;
        if we_are_root() {
            return Ok(Self((owner.uid() != 0).then_some((owner.uid(), owner.gid()))));
        }
        let ours = number_of("-u", None) == Some(owner.uid());
        ensure!(ours, "{} belongs to another user; run this as that user", home.display());
        Ok(Self(None))
    }

    /// A command that runs as this user in this folder.
    pub fn command(self, program: impl AsRef<OsStr>, folder: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir(folder);
        if let Self(Some((uid, gid))) = self {
            command.uid(uid).gid(gid);
        }
        command
    }

    /// Gives a file or an empty folder to this user.
    pub fn give(self, path: &Path) -> Result<()> {
        if let Self(Some((uid, gid))) = self {
            chown(path, Some(uid), Some(gid))
                .with_context(|| format!("could not give {} away", path.display()))?;
        }
        Ok(())
    }

    /// Whether this user gets into the folder: every folder above it must let them through as well.
    pub fn can_enter(self, folder: &Path) -> bool {
        let mut enter = self.command("sh", Path::new("/"));
        enter.args(["-c", "cd -- \"$0\" && test -w ."]).arg(folder);
        process::capture(&mut enter).is_ok_and(|outcome| outcome.ok)
    }

    /// Makes the folder for a server's data: in the checkout, or where this user cannot get there (a checkout below
    /// root's own folder, say) in the system's temporary folder under a name of this checkout.
    pub fn make_home(self, workspace: &Workspace, service: &str, progress: &Progress) -> Result<PathBuf> {
        let near = workspace.service_folder(service).join("server");
        self.make(&near)?;
        if self.can_enter(&near) {
            return Ok(near);
        }
        fs::remove_dir_all(&near).with_context(|| format!("could not delete {}", near.display()))?;
        let above = std::env::temp_dir().join(workspace.tag());
        make_folder(&above, 0o755)?;
        let owner = fs::symlink_metadata(&above)?;
        let ours = owner.is_dir() && number_of("-u", None) == Some(owner.uid());
        ensure!(ours, "{} belongs to somebody else; delete it or set TMPDIR", above.display());
        let far = above.join(service);
        self.make(&far)?;
        ensure!(self.can_enter(&far), "the server's user cannot enter {}; set TMPDIR", far.display());
        progress.step(&format!(
            "{service}: its user cannot enter the checkout, so its data goes to {}",
            far.display()
        ));
        Ok(far)
    }

    fn make(self, folder: &Path) -> Result<()> {
        make_folder(folder, 0o700)?;
        self.give(folder)
    }
}

fn make_folder(folder: &Path, mode: u32) -> Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(folder)
        .with_context(|| format!("could not create {}", folder.display()))
}

/// `id -u` or `id -g`, of us or of somebody.
fn number_of(which: &str, name: Option<&str>) -> Option<u32> {
    let id = process::capture(Command::new("id").arg(which).args(name)).ok()?;
    id.stdout.parse().ok().filter(|_| id.ok)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_below_a_closed_one_cannot_be_entered_by_another_user() {
        let closed = std::env::temp_dir().join(format!("xtask-closed-{}", std::process::id()));
        let home = closed.join("home");
        make_folder(&closed, 0o700).unwrap();
        let account = Account::for_server("nobody").unwrap();
        account.make(&home).unwrap();
        // As anybody but root the server runs as ourselves, and gets in.
        assert_eq!(account.can_enter(&home), !we_are_root());
        assert_eq!(Account::owner_of(&home).unwrap(), account);
        fs::remove_dir_all(&closed).unwrap();
    }
}
