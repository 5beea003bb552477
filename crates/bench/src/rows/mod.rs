//! What is measured. Each row starts what it needs afresh and removes it again, so that rows may come in any order.

mod accepted;
mod bounds;
mod delivered;
mod engine;
mod growth;
mod memory;
mod overload;
mod post;
mod projects;
mod read;
mod scale;
mod soak;
mod webhooks;

use anyhow::Result;
use futures::future::LocalBoxFuture;

use crate::{
    bench::{Bench, Need},
    figure::Outcome,
    options::Options,
    peers,
};

/// The task that every load posts, to us and to the peers.
pub const TASK: &str = "{\"title\":\"Prepare the quarterly report\",\"description\":\"Collect the figures from every \
    team and draft the summary.\",\"priority\":\"high\"}";
/// Where tasks are posted.
pub const TASKS: &str = "/v1/tasks";

/// Measures once.
pub type Run = for<'a> fn(&'a Bench) -> LocalBoxFuture<'a, Result<Outcome>>;

/// Something that is measured.
#[derive(Clone, Copy)]
pub struct Row {
    /// Its name, also in the history.
    pub name: &'static str,
    /// What it is.
    pub about: &'static str,
    /// What it cannot do without.
    pub needs: &'static [Need],
    /// Measures it once.
    pub run: Run,
}

/// The rows that were asked for, in the order they are shown.
pub fn wanted(options: &Options) -> Vec<Row> {
    let rows = if options.is_special() { special(options) } else { usual() };
    rows.into_iter().filter(|row| options.wants(row.name)).collect()
}

fn usual() -> Vec<Row> {
    [bounds::ROWS, post::ROWS, accepted::ROWS, read::ROWS, webhooks::ROWS, engine::ROWS, delivered::ROWS]
        .into_iter()
        .chain([memory::ROWS, overload::ROWS, peers::express::ROWS, peers::queues::ROWS])
        .flatten()
        .copied()
        .collect()
}

fn special(options: &Options) -> Vec<Row> {
    let asked = [
        (options.growth, growth::ROWS),
        (options.soak.is_some(), soak::ROWS),
        (options.scale, scale::ROWS),
        (options.projects, projects::ROWS),
    ];
    asked.into_iter().filter(|(asked, _)| *asked).flat_map(|(_, rows)| rows).copied().collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::targets::{TARGETS, Target};

    #[test]
    fn every_row_has_a_name_of_its_own() {
        let rows = usual();
        let names: BTreeSet<&str> = rows.iter().map(|row| row.name).collect();
        assert_eq!(names.len(), rows.len());
    }

    #[test]
    fn every_target_is_about_a_row() {
        let rows = usual();
        for figure in TARGETS.iter().flat_map(Target::figures) {
            let row = figure.split('.').next().unwrap_or_default();
            assert!(rows.iter().any(|known| known.name == row), "{figure}");
        }
    }
}
