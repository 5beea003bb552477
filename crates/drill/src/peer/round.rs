//! One row of the peer's table: load, kills, draining, counting.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use anyhow::{bail, ensure};
use rand::{SeedableRng as _, rngs::StdRng};
use taskpost_testkit::WebhookSink;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::{
    AGAIN, Row, Way,
    kills::Kills,
    load::Load,
    place::{Peer, Place},
    store,
};

/// How long the receiver must have been left alone before nothing more is expected.
const QUIET: Duration = Duration::from_secs(5);
/// How long the peer has to be well, and to become quiet.
const PATIENCE: Duration = Duration::from_mins(2);
/// Fewer acknowledged tasks prove nothing.
const ENOUGH: usize = 500;

/// How often the receiver was told of each task.
type Told = HashMap<Uuid, usize>;

/// Runs it on a schema, a queue and a receiver of its own, which are gone afterwards.
pub(super) async fn run(way: Way, kills: Kills, seed: u64) -> anyhow::Result<Row> {
    let place = Place::new();
    let row = play(&place, way, kills, seed).await;
    let removed = place.remove().await;
    let row = row?;
    removed?;
    Ok(row)
}

async fn play(place: &Place, way: Way, kills: Kills, seed: u64) -> anyhow::Result<Row> {
    let sink = WebhookSink::start().await;
    let mut peer = place.start(way, &sink)?;
    let load = Load::new(peer.port)?;
    passes(&mut peer, &load, &sink).await?;
    let mut rng = StdRng::seed_from_u64(seed);
    let faults = async {
        let done = kills.run(&mut peer, &mut rng).await;
        load.stop.cancel();
        done
    };
    let ((), done) = tokio::join!(load.run(seed), faults);
    done?;
    passes(&mut peer, &load, &sink).await?;
    quiet(&sink).await?;
    let acknowledged = load.acknowledged();
    ensure!(acknowledged.len() >= ENOUGH, "{} acknowledged tasks prove nothing", acknowledged.len());
    let stored = store::tasks(&mut place.store.connect().await?).await?;
    Ok(count(way, kills, &acknowledged, &stored, &told(&sink)))
}

/// Creates tasks until the receiver is told of one: the peer is well, and what was sent before had its turn.
async fn passes(peer: &mut Peer, load: &Load, sink: &WebhookSink) -> anyhow::Result<()> {
    let began = Instant::now();
    while began.elapsed() < PATIENCE {
        peer.must_run()?;
        if let Some(id) = load.create(1).await {
            let created = Instant::now();
            while created.elapsed() < QUIET {
                if told(sink).contains_key(&id) {
                    return Ok(());
                }
                sleep(AGAIN).await;
            }
        }
        sleep(AGAIN).await;
    }
    bail!("no task has come through for {} s", PATIENCE.as_secs())
}

async fn quiet(sink: &WebhookSink) -> anyhow::Result<()> {
    let began = Instant::now();
    while began.elapsed() < PATIENCE {
        let before = sink.received().len();
        sleep(QUIET).await;
        if sink.received().len() == before {
            return Ok(());
        }
    }
    bail!("the receiver is still told after {} s", PATIENCE.as_secs())
}

fn told(sink: &WebhookSink) -> Told {
    let mut told = HashMap::new();
    for id in sink.received().iter().filter_map(|one| one.webhook_id().parse().ok()) {
        *told.entry(id).or_default() += 1;
    }
    told
}

fn count(way: Way, kills: Kills, acknowledged: &HashSet<Uuid>, stored: &[Uuid], told: &Told) -> Row {
    let tasks: HashSet<&Uuid> = acknowledged.iter().chain(stored).collect();
    Row {
        system: way.system().to_owned(),
        fault: kills.name().to_owned(),
        acknowledged: acknowledged.len(),
        lost: tasks.into_iter().filter(|task| !told.contains_key(task)).count(),
        doubled: told.values().filter(|times| **times > 1).count(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lost_is_what_was_acknowledged_or_stored_and_never_told() {
        let [told_once, told_twice, only_acknowledged, only_stored] = [1, 2, 3, 4].map(Uuid::from_u128);
        let acknowledged = HashSet::from([told_once, told_twice, only_acknowledged]);
        let stored = [told_once, told_twice, only_stored];
        let told = HashMap::from([(told_once, 1), (told_twice, 2)]);
        let row = count(Way::Outbox, Kills::Api, &acknowledged, &stored, &told);
        assert_eq!((row.acknowledged, row.lost, row.doubled), (3, 2, 1));
    }
}
