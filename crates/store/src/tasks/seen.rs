//! Tasks by id, for those who may see them: of a personal one the reporter and the assignee, of one in a project whoever may
//! read the project, and admins every one.

use std::fmt::Write as _;

use sqlx::{AssertSqlSafe, FromRow};
use taskpost_common::{TaskId, task::Task};
use uuid::Uuid;

use super::TaskRow;
use crate::{
    Session, StoreError, Viewer,
    bulk::chunks,
    db::{Raw, on},
};

/// The condition on `tasks` that the viewer may see it.
macro_rules! seen_by {
    ($admin:literal, $viewer:literal) => {
        concat!(
            $admin,
            " OR CASE WHEN tasks.project_id IS NULL
                THEN tasks.reporter_id = ",
            $viewer,
            " OR tasks.assignee_id = ",
            $viewer,
            " ELSE EXISTS (SELECT 1 FROM members AS m WHERE m.project_id = tasks.project_id AND m.user_id = ",
            $viewer,
            ") OR EXISTS (SELECT 1 FROM projects AS p WHERE p.id = tasks.project_id AND p.visibility = 'internal')
                END"
        )
    };
}

/// A task, if the viewer may see it.
pub async fn visible(session: &mut Session, viewer: Viewer, id: TaskId) -> Result<Option<Task>, StoreError> {
    Ok(visible_each(session, &[(viewer, id)]).await?.pop().flatten())
}

/// The task of this key, if the viewer may see it. One statement, so that its time does not tell a hidden task from none.
pub async fn id_of_key(
    session: &mut Session,
    viewer: Viewer,
    key: &str,
) -> Result<Option<TaskId>, StoreError> {
    const SQL: &str = concat!("SELECT id FROM tasks WHERE key = $1 AND (", seen_by!("$2", "$3"), ")");
    let found: Option<(Uuid,)> = on!(session, |c| sqlx::query_as(SQL)
        .bind(key)
        .bind(viewer.admin)
        .bind(viewer.user_id.0)
        .fetch_optional(c)
        .await?);
    Ok(found.map(|(id,)| TaskId(id)))
}

/// For each viewer and id the task, if that viewer may see it: one statement for all of them on Postgres, and for up to
/// 64 on SQLite.
pub async fn visible_each(
    session: &mut Session,
    wanted: &[(Viewer, TaskId)],
) -> Result<Vec<Option<Task>>, StoreError> {
    let mut found = vec![None; wanted.len()];
    match session.0.raw() {
        Raw::Pg(c) => place(&mut found, 0, ask_postgres(c, wanted).await?)?,
        Raw::Lite(c) => {
            let mut first = 0;
            for wanted in chunks(wanted) {
                place(&mut found, first, ask_sqlite(c, wanted).await?)?;
                first += wanted.len();
            }
        }
    }
    Ok(found)
}

/// A task and which of those that were wanted it is, from 1 on.
#[derive(FromRow)]
struct Found {
    place: i64,
    #[sqlx(flatten)]
    task: TaskRow,
}

fn place(into: &mut [Option<Task>], first: usize, found: Vec<Found>) -> Result<(), StoreError> {
    for Found { place, task } in found {
        let slot = usize::try_from(place - 1).ok().and_then(|place| into.get_mut(first + place));
        if let Some(slot) = slot {
            *slot = Some(task.try_into()?);
        }
    }
    Ok(())
}

async fn ask_postgres(
    connection: &mut sqlx::PgConnection,
    wanted: &[(Viewer, TaskId)],
) -> Result<Vec<Found>, StoreError> {
    // The OFFSET has each task looked up by its id: a join would read all of a table that was small when it was analysed.
    const SQL: &str = concat!(
        "SELECT wanted.place, tasks.*
        FROM UNNEST($1::uuid[], $2::bool[], $3::uuid[]) WITH ORDINALITY AS wanted (id, admin, viewer, place),
            LATERAL (SELECT * FROM tasks WHERE tasks.id = wanted.id OFFSET 0) AS tasks
        WHERE ",
        seen_by!("wanted.admin", "wanted.viewer")
    );
    let rows = sqlx::query_as(SQL)
        .bind(wanted.iter().map(|(_, id)| id.0).collect::<Vec<Uuid>>())
        .bind(wanted.iter().map(|(viewer, _)| viewer.admin).collect::<Vec<bool>>())
        .bind(wanted.iter().map(|(viewer, _)| viewer.user_id.0).collect::<Vec<Uuid>>())
        .fetch_all(connection)
        .await?;
    Ok(rows)
}

/// Its tables are joined in the order they are named in, so that each task is looked up by its id. Its values have no
/// numbers: for each that has one SQLite goes through all of them.
async fn ask_sqlite(
    connection: &mut sqlx::SqliteConnection,
    wanted: &[(Viewer, TaskId)],
) -> Result<Vec<Found>, StoreError> {
    const SEEN: &str = concat!(
        ") AS wanted CROSS JOIN tasks ON tasks.id = wanted.column2 WHERE ",
        seen_by!("wanted.column3", "wanted.column4")
    );
    let mut sql = String::from("SELECT wanted.column1 AS place, tasks.* FROM (VALUES ");
    for place in 1..=wanted.len() {
        let comma = if place == 1 { "" } else { "," };
        // Writing to a String cannot fail.
        let _ = write!(sql, "{comma}({place},?,?,?)");
    }
    sql.push_str(SEEN);
    let mut query = sqlx::query_as(AssertSqlSafe(sql));
    for (viewer, id) in wanted {
        query = query.bind(id.0).bind(viewer.admin).bind(viewer.user_id.0);
    }
    Ok(query.fetch_all(connection).await?)
}
