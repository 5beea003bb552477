//! The process ends between two steps that are only safe together, by SIGKILL and to the statement.

use std::{collections::BTreeMap, ops::Range};

use rand::{RngExt as _, rngs::StdRng};
use taskpost_common::crash::CrashPoint;
use taskpost_testkit::Answer;

use crate::{
    case::{Arena, Case},
    expect::Expect,
    history::Mark,
    load::Pressure,
    stack::{Options, Role, Setup},
};

/// Long enough for a delivery that meets many of those.
const DELAYS: &str = "50ms,100ms,200ms,500ms,1s,1s,1s,1s,1s,1s";
/// How many tries fail at first where tries again are what matters.
const FAILING: usize = 30;

/// Each point in each product that has it.
pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for setup in [Setup::Embedded, Setup::Full] {
        for &point in CrashPoint::ALL {
            if has(setup, point) {
                cases.push(case(setup, point));
            }
        }
    }
    cases
}

fn case(setup: Setup, point: CrashPoint) -> Case {
    let role = role(point);
    Case {
        name: format!("crash at {point}"),
        setup,
        short: true,
        apart: true,
        seeds: 3,
        pressure: Pressure::default(),
        options: Box::new(move |random: &mut StdRng| Options {
            crash: Some((role, point, random.random_range(passes(point)))),
            variables: BTreeMap::from([("RETRY_DELAYS", DELAYS.to_owned())]),
            proxied: Vec::new(),
        }),
        fault: Box::new(move |arena| Box::pin(crash(arena, role, point))),
        expect: Expect::default(),
    }
}

/// Waits for the process to die where it should, and starts it again.
async fn crash(arena: &Arena, role: Role, point: CrashPoint) -> Result<(), String> {
    let (server, name) = (arena.stack.server(role), arena.stack.name(role));
    if point == CrashPoint::RetryPublished {
        arena.stack.sink.script(std::iter::repeat_n(Answer::status(503), FAILING));
    }
    let ended =
        arena.until(|| async { server.ended().ok_or_else(|| format!("{point} was not reached")) }).await;
    arena.history.mark(Mark::Down(name));
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&ended), Some(9), "{}", server.stderr());
    arena.history.mark(Mark::Fault(format!("{name}: died at {point}")));
    server.restart().await;
    arena.history.mark(Mark::Up(name));
    Ok(())
}

/// Who passes this point.
const fn role(point: CrashPoint) -> Role {
    match point {
        CrashPoint::BatchInserted | CrashPoint::BatchCommitSent => Role::Api,
        CrashPoint::SequencerMoved
        | CrashPoint::RelayProduced
        | CrashPoint::RelayAcked
        | CrashPoint::ConsumerApplied
        | CrashPoint::ConsumerCommitted => Role::Consumers,
        CrashPoint::DispatchPublished
        | CrashPoint::NotifySent
        | CrashPoint::NotifyRecorded
        | CrashPoint::RetryPublished
        | CrashPoint::EmbeddedCheckpoint => Role::Workers,
    }
}

/// Whether a product passes this point.
const fn has(setup: Setup, point: CrashPoint) -> bool {
    let embedded = matches!(
        point,
        CrashPoint::BatchInserted
            | CrashPoint::BatchCommitSent
            | CrashPoint::ConsumerApplied
            | CrashPoint::ConsumerCommitted
            | CrashPoint::NotifySent
            | CrashPoint::NotifyRecorded
    );
    match setup {
        Setup::Embedded => embedded || matches!(point, CrashPoint::EmbeddedCheckpoint),
        Setup::Full => !matches!(point, CrashPoint::EmbeddedCheckpoint),
    }
}

/// Of which passes the last one is chosen: after the start, and well within the load.
const fn passes(point: CrashPoint) -> Range<u64> {
    match point {
        CrashPoint::BatchInserted | CrashPoint::BatchCommitSent => 100..250,
        // It looks ten times a second even while there is nothing to do.
        CrashPoint::SequencerMoved => 80..250,
        CrashPoint::RelayProduced | CrashPoint::NotifySent => 150..400,
        CrashPoint::RelayAcked => 15..40,
        CrashPoint::ConsumerApplied
        | CrashPoint::ConsumerCommitted
        | CrashPoint::DispatchPublished
        | CrashPoint::NotifyRecorded => 50..120,
        CrashPoint::RetryPublished => 1..4,
        CrashPoint::EmbeddedCheckpoint => 4..9,
    }
}
