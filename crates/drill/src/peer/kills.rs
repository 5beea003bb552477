//! What is killed while the peer works, and when.

use std::time::Duration;

use anyhow::{Context as _, Error};
use rand::{RngExt as _, rngs::StdRng};
use tokio::time::{Instant, sleep, sleep_until};

use super::{Way, place::Peer};
use crate::services::Service;

/// How long the load goes on at least.
const LOAD: Duration = Duration::from_secs(6);
/// How often a process is killed, and about how long it is left alone before each time and after the last.
const TIMES: u32 = 3;
const APART: Duration = Duration::from_millis(1_500);

/// What is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kills {
    Nothing,
    Api,
    Reader,
    Worker,
    Service(Service),
}

impl Kills {
    /// Those that make a row of a way: the reader, and nothing, only where there is an outbox.
    pub(super) fn of(way: Way) -> impl Iterator<Item = Self> {
        let processes = [Self::Nothing, Self::Api, Self::Reader, Self::Worker];
        let all = processes.into_iter().chain([Service::Postgres, Service::Rabbitmq].map(Self::Service));
        all.filter(move |kills| way == Way::Outbox || !matches!(kills, Self::Nothing | Self::Reader))
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Nothing => "none",
            Self::Api => "api",
            Self::Reader => "reader",
            Self::Worker => "worker",
            Self::Service(service) => service.name(),
        }
    }

    /// Kills and starts again: a process a few times, a service once, as it needs seconds to return.
    pub(super) async fn run(self, peer: &mut Peer, rng: &mut StdRng) -> anyhow::Result<()> {
        let end = Instant::now() + LOAD;
        match self {
            Self::Nothing => {}
            Self::Api | Self::Reader | Self::Worker => {
                for _ in 0..TIMES {
                    sleep(about(APART, rng)).await;
                    let victim = match self {
                        Self::Api => Some(&mut peer.api),
                        Self::Worker => Some(&mut peer.worker),
                        _ => peer.reader.as_mut(),
                    };
                    victim.context("there is no such process")?.kill()?;
                }
                sleep(APART).await;
            }
            Self::Service(service) => {
                sleep(about(APART, rng)).await;
                for verb in ["kill", "up"] {
                    service.try_tell(&[verb]).await.map_err(Error::msg)?;
                }
                sleep(APART).await;
            }
        }
        sleep_until(end).await;
        Ok(())
    }
}

/// Up to a fifth more or less.
fn about(time: Duration, rng: &mut StdRng) -> Duration {
    time.mul_f64(rng.random_range(0.8..1.2))
}
