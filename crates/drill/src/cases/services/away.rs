//! A whole service that is not there for a while.

use std::time::Duration;

use super::{
    evidence::{Evidence, Noticed, healed},
    shared,
};
use crate::{
    case::{Arena, Case},
    history::Mark,
    services::Service,
};

/// Longer than the processes have to notice.
pub const AWAY: Duration = Duration::from_secs(8);
/// Longer than every time limit that we set.
const FROZEN: Duration = Duration::from_secs(20);
/// How much longer the median of answers may be while Redis is away or late: its limiter waits no longer than 25 ms.
const WITHOUT_REDIS_MS: u64 = 150;

/// Killed and frozen.
pub fn cases(service: Service) -> [Case; 2] {
    let name = service.name();
    let killed = shared(
        format!("{name} killed"),
        Box::new(move |arena| {
            Box::pin(async move {
                away(arena, service, "killed", AWAY, service.tell("kill"), service.tell("up")).await;
                Ok(())
            })
        }),
    );
    let frozen = shared(
        format!("{name} frozen"),
        Box::new(move |arena| {
            Box::pin(async move {
                away(arena, service, "frozen", FROZEN, service.tell("pause"), service.tell("resume")).await;
                Ok(())
            })
        }),
    );
    [Case { short: true, ..killed }, frozen]
}

/// Takes a service away for so long, and gives it back.
pub async fn away(
    arena: &Arena,
    service: Service,
    how: &str,
    time: Duration,
    take: impl Future<Output = ()>,
    give: impl Future<Output = ()>,
) {
    let mut evidence = Evidence::of(arena, service);
    let gone = async {
        take.await;
        arena.history.mark(Mark::Away(service));
        evidence.watch_for(time).await;
    };
    let back = async {
        give.await;
        arena.history.mark(Mark::Back(service));
    };
    healed(gone, back).await;
    let noticed = evidence.end();
    if is_felt(service, &noticed) {
        noticed.mark(arena, &format!("{}: {how}", service.name()));
    }
}

/// Whether all this says that the service was away; what must not happen then is not so.
pub fn is_felt(service: Service, noticed: &Noticed) -> bool {
    let (before, since) = noticed.median_ms;
    match service {
        Service::Postgres => noticed.ill.is_some() && !noticed.unserved.is_empty(),
        Service::Kafka | Service::Rabbitmq => noticed.ill.is_some(),
        Service::Redis => {
            assert!(
                since <= before + WITHOUT_REDIS_MS,
                "requests wait for Redis: {since} ms, {before} ms before"
            );
            noticed.ill.is_some()
        }
    }
}
