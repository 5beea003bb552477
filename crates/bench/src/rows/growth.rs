//! What a request costs when there is much already: with a thousand, a hundred thousand and a million tasks.

use std::{fs, time::Duration};

use anyhow::{Context as _, Result};
use futures::future::try_join_all;

use super::{
    Row, TASK, TASKS,
    webhooks::{VARIABLES, drained},
};
use crate::{
    bench::{Bench, EMBEDDED, FULL},
    figure::{Outcome, Unit},
    measure::{
        receiver::{Receiver, title},
        wrk::{self, Ask},
    },
    start::{
        client::{BATCH, text},
        place::{Place, Shape},
        stack::{self, Plan, Role, Stack},
    },
    stats::float,
};

/// How many tasks there are, and what that is called.
const SIZES: [(usize, &str); 3] = [(1_000, "1k"), (100_000, "100k"), (1_000_000, "1m")];
/// How many batches are under way at once while it is filled.
const AT_ONCE: usize = 4;
/// How many deliveries are measured at each size.
const WEBHOOKS: u64 = 5_000;

pub const ROWS: &[Row] = &[
    Row {
        name: "growth-embedded",
        about: "posting, a page of the list, webhooks and bytes with 1k, 100k and 1M tasks, embedded",
        needs: EMBEDDED,
        run: |bench| Box::pin(growth(bench, Shape::Embedded, &[Role::All])),
    },
    Row {
        name: "growth-full",
        about: "the same, full",
        needs: FULL,
        run: |bench| Box::pin(growth(bench, Shape::Full, &[Role::Api, Role::Consumers, Role::Workers])),
    },
];

async fn growth(bench: &Bench, shape: Shape, roles: &[Role]) -> Result<Outcome> {
    stack::with(bench, Plan { shape, roles, variables: VARIABLES }, async |stack| {
        let mut outcome = Outcome::default();
        let mut there = 0;
        for (size, name) in SIZES {
            let before = stored(&stack.place).await?;
            let missing = size.saturating_sub(there);
            fill(stack, missing).await?;
            stack.caught_up().await?;
            let grown = stored(&stack.place).await?.saturating_sub(before);
            let each = float(usize::try_from(grown)?) / float(missing.max(1));
            outcome.add(format!("{name}_task_bytes"), each, Unit::Bytes);
            there = size + measure(bench, stack, name, &mut outcome).await?;
            eprintln!("    with {name} tasks: {outcome}");
            // A million takes longer than a token lasts.
            stack.renew().await?;
        }
        Ok(outcome)
    })
    .await
}

/// Measures at one size; gives how many tasks that has added.
async fn measure(bench: &Bench, stack: &Stack<'_>, name: &str, outcome: &mut Outcome) -> Result<usize> {
    let (folder, client) = (stack.place.folder(), &stack.client);
    let page = Ask::get(vec![format!("{TASKS}?limit=50")], &client.token);
    let (pages, _) = wrk::load(bench, folder, client.address, &page).await?;
    outcome.add(format!("{name}_pages_per_second"), pages.per_second, Unit::PerSecond);
    outcome.add(format!("{name}_page_p99_ms"), pages.p99, Unit::Millis);
    let post = Ask::post(TASKS, &client.token, TASK);
    let (posts, posted) = wrk::load(bench, folder, client.address, &post).await?;
    outcome.add(format!("{name}_posts_per_second"), posts.per_second, Unit::PerSecond);
    outcome.add(format!("{name}_post_p99_ms"), posts.p99, Unit::Millis);
    stack.caught_up().await?;
    let receiver = Receiver::start().await?;
    client.hook(receiver.address).await?;
    let titles: Vec<String> = (0..WEBHOOKS).map(title).collect();
    client.tasks(&titles).await?;
    let delivered = drained(&receiver, titles.len()).await?;
    let rate = delivered.figures.first().context("a rate was measured")?.value;
    outcome.add(format!("{name}_webhooks_per_second"), rate, Unit::PerSecond);
    unhook(stack).await?;
    Ok(usize::try_from(posted)? + titles.len())
}

/// What is posted next is told to nobody.
async fn unhook(stack: &Stack<'_>) -> Result<()> {
    let webhooks = stack.client.get("/v1/webhooks").await?;
    for webhook in webhooks["data"].as_array().context("a list has data")? {
        stack.client.delete(&format!("/v1/webhooks/{}", text(webhook, "id")?)).await?;
    }
    Ok(())
}

/// Makes so many tasks more, by batches.
async fn fill(stack: &Stack<'_>, tasks: usize) -> Result<()> {
    let titles: Vec<String> = (0..tasks).map(|number| format!("filling {number}")).collect();
    for together in titles.chunks(BATCH * AT_ONCE) {
        try_join_all(together.chunks(BATCH).map(|titles| stack.client.tasks(titles))).await?;
    }
    Ok(())
}

/// How many bytes the store takes.
async fn stored(place: &Place) -> Result<u64> {
    const SIZE: &str = "SELECT pg_database_size(current_database())";
    if let Some(database) = &place.database {
        return Ok(database.number(SIZE).await?.unsigned_abs());
    }
    // What is still in the write-ahead log is written back within a second.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let file = place.folder().join("taskpost.db");
    Ok(fs::metadata(&file).with_context(|| format!("there is no {}", file.display()))?.len())
}
