//! Which processes belong to a server.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::Result;

use crate::process;
use crate::services::account::Account;

/// The variable every process of a server has inherited; its value is the server's folder.
pub const MARK: &str = "TASKPOST_SERVICE_HOME";

/// The file in that folder with the number of the process that was started.
pub const PID_FILE: &str = "server.pid";

/// The processes of one server; empty when it is not running.
#[derive(Default, PartialEq, Eq, Debug)]
pub struct Processes {
    /// The one that was started, while it lives.
    pub main: Option<u32>,
    /// All of them.
    pub all: Vec<u32>,
}

impl Processes {
    /// The processes of the server whose folder this is. A zombie is none: it has no environment any more.
    pub fn of(home: &Path) -> Result<Self> {
        let candidates: Vec<String> = table().keys().map(|pid| format!("/proc/{pid}/environ")).collect();
        // Asked as the server's own user: in a container even root may not read another's environment.
        let mut grep = Account::owner_of(home)?.command("grep", Path::new("/"));
        grep.args([
            "--files-with-matches",
            "--null-data",
            "--line-regexp",
            "--fixed-strings",
            "--no-messages",
        ]);
        grep.arg("-e").arg(format!("{MARK}={}", home.display())).arg("--").args(candidates);
        let pid_in = |path: &str| path.strip_prefix("/proc/")?.strip_suffix("/environ")?.parse().ok();
        let all: Vec<u32> = process::capture(&mut grep)?.stdout.lines().filter_map(pid_in).collect();
        let started = fs::read_to_string(home.join(PID_FILE)).ok().and_then(|pid| pid.trim().parse().ok());
        Ok(Self { main: started.filter(|pid| all.contains(pid)), all })
    }

    /// A process and the living ones it has started.
    pub fn with_children(main: u32) -> Self {
        let alive = |stat: &Stat| stat.state != 'Z';
        let table = table();
        let children = table.iter().filter(|(_, stat)| stat.parent == main && alive(stat));
        let all = table.get_key_value(&main).filter(|(_, stat)| alive(stat)).into_iter().chain(children);
        Self { main: Some(main), all: all.map(|(pid, _)| *pid).collect() }
    }

    /// Whether they are stopped by a signal.
    pub fn are_paused(&self) -> bool {
        self.main.and_then(stat).is_some_and(|stat| stat.state == 'T')
    }
}

/// Whether the process is there and does or could do something.
pub fn lives(pid: u32) -> bool {
    stat(pid).is_some_and(|stat| stat.state != 'Z')
}

#[derive(PartialEq, Eq, Debug)]
struct Stat {
    state: char,
    parent: u32,
}

/// All processes.
fn table() -> BTreeMap<u32, Stat> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid| Some((pid, stat(pid)?))).collect()
}

fn stat(pid: u32) -> Option<Stat> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// "123 (a name) S 1 …": the name may hold anything.
fn parse_stat(line: &str) -> Option<Stat> {
    let mut fields = line.rsplit_once(')')?.1.split_whitespace();
    Some(Stat { state: fields.next()?.chars().next()?, parent: fields.next()?.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_name_with_a_bracket_does_not_confuse() {
        assert_eq!(parse_stat("7 (a) R (b) T 3 0 0"), Some(Stat { state: 'T', parent: 3 }));
        assert_eq!(parse_stat("nothing"), None);
    }

    #[test]
    fn a_server_is_known_by_its_mark_and_with_its_children() {
        let home = std::env::temp_dir().join(format!("xtask-mark-{}", std::process::id()));
        fs::create_dir_all(&home).unwrap();
        let mut shell = Command::new("sh");
        shell.args(["-c", "sleep 60 & wait"]).env(MARK, &home);
        let mut server = shell.spawn().unwrap();
        while Processes::with_children(server.id()).all.len() < 2 {
            std::thread::yield_now();
        }
        let found = Processes::of(&home).unwrap();
        assert_eq!((found.main, found.all.len()), (None, 2));
        fs::write(home.join(PID_FILE), server.id().to_string()).unwrap();
        let found = Processes::of(&home).unwrap();
        assert_eq!(found.main, Some(server.id()));
        assert_eq!(Processes::of(&home.join("other")).unwrap_or_default(), Processes::default());
        super::super::kill(|| Processes::of(&home)).unwrap();
        assert!(!lives(server.id()), "it is a zombie until it is waited for");
        server.wait().unwrap();
        fs::remove_dir_all(&home).unwrap();
    }
}
