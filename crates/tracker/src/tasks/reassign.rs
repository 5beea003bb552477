//! Dealing the open tasks of a project out again.

use std::collections::{BTreeMap, HashSet};

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use serde::{Deserialize, Serialize};
use taskpost_common::{
    ProjectId, UserId,
    event::AssignCause,
    project::ProjectRole,
    task::{Strategy, Task},
};
use taskpost_store::{projects, tasks};
use utoipa::ToSchema;

use crate::{Answered, Caller, Error, Once, Tracker, access::require_open, projects::keep};

/// The most tasks that are dealt out at once.
const MOST: usize = 5_000;

/// A wish to deal tasks out again.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Reassign {
    /// How.
    pub strategy: Strategy,
    /// Makes chance repeatable; drawn when absent.
    #[serde(default)]
    #[schema(maximum = 4_294_967_295_u32)]
    pub seed: Option<u32>,
}

/// What came of it.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub struct Reassigned {
    /// How many tasks have another assignee now.
    pub reassigned: usize,
    /// What made chance repeatable.
    pub seed: u32,
}

impl Tracker {
    /// Deals the open tasks of a project out among its members who are more than viewers.
    pub async fn reassign(
        &self,
        caller: &Caller,
        project: ProjectId,
        input: Reassign,
        once: Once<Reassigned>,
    ) -> Result<Answered, Error> {
        let viewer = caller.viewer();
        let seed = input.seed.unwrap_or_else(|| rand::rng().random());
        self.change_once(caller, once, move |tx, change| {
            Box::pin(async move {
                let kept = keep(tx, viewer, project, ProjectRole::Maintainer).await?;
                require_open(&kept)?;
                let open = tasks::open_in_project(tx, project, MOST + 1).await?;
                if open.len() > MOST {
                    return Err(Error::Conflict(format!(
                        "the project has more than {MOST} open tasks; close some first"
                    )));
                }
                let readers = projects::readers(tx, &[project]).await?;
                let roles = readers.get(&project).map(|readers| &readers.members).into_iter().flatten();
                let working = roles.filter(|(_, role)| **role >= ProjectRole::Member).map(|(user, _)| *user);
                let mut members = tasks::assignable(tx, &working.collect::<Vec<_>>()).await?;
                members.sort_unstable();
                let edits = deal(open, &members, input.strategy, seed);
                let reassigned = edits.len();
                let event = tasks::change_many(tx, change, edits, AssignCause::Reassign).await?;
                Ok((Reassigned { reassigned, seed }, event))
            })
        })
        .await
    }
}

/// The tasks that change hands, before and after. The same members and seed give the same.
fn deal(open: Vec<Task>, members: &[UserId], strategy: Strategy, seed: u32) -> Vec<(Task, Task)> {
    let mut chance = StdRng::seed_from_u64(seed.into());
    let mut loads: BTreeMap<UserId, usize> = members.iter().map(|member| (*member, 0)).collect();
    let known: HashSet<UserId> = members.iter().copied().collect();
    let mut edits = Vec::new();
    for before in open {
        let fewest = loads.values().min().copied().unwrap_or_default();
        let eligible: Vec<UserId> = loads
            .iter()
            .filter(|(_, load)| strategy == Strategy::Random || **load == fewest)
            .map(|(member, _)| *member)
            .collect();
        // Who has it already keeps it where that is as good.
        let keeps = before
            .assignee_id
            .filter(|id| strategy == Strategy::LeastLoaded && known.contains(id) && eligible.contains(id));
        let drawn = || eligible.get(chance.random_range(0..eligible.len())).copied();
        let chosen = if eligible.is_empty() { None } else { keeps.or_else(drawn) };
        if let Some(load) = chosen.and_then(|chosen| loads.get_mut(&chosen)) {
            *load += 1;
        }
        if chosen.is_some() && chosen != before.assignee_id {
            edits.push((before.clone(), Task { assignee_id: chosen, ..before }));
        }
    }
    edits
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use taskpost_common::Clock;

    use super::*;
    use crate::{CreateTask, tasks::new_task};

    fn open(count: usize) -> Vec<Task> {
        let clock = Clock::system();
        let input: CreateTask = serde_json::from_str("{\"title\": \"Fix the lift\"}").unwrap();
        (0..count).map(|_| new_task(clock.id(), clock.id(), input.clone(), clock.now())).collect()
    }

    fn members(count: u128) -> Vec<UserId> {
        (1..=count).map(|number| UserId(uuid::Uuid::from_u128(number))).collect()
    }

    #[test]
    fn the_least_loaded_get_equal_shares() {
        let edits = deal(open(10), &members(3), Strategy::LeastLoaded, 7);
        let mut shares: HashMap<UserId, usize> = HashMap::new();
        for (_, after) in &edits {
            *shares.entry(after.assignee_id.unwrap()).or_default() += 1;
        }
        let mut shares: Vec<usize> = shares.into_values().collect();
        shares.sort_unstable();
        assert_eq!(shares, [3, 3, 4]);
    }

    #[test]
    fn the_same_seed_deals_the_same() {
        let tasks = open(50);
        for strategy in [Strategy::Random, Strategy::LeastLoaded] {
            let once = deal(tasks.clone(), &members(4), strategy, 1);
            assert_eq!(once, deal(tasks.clone(), &members(4), strategy, 1));
            assert_ne!(once, deal(tasks.clone(), &members(4), strategy, 2));
        }
    }

    #[test]
    fn nobody_to_deal_to_changes_nothing() {
        assert!(deal(open(3), &[], Strategy::Random, 1).is_empty());
    }
}
