//! Disk faults of native services: one that cannot write must say so, and must be well again once there is room.

use anyhow::{Result, bail};
use clap::ValueEnum;

use super::state::{How, State};
use super::{Service, postgres, rabbitmq};
use crate::exit::Exit;

/// What becomes of a disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Disk {
    /// A fresh small one besides, which can be filled: for postgres a tablespace `small`
    Small,
    /// There is no room: for postgres on the small one
    Full,
    /// There is room again
    Free,
    /// As it was, without a small one
    Normal,
}

/// Those whose disk can be filled without filling the machine's.
pub const WITH_FAULTS: [Service; 2] = [Service::Postgres, Service::Rabbitmq];

/// Does it, and says what the service has now.
pub fn change(disk: Disk, service: Service, state: &State) -> Result<&'static str> {
    let name = service.name();
    match service {
        Service::Kafka | Service::Redis => bail!("{name} has no disk fault; postgres and rabbitmq have"),
        _ if state.how == How::Docker => {
            Err(Exit::not_here(format!("{name} runs in Docker, where its disk is out of reach")).into())
        }
        Service::Postgres => postgres::disk::change(disk, state),
        Service::Rabbitmq => rabbitmq::disk::change(disk, state),
    }
}

/// Takes away what would keep a purged service's folder from being deleted.
pub fn forget(service: Service, state: &State) -> Result<()> {
    match service {
        Service::Postgres => postgres::disk::forget(state),
        Service::Kafka | Service::Rabbitmq | Service::Redis => Ok(()),
    }
}
