//! From the POST of a task to the arrival of its webhook, at 100 tasks in a second.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Result;

use super::Scenario;
use crate::{
    expected::{Expected, Verdict},
    open::{self, Due},
    posted::{Posted, title},
    receiver::Receiver,
    record::Recorder,
    row::{Loop, Row},
    run::Context,
    schedule::Schedule,
    target::{Account, Target, reason, task},
};

/// Tasks in a second: enough to measure, and little enough that nothing waits in line.
const RATE: u32 = 100;
/// How long nothing may come before the rest is given up.
const SILENCE: Duration = Duration::from_secs(20);

struct Posts {
    target: Target,
    owner: Account,
    posted: Arc<Posted>,
    answers: Arc<Recorder>,
}

/// Runs it.
pub async fn run(context: &Context) -> Result<Vec<Row>> {
    let (target, name) = (&context.target, Scenario::Delivered.name());
    let (deliveries, answers) = (Recorder::new()?, Recorder::new()?);
    let schedule = Schedule::new(RATE, context.options.seconds);
    let posted = Posted::new(usize::try_from(schedule.total())?, Arc::clone(&deliveries));
    let owner = target.one(name).await?;
    let came = Arc::clone(&posted);
    let receiver = Receiver::start(move |arrival| came.arrived(arrival)).await?;
    let webhook = target.webhook(&owner, &receiver.url()).await?;
    context.progress.watch(&deliveries);

    let posts = Posts {
        target: target.clone(),
        owner: owner.clone(),
        posted: Arc::clone(&posted),
        answers: Arc::clone(&answers),
    };
    let posts = Arc::new(posts);
    let send = move |due: Due| {
        let posts = Arc::clone(&posts);
        async move { posts.post(due).await }
    };
    open::run(schedule, context.options.connections, send).await?;
    let posts = answers.row(&format!("{name}, the POSTs"), Loop::Open);
    posted.wait_for(posts.good, SILENCE).await;
    target.remove(&owner, &webhook).await?;
    Ok(vec![posted.note(deliveries.row(name, Loop::Open)), posts])
}

impl Posts {
    async fn post(&self, due: Due) {
        let Ok(number) = usize::try_from(due.number) else { return };
        let request = self.target.post(&self.owner, "/v1/tasks").json(&task(&title(number)));
        self.posted.sent(number);
        let sent = Instant::now();
        match request.send().await {
            Ok(answer) => {
                let status = answer.status().as_u16();
                match Expected::of(&[201]).judge(status, answer.headers()) {
                    Verdict::Good => self.answers.good(status, sent),
                    Verdict::Refused(_) => self.answers.refused(status),
                    Verdict::Unexpected => self.answers.unexpected(status),
                }
            }
            Err(error) => self.answers.failed(&reason(&error)),
        }
    }
}
