//! What a filter asks of a task.

use chrono::{DateTime, TimeDelta, Utc};
use taskpost_common::{UserId, task::TaskState};

use super::{TaskFilter, TaskOrder, Walk, order::first_id};
use crate::dynamic::{Bind, Statement};

/// How far the time in an id may be from the time that its task says: clocks are set while they run.
const SLACK: TimeDelta = TimeDelta::hours(1);

impl TaskFilter {
    /// Whether it asks for what the indexes of its order do not know.
    pub(super) fn narrows(&self) -> bool {
        let by_due = self.order == TaskOrder::DueAt;
        let lists = [
            self.status.is_empty(),
            self.priority.is_empty(),
            self.task_type.is_empty(),
            self.assignee_id.is_empty(),
            self.reporter_id.is_empty(),
            self.category_id.is_empty(),
            self.label.is_empty(),
            self.words.is_empty(),
        ];
        let created = self.created_from.is_some() || self.created_before.is_some();
        let due = self.due_from.is_some() || self.due_before.is_some();
        lists.contains(&false) || self.state.is_some() || created || (due && !by_due)
    }

    /// Adds what the index of a walk knows of it.
    pub(super) fn bound(&self, statement: &mut Statement, walk: Walk) {
        let moved = |time: DateTime<Utc>, by| time.checked_add_signed(by).unwrap_or(time);
        match walk {
            Walk::Made | Walk::Fresh => {
                if let Some(from) = self.created_from {
                    statement.push(" AND id >= ").bind(Bind::Uuid(first_id(moved(from, -SLACK))));
                }
                if let Some(before) = self.created_before {
                    statement.push(" AND id < ").bind(Bind::Uuid(first_id(moved(before, SLACK))));
                }
            }
            Walk::Due => {
                between(statement, [(" AND due_at >= ", self.due_from), (" AND due_at < ", self.due_before)]);
            }
            Walk::Changed => {}
        }
    }

    /// Adds everything else. Only the range is to choose the index: on SQLite, which does not count its rows, a plus keeps
    /// it from another one.
    pub(super) fn narrow(&self, statement: &mut Statement, postgres: bool) {
        let and = if postgres { " AND " } else { " AND +" };
        let texts = |values: &[String]| values.iter().cloned().map(Bind::Text).collect::<Vec<_>>();
        let people = |values: &[UserId]| values.iter().map(|id| Bind::Uuid(id.0)).collect::<Vec<_>>();
        let categories = self.category_id.iter().map(|id| Bind::Uuid(id.0)).collect();
        let priorities = self.priority.iter().map(|p| Bind::Text(p.as_str().to_owned())).collect();
        for (column, values) in [
            ("status", texts(&self.status)),
            ("priority", priorities),
            ("task_type", texts(&self.task_type)),
            ("category_id", categories),
            ("assignee_id", people(&self.assignee_id)),
            ("reporter_id", people(&self.reporter_id)),
        ] {
            if !values.is_empty() {
                statement.push(and).push(column).push(" IN ").list(values);
            }
        }
        match self.state {
            Some(TaskState::Open) => statement.push(" AND completed_at IS NULL"),
            Some(TaskState::Closed) => statement.push(" AND completed_at IS NOT NULL"),
            None => statement,
        };
        between(
            statement,
            [(" AND created_at >= ", self.created_from), (" AND created_at < ", self.created_before)],
        );
        if self.order != TaskOrder::DueAt {
            for (sign, time) in [(" >= ", self.due_from), (" < ", self.due_before)] {
                if let Some(time) = time {
                    statement.push(and).push("due_at").push(sign).bind(Bind::Time(time));
                }
            }
        }
        self.labelled(statement, postgres);
        self.worded(statement, postgres);
    }

    /// Labels are a JSON array in a text: one of them is in it as it would be written there, behind a comma or the bracket.
    /// Inside of another one a quotation mark would have a backslash before it.
    fn labelled(&self, statement: &mut Statement, postgres: bool) {
        for (i, label) in self.label.iter().enumerate() {
            let written = format!(",{}", serde_json::Value::from(label.as_str()));
            statement.push(if i == 0 { " AND (" } else { " OR " });
            statement.push(if postgres { "strpos(" } else { "instr(" }).push("',' || substr(labels, 2), ");
            statement.bind(Bind::Text(written)).push(") > 0");
        }
        if !self.label.is_empty() {
            statement.push(")");
        }
    }

    /// Row by row. On SQLite the words of tasks in projects are in an index alone; those of personal tasks are in none.
    fn worded(&self, statement: &mut Statement, postgres: bool) {
        if self.words.is_empty() {
            return;
        }
        if postgres {
            statement
                .push(" AND to_tsvector('simple', title || ' ' || description) @@ plainto_tsquery('simple', ")
                .bind(Bind::Text(self.words.join(" ")))
                .push(")");
            return;
        }
        statement.push(" AND CASE WHEN project_id IS NULL THEN TRUE");
        for word in &self.words {
            statement.push(" AND instr(lower(title || ' ' || description), ");
            statement.bind(Bind::Text(word.clone())).push(") > 0");
        }
        statement
            .push(" ELSE EXISTS (SELECT 1 FROM task_numbers AS n CROSS JOIN task_text ON task_text.rowid = n.number")
            .push(" WHERE n.task_id = tasks.id AND task_text MATCH ")
            .bind(Bind::Text(self.quoted()))
            .push(") END");
    }

    /// All of its words, as SQLite's index of words takes them.
    pub(super) fn quoted(&self) -> String {
        let quoted: Vec<String> = self.words.iter().map(|word| format!("\"{word}\"")).collect();
        quoted.join(" ")
    }
}

fn between(statement: &mut Statement, bounds: [(&'static str, Option<DateTime<Utc>>); 2]) {
    for (sql, time) in bounds {
        if let Some(time) = time {
            statement.push(sql).bind(Bind::Time(time));
        }
    }
}
