//! A project that is filled through the API, so that every filter selects something of it.

use std::time::{Duration, Instant};

use anyhow::Result;
use chrono::DateTime;
use futures::future::try_join_all;
use serde_json::{Value, json};
use taskpost_common::{ProjectId, UserId};

use crate::{
    figure::{Outcome, Unit},
    start::{
        client::{BATCH, Client, text},
        stack::Stack,
    },
    stats::per_second,
};

/// A word of one title in seven, one of very few titles, and one of all.
pub const SOME: &str = "lift";
pub const RARE: &str = "boiler";
pub const ALL: &str = "building";
/// A label of one task in eleven, and one of very few.
pub const LABEL: &str = "garden";
pub const RARE_LABEL: &str = "emergency";
/// One task in so many has what is rare.
const SELDOM: usize = 1_000;

const THINGS: [&str; 7] = [SOME, "roof", "heating", "door", "lights", "drains", "stairs"];
const LABELS: [&str; 11] =
    [LABEL, "inside", "outside", "winter", "summer", "noise", "paint", "water", "power", "keys", "safety"];
const PRIORITIES: [&str; 5] = ["none", "low", "medium", "high", "urgent"];
const TYPES: [&str; 4] = ["task", "bug", "feature", "chore"];
/// When the first task is due, in seconds since 1970: in 2030, so that nobody is reminded.
const DUE: Duration = Duration::from_secs(1_900_000_000);

/// Who belongs to the project besides its maker. Each is told of the few tasks that they get.
const OTHERS: [&str; 3] = ["bob", "eve", "joe"];
/// How many batches, and then how many moves to another status, are under way at once.
const BATCHES: usize = 4;
const MOVES: usize = 32;
/// How many tasks are made with one token, which lasts a quarter of an hour.
const PART: usize = 50_000;

/// A project and the people in it.
#[derive(Debug)]
pub struct Project {
    /// Its id.
    pub id: ProjectId,
    /// Its maker, who has one task in seven, and the others, who have one in 150 each.
    pub members: Vec<UserId>,
}

/// Makes a project with so many tasks; they are on its board and in every group when this returns.
pub async fn project(stack: &mut Stack<'_>, tasks: usize, outcome: &mut Outcome) -> Result<Project> {
    let asked = json!({"title": "A large project", "key": "BIG"});
    let made = stack.client.post("/v1/projects", &asked, 201).await?;
    let id: ProjectId = text(&made, "id")?.parse()?;
    let project = Project { id, members: members(&stack.client, id).await? };
    let (mut making, mut moving, mut moved) = (Duration::ZERO, Duration::ZERO, 0);
    let numbers: Vec<usize> = (0..tasks).collect();
    for part in numbers.chunks(PART) {
        stack.renew().await?;
        let began = Instant::now();
        let ids = make(&stack.client, &project, part).await?;
        making += began.elapsed();
        let began = Instant::now();
        moved += carry_on(&stack.client, part, &ids).await?;
        moving += began.elapsed();
    }
    outcome.add("fill_tasks_per_second", per_second(tasks, making), Unit::PerSecond);
    outcome.add("fill_moves_per_second", per_second(moved, moving), Unit::PerSecond);
    outcome.add("fill_lag_s", stack.caught_up().await?, Unit::Seconds);
    Ok(project)
}

async fn members(client: &Client, project: ProjectId) -> Result<Vec<UserId>> {
    let me: UserId = text(&client.get("/v1/me").await?, "id")?.parse()?;
    let mut members = vec![me];
    for name in OTHERS {
        let mut other = Client::new(client.address)?;
        other.register(name).await?;
        let id: UserId = text(&other.get("/v1/me").await?, "id")?.parse()?;
        client.post(&format!("/v1/projects/{project}/members"), &json!({"user_id": id}), 201).await?;
        members.push(id);
    }
    Ok(members)
}

/// Makes the tasks of these numbers; gives their ids in the same order.
async fn make(client: &Client, project: &Project, numbers: &[usize]) -> Result<Vec<String>> {
    let mut ids = Vec::with_capacity(numbers.len());
    for together in numbers.chunks(BATCH * BATCHES) {
        let made = try_join_all(together.chunks(BATCH).map(|numbers| batch(client, project, numbers)));
        ids.extend(made.await?.into_iter().flatten());
    }
    Ok(ids)
}

async fn batch(client: &Client, project: &Project, numbers: &[usize]) -> Result<Vec<String>> {
    let tasks: Vec<Value> = numbers.iter().map(|number| task(project, *number)).collect();
    client.batch(&tasks).await
}

/// The task of this number.
fn task(project: &Project, number: usize) -> Value {
    let thing = if is_rare(number) { RARE } else { pick(&THINGS, number) };
    let mut labels = vec![pick(&LABELS, number)];
    if is_rare(number) {
        labels.push(RARE_LABEL);
    }
    let mut task = json!({
        "project_id": project.id,
        "title": format!("Look at the {thing} of {ALL} {number}"),
        "description": "Somebody called this morning. Find out what it is, and say when it will be done.",
        "type": pick(&TYPES, number / 16),
        "priority": pick(&PRIORITIES, number),
        "labels": labels,
    });
    if number.is_multiple_of(2) {
        let hours = u64::try_from(number % 5_000).unwrap_or_default();
        task["due_at"] = json!(DateTime::UNIX_EPOCH + DUE + Duration::from_hours(hours));
    }
    if let Some(assignee) = assignee(project, number) {
        task["assignee_id"] = json!(assignee);
    }
    task
}

fn assignee(project: &Project, number: usize) -> Option<UserId> {
    let (maker, others) = project.members.split_first()?;
    if number.is_multiple_of(7) {
        return Some(*maker);
    }
    let place = number / 50 % others.len().max(1);
    others.get(place).filter(|_| number % 50 == 1).copied()
}

/// Moves one task in four to another status; gives how many that were.
async fn carry_on(client: &Client, numbers: &[usize], ids: &[String]) -> Result<usize> {
    let step = |(number, id): (&usize, &String)| {
        Some((format!("/v1/tasks/{id}/transitions"), destination(*number)?))
    };
    let moves: Vec<(String, Value)> = numbers.iter().zip(ids).filter_map(step).collect();
    for together in moves.chunks(MOVES) {
        try_join_all(together.iter().map(|(path, to)| client.post(path, to, 200))).await?;
    }
    Ok(moves.len())
}

/// Where the task of this number goes, if it does not stay where it was made.
fn destination(number: usize) -> Option<Value> {
    match number % 16 {
        0 => Some(json!({"to": "in_progress"})),
        4 => Some(json!({"to": "in_review"})),
        8 => Some(json!({"to": "done", "resolution": "done"})),
        12 => Some(json!({"to": "cancelled", "resolution": "wont_do"})),
        _ => None,
    }
}

fn is_rare(number: usize) -> bool {
    number % SELDOM == 3
}

fn pick(from: &[&'static str], number: usize) -> &'static str {
    from[number % from.len()]
}

#[cfg(test)]
mod tests {
    use taskpost_common::Clock;

    use super::*;

    #[test]
    fn a_thousand_tasks_have_something_of_everything() {
        let clock = Clock::system();
        let project = Project { id: clock.id(), members: (0..4).map(|_| clock.id()).collect() };
        let tasks: Vec<Value> = (0..1_000).map(|number| task(&project, number)).collect();
        let having = |wanted: &dyn Fn(&Value) -> bool| tasks.iter().filter(|task| wanted(task)).count();
        let titled = |word: &str| having(&|task| task["title"].as_str().unwrap().contains(word));
        assert_eq!((titled(SOME), titled(RARE), titled(ALL)), (143, 1, 1_000));
        let labelled =
            |label: &str| having(&|task| task["labels"].as_array().unwrap().contains(&json!(label)));
        assert_eq!((labelled(LABEL), labelled(RARE_LABEL)), (91, 1));
        for (place, count) in [(0, 143), (1, 6), (2, 6), (3, 6)] {
            let theirs = json!(project.members[place]);
            let found = having(&|task| task["assignee_id"] == theirs);
            assert!(found.abs_diff(count) <= 1, "member {place} has {found}");
        }
        assert_eq!(having(&|task| task["due_at"].is_string()), 500);
        assert_eq!((0..1_000).filter_map(destination).count(), 250);
    }
}
