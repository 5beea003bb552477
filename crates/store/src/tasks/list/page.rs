//! The statements behind a page, and how what they give is put together.

use std::cmp::Ordering;

use taskpost_common::task::Task;

use super::{
    Place, Walk,
    range::{By, Choice, Range, Sight},
};
use crate::dynamic::{Bind, Statement};

/// A page of a list, as one walks to it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Page<'a> {
    pub(super) choice: &'a Choice,
    /// It begins behind this place.
    pub(super) from: Option<Place>,
    pub(super) descending: bool,
    pub(super) limit: usize,
    pub(super) postgres: bool,
}

impl Page<'_> {
    /// The first tasks of these ranges, of those up to a place.
    pub(super) fn rows(&self, walk: Walk, ranges: &[&Range], up_to: Option<Place>) -> Statement {
        let several = ranges.len() > 1;
        let mut statement = Statement::new(if several { "SELECT * FROM (" } else { "" });
        let mut common: Option<String> = None;
        for (i, range) in ranges.iter().enumerate() {
            if several {
                // Each is read as far as the page needs it: sorted together they would be read to their ends.
                statement.push(if i == 0 { "SELECT * FROM (" } else { " UNION ALL SELECT * FROM (" });
            }
            range.by.select(&mut statement, self.postgres);
            range.by.index(&mut statement, walk);
            range.by.apart(&mut statement, walk);
            if !range.sure {
                self.in_sight(&mut statement);
            }
            if let Some(text) = &common {
                statement.again(text);
            } else {
                let mark = statement.mark();
                self.choice.rest.bound(&mut statement, walk);
                self.choice.rest.narrow(&mut statement, self.postgres);
                self.behind_start(&mut statement, walk);
                self.not_behind(&mut statement, walk, up_to);
                order(&mut statement, walk, self.descending, self.limit);
                common = Some(statement.since(mark));
            }
            if several {
                statement.push(") AS part");
            }
        }
        if several {
            statement.push(") AS page");
            order(&mut statement, walk, self.descending, self.limit);
        }
        statement
    }

    /// The nearest place behind which one of these ranges goes on after so many rows, whatever they are; of those up to a
    /// place.
    pub(super) fn end(
        &self,
        walk: Walk,
        ranges: &[&Range],
        up_to: Option<Place>,
        rows_each: usize,
    ) -> Statement {
        let columns = walk.columns();
        let mut statement = Statement::new("SELECT ");
        statement.push(columns).push(" FROM (");
        for (i, range) in ranges.iter().enumerate() {
            statement.push(if i == 0 { "SELECT " } else { " UNION ALL SELECT " }).push(columns);
            statement.push(" FROM (SELECT ").push(columns).push(" FROM (SELECT ").push(columns);
            statement.push(" FROM tasks WHERE ");
            self.all(&mut statement, walk, range, up_to);
            self.behind_start(&mut statement, walk);
            order(&mut statement, walk, self.descending, rows_each);
            statement.push(") AS looked");
            order(&mut statement, walk, !self.descending, 1);
            statement.push(") AS edge WHERE EXISTS (SELECT 1 FROM tasks WHERE ");
            self.all(&mut statement, walk, range, up_to);
            statement.push(match (walk, self.descending) {
                (Walk::Made | Walk::Fresh, false) => " AND id > edge.id)",
                (Walk::Made | Walk::Fresh, true) => " AND id < edge.id)",
                (Walk::Changed, false) => " AND (updated_at, id) > (edge.updated_at, edge.id))",
                (Walk::Changed, true) => " AND (updated_at, id) < (edge.updated_at, edge.id))",
                (Walk::Due, false) => " AND (due_at, id) > (edge.due_at, edge.id))",
                (Walk::Due, true) => " AND (due_at, id) < (edge.due_at, edge.id))",
            });
        }
        statement.push(") AS ends");
        order(&mut statement, walk, self.descending, 1);
        statement
    }

    /// Up to `limit` tasks of projects that have all the words, in no order.
    pub(super) fn having_words(&self, limit: usize) -> Statement {
        const POSTGRES: &str = "
            SELECT id FROM tasks WHERE project_id IS NOT NULL
                AND to_tsvector('simple', title || ' ' || description) @@ plainto_tsquery('simple', ";
        const SQLITE: &str = "
            SELECT n.task_id FROM task_text JOIN task_numbers AS n ON n.number = task_text.rowid
            WHERE task_text MATCH (";
        let rest = &self.choice.rest;
        let words = if self.postgres { rest.words.join(" ") } else { rest.quoted() };
        let mut statement = Statement::new(if self.postgres { POSTGRES } else { SQLITE });
        statement.bind(Bind::Text(words)).push(")");
        statement.push(" LIMIT ").bind(Bind::Int(whole(limit)));
        statement
    }

    /// Whether a range has rows that the list does not want: then only some of it is looked through.
    pub(super) fn is_loose(&self, walk: Walk, range: &Range) -> bool {
        match range.by {
            By::Ids(_) => false,
            By::Given(_) => true,
            _ => walk == Walk::Fresh || !range.sure || self.choice.rest.narrows(),
        }
    }

    /// Where a task stands.
    pub(super) fn place(&self, task: &Task) -> Place {
        self.choice.rest.order.place(task)
    }

    /// The one that comes first.
    pub(super) fn nearer(&self, one: Option<Place>, other: Option<Place>) -> Option<Place> {
        [one, other].into_iter().flatten().min_by(|one, other| self.compare(*one, *other))
    }

    /// The place of the last task, if there are as many as the page holds.
    pub(super) fn filled(&self, tasks: &[Task]) -> Option<Place> {
        tasks.last().filter(|_| tasks.len() >= self.limit).map(|task| self.place(task))
    }

    /// Brings tasks into their order, without those behind `end` and those that are too many.
    pub(super) fn merge(&self, tasks: &mut Vec<Task>, end: Option<Place>) {
        tasks.sort_by(|one, other| self.compare(self.place(one), self.place(other)));
        if let Some(end) = end {
            tasks.retain(|task| self.compare(self.place(task), end).is_le());
        }
        tasks.truncate(self.limit);
    }

    fn compare(&self, one: Place, other: Place) -> Ordering {
        if self.descending { other.cmp(&one) } else { one.cmp(&other) }
    }

    /// All rows of a range up to a place.
    fn all(&self, statement: &mut Statement, walk: Walk, range: &Range, up_to: Option<Place>) {
        range.by.index(statement, walk);
        self.choice.rest.bound(statement, walk);
        self.not_behind(statement, walk, up_to);
    }

    fn in_sight(&self, statement: &mut Statement) {
        match &self.choice.sight {
            Sight::All => {}
            Sight::Of(user) => {
                let user = Bind::Uuid(user.0);
                statement
                    .push(" AND CASE WHEN project_id IS NULL THEN reporter_id = ")
                    .bind(user.clone())
                    .push(" OR assignee_id = ")
                    .bind(user.clone())
                    .push(" ELSE EXISTS (SELECT 1 FROM members AS m")
                    .push(" WHERE m.project_id = tasks.project_id AND m.user_id = ")
                    .bind(user)
                    .push(") OR EXISTS (SELECT 1 FROM projects AS p")
                    .push(" WHERE p.id = tasks.project_id AND p.visibility = 'internal') END");
            }
            Sight::In(projects) => {
                // As in `TaskFilter::narrow`.
                statement.push(if self.postgres { " AND project_id IN " } else { " AND +project_id IN " });
                statement.list(projects.iter().map(|id| Bind::Uuid(id.0)));
            }
        }
    }

    fn behind_start(&self, statement: &mut Statement, walk: Walk) {
        let from = self.from.unwrap_or_else(|| Place::outermost(self.descending));
        beside(statement, walk, if self.descending { " < " } else { " > " }, from);
    }

    fn not_behind(&self, statement: &mut Statement, walk: Walk, place: Option<Place>) {
        if let Some(place) = place {
            beside(statement, walk, if self.descending { " >= " } else { " <= " }, place);
        }
    }
}

fn beside(statement: &mut Statement, walk: Walk, sign: &'static str, place: Place) {
    if walk.is_by_id() {
        let id = if walk == Walk::Fresh { place.parting() } else { place.id.0 };
        statement.push(" AND id").push(sign).bind(Bind::Uuid(id));
        return;
    }
    statement.push(" AND (").push(walk.columns()).push(")").push(sign).push("(").bind(Bind::Time(place.at));
    statement.push(", ").bind(Bind::Uuid(place.id.0)).push(")");
}

fn order(statement: &mut Statement, walk: Walk, descending: bool, limit: usize) {
    statement.push(match (walk, descending) {
        (Walk::Made | Walk::Fresh, false) => " ORDER BY id LIMIT ",
        (Walk::Made | Walk::Fresh, true) => " ORDER BY id DESC LIMIT ",
        (Walk::Changed, false) => " ORDER BY updated_at, id LIMIT ",
        (Walk::Changed, true) => " ORDER BY updated_at DESC, id DESC LIMIT ",
        (Walk::Due, false) => " ORDER BY due_at, id LIMIT ",
        (Walk::Due, true) => " ORDER BY due_at DESC, id DESC LIMIT ",
    });
    statement.bind(Bind::Int(whole(limit)));
}

fn whole(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
