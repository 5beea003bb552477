//! `taskpost seed`: a demo in the store.

use anyhow::bail;
use clap::Args;
use serde_json::json;
use taskpost_common::config::Config;
use taskpost_tracker::{DEMO_PASSWORD, Demo, Seeded, Tracker};

use super::{
    desk::{Desk, explain},
    progress::Bar,
};
use crate::{environment, logs};

/// How to tell of it.
#[derive(Debug, Args)]
pub struct Options {
    /// As JSON, for scripts
    #[arg(long)]
    json: bool,
}

/// Adds what is missing of the demo.
pub async fn run(options: Options) -> anyhow::Result<()> {
    let config = environment::config()?;
    logs::start(config.log_format);
    if config.production {
        bail!("ENVIRONMENT: production gets no demo, whose accounts have a password that everybody knows");
    }
    let desk = Desk::open(&config).await?;
    let mut bar = Bar::new();
    let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
    let seeded =
        desk.tracker.seed(demo(&config), |part, done, all| bar.at(part, count(done), count(all))).await;
    desk.close().await;
    print(seeded.map_err(explain)?, options.json);
    Ok(())
}

/// As [`run`], when a server starts that is told to; that it cannot keeps nobody from serving.
pub(crate) async fn at_start(config: &Config, tracker: &Tracker) {
    match tracker.seed(demo(config), |_, _, _| ()).await {
        Ok(Seeded { users: 0, projects: 0, tasks: 0, .. }) => {}
        Ok(Seeded { users, projects, tasks, .. }) => {
            tracing::info!(users, projects, tasks, "SEED_RELATIONSHIPS: the demo was added");
        }
        Err(error) => tracing::warn!(%error, "SEED_RELATIONSHIPS: the demo is not complete"),
    }
}

fn demo(config: &Config) -> Demo {
    Demo { users: config.seed.users, projects: config.seed.projects }
}

fn print(seeded: Seeded, as_json: bool) {
    // Told when the accounts are made, and then no more.
    let password = (seeded.users > 0).then_some(DEMO_PASSWORD);
    if as_json {
        println!("{:#}", json!({"added": seeded, "password": password}));
        return;
    }
    if seeded == Seeded::default() {
        println!("all of the demo is there; nothing was added");
        return;
    }
    let Seeded { users, projects, tasks, comments, posts } = seeded;
    println!(
        "added {users} users, {projects} projects, {tasks} tasks, {comments} comments and {posts} posts"
    );
    if let Some(password) = password {
        println!("everybody's password is `{password}`; ada@taskpost.example is admin");
    }
}
