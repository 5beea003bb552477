//! Changes go into the board: a card takes what is newer than it is, and counts follow what really changed.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use taskpost_common::{Position, ProjectId, TaskId, task::Priority};
use uuid::Uuid;

use super::{BoardChange, Card, CardRow, Field, What, cards, most};
use crate::{
    MAX_BATCH, StoreError, Tx,
    bulk::{insert_many, insert_many_returning},
    db::on,
    dynamic::{Bind, Statement},
};

/// Puts changes into a build, in the order of their positions. A card takes a change only from a higher position than
/// its own, so that one that comes again, or late, changes neither cards nor counts.
pub async fn apply(tx: &mut Tx, build: i64, changes: &[BoardChange]) -> Result<(), StoreError> {
    let mut tally = Tally::default();
    for run in changes.chunk_by(|one, next| one.task_id().is_some() == next.task_id().is_some()) {
        if run.first().is_some_and(|change| change.task_id().is_some()) {
            for some in run.chunks(MAX_BATCH) {
                change_cards(tx, build, some, &mut tally).await?;
            }
        } else {
            for change in run {
                empty(tx, build, change, &mut tally).await?;
            }
        }
    }
    for change in changes {
        tally.reached(change);
    }
    // After all cards and once, in their order: two transactions that share rows wait for each other, and never both.
    tally.write(tx, build).await
}

type Cards = BTreeMap<TaskId, Card>;

async fn change_cards(
    tx: &mut Tx,
    build: i64,
    changes: &[BoardChange],
    tally: &mut Tally,
) -> Result<(), StoreError> {
    let ids: BTreeSet<TaskId> = changes.iter().filter_map(BoardChange::task_id).collect();
    let before = lock(tx, build, &ids).await?;
    let mut after = before.clone();
    for change in changes {
        fold(&mut after, change);
    }
    let differing: Vec<&Card> =
        after.values().filter(|card| before.get(&card.task_id) != Some(*card)).collect();
    write(tx, build, &before, &differing, tally).await
}

/// The cards as they are, which nobody else changes until the transaction ends.
async fn lock(tx: &mut Tx, build: i64, ids: &BTreeSet<TaskId>) -> Result<Cards, StoreError> {
    let mut statement = Statement::new("SELECT * FROM board_cards WHERE build = ");
    statement.bind(Bind::Int(build)).push(" AND task_id IN ").list(ids.iter().map(|id| Bind::Uuid(id.0)));
    statement.push(" ORDER BY task_id").push(if tx.is_postgres() { " FOR UPDATE" } else { "" });
    let rows: Vec<CardRow> = statement.fetch_all(tx).await?;
    Ok(by_id(cards(rows)?))
}

fn by_id(cards: Vec<Card>) -> Cards {
    cards.into_iter().map(|card| (card.task_id, card)).collect()
}

fn fold(cards: &mut Cards, change: &BoardChange) {
    let position = change.position;
    match &change.what {
        What::Made(made) => {
            if cards.get(&made.task_id).is_none_or(|known| known.position < position) {
                cards.insert(made.task_id, Card { position, ..Card::clone(made) });
            }
        }
        What::Changed { task_id, version, fields } => {
            if let Some(card) = older(cards, *task_id, position) {
                for field in fields {
                    card.set(field);
                }
                (card.version, card.position) = (*version, position);
            }
        }
        What::Commented { task_id, comment_count } => {
            if let Some(card) = older(cards, *task_id, position) {
                (card.comment_count, card.position) = (*comment_count, position);
            }
        }
        What::Deleted { task_id, version } => {
            if cards.get(task_id).is_none_or(|known| known.position < position) {
                cards.insert(*task_id, Card::tombstone(*task_id, change.project_id, *version, position));
            }
        }
        What::ProjectDeleted => {}
    }
}

/// A card that takes what happened at `position`.
fn older(cards: &mut Cards, id: TaskId, position: Position) -> Option<&mut Card> {
    cards.get_mut(&id).filter(|card| card.position < position && !card.gone)
}

impl Card {
    fn set(&mut self, field: &Field) {
        match field {
            Field::Title(title) => self.title.clone_from(title),
            Field::TaskType(task_type) => self.task_type.clone_from(task_type),
            Field::Status(status) => self.status.clone_from(status),
            Field::Priority(priority) => self.priority = *priority,
            Field::Category(category) => self.category_id = *category,
            Field::Assignee(assignee) => self.assignee_id = *assignee,
            Field::Labels(labels) => self.labels.clone_from(labels),
            Field::DueAt(due_at) => self.due_at = *due_at,
        }
    }

    /// What stands for a task that is gone: its place in the order of events, and none of its texts.
    const fn tombstone(task_id: TaskId, project_id: ProjectId, version: i64, position: Position) -> Self {
        Self {
            task_id,
            project_id,
            category_id: None,
            key: None,
            title: String::new(),
            task_type: String::new(),
            status: String::new(),
            priority: Priority::None,
            assignee_id: None,
            labels: Vec::new(),
            due_at: None,
            comment_count: 0,
            version,
            position,
            gone: true,
        }
    }
}

/// Takes what is left of a project off its board. Its tasks were told of one by one, but on Kafka perhaps not read yet.
async fn empty(tx: &mut Tx, build: i64, change: &BoardChange, tally: &mut Tally) -> Result<(), StoreError> {
    const SQLITE: &str = "
        SELECT * FROM board_cards WHERE build = $1 AND project_id = $2 AND NOT gone AND position < $3
        ORDER BY task_id LIMIT $4";
    const POSTGRES: &str = "
        SELECT * FROM board_cards WHERE build = $1 AND project_id = $2 AND NOT gone AND position < $3
        ORDER BY task_id LIMIT $4 FOR UPDATE";
    let sql = if tx.is_postgres() { POSTGRES } else { SQLITE };
    loop {
        let rows: Vec<CardRow> = on!(tx, |c| sqlx::query_as(sql)
            .bind(build)
            .bind(change.project_id.0)
            .bind(change.position.0)
            .bind(most(MAX_BATCH))
            .fetch_all(c)
            .await?);
        let before = by_id(cards(rows)?);
        if before.is_empty() {
            return Ok(());
        }
        let gone =
            |card: &Card| Card::tombstone(card.task_id, card.project_id, card.version, change.position);
        let after: Vec<Card> = before.values().map(gone).collect();
        write(tx, build, &before, &after.iter().collect::<Vec<_>>(), tally).await?;
    }
}

/// Stores cards that were `before`, in the order of their ids, and counts those that went in.
async fn write(
    tx: &mut Tx,
    build: i64,
    before: &Cards,
    changed: &[&Card],
    tally: &mut Tally,
) -> Result<(), StoreError> {
    let written = insert_many_returning!(
        tx,
        "board_cards",
        changed,
        "ON CONFLICT (build, task_id) DO UPDATE SET
            project_id = excluded.project_id, category_id = excluded.category_id, key = excluded.key,
            title = excluded.title, task_type = excluded.task_type, status = excluded.status,
            priority = excluded.priority, assignee_id = excluded.assignee_id, labels = excluded.labels,
            due_at = excluded.due_at, comment_count = excluded.comment_count, version = excluded.version,
            position = excluded.position, gone = excluded.gone
         WHERE excluded.position > board_cards.position RETURNING task_id",
        |card| {
            build: bigint = build,
            task_id: uuid = card.task_id.0,
            project_id: uuid = card.project_id.0,
            category_id: uuid = card.category_id.map(|id| id.0),
            key: text = card.key.as_deref(),
            title: text = card.title.as_str(),
            task_type: text = card.task_type.as_str(),
            status: text = card.status.as_str(),
            priority: text = card.priority.as_str(),
            assignee_id: uuid = card.assignee_id.map(|id| id.0),
            labels: text = labels_text(&card.labels),
            due_at: timestamptz = card.due_at,
            comment_count: bigint = card.comment_count,
            version: bigint = card.version,
            position: bigint = card.position.0,
            gone: boolean = card.gone,
        }
    );
    let written: HashSet<Uuid> = written.into_iter().collect();
    for card in changed.iter().filter(|card| written.contains(&card.task_id.0)) {
        if let Some(was) = before.get(&card.task_id) {
            tally.count(was, -1);
        }
        tally.count(card, 1);
    }
    Ok(())
}

/// A JSON array in a text column. A list of strings always has one.
fn labels_text(labels: &[String]) -> String {
    if labels.is_empty() { "[]".to_owned() } else { serde_json::json!(labels).to_string() }
}

/// What cards did to the counts and positions of their projects.
#[derive(Debug, Default)]
struct Tally {
    counts: BTreeMap<(ProjectId, String), i64>,
    positions: BTreeMap<ProjectId, Position>,
}

impl Tally {
    /// A card that is shown counts so many times more.
    fn count(&mut self, card: &Card, times: i64) {
        if !card.gone {
            *self.counts.entry((card.project_id, card.status.clone())).or_default() += times;
        }
    }

    fn reached(&mut self, change: &BoardChange) {
        let position = self.positions.entry(change.project_id).or_default();
        *position = change.position.max(*position);
    }

    async fn write(self, tx: &mut Tx, build: i64) -> Result<(), StoreError> {
        let changed = self.counts.into_iter().filter(|(_, tasks)| *tasks != 0);
        let counts: Vec<(Uuid, String, i64)> =
            changed.map(|((project, status), tasks)| (project.0, status, tasks)).collect();
        for counts in counts.chunks(MAX_BATCH) {
            insert_many!(
                tx,
                "board_counts",
                counts,
                "ON CONFLICT (build, project_id, status) DO UPDATE SET tasks = board_counts.tasks + excluded.tasks",
                |row| {
                    build: bigint = build,
                    project_id: uuid = row.0,
                    status: text = row.1.as_str(),
                    tasks: bigint = row.2,
                }
            );
        }
        let positions: Vec<(Uuid, i64)> =
            self.positions.into_iter().map(|(project, position)| (project.0, position.0)).collect();
        for positions in positions.chunks(MAX_BATCH) {
            insert_many!(
                tx,
                "board_projects",
                positions,
                "ON CONFLICT (build, project_id) DO UPDATE SET position = excluded.position
                 WHERE excluded.position > board_projects.position",
                |row| {
                    build: bigint = build,
                    project_id: uuid = row.0,
                    position: bigint = row.1,
                }
            );
        }
        Ok(())
    }
}
