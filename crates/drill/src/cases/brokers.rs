//! What the instance has at the brokers is deleted, emptied, doubled and poisoned, by somebody with the right to.

mod kafka;
mod rabbit;

use std::time::Duration;

use futures::future::BoxFuture;
use taskpost_testkit::Answer;

use crate::{
    case::{Arena, Case},
    expect::Expect,
    stack::{Options, Setup},
};

/// The waits between the tries, each of which has a queue.
const DELAYS: [&str; 4] = ["2s", "3s", "4s", "5s"];
/// How many operations are acknowledged between two faults.
const BETWEEN: usize = 100;
/// How many webhooks fail at first, so that their messages wait at the broker.
const FAILING: usize = 40;
/// What RabbitMQ lost is announced again a minute after it was due, and should have been since this long ago when the
/// fault ends: then it still comes within a minute of that.
const OVERDUE: Duration = Duration::from_secs(5);

/// Every one of these.
pub fn cases() -> Vec<Case> {
    vec![
        case("topology deleted: queues and exchanges", |arena| Box::pin(rabbit::deleted(arena))),
        case("topology deleted: topics", |arena| Box::pin(kafka::topics_deleted(arena))),
        case("consumer group deleted", |arena| Box::pin(kafka::groups_deleted(arena))),
        case("offsets set back and forward", |arena| Box::pin(kafka::offsets_moved(arena))),
        case("queue purged", |arena| Box::pin(rabbit::purged(arena))),
        case("duplicates: records", |arena| Box::pin(kafka::duplicates(arena))),
        case("duplicates: messages", |arena| Box::pin(rabbit::duplicates(arena))),
        Case {
            expect: Expect { dead_letters: true, ..Expect::default() },
            ..case("poison: records", |arena| Box::pin(kafka::poison(arena)))
        },
        case("poison: messages", |arena| Box::pin(rabbit::poison(arena))),
    ]
}

fn case(name: &str, fault: impl for<'a> Fn(&'a Arena) -> BoxFuture<'a, ()> + Send + Sync + 'static) -> Case {
    Case {
        options: Box::new(|_| Options {
            variables: [("RETRY_DELAYS", DELAYS.join(","))].into(),
            ..Options::default()
        }),
        ..Case::new(name, Setup::Full, fault)
    }
}

/// Has some webhooks fail, so that there are messages in the queues of later tries.
fn fail_some(arena: &Arena) {
    arena.stack.sink.script(std::iter::repeat_n(Answer::status(503), FAILING));
}
