//! Receivers of webhooks that do everything wrong, beside a good one that must not notice.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use taskpost_testkit::{Answer, Client, Fields as _, Request, WebhookSink};
use tokio::{net::TcpListener, task::JoinSet};

use super::processes::until_seldom;
use crate::{
    case::{Arena, Case},
    expect::Expect,
    history::{Mark, Wish},
    load::Pressure,
    stack::{Options, Setup},
};

/// What the bad ones ask for: it happens only when the case wants it to.
const RARE: &str = "user.logged_in";
/// How many of them each gets. Few, as the memory of a login stays with the process for a while.
const EVENTS: usize = 4;
/// There is one try more than waits.
const DELAYS: [&str; 3] = ["1s", "2s", "3s"];
const TRIES: i64 = 4;
/// How long a receiver asks to be left alone, which is longer than the first wait and no more than twice as long.
const RETRY_AFTER: Duration = Duration::from_secs(2);
/// How large the largest answer is.
const HUGE: usize = 100 * 1024 * 1024;
/// Within this time the good receiver hears of a task.
const IN_TIME: Duration = Duration::from_secs(10);
/// How often the flapping one fails: less often than there are tries.
const FAILURES: usize = 3;
/// By how many MiB a process may grow by all this: less than one of the largest answers, of which two come at once.
const GROWTH: u64 = 95;

/// For each product.
pub fn cases() -> Vec<Case> {
    [Setup::Embedded, Setup::Full].map(case).into()
}

fn case(setup: Setup) -> Case {
    Case {
        // Few enough for what one receiver may get at once, on a busy machine too.
        pressure: Pressure { clients: 4, pause: Duration::from_millis(50) },
        options: Box::new(|_| Options {
            variables: [("RETRY_DELAYS", DELAYS.join(",")), ("WEBHOOK_TIMEOUT", "1s".to_owned())].into(),
            ..Options::default()
        }),
        expect: Expect { dead_letters: true, ..Expect::default() },
        ..Case::new("bad receivers", setup, |arena| Box::pin(misbehave(arena)))
    }
}

/// What must become of the deliveries to a receiver.
#[derive(Clone, Copy, Debug)]
enum End {
    /// Each is a dead letter, after all tries.
    TriedAndDead,
    /// Each is a dead letter at once.
    Dead,
    Delivered,
    /// Each is delivered in the end, and some were tried again.
    Recovered,
    /// The first is a dead letter, and the endpoint disabled; what had not left is called back.
    Disabled,
}

/// A bad receiver.
struct Bad {
    name: &'static str,
    end: End,
    sink: WebhookSink,
    id: String,
}

impl Bad {
    async fn new(arena: &Arena, name: &'static str, answer: Answer, end: End) -> Self {
        let sink = WebhookSink::start().await;
        sink.always(answer);
        let hook = json!({"url": sink.url("/hook"), "event_types": [RARE]});
        let hook = ask(arena, 201, |api| api.post("/v1/webhooks", hook.clone()).as_(&arena.stack.ada)).await;
        Self { name, end, sink, id: hook.text("id").to_owned() }
    }

    /// What became of its deliveries: states with the number of tries, and how many have each.
    async fn deliveries(&self, arena: &Arena) -> Vec<(String, i64)> {
        let of = arena.stack.id_text("endpoint_id");
        let id = self.id.replace('-', "");
        let sql = format!(
            "SELECT state || ' ' || attempt, count(*) FROM deliveries WHERE {of} = '{id}' GROUP BY state, attempt \
             ORDER BY state, attempt"
        );
        arena.stack.rows(&sql).await
    }

    /// Waits until nothing more comes of them, and judges.
    async fn judge(&self, arena: &Arena) -> String {
        let ended = until_seldom(arena, || async {
            let deliveries = self.deliveries(arena).await;
            let is_end =
                |state: &str| ["dead", "delivered", "cancelled"].iter().any(|end| state.starts_with(end));
            let count: i64 = deliveries.iter().map(|(_, count)| count).sum();
            // None are made for a receiver that is disabled.
            let all = matches!(self.end, End::Disabled)
                || usize::try_from(count).is_ok_and(|count| count >= EVENTS);
            if all && deliveries.iter().all(|(state, _)| is_end(state)) {
                Ok(deliveries)
            } else {
                Err(format!("{}: {deliveries:?}", self.name))
            }
        })
        .await;
        let dead = |tries: i64| format!("dead {tries}");
        let all = |good: &dyn Fn(&str) -> bool| ended.iter().all(|(state, _)| good(state));
        let good = match self.end {
            End::TriedAndDead => all(&|state| state == dead(TRIES)),
            End::Dead => all(&|state| state == dead(1)),
            End::Delivered => all(&|state| state == "delivered 1"),
            End::Recovered => {
                let again = ended.iter().any(|(state, _)| state != "delivered 1");
                again && all(&|state| state.starts_with("delivered "))
            }
            End::Disabled => {
                let first = ended.iter().any(|(state, _)| *state == dead(1));
                first && all(&|state| state.starts_with("cancelled ") || state == dead(1))
            }
        };
        assert!(good, "{}: {:?} was expected, not {ended:?}", self.name, self.end);
        format!("{} ({} requests: {})", self.name, self.sink.received().len(), words(&ended))
    }
}

fn words(ended: &[(String, i64)]) -> String {
    let each = ended.iter().map(|(state, count)| format!("{count} {state}"));
    each.collect::<Vec<_>>().join(", ")
}

async fn misbehave(arena: &Arena) {
    let Arena { stack, history, watch, .. } = arena;
    let trap = Trap::set().await;
    let busy = Answer::status(429).header("retry-after", &RETRY_AFTER.as_secs().to_string());
    let inward = Answer::redirect(&trap.url);
    let bad = [
        Bad::new(arena, "hangs", Answer::hang(), End::TriedAndDead).await,
        Bad::new(arena, "drips", Answer::drip(), End::TriedAndDead).await,
        Bad::new(arena, "resets", Answer::reset(), End::TriedAndDead).await,
        Bad::new(arena, "breaks off", Answer::broken(), End::TriedAndDead).await,
        Bad::new(arena, "redirects inward", inward, End::Dead).await,
        Bad::new(arena, "answers 100 MB", Answer::huge(HUGE), End::Delivered).await,
        Bad::new(arena, "flaps", Answer::status(204), End::Recovered).await,
        Bad::new(arena, "is busy", busy, End::TriedAndDead).await,
        // The last to be judged: by then it is known that nothing more comes.
        Bad::new(arena, "is gone", Answer::status(410), End::Disabled).await,
    ];
    let [.., flaps, busy, gone] = &bad;
    flaps.sink.script([Answer::status(500), Answer::status(204)].into_iter().cycle().take(2 * FAILURES));
    watch.weigh(stack);
    let before = watch.seen().memory;
    let began = history.now_ms();
    let credentials = json!({"email": stack.ada.email, "password": stack.ada.password});
    for _ in 0..EVENTS {
        ask(arena, 200, |api| api.post("/v1/auth/login", credentials.clone())).await;
    }
    let mut judged = Vec::new();
    for bad in &bad {
        judged.push(bad.judge(arena).await);
    }
    let ended = history.now_ms();

    let waits = first_waits(&busy.sink);
    assert!(waits.iter().all(|wait| *wait >= RETRY_AFTER), "Retry-After was not waited for: {waits:?}");
    let path = format!("/v1/webhooks/{}", gone.id);
    let endpoint = ask(arena, 200, |api| api.get(&path).as_(&stack.ada)).await;
    assert_eq!(endpoint["enabled"], Value::Bool(false), "{endpoint}");
    assert!(gone.sink.received().len() < EVENTS, "a receiver that is gone was asked again and again");
    assert_eq!(trap.sprung(), 0, "somebody followed a redirect inward");
    watch.weigh(stack);
    for (name, now) in watch.seen().memory {
        let grown = now.saturating_sub(before.get(name).copied().unwrap_or_default());
        assert!(grown < GROWTH, "{name} has {grown} MiB more after answers of 100 MB");
    }
    let (tasks, slowest) = slowest(arena, began, ended).await;
    assert!(slowest < IN_TIME, "the good receiver heard of a task after {slowest:?}");
    for words in judged {
        history.mark(Mark::Fault(words));
    }
    history.mark(Mark::Fault(format!(
        "meanwhile the good receiver heard of {tasks} tasks, of each within {:.1} s",
        slowest.as_secs_f64()
    )));
}

/// Asks until it is answered: the product may be too busy for a moment.
async fn ask(arena: &Arena, status: u16, request: impl Fn(&Client) -> Request) -> Value {
    until_seldom(arena, || async {
        let answer = request(arena.stack.api()).send().await;
        if answer.status == status { Ok(answer.json()) } else { Err(answer.text()) }
    })
    .await
}

/// How long each delivery waited between its first try and its second.
fn first_waits(sink: &WebhookSink) -> Vec<Duration> {
    let mut tries: HashMap<String, Vec<Instant>> = HashMap::new();
    for request in sink.received() {
        tries.entry(request.webhook_id().to_owned()).or_default().push(request.at);
    }
    tries.values().filter_map(|at| Some(at.get(1)?.duration_since(*at.first()?))).collect()
}

/// Of the tasks that were acknowledged in this span, how many there are, and the longest time until the good receiver
/// had heard of one.
async fn slowest(arena: &Arena, began: u64, ended: u64) -> (usize, Duration) {
    const LEFT: &str = "SELECT state || ' ' || attempt, count(*) FROM deliveries
        WHERE channel = 'webhook' AND finished_at IS NULL GROUP BY state, attempt";
    let created = arena.history.operations().into_iter().filter_map(|operation| {
        let told = operation.answers.into_iter().find(|answer| answer.task.is_some())?;
        let at = Duration::from_millis(told.at_ms);
        let within = (began..ended).contains(&told.at_ms) && operation.wish == Wish::Create;
        Some((told.task?, arena.history.began() + at)).filter(|_| within)
    });
    let created: Vec<(String, Instant)> = created.collect();
    let heard = until_seldom(arena, || async {
        let heard = heard(&arena.stack.sink);
        let missing = created.iter().filter(|(task, _)| !heard.contains_key(task)).count();
        if missing == 0 {
            return Ok(heard);
        }
        let left = arena.stack.rows(LEFT).await;
        Err(format!("{missing} tasks did not reach the good receiver; unfinished are {left:?}"))
    })
    .await;
    let waits = created.iter().map(|(task, told)| heard[task].saturating_duration_since(*told));
    (created.len(), waits.max().unwrap_or_default())
}

/// When the receiver first heard of each task.
fn heard(sink: &WebhookSink) -> HashMap<String, Instant> {
    let mut heard = HashMap::new();
    for request in sink.received() {
        let event = request.event();
        heard.entry(event["data"]["task"].text("id").to_owned()).or_insert(request.at);
    }
    heard
}

/// A listener inside, to which nobody may connect.
struct Trap {
    url: String,
    sprung: Arc<AtomicUsize>,
    _listener: JoinSet<()>,
}

impl Trap {
    async fn set() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}/secrets", listener.local_addr().expect("an address"));
        let sprung = Arc::new(AtomicUsize::new(0));
        let (count, mut tasks) = (Arc::clone(&sprung), JoinSet::new());
        tasks.spawn(async move {
            while listener.accept().await.is_ok() {
                count.fetch_add(1, Ordering::Relaxed);
            }
        });
        Self { url, sprung, _listener: tasks }
    }

    fn sprung(&self) -> usize {
        self.sprung.load(Ordering::Relaxed)
    }
}
