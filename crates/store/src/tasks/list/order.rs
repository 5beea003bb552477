//! Orders of lists, each of them total, and where a task stands in them.

use chrono::{DateTime, Utc};
use taskpost_common::{TaskId, task::Task};
use uuid::Uuid;

/// How far an id reaches beside its milliseconds.
const BELOW: u128 = (1 << 80) - 1;
/// The last microsecond that a due date can have.
const LAST: i64 = 253_402_300_799_999_999;

/// What a list of tasks is ordered by; the id makes it total.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TaskOrder {
    /// By the time they were made.
    #[default]
    CreatedAt,
    /// By the time they last changed; a personal task that nobody changed stands at the millisecond of its id.
    UpdatedAt,
    /// By the time they are due; tasks without one are left out.
    DueAt,
}

impl TaskOrder {
    /// Where a task of a list in this order stands.
    pub fn place(self, task: &Task) -> Place {
        match self {
            Self::CreatedAt => Place::made(task.id),
            Self::UpdatedAt if is_fresh(task) => Place::made(task.id),
            Self::UpdatedAt => Place { at: task.updated_at, id: task.id },
            Self::DueAt => Place { at: task.due_at.unwrap_or_default(), id: task.id },
        }
    }

    /// What the list is put together from. Where the second has little, the first says how far it is needed.
    pub(super) const fn walks(self) -> &'static [Walk] {
        match self {
            Self::CreatedAt => &[Walk::Made],
            Self::UpdatedAt => &[Walk::Changed, Walk::Fresh],
            Self::DueAt => &[Walk::Due],
        }
    }
}

/// As [`Walk::Fresh`] says it.
fn is_fresh(task: &Task) -> bool {
    task.project_id.is_none() && task.updated_at <= task.created_at
}

/// Where a task stands in an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Its time there.
    pub at: DateTime<Utc>,
    /// Its id.
    pub id: TaskId,
}

impl Place {
    /// The place of a task at the time in its id.
    pub(super) fn made(id: TaskId) -> Self {
        let millis = i64::try_from(id.0.as_u128() >> 80).unwrap_or_default();
        Self { at: DateTime::from_timestamp_millis(millis).unwrap_or_default(), id }
    }

    /// Before all tasks, as one walks.
    pub(super) fn outermost(descending: bool) -> Self {
        if descending {
            let at = DateTime::from_timestamp_micros(LAST).unwrap_or_default();
            return Self { at, id: TaskId(Uuid::max()) };
        }
        Self { at: DateTime::UNIX_EPOCH, id: TaskId(Uuid::nil()) }
    }

    /// Parts the ids of tasks that stand at the time in their id: those below it are before the place, those above it
    /// behind, and only the task of the place itself may have it.
    pub(super) fn parting(self) -> Uuid {
        let first = first_id(self.at).as_u128();
        let last = first | BELOW;
        let exact = self.at.timestamp_micros().rem_euclid(1_000) == 0;
        Uuid::from_u128(if exact { self.id.0.as_u128().clamp(first, last) } else { last })
    }
}

/// Below all ids of this millisecond.
pub(super) fn first_id(at: DateTime<Utc>) -> Uuid {
    let millis = at.timestamp_micros().div_euclid(1_000);
    Uuid::from_u128(u128::try_from(millis).unwrap_or_default().min((1 << 48) - 1) << 80)
}

/// Rows that one kind of index has in one order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Walk {
    /// All, by id: UUIDv7 grow with time.
    Made,
    /// Tasks of projects, and personal ones that were changed, by the time of it.
    Changed,
    /// Personal tasks that nobody changed, by id: to keep them among the others would cost the intake an index.
    Fresh,
    /// Those that have a due date, by it.
    Due,
}

impl Walk {
    /// What the index has of a place.
    pub(super) const fn columns(self) -> &'static str {
        match self {
            Self::Made | Self::Fresh => "id",
            Self::Changed => "updated_at, id",
            Self::Due => "due_at, id",
        }
    }

    /// Whether the id alone is the place.
    pub(super) const fn is_by_id(self) -> bool {
        matches!(self, Self::Made | Self::Fresh)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(millis: u128, rest: u128) -> TaskId {
        TaskId(Uuid::from_u128((millis << 80) | rest))
    }

    #[test]
    fn an_id_parts_what_is_before_a_place_from_what_is_behind() {
        let (rests, mut places) = ([1, 7 << 76, BELOW - 1], Vec::new());
        for micros in (998_000..1_002_001).step_by(500) {
            let at = DateTime::from_timestamp_micros(micros).unwrap();
            for millis in 999..1_002 {
                places.extend(rests.map(|rest| Place { at, id: id(millis, rest) }));
            }
        }
        for place in places {
            let parting = place.parting();
            for task in (997..1_004).flat_map(|millis| rests.map(|rest| id(millis, rest))) {
                let wanted = Place::made(task).cmp(&place);
                assert_eq!(task.0.cmp(&parting), wanted, "{task} beside {place:?}");
            }
        }
        for (descending, outermost) in [(false, Uuid::nil()), (true, Uuid::max())] {
            let place = Place::outermost(descending);
            assert_eq!(place.id.0, outermost);
            let task = id(1_800_000_000_000, 1);
            assert_eq!(place.parting() > task.0, descending);
        }
    }
}
