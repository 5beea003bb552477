//! I1 durable: what was acknowledged is there, once and as it was told; what was refused is not; and nothing
//! else is.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Findings,
    facts::{Facts, Task, plain},
};
use crate::history::{Known, Operation, Wish};

/// The same request cannot still be running after so long.
const RUNNING_MS: u64 = 20_000;

/// By key or by id.
type Index<'a> = BTreeMap<&'a str, Vec<&'a Task>>;

/// What the clients were told against the tasks that are there.
pub fn check(operations: &[Operation], facts: &Facts) -> Findings {
    let mut found = Findings::default();
    found.blame("I1: the file is damaged", facts.integrity.iter().filter(|said| *said != "ok"));
    let (mut by_title, mut by_id) = (Index::new(), Index::new());
    for task in &facts.tasks {
        by_title.entry(&task.title).or_default().push(task);
        by_id.entry(&task.id).or_default().push(task);
    }
    told(operations, &mut found);
    created(operations, &by_title, &mut found);
    moved(operations, &facts.tasks, &by_id, &mut found);
    found
}

/// What was told must not contradict itself.
fn told(operations: &[Operation], found: &mut Findings) {
    let differently = operations.iter().filter(|operation| {
        let good = operation.answers.iter().filter(|answer| answer.task.is_some());
        good.map(|answer| (&answer.task, answer.version)).collect::<BTreeSet<_>>().len() > 1
    });
    found.blame("I1: operations whose client was told different things", keys(differently));
    let nothing = operations.iter().filter(|operation| {
        let good = |status: u16| (200..300).contains(&status);
        operation.answers.iter().any(|answer| answer.status.is_some_and(good) && answer.task.is_none())
    });
    found.blame("I1: operations that were acknowledged without a task", keys(nothing));
    let for_ever = operations.iter().filter(|operation| {
        let mut last = operation.answers.iter().rev().take_while(|answer| answer.status == Some(409));
        let newest = last.next().map_or(0, |answer| answer.at_ms);
        let oldest = last.last().map_or(newest, |answer| answer.at_ms);
        newest - oldest > RUNNING_MS
    });
    found.blame("I1: operations that were told for ever that their first try is running", keys(for_ever));
}

fn created(operations: &[Operation], by_title: &Index<'_>, found: &mut Findings) {
    let there = |operation: &Operation| by_title.get(&*operation.key).map_or(&[][..], Vec::as_slice);
    let asked = |wish: Wish| operations.iter().filter(move |operation| operation.wish == wish);
    let done = || asked(Wish::Create).filter_map(|operation| Some((operation, id(operation)?)));
    let absent = done().filter(|(operation, _)| there(operation).is_empty());
    found.lost +=
        found.blame("I1: tasks that were acknowledged are not there", keys(absent.map(|(one, _)| one)));
    let other = done().filter(|(operation, told)| {
        let tasks = there(operation);
        !tasks.is_empty() && tasks.iter().all(|task| task.id != *told)
    });
    found.lost += found
        .blame("I1: tasks are there under another id than was acknowledged", keys(other.map(|(one, _)| one)));
    let twice = asked(Wish::Create).filter(|operation| there(operation).len() > 1);
    found.doubled += found.blame("I1: tasks are there more than once", keys(twice));
    let refused = asked(Wish::Create).filter(|operation| operation.known() == Known::Refused);
    let refused = refused.filter(|operation| !there(operation).is_empty());
    found.blame("I1: tasks that were refused are there", keys(refused));
    let bad =
        asked(Wish::CreateBadly).filter(|operation| id(operation).is_some() || !there(operation).is_empty());
    found.blame("I1: bad tasks were not refused", keys(bad));
    let wanted: BTreeSet<&str> = operations
        .iter()
        .filter(|operation| !matches!(operation.wish, Wish::Start(_)))
        .map(|operation| &*operation.key)
        .collect();
    let foreign = by_title.keys().filter(|title| !wanted.contains(*title));
    found.blame("I1: tasks are there that nobody asked for", foreign);
}

/// The clients start a task once at most, and change nothing else.
fn moved(operations: &[Operation], tasks: &[Task], by_id: &Index<'_>, found: &mut Findings) {
    let (mut undone, mut refused, mut wrong) = (Vec::new(), Vec::new(), Vec::new());
    let mut started = BTreeSet::new();
    for operation in operations {
        let Wish::Start(task) = &operation.wish else { continue };
        let id = plain(task);
        let row = by_id.get(&*id).and_then(|tasks| tasks.first());
        let has_moved = row.is_some_and(|task| task.version == 2 && task.status == "in_progress");
        match operation.known() {
            Known::Done { task: told } => {
                if !has_moved {
                    undone.push(&operation.key);
                }
                let version = operation.answers.iter().find_map(|answer| answer.version);
                if plain(&told) != id || version != Some(2) {
                    wrong.push(&operation.key);
                }
            }
            Known::Refused if row.is_some_and(|task| task.version > 1) => refused.push(&operation.key),
            Known::Refused | Known::Unknown => {}
        }
        started.insert(id);
    }
    found.lost += found.blame("I1: moves that were acknowledged did not take place", undone);
    found.blame("I1: moves that were refused took place", refused);
    found.blame("I1: moves were answered with another task or version", wrong);
    let odd = tasks.iter().filter(|task| match (&*task.status, task.version) {
        ("todo", 1) => false,
        ("in_progress", 2) => !started.contains(&task.id),
        _ => true,
    });
    let odd = odd.map(|task| format!("{} at {} {}", task.title, task.status, task.version));
    found.blame("I1: tasks are in a state that nobody asked for", odd);
}

/// The id that the client was told.
fn id(operation: &Operation) -> Option<String> {
    match operation.known() {
        Known::Done { task } => Some(plain(&task)),
        Known::Refused | Known::Unknown => None,
    }
}

fn keys<'a>(operations: impl Iterator<Item = &'a Operation>) -> impl Iterator<Item = &'a str> {
    operations.map(|operation| &*operation.key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::sound::{World, answer};

    /// What is found after one thing was made wrong.
    fn after(harm: impl FnOnce(&mut World)) -> Findings {
        let mut world = World::sound();
        assert_eq!(check(&world.operations, &world.facts), Findings::default());
        harm(&mut world);
        check(&world.operations, &world.facts)
    }

    fn only(found: &Findings, violation: &str) {
        assert_eq!(found.violations, [violation]);
    }

    #[test]
    fn an_acknowledged_task_must_be_there_once_with_its_id() {
        let found = after(|world| drop(world.facts.tasks.remove(0)));
        assert_eq!((found.lost, found.doubled), (1, 0));
        only(&found, "I1: tasks that were acknowledged are not there: 1 (drill 0-1)");
        let found = after(|world| "f00".clone_into(&mut world.facts.tasks[0].id));
        assert_eq!(found.lost, 1);
        only(&found, "I1: tasks are there under another id than was acknowledged: 1 (drill 0-1)");
        let found = after(|world| {
            let twin = Task { id: "f00".to_owned(), ..world.facts.tasks[0].clone() };
            world.facts.tasks.push(twin);
        });
        assert_eq!((found.lost, found.doubled), (0, 1));
        only(&found, "I1: tasks are there more than once: 1 (drill 0-1)");
    }

    #[test]
    fn what_nobody_was_promised_may_be_there_once_at_most() {
        let found = after(|world| world.facts.tasks.retain(|task| task.title != "drill 0-3"));
        assert_eq!(found, Findings::default(), "its client never knew");
        let found = after(|world| {
            let twin = Task { id: "f00".to_owned(), ..world.task("drill 0-3").clone() };
            world.facts.tasks.push(twin);
        });
        assert_eq!(found.doubled, 1);
        only(&found, "I1: tasks are there more than once: 1 (drill 0-3)");
    }

    #[test]
    fn what_was_refused_or_never_wanted_must_be_absent() {
        for (title, violation) in [
            ("drill 0-5", "I1: tasks that were refused are there: 1 (drill 0-5)"),
            ("drill 0-6", "I1: bad tasks were not refused: 1 (drill 0-6)"),
            ("ghost", "I1: tasks are there that nobody asked for: 1 (ghost)"),
            // The key of a move is no title.
            ("drill 0-7", "I1: tasks are there that nobody asked for: 1 (drill 0-7)"),
        ] {
            let found = after(|world| {
                let id = "f00".to_owned();
                let ghost = Task { id, title: title.to_owned(), ..world.facts.tasks[0].clone() };
                world.facts.tasks.push(ghost);
            });
            only(&found, violation);
        }
        let found = after(|world| world.answers("drill 0-6").push(answer(9, Some(201), Some(("bad", 1)))));
        only(&found, "I1: bad tasks were not refused: 1 (drill 0-6)");
    }

    #[test]
    fn every_answer_to_one_operation_is_the_same() {
        let found = after(|world| world.answers("drill 0-1").push(answer(9, Some(201), Some(("f0-0", 1)))));
        only(&found, "I1: operations whose client was told different things: 1 (drill 0-1)");
        let found = after(|world| world.answers("drill 0-1").push(answer(9, Some(201), None)));
        only(&found, "I1: operations that were acknowledged without a task: 1 (drill 0-1)");
        let running = |at_ms| answer(at_ms, Some(409), None);
        let waits = |last| {
            after(|world| {
                world.answers("drill 0-4").extend([answer(0, None, None), running(1), running(last)]);
            })
        };
        assert_eq!(waits(20_000), Findings::default());
        only(
            &waits(20_002),
            "I1: operations that were told for ever that their first try is running: 1 (drill 0-4)",
        );
    }

    #[test]
    fn a_move_took_place_if_its_client_was_told_so() {
        let back = |world: &mut World| {
            let task = world.task_mut("drill 0-2");
            (task.version, task.status) = (1, "todo".to_owned());
        };
        let found = after(back);
        assert_eq!(found.lost, 1);
        only(&found, "I1: moves that were acknowledged did not take place: 1 (drill 0-7)");
        let unknown = |world: &mut World| *world.answers("drill 0-7") = vec![answer(5, None, None)];
        assert_eq!(after(unknown), Findings::default(), "it may have taken place");
        assert_eq!(after(|world| (unknown(world), back(world)).0), Findings::default(), "or not");
        let found = after(|world| *world.answers("drill 0-7") = vec![answer(5, Some(404), None)]);
        only(&found, "I1: moves that were refused took place: 1 (drill 0-7)");
        let found =
            after(|world| world.answers("drill 0-7").iter_mut().for_each(|one| one.version = Some(3)));
        only(&found, "I1: moves were answered with another task or version: 1 (drill 0-7)");
        let found = after(|world| world.task_mut("drill 0-1").version = 2);
        only(&found, "I1: tasks are in a state that nobody asked for: 1 (drill 0-1 at todo 2)");
    }

    #[test]
    fn a_damaged_file_is_named() {
        let found = after(|world| world.facts.integrity = vec!["row 7 missing from index x".to_owned()]);
        only(&found, "I1: the file is damaged: 1 (row 7 missing from index x)");
    }
}
