//! Tasks, posted by oha as fast as answers come: the most that the instance takes.

use anyhow::Result;

use super::Scenario;
use crate::{oha, row::Row, run::Context};

/// Runs it.
pub async fn run(context: &Context) -> Result<Vec<Row>> {
    Ok(vec![oha::run(context, Scenario::OhaClosed, None).await?])
}
