//! Who calls: the JWT that comes with every request is verified, whatever becomes of the request.
#![expect(clippy::unwrap_used, reason = "a bench may stop at the first surprise")]

use std::{hint::black_box, path::Path, sync::Arc};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use futures::FutureExt as _;
use taskpost_common::{Clock, config::Config};
use taskpost_ports::{Limiter, Log, Spread, Wakes};
use taskpost_store::Db;
use taskpost_tracker::{Caller, Login, Parts, Register, RequestInfo, Tracker};
use tokio::{runtime::Builder, task::JoinSet};
use tokio_util::sync::CancellationToken;

const EMAIL: &str = "ada@example.org";
const PASSWORD: &str = "correct horse battery";

/// The product's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn authenticate(c: &mut Criterion) {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (tracker, tokens) = runtime.block_on(start(folder.path()));

    let mut group = c.benchmark_group("authenticate");
    group.throughput(Throughput::Elements(1));
    for (name, token, good) in [
        ("valid", &tokens.valid, true),
        ("bad_signature", &tokens.bad, false),
        ("revoked", &tokens.revoked, false),
    ] {
        // A JWT is judged at once: nothing is waited for.
        let verify = |token: &str| tracker.authenticate(token).now_or_never().unwrap();
        assert_eq!(verify(token).is_ok(), good, "{name}");
        group.bench_function(name, |b| b.iter(|| verify(black_box(token))));
    }
    group.finish();
}

struct Tokens {
    valid: String,
    /// Somebody's who has no secret of ours.
    bad: String,
    /// Of a session that was ended, so that the set of those is not empty.
    revoked: String,
}

/// A tracker on a store of its own. Nothing of it runs any more: verifying needs no store and no task.
async fn start(folder: &Path) -> (Tracker, Tokens) {
    let member = |name: &str| (name == "FIRST_USER_IS_ADMIN").then(|| "false".to_owned());
    let config = Config::load(member).unwrap();
    let db = Db::sqlite(folder).await.unwrap();
    db.migrate().await.unwrap();
    let (wakes, clock) = (Wakes::default(), Clock::system());
    let parts = Parts {
        log: Log::local(db.clone(), wakes.clone(), clock.clone()),
        queue: None,
        limiter: Arc::new(Limiter::local(&config.limits)),
        spread: Spread::Local,
        secrets: vec!["a secret that is long enough for a bench".to_owned().into()],
        db,
        wakes,
        clock,
    };
    let (mut tasks, stop) = (JoinSet::new(), CancellationToken::new());
    let tracker = Tracker::start(parts, &config, &mut tasks, stop.clone()).await.unwrap();
    let tokens = log_in(&tracker).await;
    stop.cancel();
    tasks.join_all().await;
    (tracker, tokens)
}

async fn log_in(tracker: &Tracker) -> Tokens {
    let info = RequestInfo::default();
    let (email, password) = (EMAIL.to_owned(), PASSWORD.to_owned());
    let register = Register { email: email.clone(), name: "Ada".to_owned(), password: password.clone() };
    let revoked = tracker.register(&info, register).await.unwrap().0.access_token;
    let valid = tracker.login(&info, Login { email, password }).await.unwrap().0.access_token;
    let identity = tracker.authenticate(&revoked).await.unwrap();
    let caller = Caller::new(identity, tracker.clock().id(), None);
    tracker.logout(&caller).await.unwrap();
    Tokens { bad: with_another_signature(&valid), valid, revoked }
}

/// As long as before, and base64 as before.
fn with_another_signature(token: &str) -> String {
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let first = if signature.starts_with('A') { 'B' } else { 'A' };
    format!("{signed}.{first}{}", &signature[1..])
}

criterion_group!(benches, authenticate);
criterion_main!(benches);
