//! The network between the product and one service fails.

use std::{
    ops::Range,
    time::{Duration, Instant},
};

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use taskpost_testkit::{Direction, Toxic, Toxics};

use super::{
    away::{AWAY, away, is_felt},
    evidence::{Evidence, healed},
    proxied,
};
use crate::{
    case::{Arena, Case},
    services::Service,
};

/// How often connections are reset, and how often they are cut at a byte.
const RESETS: usize = 5;
const CUTS: usize = 20;
/// How long it may take until a connection has passed the byte where it is cut.
const TO_THE_BYTE: Duration = Duration::from_secs(20);
/// What is acknowledged between two of them.
const BETWEEN: usize = 20;
const LATENCY: Duration = Duration::from_millis(150);
const LATE: Duration = Duration::from_secs(10);
const BYTES_PER_SECOND: u64 = 20_000;
const NARROW: Duration = Duration::from_secs(5);

/// Each fault of this service's network.
pub fn cases(service: Service) -> Vec<Case> {
    let name = service.name();
    let mut cases = Vec::new();
    for (how, toxics) in [
        ("half-open", Toxics::both(Toxic::hole())),
        ("answers lost", Toxics::default().down(Toxic::hole())),
        ("requests lost", Toxics::default().up(Toxic::hole())),
        ("refused", Toxics::refuse()),
    ] {
        cases.push(proxied(
            service,
            format!("{name} cut: {how}"),
            Box::new(move |arena| Box::pin(cut_off(arena, service, how, toxics))),
        ));
    }
    let case = proxied(
        service,
        format!("{name} cut: reset"),
        Box::new(move |arena| Box::pin(reset(arena, service))),
    );
    cases.push(case);
    let case = proxied(
        service,
        format!("{name} cut: at a byte"),
        Box::new(move |arena| Box::pin(cut_at_bytes(arena, service))),
    );
    cases.push(Case { seeds: 3, ..case });
    cases.push(proxied(
        service,
        format!("{name} slow"),
        Box::new(move |arena| Box::pin(slow(arena, service))),
    ));
    cases
}

/// Nothing of the service arrives for a while.
async fn cut_off(arena: &Arena, service: Service, how: &str, toxics: Toxics) -> Result<(), String> {
    let proxy = arena.stack.proxy(service);
    let before = proxy.hits();
    let take = async {
        proxy.set(toxics);
        if toxics == Toxics::refuse() {
            proxy.reset();
        }
    };
    away(arena, service, how, AWAY, take, async { proxy.heal() }).await;
    assert!(proxy.hits() > before, "nothing went through the proxy");
    Ok(())
}

/// All connections are reset, again and again.
async fn reset(arena: &Arena, service: Service) -> Result<(), String> {
    let proxy = arena.stack.proxy(service);
    let (before, evidence) = (proxy.hits(), Evidence::of(arena, service));
    let mut connections = 0;
    for _ in 0..RESETS {
        flows(arena, service, Direction::Down, 0).await;
        connections += proxy.connections();
        proxy.reset();
        arena.load.wait_for_more(BETWEEN).await;
    }
    if proxy.hits() > before {
        let noticed = evidence.end();
        noticed.mark(arena, &format!("{}: {connections} connections reset", service.name()));
    }
    Ok(())
}

/// Every connection ends after so many bytes more: within a request, an answer, a commit or its acknowledgement.
async fn cut_at_bytes(arena: &Arena, service: Service) -> Result<(), String> {
    let (proxy, evidence) = (arena.stack.proxy(service), Evidence::of(arena, service));
    let mut random = StdRng::seed_from_u64(arena.seed);
    let mut felt = Vec::new();
    for _ in 0..CUTS {
        let direction = if random.random_bool(0.6) { Direction::Down } else { Direction::Up };
        let bytes = random.random_range(interesting(service, direction));
        let before = proxy.hits();
        let cut = Toxic::cut_after(bytes);
        let (toxics, way) = match direction {
            Direction::Down => (Toxics::default().down(cut), "down"),
            Direction::Up => (Toxics::default().up(cut), "up"),
        };
        let cutting = async {
            proxy.set(toxics);
            let began = Instant::now();
            while proxy.hits() == before && began.elapsed() < TO_THE_BYTE {
                arena.last(Duration::from_millis(5)).await;
            }
        };
        healed(cutting, async { proxy.heal() }).await;
        if proxy.hits() > before {
            felt.push(format!("{bytes} {way}"));
        }
        flows(arena, service, direction, interesting(service, direction).end).await;
        arena.load.wait_for_more(BETWEEN).await;
    }
    if felt.len() == CUTS {
        let fault = format!("{}: cut after {} bytes", service.name(), felt.join(", "));
        evidence.end().mark(arena, &fault);
    }
    Ok(())
}

/// Everything comes late, and then little at a time.
async fn slow(arena: &Arena, service: Service) -> Result<(), String> {
    let proxy = arena.stack.proxy(service);
    let (before, mut evidence) = (proxy.hits(), Evidence::of(arena, service));
    let slowing = async {
        proxy.set(Toxics::both(Toxic::latency(LATENCY)));
        evidence.watch_for(LATE).await;
        proxy.set(Toxics::both(Toxic::bandwidth(BYTES_PER_SECOND)));
        arena.last(NARROW).await;
    };
    healed(slowing, async { proxy.heal() }).await;
    let (hits, noticed) = (proxy.hits() - before, evidence.end());
    // What is late need not be ill, but for the limiter late is away.
    if hits > 0 && (service != Service::Redis || is_felt(service, &noticed)) {
        noticed.mark(arena, &format!("{}: {hits} pieces late", service.name()));
    }
    Ok(())
}

/// Waits until this service's clients have connected again, and more than so many bytes have passed.
async fn flows(arena: &Arena, service: Service, direction: Direction, bytes: u64) {
    let proxy = arena.stack.proxy(service);
    let before = proxy.bytes(direction);
    arena
        .until(|| async {
            let passed = proxy.bytes(direction) - before;
            if passed > bytes { Ok(()) } else { Err(format!("only {passed} bytes of {}", service.name())) }
        })
        .await;
}

/// Where to cut: within the first exchanges on a connection that is in use, or on one that is being made.
const fn interesting(service: Service, direction: Direction) -> Range<u64> {
    match (service, direction) {
        (Service::Postgres, Direction::Down) => 0..600,
        (Service::Postgres | Service::Kafka, Direction::Up) => 0..4_000,
        (Service::Kafka, Direction::Down) => 0..300,
        // A confirm has 21 bytes.
        (Service::Rabbitmq, Direction::Down) => 0..200,
        (Service::Rabbitmq, Direction::Up) => 0..500,
        (Service::Redis, Direction::Down) => 0..60,
        (Service::Redis, Direction::Up) => 0..250,
    }
}
