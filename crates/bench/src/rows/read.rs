//! `GET /tasks/{id}`.

use anyhow::Result;

use super::{Row, TASKS};
use crate::{
    bench::{Bench, EMBEDDED, FULL},
    figure::Outcome,
    measure::{
        receiver::title,
        wrk::{self, Ask},
    },
    start::{
        place::Shape,
        stack::{self, Plan, Role},
    },
};

/// How many different tasks are read, in turn.
const TASKS_READ: u64 = 1_000;

pub const ROWS: &[Row] = &[
    Row {
        name: "get-embedded",
        about: "GET /tasks/{id} of 1,000 tasks in turn, embedded",
        needs: EMBEDDED,
        run: |bench| Box::pin(get(bench, Shape::Embedded, &[Role::All])),
    },
    Row {
        name: "get-full",
        about: "GET /tasks/{id} of 1,000 tasks in turn, full, API, consumers and workers",
        needs: FULL,
        run: |bench| Box::pin(get(bench, Shape::Full, &[Role::Api, Role::Consumers, Role::Workers])),
    },
];

async fn get(bench: &Bench, shape: Shape, roles: &[Role]) -> Result<Outcome> {
    stack::with(bench, Plan { shape, roles, variables: &[] }, async |stack| {
        let titles: Vec<String> = (0..TASKS_READ).map(title).collect();
        let ids = stack.client.tasks(&titles).await?;
        stack.caught_up().await?;
        let paths = ids.iter().map(|id| format!("{TASKS}/{id}")).collect();
        let ask = Ask::get(paths, &stack.client.token);
        let (measured, _) = wrk::load(bench, stack.place.folder(), stack.client.address, &ask).await?;
        Ok(measured.outcome())
    })
    .await
}
