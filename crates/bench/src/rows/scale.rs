//! More processes of a role: what they add on this machine.

use std::time::Instant;

use anyhow::Result;
use futures::future::try_join_all;

use super::{Row, TASK, TASKS};
use crate::{
    bench::{Bench, FULL},
    figure::{Outcome, Unit},
    measure::{
        receiver::title,
        wrk::{self, Ask, Loop},
    },
    start::{
        place::Shape,
        stack::{self, Plan, Role, address},
    },
    stats::{per_second, whole},
};

/// How many events wait for the consumers, for each second that a row is loaded.
const EACH_SECOND: u64 = 10_000;
const CONNECTIONS: u32 = 64;

pub const ROWS: &[Row] = &[
    Row {
        name: "scale-api-1",
        about: "POST /tasks to 1 API process, 64 connections, with sequencer and relay",
        needs: FULL,
        run: |bench| Box::pin(apis(bench, 1)),
    },
    Row {
        name: "scale-api-2",
        about: "to 2 of them, 32 connections each",
        needs: FULL,
        run: |bench| Box::pin(apis(bench, 2)),
    },
    Row {
        name: "scale-api-3",
        about: "to 3 of them, 21 connections each",
        needs: FULL,
        run: |bench| Box::pin(apis(bench, 3)),
    },
    Row {
        name: "scale-consumers-1",
        about: "a backlog of events through 1 process of consumers",
        needs: FULL,
        run: |bench| Box::pin(consumers(bench, 1)),
    },
    Row {
        name: "scale-consumers-2",
        about: "through 2 of them",
        needs: FULL,
        run: |bench| Box::pin(consumers(bench, 2)),
    },
    Row {
        name: "scale-consumers-4",
        about: "through 4 of them",
        needs: FULL,
        run: |bench| Box::pin(consumers(bench, 4)),
    },
];

async fn apis(bench: &Bench, count: u32) -> Result<Outcome> {
    stack::with(bench, Plan { shape: Shape::Full, roles: &[Role::Movers], variables: &[] }, async |stack| {
        for _ in 0..count {
            stack.add(Role::Api).await?;
        }
        stack.moved().await?;
        let ask = Ask::post(TASKS, &stack.client.token, TASK);
        let apis = stack.processes.iter().filter(|(process, _)| process.address.is_some());
        let addresses = apis.map(|(process, _)| address(process)).collect::<Result<Vec<_>>>()?;
        let (folder, seconds) = (stack.place.folder(), bench.seconds());
        let connections = CONNECTIONS / count;
        let each = Loop { threads: 1, connections, seconds };
        let all = || try_join_all(addresses.iter().map(|at| wrk::once(bench, folder, *at, &ask, each)));
        all().await?;
        let measured = all().await?;
        let sum = measured.iter().map(|one| one.per_second).sum();
        let worst = measured.iter().map(|one| one.p99).fold(0.0, f64::max);
        Ok(Outcome::default().with("per_second", sum, Unit::PerSecond).with("p99_ms", worst, Unit::Millis))
    })
    .await
}

async fn consumers(bench: &Bench, count: u32) -> Result<Outcome> {
    stack::with(bench, Plan { shape: Shape::Full, roles: &[Role::Api], variables: &[] }, async |stack| {
        let titles: Vec<String> = (0..EACH_SECOND * bench.seconds()).map(title).collect();
        stack.client.tasks(&titles).await?;
        let began = Instant::now();
        for _ in 0..count {
            stack.add(Role::Consumers).await?;
        }
        stack.caught_up().await?;
        let took = began.elapsed();
        let mut outcome =
            Outcome::default().with("events_per_second", per_second(titles.len(), took), Unit::PerSecond);
        outcome.note(format!("{} s with the start", whole(took.as_secs_f64().round())));
        Ok(outcome)
    })
    .await
}
