//! Tasks whose clients wait for the log only: 202 where the log is Kafka, 201 elsewhere.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::Result;
use goose::goose::{GooseUser, TransactionResult};
use reqwest::header::LOCATION;
use tokio::time::sleep;

use super::{Scenario, row, shared};
use crate::{
    attack::{self, Step, account, ask, post},
    expected::Expected,
    record::Recorder,
    row::Row,
    run::Context,
    target::{Account, reason, task},
};

/// How long the last accepted task may take to be stored.
const DRAIN: Duration = Duration::from_mins(2);

struct Async {
    accounts: Vec<Account>,
    recorder: Arc<Recorder>,
    last: Arc<Mutex<Option<Accepted>>>,
}

/// A task that was accepted, and will be stored.
#[derive(Clone)]
struct Accepted {
    account: Account,
    location: String,
    at: Instant,
}

/// Runs it, and then waits until the task that was accepted last is stored.
pub async fn run(context: &Context) -> Result<Vec<Row>> {
    let (scenario, recorder) = (Scenario::Async, Recorder::new()?);
    let users = context.options.connections;
    let accounts = context.target.accounts(scenario.name(), shared(users)).await?;
    context.progress.watch(&recorder);
    let last = Arc::new(Mutex::new(None));
    let step = Async { accounts, recorder: Arc::clone(&recorder), last: Arc::clone(&last) };
    attack::run(context, scenario.name(), users, step).await?;
    let accepted = last.lock().unwrap_or_else(PoisonError::into_inner).take();
    let Some(accepted) = accepted else {
        let measured = row(&recorder, scenario);
        return Ok(vec![measured.note("nothing was answered 202: the instance's log is not Kafka")]);
    };
    let note = match stored(context, &accepted).await {
        Ok(took) => format!("the last task was stored {:.1} s after its 202", took.as_secs_f64()),
        Err(why) => {
            recorder.wrong("an accepted task that was not stored");
            why
        }
    };
    Ok(vec![row(&recorder, scenario).note(note)])
}

impl Step for Async {
    async fn step(&self, user: &mut GooseUser) -> TransactionResult {
        let account = account(&self.accounts, user)?;
        let request = post(user, account, "/v1/tasks")?.header("prefer", "respond-async");
        let request = request.json(&task("Measure the load"));
        let answer =
            ask(user, &self.recorder, "POST /tasks, async", request, Expected::of(&[202, 201])).await?;
        let Some(answer) = answer.filter(|answer| answer.status == 202) else { return Ok(()) };
        if let Some(location) = answer.headers.get(LOCATION).and_then(|value| value.to_str().ok()) {
            let accepted =
                Accepted { account: account.clone(), location: location.to_owned(), at: Instant::now() };
            *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(accepted);
        } else {
            self.recorder.wrong("a 202 without a Location");
        }
        Ok(())
    }
}

/// From the 202 until the task was stored, or why it was not.
async fn stored(context: &Context, accepted: &Accepted) -> Result<Duration, String> {
    loop {
        let request = context.target.get(&accepted.account, &accepted.location);
        let status = request.send().await.map_err(|error| reason(&error))?.status().as_u16();
        let took = accepted.at.elapsed();
        match status {
            200 => return Ok(took),
            202 if took < DRAIN => sleep(Duration::from_millis(20)).await,
            202 => return Err(format!("the last task was not stored {} s after its 202", took.as_secs())),
            status => return Err(format!("the last task was answered {status} after its 202")),
        }
    }
}
