//! Tasks.

use std::{borrow::Cow, num::NonZeroU32};

use axum::{
    extract::State,
    http::{HeaderMap, StatusCode, Uri},
    response::{IntoResponse as _, Response},
};
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{Error as _, SeqAccess, Visitor},
};
use serde_json::value::RawValue;
use taskpost_common::{
    EventId, TaskId, UserId,
    problem::Problem,
    task::{Priority, Task, TaskState},
};
use taskpost_ports::limiter::{LimitClass, LimitKey};
use taskpost_store::{
    MAX_BATCH,
    idempotency::StoredAnswer,
    tasks::{TaskFilter, TaskOrder},
};
use taskpost_tracker::{BatchItem, Caller, CreateTask, Once, PatchTask, Transition};
use utoipa::{IntoParams, ToSchema};

use super::{
    app::{Api, Shared},
    conditions::{self, IfMatch},
    extract::{Id, Json, Key, Member, Query},
    json,
    pages::{self, Listed},
    problem::{ApiError, Result},
    query::{AnyOf, Limit, Parsed, Person, Time, Word},
    reply::{self, Reply, task_tag},
    visit::Charged,
};

/// Create a task
///
/// `title` suffices. The answer comes when the task and its event are on disk.
#[utoipa::path(
    post, path = "/tasks", tag = "tasks", request_body = CreateTask,
    responses((status = 201, description = "The task.", body = Task))
)]
pub(crate) async fn create_task(
    State(api): State<Shared>,
    Member(caller): Member,
    Key(key): Key,
    Json(input): Json<CreateTask>,
) -> Result<Response> {
    let once = Once { key, render: created };
    Ok(Reply::answered(api.app.tracker.create_task(&caller, input, once).await?).done())
}

fn created(task: &Task, event: Option<EventId>) -> std::result::Result<StoredAnswer, serde_json::Error> {
    let mut answer = reply::stored(StatusCode::CREATED, task, event)?;
    answer.location = Some(format!("/v1/tasks/{}", task.id));
    answer.etag = Some(task_tag(task));
    Ok(answer)
}

/// Create many tasks
///
/// Up to 500, each of which fails alone. It costs one write and a tenth more for each task.
#[utoipa::path(
    post, path = "/tasks/batch", tag = "tasks", request_body = NewTasks,
    responses((status = 207, description = "A result for each task, in order.", body = BatchResults<'static>))
)]
pub(crate) async fn create_tasks(
    State(api): State<Shared>,
    Member(caller): Member,
    Key(key): Key,
    Json(Batch { tasks }): Json<Batch>,
) -> Result<Response> {
    let charged = charge(&api, &caller, tasks.len())?;
    let inputs = tasks
        .iter()
        .map(|task| json::parse(task.get().as_bytes()).map_err(|error| error.problem()))
        .collect();
    let once = Once { key, render: batch_results };
    let mut response = match api.app.tracker.create_tasks(&caller, inputs, once).await {
        Ok(answered) => Reply::answered(answered).done(),
        Err(error) => ApiError::from(error).into_response(),
    };
    if let Some(charged) = charged {
        response.extensions_mut().insert(charged);
    }
    Ok(response)
}

/// A tenth of a write for each task, besides the one that every request costs.
fn charge(api: &Api, caller: &Caller, tasks: usize) -> Result<Option<Charged>> {
    let Some(cost) = u32::try_from(tasks.div_ceil(10)).ok().and_then(NonZeroU32::new) else {
        return Ok(None);
    };
    let class = LimitClass::Write;
    let decision = api.app.limiter.check(class, LimitKey::User(caller.identity.user_id), cost);
    if decision.allowed {
        Ok(Some(Charged(class, decision)))
    } else {
        Err(ApiError::Limited(class, decision))
    }
}

/// Tasks to create.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes to clients what Batch reads piece by piece")]
pub(crate) struct NewTasks {
    /// 1 to 500 of them.
    #[schema(min_items = 1, max_items = 500)]
    tasks: Vec<CreateTask>,
}

/// Tasks that are not read yet, so that a bad one fails alone.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Batch {
    #[serde(deserialize_with = "at_most_a_batch")]
    tasks: Vec<Box<RawValue>>,
}

fn at_most_a_batch<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> std::result::Result<Vec<Box<RawValue>>, D::Error> {
    struct Tasks;
    impl<'de> Visitor<'de> for Tasks {
        type Value = Vec<Box<RawValue>>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a sequence")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> std::result::Result<Self::Value, A::Error> {
            let mut tasks = Vec::new();
            while let Some(task) = items.next_element()? {
                if tasks.len() == MAX_BATCH {
                    return Err(A::Error::custom(format_args!("must have at most {MAX_BATCH} tasks")));
                }
                tasks.push(task);
            }
            Ok(tasks)
        }
    }
    deserializer.deserialize_seq(Tasks)
}

/// What became of a batch.
#[derive(Serialize, ToSchema)]
pub(crate) struct BatchResults<'a> {
    /// One for each task, in the order they came.
    #[schema(value_type = Vec<BatchItem>)]
    results: Vec<Cow<'a, BatchItem>>,
}

fn batch_results(
    items: &Vec<BatchItem>,
    event: Option<EventId>,
) -> std::result::Result<StoredAnswer, serde_json::Error> {
    let results = items.iter().enumerate().map(|(place, item)| match &item.problem {
        Some(problem) => Cow::Owned(BatchItem { problem: Some(in_batch(problem, place)), ..item.clone() }),
        None => Cow::Borrowed(item),
    });
    let results = results.collect();
    reply::stored(StatusCode::MULTI_STATUS, &BatchResults { results }, event)
}

/// The problem of one task, with pointers into the whole body.
fn in_batch(problem: &Problem, place: usize) -> Problem {
    let mut problem = problem.clone();
    for error in &mut problem.errors {
        error.pointer = format!("/tasks/{place}{}", error.pointer);
    }
    problem
}

/// Keys of a list of tasks.
#[derive(Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(crate) struct TaskKeys {
    /// One of these statuses; commas between them.
    #[param(value_type = Option<String>, example = "todo,in_progress")]
    status: AnyOf<Word>,
    /// `open` or `closed`.
    #[param(value_type = Option<TaskState>)]
    state: AnyOf<TaskState>,
    /// One of these priorities.
    #[param(value_type = Option<String>, example = "high,urgent")]
    priority: AnyOf<Priority>,
    /// One of these types.
    #[serde(rename = "type")]
    #[param(value_type = Option<String>, example = "bug")]
    task_type: AnyOf<Word>,
    /// One of these assignees; `me` is who asks.
    #[param(value_type = Option<String>, example = "me")]
    assignee_id: AnyOf<Person>,
    /// One of these reporters; `me` is who asks.
    #[param(value_type = Option<String>, example = "me")]
    reporter_id: AnyOf<Person>,
    /// Made at or after.
    #[serde(rename = "created_at[gte]")]
    #[param(value_type = Option<String>, format = DateTime)]
    created_from: Option<Parsed<Time>>,
    /// Made before.
    #[serde(rename = "created_at[lt]")]
    #[param(value_type = Option<String>, format = DateTime)]
    created_before: Option<Parsed<Time>>,
    /// The order; `-created_at` when not said.
    sort: Sort,
    /// How many, 50 when not said.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 200)]
    limit: Limit,
    /// From an earlier page of the same list.
    cursor: Option<String>,
}

/// The order of a list of tasks; a minus is from high to low.
#[derive(Clone, Copy, Default, Deserialize, ToSchema)]
pub(crate) enum Sort {
    /// Oldest first.
    #[serde(rename = "created_at")]
    OldestFirst,
    /// Newest first.
    #[default]
    #[serde(rename = "-created_at")]
    NewestFirst,
    /// Least lately changed first.
    #[serde(rename = "updated_at")]
    StalestFirst,
    /// Last changed first.
    #[serde(rename = "-updated_at")]
    FreshestFirst,
}

/// List tasks
///
/// Those one may see: all that one made or has, and for admins every one.
#[utoipa::path(
    get, path = "/tasks", tag = "tasks", params(TaskKeys),
    responses((status = 200, description = "A page of tasks.", body = Listed<Task>))
)]
pub(crate) async fn list_tasks(
    State(api): State<Shared>,
    Member(caller): Member,
    Query(keys): Query<TaskKeys>,
    uri: Uri,
) -> Result<Response> {
    let page = pages::request(&keys.limit, keys.cursor.clone());
    let filter = filter(keys, caller.identity.user_id);
    pages::by_cursor(&uri, api.app.tracker.tasks(&caller, filter, page).await?)
}

fn filter(keys: TaskKeys, me: UserId) -> TaskFilter {
    let words = |AnyOf(words): AnyOf<Word>| words.into_iter().map(|Word(word)| word).collect();
    let people = |AnyOf(people): AnyOf<Person>| people.into_iter().map(|person| person.id(me)).collect();
    let (order, descending) = match keys.sort {
        Sort::OldestFirst => (TaskOrder::CreatedAt, false),
        Sort::NewestFirst => (TaskOrder::CreatedAt, true),
        Sort::StalestFirst => (TaskOrder::UpdatedAt, false),
        Sort::FreshestFirst => (TaskOrder::UpdatedAt, true),
    };
    TaskFilter {
        status: words(keys.status),
        state: one_state(&keys.state.0),
        priority: keys.priority.0,
        task_type: words(keys.task_type),
        assignee_id: people(keys.assignee_id),
        reporter_id: people(keys.reporter_id),
        created_from: keys.created_from.map(|Parsed(Time(time))| time),
        created_before: keys.created_before.map(|Parsed(Time(time))| time),
        order,
        descending,
    }
}

/// Open or closed is no condition at all.
fn one_state(states: &[TaskState]) -> Option<TaskState> {
    let first = *states.first()?;
    states.iter().all(|state| *state == first).then_some(first)
}

/// Show a task
#[utoipa::path(
    get, path = "/tasks/{id}", tag = "tasks", params(("id" = TaskId, Path, description = "The task.")),
    responses(
        (status = 200, description = "The task.", body = Task),
        (status = 304, description = "It is as If-None-Match names it.")
    )
)]
pub(crate) async fn get_task(
    State(api): State<Shared>,
    Member(caller): Member,
    Id(id): Id<TaskId>,
    headers: HeaderMap,
) -> Result<Response> {
    let task = api.app.tracker.task(&caller, id).await?;
    let tag = task_tag(&task);
    let reply = match conditions::has(&headers, &tag) {
        true => Reply::empty(StatusCode::NOT_MODIFIED),
        false => Reply::json(StatusCode::OK, &task)?,
    };
    Ok(reply.etag(&tag).done())
}

/// Change a task
///
/// A merge patch: what is absent stays, null empties.
#[utoipa::path(
    patch, path = "/tasks/{id}", tag = "tasks", params(("id" = TaskId, Path, description = "The task.")),
    request_body(content((PatchTask = "application/merge-patch+json"), (PatchTask = "application/json"))),
    responses((status = 200, description = "The task as it is now.", body = Task))
)]
pub(crate) async fn update_task(
    State(api): State<Shared>,
    Member(caller): Member,
    Id(id): Id<TaskId>,
    IfMatch(version): IfMatch,
    Json(patch): Json<PatchTask>,
) -> Result<Response> {
    changed(&api.app.tracker.update_task(&caller, id, patch, version).await?)
}

/// Delete a task
#[utoipa::path(
    delete, path = "/tasks/{id}", tag = "tasks", params(("id" = TaskId, Path, description = "The task.")),
    responses((status = 204, description = "It is gone."))
)]
pub(crate) async fn delete_task(
    State(api): State<Shared>,
    Member(caller): Member,
    Id(id): Id<TaskId>,
    IfMatch(version): IfMatch,
) -> Result<Response> {
    let event = api.app.tracker.delete_task(&caller, id, version).await?;
    Ok(Reply::empty(StatusCode::NO_CONTENT).event(Some(event)).done())
}

/// Move a task to another status
///
/// Any move is legal except out of done or cancelled, which goes only to todo or in_progress.
#[utoipa::path(
    post, path = "/tasks/{id}/transitions", tag = "tasks", params(("id" = TaskId, Path, description = "The task.")),
    request_body = Transition, responses((status = 200, description = "The task as it is now.", body = Task))
)]
pub(crate) async fn move_task(
    State(api): State<Shared>,
    Member(caller): Member,
    Id(id): Id<TaskId>,
    IfMatch(version): IfMatch,
    Key(key): Key,
    Json(input): Json<Transition>,
) -> Result<Response> {
    let once = Once { key, render: moved };
    Ok(Reply::answered(api.app.tracker.transition(&caller, id, input, version, once).await?).done())
}

fn moved(task: &Task, event: Option<EventId>) -> std::result::Result<StoredAnswer, serde_json::Error> {
    let mut answer = reply::stored(StatusCode::OK, task, event)?;
    answer.etag = Some(task_tag(task));
    Ok(answer)
}

/// Who is to have a task.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Assignee {
    /// The user.
    assignee_id: UserId,
}

/// Give a task to somebody
#[utoipa::path(
    put, path = "/tasks/{id}/assignee", tag = "tasks", params(("id" = TaskId, Path, description = "The task.")),
    request_body = Assignee, responses((status = 200, description = "The task as it is now.", body = Task))
)]
pub(crate) async fn assign_task(
    State(api): State<Shared>,
    Member(caller): Member,
    Id(id): Id<TaskId>,
    IfMatch(version): IfMatch,
    Json(Assignee { assignee_id }): Json<Assignee>,
) -> Result<Response> {
    changed(&api.app.tracker.assign(&caller, id, Some(assignee_id), version).await?)
}

/// Take a task from whoever has it
#[utoipa::path(
    delete, path = "/tasks/{id}/assignee", tag = "tasks", params(("id" = TaskId, Path, description = "The task.")),
    responses((status = 204, description = "Nobody has it."))
)]
pub(crate) async fn unassign_task(
    State(api): State<Shared>,
    Member(caller): Member,
    Id(id): Id<TaskId>,
    IfMatch(version): IfMatch,
) -> Result<Response> {
    let (task, event) = api.app.tracker.assign(&caller, id, None, version).await?;
    Ok(Reply::empty(StatusCode::NO_CONTENT).event(event).etag(&task_tag(&task)).done())
}

fn changed((task, event): &(Task, Option<EventId>)) -> Result<Response> {
    Ok(Reply::json(StatusCode::OK, task)?.event(*event).etag(&task_tag(task)).done())
}
