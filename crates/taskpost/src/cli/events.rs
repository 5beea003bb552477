//! `taskpost events`: the log, followed or replayed.

use anyhow::bail;
use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};
use taskpost_common::Clock;
use taskpost_consumers::replay::{
    CardDifference, DifferenceKind, Differences, FieldDifference, Progress, Replay, Replayed,
};
use taskpost_store::board::rebuild::CountDifference;

use super::{progress::Bar, table::table, tail};
use crate::{environment, logs, store};

/// What to do with the log.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Follow the log
    Tail(tail::Options),
    /// Build a projection anew from the log beside the live one, and show it in its place
    Replay(Options),
}

/// What to build, and how to tell of it.
#[derive(Debug, Args)]
pub struct Options {
    /// Which projection
    #[arg(long, value_enum)]
    projection: Projection,
    /// Compare it with the live one first, print what differs, and fail if anything does
    #[arg(long)]
    verify: bool,
    /// As JSON, for scripts
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Projection {
    /// The boards of all projects
    Board,
}

/// Follows the log, or replays it.
pub async fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Tail(options) => tail::run(options).await,
        Command::Replay(options) => replay(&options).await,
    }
}

async fn replay(options: &Options) -> anyhow::Result<()> {
    let Projection::Board = options.projection;
    let config = environment::config()?;
    logs::start(config.log_format);
    let db = store::open_as_is(&config).await?;
    let mut replay = Replay::begin(&db, &Clock::system()).await?;
    let mut bar = Bar::new();
    let rebuilt = Box::pin(replay.run(options.verify, |progress| show(&mut bar, progress))).await;
    if let Ok(done) = &rebuilt {
        let all = number(done.up_to.0);
        bar.at("events", all, all);
        print(done, options.json);
    }
    let ended = replay.end().await;
    db.close().await;
    let done = rebuilt?;
    ended?;
    match done.differences {
        Some(found) if !found.is_empty() => bail!(
            "the live board differed from the log in {} cards and {} counts; the rebuilt one is shown now",
            found.all_cards,
            found.counts.len()
        ),
        _ => Ok(()),
    }
}

/// It ends with the swap, which takes the last few.
fn show(bar: &mut Bar, Progress { at, goal }: Progress) {
    bar.at("events", number(at.0), number(goal.0.max(at.0 + 1)));
}

fn number(position: i64) -> u64 {
    position.unsigned_abs()
}

fn print(done: &Replayed, as_json: bool) {
    if as_json {
        println!("{:#}", value(done));
        return;
    }
    if let Some(found) = &done.differences {
        print_differences(found);
    }
    println!(
        "the board is rebuilt from the log up to position {}: {} events went in{}",
        done.up_to,
        done.applied,
        if done.unreadable > 0 {
            format!(", and {} cannot be understood", done.unreadable)
        } else {
            String::new()
        }
    );
}

fn print_differences(found: &Differences) {
    if found.is_empty() {
        println!("the live board was as the log says");
        return;
    }
    let cards: Vec<_> = found.cards.iter().flat_map(card_rows).collect();
    if !cards.is_empty() {
        print!("{}", table(["TASK", "KEY", "FIELD", "LIVE", "REBUILT"], &cards));
    }
    let more = found.all_cards - found.cards.len();
    if more > 0 {
        println!("and {more} more cards");
    }
    let count = |row: &CountDifference| {
        [row.project_id.to_string(), row.status.clone(), row.live.to_string(), row.rebuilt.to_string()]
    };
    let counts: Vec<_> = found.counts.iter().map(count).collect();
    if !counts.is_empty() {
        print!("{}", table(["PROJECT", "STATUS", "LIVE COUNT", "REBUILT COUNT"], &counts));
    }
}

fn card_rows(card: &CardDifference) -> Vec<[String; 5]> {
    let row = |field: &str, live: String, rebuilt: String| {
        let key = card.key.clone().unwrap_or_else(|| "-".to_owned());
        [card.task_id.to_string(), key, field.to_owned(), live, rebuilt]
    };
    let (shown, missing) = (|| "shown".to_owned(), || "missing".to_owned());
    match &card.kind {
        DifferenceKind::Fields(fields) => fields
            .iter()
            .map(|field| row(field.name, field.live.to_string(), field.rebuilt.to_string()))
            .collect(),
        DifferenceKind::Missing => vec![row("-", missing(), shown())],
        DifferenceKind::Surplus => vec![row("-", shown(), missing())],
    }
}

fn value(done: &Replayed) -> Value {
    json!({
        "projection": "board",
        "build": done.build,
        "up_to": done.up_to,
        "events": done.applied,
        "unreadable": done.unreadable,
        "differences": done.differences.as_ref().map(differences_value),
    })
}

fn differences_value(found: &Differences) -> Value {
    let counts = found.counts.iter().map(|row| {
        json!({
            "project_id": row.project_id,
            "status": row.status,
            "live": row.live,
            "rebuilt": row.rebuilt,
        })
    });
    json!({
        "cards": found.all_cards,
        "listed": found.cards.iter().map(card_value).collect::<Vec<_>>(),
        "counts": counts.collect::<Vec<_>>(),
    })
}

fn card_value(card: &CardDifference) -> Value {
    let (kind, fields) = match &card.kind {
        DifferenceKind::Missing => ("missing", Vec::new()),
        DifferenceKind::Surplus => ("surplus", Vec::new()),
        DifferenceKind::Fields(fields) => {
            let field = |field: &FieldDifference| json!({"name": field.name, "live": field.live, "rebuilt": field.rebuilt});
            ("fields", fields.iter().map(field).collect())
        }
    };
    json!({
        "task_id": card.task_id,
        "project_id": card.project_id,
        "key": card.key,
        "kind": kind,
        "fields": fields,
    })
}
