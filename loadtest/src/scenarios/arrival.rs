//! Tasks, posted at a constant rate and timed from when each was due.
//!
//! The second row has the same requests, timed from when they were really sent, as a closed loop would time them. What is
//! between the two is what a closed loop hides (coordinated omission).

use std::{sync::Arc, time::Instant};

use anyhow::Result;

use super::{Scenario, shared};
use crate::{
    expected::{Expected, Verdict},
    open::{self, Due},
    record::Recorder,
    row::{Loop, Row},
    run::Context,
    schedule::Schedule,
    target::{Account, Target, reason, task},
};

struct Arrivals {
    target: Target,
    accounts: Vec<Account>,
    since_due: Arc<Recorder>,
    since_sent: Arc<Recorder>,
}

/// Runs it.
pub async fn run(context: &Context) -> Result<Vec<Row>> {
    let (options, name) = (&context.options, Scenario::Arrival.name());
    let (since_due, since_sent) = (Recorder::new()?, Recorder::new()?);
    let accounts = context.target.accounts(name, shared(options.connections)).await?;
    context.progress.watch(&since_due);
    let arrivals = Arc::new(Arrivals {
        target: context.target.clone(),
        accounts,
        since_due: Arc::clone(&since_due),
        since_sent: Arc::clone(&since_sent),
    });
    let rate = context.rate();
    let send = move |due: Due| {
        let arrivals = Arc::clone(&arrivals);
        async move { arrivals.post(due).await }
    };
    open::run(Schedule::new(rate, options.seconds), options.connections, send).await?;
    let row = since_due.row(name, Loop::Open).note(format!("{rate}/s were due"));
    // The problems are in the first row.
    Ok(vec![row, since_sent.row(&format!("{name}, as sent"), Loop::Open)])
}

impl Arrivals {
    async fn post(&self, due: Due) {
        let place =
            usize::try_from(due.number).ok().and_then(|number| number.checked_rem(self.accounts.len()));
        let Some(account) = place.and_then(|place| self.accounts.get(place)) else { return };
        let request = self.target.post(account, "/v1/tasks").json(&task("Measure the load"));
        let sent = Instant::now();
        let answer = async {
            let answer = request.send().await?;
            let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
            answer.bytes().await.map(|_| (status, headers))
        };
        match answer.await {
            Ok((status, headers)) => match Expected::of(&[201]).or_overload().judge(status, &headers) {
                Verdict::Good => {
                    self.since_due.good(status, due.at);
                    self.since_sent.good(status, sent);
                }
                Verdict::Refused(_) => self.since_due.refused(status),
                Verdict::Unexpected => self.since_due.unexpected(status),
            },
            Err(error) => self.since_due.failed(&reason(&error)),
        }
    }
}
