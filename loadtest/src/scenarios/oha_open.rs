//! Tasks, posted by oha at a constant rate; it corrects the times of requests that it could send only late.

use anyhow::Result;

use super::Scenario;
use crate::{oha, row::Row, run::Context};

/// Runs it.
pub async fn run(context: &Context) -> Result<Vec<Row>> {
    let rate = context.rate();
    let row = oha::run(context, Scenario::OhaOpen, Some(rate)).await?;
    Ok(vec![row.note(format!("{rate}/s were due"))])
}
