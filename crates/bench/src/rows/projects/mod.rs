//! One project with very many tasks: what its lists, its board and a new task cost, by which plans the lists are
//! read, and how long it takes to delete it.

mod cases;
mod fill;
mod gone;
mod plans;
mod posts;
mod reads;

use anyhow::{Result, ensure};

use super::Row;
use crate::{
    bench::{Bench, EMBEDDED, FULL},
    figure::Outcome,
    start::{
        place::Shape,
        stack::{self, Plan, Role},
    },
};

pub const ROWS: &[Row] = &[
    Row {
        name: "projects-embedded",
        about: "lists, board, posts and deletion of one project with as many tasks as --tasks says, embedded",
        needs: EMBEDDED,
        run: |bench| Box::pin(large(bench, Shape::Embedded, &[Role::All])),
    },
    Row {
        name: "projects-full",
        about: "the same, full, API and consumers",
        needs: FULL,
        run: |bench| Box::pin(large(bench, Shape::Full, &[Role::Api, Role::Consumers])),
    },
];

async fn large(bench: &Bench, shape: Shape, roles: &[Role]) -> Result<Outcome> {
    stack::with(bench, Plan { shape, roles, variables: &[] }, async |stack| {
        let mut outcome = Outcome::default();
        let tasks = usize::try_from(bench.options.tasks)?;
        let project = fill::project(stack, tasks, &mut outcome).await?;
        if let Some(database) = &stack.place.database {
            // A server does so by itself within a minute.
            database.execute("VACUUM (ANALYZE)").await?;
        }
        stack.renew().await?;
        let cases = cases::cases(&project);
        reads::lists(bench, stack, &cases, &mut outcome).await?;
        let deep = reads::depths(bench, stack, &project, &mut outcome).await?;
        reads::board(bench, stack, &project, tasks, &mut outcome).await?;
        let faults = plans::faults(bench, stack, &project, &cases, deep, &mut outcome).await?;
        // What follows may fail, and each of these took minutes.
        eprintln!("    read: {outcome}");
        stack.renew().await?;
        posts::compared(bench, stack, &project, &mut outcome).await?;
        gone::deleted(stack, &project, &mut outcome).await?;
        let faults = faults.join("\n");
        ensure!(faults.is_empty(), "some lists are not read by indexes:\n{faults}\nMeasured: {outcome}");
        Ok(outcome)
    })
    .await
}
