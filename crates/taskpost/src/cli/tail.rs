//! `taskpost events tail`: follows the store's events, one line each.

use std::{
    io::{self, Write as _},
    time::Duration,
};

use anyhow::bail;
use clap::Args;
use taskpost_common::{Envelope, Event, Position, UserId};
use taskpost_store::{
    Db, StoreError, Viewer,
    events::{self, EventFilter},
};
use uuid::Uuid;

use crate::{environment, logs, store};

/// How many of the last events come first when nothing is said.
const LAST: i64 = 10;
/// How many events are read at once.
const PAGE: usize = 200;
/// How often it is looked for new ones.
const EVERY: Duration = Duration::from_millis(200);
/// Before it is tried again where the store is away.
const PAUSE: Duration = Duration::from_secs(2);
/// Whoever may read the store sees everything.
const OPERATOR: Viewer = Viewer { user_id: UserId(Uuid::nil()), admin: true };

/// Which events, and how to show them.
#[derive(Debug, Args)]
pub struct Options {
    /// Events after this position; without it the last ten come first
    #[arg(long, value_name = "POSITION")]
    after: Option<i64>,
    /// Of these types or families only, as task.created or task.*; commas between them
    #[arg(long = "type", value_name = "TYPES", value_delimiter = ',')]
    types: Vec<String>,
    /// End at the end of the log instead of waiting for more
    #[arg(long)]
    once: bool,
    /// As CloudEvents in JSON, one a line
    #[arg(long)]
    json: bool,
}

/// Prints events as they come, until Ctrl-C.
pub async fn run(options: Options) -> anyhow::Result<()> {
    check(&options)?;
    let config = environment::config()?;
    logs::start(config.log_format);
    let db = store::open_as_is(&config).await?;
    let ended = tokio::select! {
        ended = follow(&db, &options) => ended,
        asked = tokio::signal::ctrl_c() => asked.map_err(anyhow::Error::from),
    };
    db.close().await;
    ended
}

fn check(options: &Options) -> anyhow::Result<()> {
    let is_family = |name: &str| {
        let family = name.strip_suffix('*').filter(|family| family.ends_with('.'));
        family.is_some_and(|family| Event::TYPES.iter().any(|known| known.starts_with(family)))
    };
    match options.types.iter().find(|name| !Event::TYPES.contains(&name.as_str()) && !is_family(name)) {
        None => Ok(()),
        Some(unknown) => {
            bail!("--type: there are no events of the type {unknown}; as task.created or task.*")
        }
    }
}

async fn follow(db: &Db, options: &Options) -> anyhow::Result<()> {
    let filter = EventFilter { types: options.types.clone(), project_id: None };
    let mut at = match options.after {
        Some(after) => Position(after.max(0)),
        None => Position((events::head(&mut db.reader().await?).await?.0 - LAST).max(0)),
    };
    loop {
        let (found, next) = match page(db, at, &filter).await {
            Ok(page) => page,
            Err(error) if error.is_transient() && !options.once => {
                tracing::warn!(%error, "the store does not answer; trying again");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        if !print(&found, options.json)? {
            return Ok(());
        }
        let stands = next == at;
        at = next;
        if stands {
            if options.once {
                return Ok(());
            }
            tokio::time::sleep(EVERY).await;
        }
    }
}

async fn page(db: &Db, at: Position, filter: &EventFilter) -> Result<(Vec<Envelope>, Position), StoreError> {
    events::visible_after(&mut db.reader().await?, OPERATOR, at, filter, PAGE).await
}

/// `false` when nobody reads any more.
fn print(events: &[Envelope], as_json: bool) -> anyhow::Result<bool> {
    let mut out = io::stdout().lock();
    for event in events {
        let line = if as_json { serde_json::to_string(&event.to_cloudevent()?)? } else { line(event) };
        match writeln!(out, "{line}") {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(false),
            written => written?,
        }
    }
    match out.flush() {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        flushed => flushed.map(|()| true).map_err(Into::into),
    }
}

fn line(event: &Envelope) -> String {
    let at = event.at.format("%Y-%m-%dT%H:%M:%S%.3fZ");
    let actor = event.actor_id.map_or_else(|| "the system".to_owned(), |actor| actor.to_string());
    format!(
        "{:>8}  {at}  {:<28}  {}/{}  by {actor}",
        event.position.0,
        event.type_name,
        event.root(),
        event.aggregate_id,
    )
}
