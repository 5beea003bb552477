//! Builds the roles, in named steps, and takes them down again in the order that loses nothing.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, anyhow};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use secrecy::SecretString;
use taskpost_api::{
    http::{self, App, Operate, Router},
    serve,
};
use taskpost_common::{
    Clock,
    config::Config,
    secret::{Keys, Purpose},
};
use taskpost_consumers::Consumers;
use taskpost_ports::{Limiter, Log, Queue, Wakes};
use taskpost_store::{Db, deliveries};
use taskpost_tracker::{Checkup, Parts, Tracker};
use taskpost_workers::{MailSettings, Workers};
use tokio::{net::TcpListener, runtime::Handle, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::{cli::seed, ports::Ports, secrets, store};

/// Where consumers and workers answer /health and /metrics when `OPERATE_PORT` says nothing.
const CONSUMERS_PORT: u16 = 3001;
const WORKERS_PORT: u16 = 3002;
/// How often idle limits are forgotten and histograms tidied.
const UPKEEP: Duration = Duration::from_secs(5);
/// How long requests in flight have to end, and after them the stages behind.
const DRAIN: Duration = Duration::from_secs(10);
const DRAIN_STAGES: Duration = Duration::from_secs(8);

/// What a process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Roles {
    /// Its name on the command line; none does everything.
    pub name: Option<&'static str>,
    /// Steps 1 and 2: takes requests.
    pub api: bool,
    /// Steps 3 to 5: moves events and applies them.
    pub consumers: bool,
    /// Steps 6 and 7: delivers.
    pub workers: bool,
}

impl Roles {
    /// Everything in one process.
    pub const ALL: Self = Self { name: None, api: true, consumers: true, workers: true };
    const NONE: Self = Self { name: None, api: false, consumers: false, workers: false };
    /// `taskpost api`.
    pub const API: Self = Self { name: Some("api"), api: true, ..Self::NONE };
    /// `taskpost consumers`.
    pub const CONSUMERS: Self = Self { name: Some("consumers"), consumers: true, ..Self::NONE };
    /// `taskpost workers`.
    pub const WORKERS: Self = Self { name: Some("workers"), workers: true, ..Self::NONE };
}

/// A running Taskpost.
pub struct Running {
    /// Where it listens.
    pub address: SocketAddr,
    /// The store.
    pub db: Db,
    /// The event log.
    pub log: Log,
    /// The bells.
    pub wakes: Wakes,
    /// Time and ids.
    pub clock: Clock,
    tracker: Option<Tracker>,
    api: JoinSet<anyhow::Result<()>>,
    stages: JoinSet<()>,
    stop_api: CancellationToken,
    stop_stages: CancellationToken,
}

/// Uses one TLS implementation everywhere. A second call changes nothing.
pub fn install_crypto() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

/// The recorder behind /metrics. Once in a process.
pub fn install_metrics() -> anyhow::Result<PrometheusHandle> {
    const SECONDS: &[f64] =
        &[0.000_5, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0];
    const SIZES: &[f64] = &[1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0];
    Ok(PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), SECONDS)?
        .set_buckets_for_metric(Matcher::Suffix("_size".to_owned()), SIZES)?
        .install_recorder()?)
}

/// Starts the roles in this process, with its connections on `front`. Brokers that are away are waited for behind the scenes;
/// only the store must be there.
pub async fn start(
    config: &Config,
    roles: Roles,
    clock: Clock,
    metrics: PrometheusHandle,
    front: &Handle,
) -> anyhow::Result<Running> {
    make_data_dir(config)?;
    let db = store::open(config, roles.name).await?;
    let (stop_api, stop_stages) = (CancellationToken::new(), CancellationToken::new());
    let (mut api, mut stages) = (JoinSet::new(), JoinSet::new());
    let ports = Ports::open(config, roles, &db, &clock, &mut stages, &stop_stages)?;
    let secrets = if roles.api || ports.queue.is_some() { secrets::load(config)? } else { Vec::new() };
    let tracker = if roles.api {
        let foundation = parts(&ports, &db, &clock, secrets.clone());
        Some(Tracker::start(foundation, config, &mut stages, stop_stages.clone()).await?)
    } else {
        None
    };
    if roles.consumers {
        Consumers {
            db: db.clone(),
            log: ports.log.clone(),
            wakes: ports.wakes.clone(),
            clock: clock.clone(),
        }
        .start(&mut stages, &stop_stages);
    }
    if roles == Roles::ALL && !db.has_outbox() {
        // SQLite has one process, so whoever was sending is dead.
        let ended = deliveries::end_leases(&db, clock.now()).await?;
        if ended > 0 {
            tracing::info!(
                ended,
                "deliveries that were being sent when the last process ended are sent again"
            );
        }
    }
    if let Some(queue) = &ports.queue {
        let keys = Keys::derive(&secrets, Purpose::MailedToken);
        workers(config, queue, &ports.wakes, &db, &clock, keys).start(&mut stages, stop_stages.clone())?;
    }
    stages.spawn(upkeep(ports.limiter.clone(), metrics.clone(), stop_stages.clone()));
    if !db.has_outbox() {
        stages.spawn(store::checkpoints(db.clone(), stop_stages.clone()));
    }
    let router = match &tracker {
        Some(tracker) => api_router(config, tracker.clone(), &ports, metrics),
        None => operate_router(config, roles, &ports, &db, &clock, metrics),
    };
    if config.seed.at_start
        && let Some(tracker) = &tracker
    {
        // Boxed, so that a start without it does not carry its weight.
        Box::pin(seed::at_start(config, tracker)).await;
    }
    let address = listen(config, roles, router, &mut api, front, stop_api.clone()).await?;
    let Ports { log, wakes, .. } = ports;
    Ok(Running { address, db, log, wakes, clock, tracker, api, stages, stop_api, stop_stages })
}

impl Running {
    /// Waits until a role ends that should not.
    pub async fn failed(&mut self) -> anyhow::Error {
        tokio::select! {
            Some(ended) = self.api.join_next() => match ended {
                Ok(Err(error)) => error.context("the API ended"),
                Ok(Ok(())) => anyhow!("the API ended"),
                Err(error) => anyhow!("the API ended: {error}"),
            },
            Some(ended) = self.stages.join_next() => match ended {
                Ok(()) => anyhow!("a stage ended by itself"),
                Err(error) => anyhow!("a stage ended: {error}"),
            },
            else => anyhow!("nothing is running"),
        }
    }

    /// Stops accepting, finishes what is in flight, stores what is queued, and closes. Within 20 seconds.
    pub async fn shut_down(mut self) {
        self.stop_api.cancel();
        let _ = tokio::time::timeout(DRAIN + Duration::from_secs(1), drained(&mut self.api)).await;
        if let Some(tracker) = &self.tracker {
            // A large change may take longer; it is rolled back then, and the stages end in order all the same.
            let _ = tokio::time::timeout(DRAIN_STAGES / 2, tracker.drain()).await;
        }
        self.stop_stages.cancel();
        let _ = tokio::time::timeout(DRAIN_STAGES / 2, async {
            while self.stages.join_next().await.is_some() {}
        })
        .await;
        self.stages.shutdown().await;
        let _ = tokio::time::timeout(Duration::from_secs(1), self.db.close()).await;
    }
}

async fn drained(api: &mut JoinSet<anyhow::Result<()>>) {
    while let Some(ended) = api.join_next().await {
        if let Ok(Err(error)) = ended {
            tracing::warn!(%error, "the API did not end well");
        }
    }
}

fn make_data_dir(config: &Config) -> anyhow::Result<()> {
    std::fs::create_dir_all(&config.data_dir)
        .with_context(|| format!("DATA_DIR: cannot make the folder {}", config.data_dir.display()))
}

fn parts(ports: &Ports, db: &Db, clock: &Clock, secrets: Vec<SecretString>) -> Parts {
    Parts {
        db: db.clone(),
        log: ports.log.clone(),
        queue: ports.queue.clone(),
        limiter: ports.limiter.clone(),
        spread: ports.spread.clone(),
        wakes: ports.wakes.clone(),
        clock: clock.clone(),
        secrets,
    }
}

fn workers(config: &Config, queue: &Queue, wakes: &Wakes, db: &Db, clock: &Clock, keys: Keys) -> Workers {
    Workers {
        db: db.clone(),
        queue: queue.clone(),
        wakes: wakes.clone(),
        clock: clock.clone(),
        retry_delays: config.retry_delays.clone(),
        concurrency: config.delivery_concurrency,
        webhooks: config.webhooks.clone(),
        mail: MailSettings {
            folder: config.data_dir.join("mail"),
            smtp: config.smtp.clone(),
            from: config.mail_from.clone(),
            public_url: config.public_url.clone(),
        },
        keys,
    }
}

fn api_router(config: &Config, tracker: Tracker, ports: &Ports, metrics: PrometheusHandle) -> Router {
    http::router(App {
        tracker,
        limiter: ports.limiter.clone(),
        trusted_proxies: config.limits.trusted_proxies.clone(),
        metrics,
        metrics_token: config.metrics_token.clone(),
        cors_origins: config.cors_origins.clone(),
        https: config.public_url.as_ref().is_some_and(|url| url.scheme() == "https"),
    })
}

/// What an operator asks of a role without the API.
fn operate_router(
    config: &Config,
    roles: Roles,
    ports: &Ports,
    db: &Db,
    clock: &Clock,
    metrics: PrometheusHandle,
) -> Router {
    let mut checkup = Checkup::new(db.clone(), clock.clone());
    if roles.consumers {
        checkup = checkup.log(&ports.log);
    }
    if let Some(queue) = &ports.queue {
        checkup = checkup.queue(queue);
    }
    http::operate(Operate {
        checkup,
        clock: clock.clone(),
        trusted_proxies: config.limits.trusted_proxies.clone(),
        metrics,
        metrics_token: config.metrics_token.clone(),
    })
}

async fn listen(
    config: &Config,
    roles: Roles,
    router: Router,
    api: &mut JoinSet<anyhow::Result<()>>,
    front: &Handle,
    stop: CancellationToken,
) -> anyhow::Result<SocketAddr> {
    let listener = if roles.api {
        bind("HTTP_PORT", config.http).await?
    } else {
        operate_listener(config, roles).await?
    };
    let address = listener.local_addr()?;
    let proxies = config.limits.trusted_proxies.clone();
    let limits = serve::Limits { drain: DRAIN, proxies, ..serve::Limits::default() };
    api.spawn_on(async move { Ok(serve::serve(listener, router, limits, stop).await?) }, front);
    Ok(address)
}

async fn bind(variable: &str, (host, port): (IpAddr, u16)) -> anyhow::Result<TcpListener> {
    TcpListener::bind((host, port))
        .await
        .with_context(|| format!("{variable}: cannot listen on {host}:{port}; is another program using it?"))
}

/// What nobody chose must not keep a second process of a role on this machine from starting.
async fn operate_listener(config: &Config, roles: Roles) -> anyhow::Result<TcpListener> {
    let host = config.http.0;
    if let Some(port) = config.operate_port {
        return bind("OPERATE_PORT", (host, port)).await;
    }
    let usual = if roles.consumers { CONSUMERS_PORT } else { WORKERS_PORT };
    match TcpListener::bind((host, usual)).await {
        Ok(listener) => Ok(listener),
        Err(_) => bind("OPERATE_PORT", (host, 0)).await,
    }
}

/// Gives back what limits and histograms no longer need.
async fn upkeep(limiter: Arc<Limiter>, metrics: PrometheusHandle, stop: CancellationToken) {
    let keys = metrics::gauge!("taskpost_limiter_keys");
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(UPKEEP) => {}
        }
        metrics.run_upkeep();
        limiter.forget_idle();
        #[expect(clippy::cast_precision_loss, reason = "a count for a gauge, far below 2^52")]
        keys.set(limiter.keys() as f64);
    }
}
