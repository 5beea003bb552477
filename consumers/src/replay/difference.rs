//! What the live board and the rebuilt one do not have in common.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use taskpost_common::{Position, ProjectId, TaskId};
use taskpost_store::board::{Card, rebuild::CountDifference};

/// Cards that are named one by one; of more only their number is known.
const NAMED: usize = 1_000;

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Differences {
    /// The first of the cards that differ.
    pub cards: Vec<CardDifference>,
    /// How many cards differ.
    pub all_cards: usize,
    /// Counts that differ.
    pub counts: Vec<CountDifference>,
}

impl Differences {
    /// Whether the two are the same.
    pub const fn is_empty(&self) -> bool {
        self.all_cards == 0 && self.counts.is_empty()
    }

    pub(super) fn add(&mut self, card: CardDifference) {
        self.all_cards += 1;
        if self.cards.len() < NAMED {
            self.cards.push(card);
        }
    }
}

/// A card that differs.
#[derive(Clone, Debug, PartialEq)]
pub struct CardDifference {
    /// Its task.
    pub task_id: TaskId,
    /// Its project.
    pub project_id: ProjectId,
    /// The task's key.
    pub key: Option<String>,
    /// How it differs.
    pub kind: DifferenceKind,
}

/// How a card differs.
#[derive(Clone, Debug, PartialEq)]
pub enum DifferenceKind {
    /// In these fields.
    Fields(Vec<FieldDifference>),
    /// The live board does not show it.
    Missing,
    /// Only the live board shows it.
    Surplus,
}

/// A field that differs.
#[derive(Clone, Debug, PartialEq)]
pub struct FieldDifference {
    /// The field.
    pub name: &'static str,
    /// On the live board.
    pub live: Value,
    /// On the rebuilt one.
    pub rebuilt: Value,
}

/// The tasks whose cards are not the same in two lists, each in the order of the tasks.
pub(super) fn unequal(live: &[Card], rebuilt: &[Card]) -> Vec<TaskId> {
    let mut pairs: BTreeMap<TaskId, [Option<&Card>; 2]> = BTreeMap::new();
    for (side, cards) in [live, rebuilt].into_iter().enumerate() {
        for card in cards.iter().filter(|card| !card.gone) {
            pairs.entry(card.task_id).or_default()[side] = Some(card);
        }
    }
    pairs.into_iter().filter(|(_, [live, rebuilt])| live != rebuilt).map(|(id, _)| id).collect()
}

/// How a card differs, if it does. The live board has every event up to `applied`, and perhaps some behind it: a
/// rebuilt card that took one of those may only be ahead.
pub(super) fn difference(
    live: Option<&Card>,
    rebuilt: Option<&Card>,
    applied: Position,
) -> Option<CardDifference> {
    let at = |card: Option<&Card>| card.map(|card| card.position);
    if at(rebuilt) > Some(applied) && at(live) != at(rebuilt) {
        return None;
    }
    let (card, kind) = match (live, rebuilt) {
        (Some(live), Some(rebuilt)) if !live.gone && !rebuilt.gone => {
            let fields = field_differences(live, rebuilt);
            if fields.is_empty() {
                return None;
            }
            (rebuilt, DifferenceKind::Fields(fields))
        }
        (_, Some(rebuilt)) if !rebuilt.gone => (rebuilt, DifferenceKind::Missing),
        (Some(live), _) if !live.gone => (live, DifferenceKind::Surplus),
        _ => return None,
    };
    Some(CardDifference { task_id: card.task_id, project_id: card.project_id, key: card.key.clone(), kind })
}

fn field_differences(live: &Card, rebuilt: &Card) -> Vec<FieldDifference> {
    let pairs = fields(live).into_iter().zip(fields(rebuilt));
    let unequal = pairs.filter(|((_, live), (_, rebuilt))| live != rebuilt);
    unequal.map(|((name, live), (_, rebuilt))| FieldDifference { name, live, rebuilt }).collect()
}

fn fields(card: &Card) -> [(&'static str, Value); 13] {
    [
        ("project_id", json!(card.project_id)),
        ("category_id", json!(card.category_id)),
        ("key", json!(card.key)),
        ("title", json!(card.title)),
        ("type", json!(card.task_type)),
        ("status", json!(card.status)),
        ("priority", json!(card.priority)),
        ("assignee_id", json!(card.assignee_id)),
        ("labels", json!(card.labels)),
        ("due_at", json!(card.due_at)),
        ("comment_count", json!(card.comment_count)),
        ("version", json!(card.version)),
        ("position", json!(card.position)),
    ]
}

#[cfg(test)]
mod tests {
    use taskpost_common::task::Priority;
    use uuid::Uuid;

    use super::*;

    fn card(number: u128, position: i64) -> Card {
        Card {
            task_id: TaskId(Uuid::from_u128(number)),
            project_id: ProjectId(Uuid::nil()),
            category_id: None,
            key: None,
            title: "a".to_owned(),
            task_type: "task".to_owned(),
            status: "todo".to_owned(),
            priority: Priority::None,
            assignee_id: None,
            labels: Vec::new(),
            due_at: None,
            comment_count: 0,
            version: 1,
            position: Position(position),
            gone: false,
        }
    }

    #[test]
    fn cards_that_are_not_the_same_on_both_sides_are_found() {
        let other = Card { title: "b".to_owned(), ..card(2, 5) };
        let gone = Card { gone: true, ..card(3, 5) };
        let live = [card(1, 5), card(2, 5), gone, card(4, 5)];
        let rebuilt = [card(1, 5), other, card(5, 5)];
        let ids = |numbers: &[u128]| -> Vec<TaskId> {
            numbers.iter().map(|number| TaskId(Uuid::from_u128(*number))).collect()
        };
        assert_eq!(unequal(&live, &rebuilt), ids(&[2, 4, 5]));
        assert_eq!(unequal(&live, &live), ids(&[]));
    }

    #[test]
    fn a_difference_names_its_fields_or_the_side_that_lacks_it() {
        let (plain, gone) = (card(1, 5), Card { gone: true, ..card(1, 5) });
        let titled = Card { title: "b".to_owned(), ..plain.clone() };
        let title = FieldDifference { name: "title", live: json!("a"), rebuilt: json!("b") };
        for (live, rebuilt, expected) in [
            (Some(&plain), Some(&plain), None),
            (Some(&plain), Some(&titled), Some(DifferenceKind::Fields(vec![title]))),
            (None, Some(&plain), Some(DifferenceKind::Missing)),
            (Some(&gone), Some(&plain), Some(DifferenceKind::Missing)),
            (Some(&plain), None, Some(DifferenceKind::Surplus)),
            (Some(&plain), Some(&gone), Some(DifferenceKind::Surplus)),
            (Some(&gone), None, None),
            (None, None, None),
        ] {
            let found = difference(live, rebuilt, Position(5)).map(|found| found.kind);
            assert_eq!(found, expected, "{live:?} {rebuilt:?}");
        }
    }

    #[test]
    fn what_is_only_ahead_is_no_difference() {
        let (behind, ahead) = (card(1, 5), Card { title: "b".to_owned(), ..card(1, 9) });
        assert_eq!(difference(Some(&behind), Some(&ahead), Position(7)), None);
        assert_eq!(difference(None, Some(&ahead), Position(7)), None);
        assert!(difference(Some(&behind), Some(&ahead), Position(9)).is_some());
        let same_place = Card { title: "c".to_owned(), ..ahead.clone() };
        assert!(difference(Some(&same_place), Some(&ahead), Position(7)).is_some());
        assert!(difference(Some(&ahead), Some(&behind), Position(7)).is_some(), "it shows what never was");
    }
}
