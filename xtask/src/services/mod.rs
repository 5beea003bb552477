//! `cargo xtask services`: the servers that tests and benchmarks use, private to this checkout.
//!
//! A service whose variable is set already is used as it is. Otherwise it runs in Docker where an engine answers, and
//! natively where none does. To add one: a variant of [`Service`], its arms, a module, a block in the compose file.

mod account;
mod apt;
mod disk;
mod docker;
mod external;
mod faults;
mod kafka;
mod lifecycle;
mod native;
mod port;
mod postgres;
mod rabbitmq;
mod redis;
mod report;
mod service;
mod state;
mod wire;

/// What the native services are set to, for whoever compares.
pub mod settings {
    pub use super::kafka::{SETTINGS as KAFKA, VERSION as KAFKA_VERSION};
    pub use super::postgres::SETTINGS as POSTGRES;
    pub use super::rabbitmq::LIMITS_FILE as RABBITMQ_FILE;
    pub use super::redis::SETTINGS as REDIS;
}

use std::fs::{self, File, TryLockError};
use std::process::Command as Process;
use std::thread;

use anyhow::{Context, Result, anyhow, bail};
use clap::Subcommand;

use crate::progress::Progress;
use crate::workspace::{CHECKOUT, Workspace};
pub use apt::{can_install, install};
use disk::Disk;
pub use docker::has_compose;
pub use service::Service;
use state::{How, State};

/// What `cargo xtask services` may be told.
#[derive(Subcommand)]
pub enum Command {
    /// Start what is not up, and say where it is
    Up {
        /// Only these
        services: Vec<Service>,
    },
    /// Stop what `up` started; data stays
    Down {
        /// Delete the data as well
        #[arg(long)]
        purge: bool,
        /// Only these
        services: Vec<Service>,
    },
    /// Print `export …` lines: eval "$(cargo xtask services env)"
    Env,
    /// Show what is up, and where
    Status {
        /// For programs
        #[arg(long)]
        json: bool,
    },
    /// Stop these gently; `up` brings them back where they were
    Stop {
        /// Which
        #[arg(required = true)]
        services: Vec<Service>,
    },
    /// Kill a whole server at once, as a fault; `up` brings it back where it was
    Kill {
        /// Which
        service: Service,
    },
    /// Freeze a server in the middle of what it does, as a fault
    Pause {
        /// Which
        service: Service,
    },
    /// Let a frozen server go on
    Resume {
        /// Which
        service: Service,
    },
    /// Do something to the disk of postgres or rabbitmq, as a fault; the exit code is 3 where that cannot be done
    Disk {
        /// What
        disk: Disk,
        /// Of which
        service: Service,
    },
}

/// Runs the command.
pub fn run(workspace: &Workspace, command: &Command, progress: &Progress) -> Result<()> {
    match command {
        Command::Up { services } => {
            up(workspace, services, progress)?;
            print!("{}", report::table(&reports(workspace)?));
            eprintln!("for this shell: eval \"$(cargo xtask services env)\"");
            Ok(())
        }
        Command::Down { purge, services } => down(workspace, services, *purge, progress),
        Command::Stop { services } => down(workspace, services, false, progress),
        Command::Kill { service } => fault(workspace, *service, faults::kill, progress),
        Command::Pause { service } => fault(workspace, *service, faults::pause, progress),
        Command::Resume { service } => fault(workspace, *service, faults::resume, progress),
        Command::Disk { disk, service } => change_disk(workspace, *service, *disk, progress),
        Command::Env => {
            print!("{}", exports(workspace)?);
            Ok(())
        }
        Command::Status { json } => {
            let reports = reports(workspace)?;
            print!("{}", if *json { report::json(&reports)? } else { report::table(&reports) });
            Ok(())
        }
    }
}

/// Starts what is not up, all at once; none named is all. Returns each service's address with its password.
pub fn up(workspace: &Workspace, wanted: &[Service], progress: &Progress) -> Result<Vec<(Service, String)>> {
    let _lock = lock(workspace, progress)?;
    let results = each(wanted, |service| Ok((service, service.up(workspace, progress)?)));
    gather(results)
}

/// Stops what `up` started; none named is all. With `purge` nothing is left of it.
pub fn down(workspace: &Workspace, wanted: &[Service], purge: bool, progress: &Progress) -> Result<()> {
    let _lock = lock(workspace, progress)?;
    gather(each(wanted, |service| service.down(workspace, purge, progress))).map(drop)
}

/// Fails when somebody else runs one of them: what kills servers may only kill ours.
pub fn must_be_ours(workspace: &Workspace) -> Result<()> {
    for service in Service::ALL {
        if service.given(State::load(workspace, service)?.as_ref()).is_some() {
            bail!("servers are killed here, so all must be ours; unset {}", service.variable());
        }
    }
    Ok(())
}

/// Tells a command where the services are. The product's own variables are hidden from it and each service is named by
/// its `TASKPOST_TEST_…` variable instead, so that what is embedded stays so. To do faults, to these services and no
/// others, it is given the program that runs now.
pub fn name(workspace: &Workspace, command: &mut Process, services: &[(Service, String)]) -> Result<()> {
    for (service, url) in services {
        command.env_remove(service.variable()).env(service.test_variable(), url);
    }
    let kafka = State::load(workspace, Service::Kafka)?;
    match kafka.filter(|state| state.how == How::Native && Service::Kafka.given(Some(state)).is_none()) {
        Some(state) => command.env(kafka::PROXIED, kafka::proxied(&state)?),
        None => command.env_remove(kafka::PROXIED),
    };
    command.env("TASKPOST_XTASK", std::env::current_exe().context("could not find xtask itself")?);
    command.env(CHECKOUT, &workspace.root);
    Ok(())
}

/// Undoes every fault, whatever of it is left.
pub fn restore(workspace: &Workspace, progress: &Progress) -> Result<()> {
    // On a full disk Postgres may not even start; mostly there is none to make room on.
    let _none = change_disk(workspace, Service::Postgres, Disk::Free, progress);
    up(workspace, &[], progress)?;
    for service in disk::WITH_FAULTS {
        if State::load(workspace, service)?.is_some_and(|state| state.how == How::Native) {
            change_disk(workspace, service, Disk::Normal, progress)?;
        }
    }
    Ok(())
}

fn change_disk(workspace: &Workspace, service: Service, disk: Disk, progress: &Progress) -> Result<()> {
    fault(workspace, service, |_, service, state| disk::change(disk, service, state), progress)
}

/// Does something bad to a service of ours, or makes up for it.
fn fault(
    workspace: &Workspace,
    service: Service,
    fault: impl Fn(&Workspace, Service, &State) -> Result<&'static str>,
    progress: &Progress,
) -> Result<()> {
    let _lock = lock(workspace, progress)?;
    let (name, state) = (service.name(), State::load(workspace, service)?);
    if service.given(state.as_ref()).is_some() {
        bail!("{name} is not ours: {} names it", service.variable());
    }
    let state = state.with_context(|| format!("{name} is not up; run `cargo xtask services up {name}`"))?;
    let done = fault(workspace, service, &state)?;
    progress.step(&format!("{name}: {done}"));
    Ok(())
}

/// Does the same to several services at once.
fn each<T: Send>(wanted: &[Service], work: impl Fn(Service) -> Result<T> + Sync) -> Vec<Result<T>> {
    let wanted = if wanted.is_empty() { &Service::ALL } else { wanted };
    thread::scope(|scope| {
        let work = &work;
        let running: Vec<_> =
            wanted.iter().map(|service| (service, scope.spawn(move || work(*service)))).collect();
        let ended = running.into_iter().map(|(service, thread)| {
            let result = thread.join().unwrap_or_else(|_| Err(anyhow!("a bug in xtask, shown above")));
            result.with_context(|| service.name())
        });
        ended.collect()
    })
}

/// All results, or all that went wrong.
fn gather<T>(results: Vec<Result<T>>) -> Result<Vec<T>> {
    let (good, bad): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
    let bad: Vec<String> =
        bad.into_iter().filter_map(Result::err).map(|error| format!("{error:#}")).collect();
    if !bad.is_empty() {
        bail!("{}", bad.join("\n"));
    }
    good.into_iter().collect()
}

fn reports(workspace: &Workspace) -> Result<Vec<report::Report>> {
    gather(each(&[], |service| service.report(workspace)))
}

/// The lines for what is up; what is not up is said on stderr.
fn exports(workspace: &Workspace) -> Result<String> {
    let mut lines = String::new();
    for (service, report) in Service::ALL.into_iter().zip(reports(workspace)?) {
        if report.up {
            let state = State::load(workspace, service)?;
            let given = service.given(state.as_ref());
            let url = given.or_else(|| state.map(|state| service.url(&state))).unwrap_or_default();
            lines.push_str(&report::export(service.variable(), &url));
        } else {
            eprintln!("{0} is not up; run `cargo xtask services up {0}`", service.name());
        }
    }
    if lines.is_empty() {
        bail!("nothing is up");
    }
    Ok(lines)
}

/// Held while services start or stop, so that two of us do not race. Ends with the process at the latest.
fn lock(workspace: &Workspace, progress: &Progress) -> Result<File> {
    let folder = workspace.services_folder();
    fs::create_dir_all(&folder).with_context(|| format!("could not create {}", folder.display()))?;
    let path = folder.join("lock");
    let file = File::create(&path).with_context(|| format!("could not open {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => return Ok(file),
        Err(TryLockError::WouldBlock) => progress.step("waiting for another `cargo xtask services`"),
        Err(TryLockError::Error(error)) => return Err(error).context("could not lock the services"),
    }
    file.lock().context("could not lock the services")?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_service_is_tried_and_every_failure_is_named() {
        let results = each(&[], |service| match service {
            Service::Kafka | Service::Redis => Err(anyhow!("no luck")),
            _ => Ok(()),
        });
        assert_eq!(results.len(), Service::ALL.len());
        assert_eq!(gather(results).unwrap_err().to_string(), "kafka: no luck\nredis: no luck");
    }
}
