//! What each role holds of the memory when nothing happens. The peaks come from the rows that load it.

use std::time::Duration;

use anyhow::Result;
use tokio::time::sleep;

use super::Row;
use crate::{
    bench::{Bench, EMBEDDED, FULL},
    figure::{Outcome, Unit},
    start::{
        place::Shape,
        stack::{self, Plan, Role},
    },
};

/// How long nothing happens before it is weighed.
const REST: Duration = Duration::from_secs(3);

pub const ROWS: &[Row] = &[
    Row {
        name: "memory-embedded",
        about: "what the embedded product holds of the memory when it rests",
        needs: EMBEDDED,
        run: |bench| Box::pin(memory(bench, Shape::Embedded, &[Role::All])),
    },
    Row {
        name: "memory-full",
        about: "what each role holds of the memory when it rests",
        needs: FULL,
        run: |bench| Box::pin(memory(bench, Shape::Full, &[Role::Api, Role::Consumers, Role::Workers])),
    },
];

async fn memory(bench: &Bench, shape: Shape, roles: &[Role]) -> Result<Outcome> {
    stack::with(bench, Plan { shape, roles, variables: &[] }, async |stack| {
        sleep(REST).await;
        let mut outcome = Outcome::default();
        for (process, _) in &stack.processes {
            if let Some(memory) = process.memory() {
                outcome.add(format!("{}_rest_mib", process.name), memory.now, Unit::Mib);
            }
        }
        Ok(outcome)
    })
    .await
}
