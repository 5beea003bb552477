//! Tasks.

use axum::{
    extract::State,
    http::{HeaderMap, HeaderName, StatusCode, Uri, header},
    response::Response,
};
use serde::{Deserialize, Serialize};
use taskpost_common::{
    CategoryId, EventId, ProjectId, TaskId, UserId,
    problem::{Code, FieldError, Problem},
    task::{Priority, Task, TaskState},
};
use taskpost_store::{
    idempotency::StoredAnswer,
    tasks::{TaskFilter, TaskOrder},
};
use taskpost_tracker::{
    Accepted, Caller, CreateTask, Error, HistoryItem, Once, PatchTask, Reassign, Reassigned, Transition,
};
use utoipa::{IntoParams, ToSchema};

use super::{
    app::{Api, Shared},
    conditions::{self, IfMatch},
    extract::{Id, Json, Key, Member, Query, RespondAsync, TaskParam},
    pages::{self, Listed},
    problem::{ApiError, Result},
    query::{AnyOf, Limit, Parsed, Person, SearchWords, Time, Word},
    reply::{self, Reply, task_tag},
};

const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");

/// Create a task
///
/// `title` suffices. The answer comes when the task and its event are on disk. `Prefer: respond-async` asks to be
/// answered 202 once the log has it: where the log is Kafka, and without an Idempotency-Key. Elsewhere it is ignored.
#[utoipa::path(
    post, path = "/tasks", tag = "tasks", request_body = CreateTask,
    responses(
        (status = 201, description = "The task.", body = Task),
        (status = 202, description = "The task is on the log and will be stored; Location tells when, to its creator, for a day.",
            body = AcceptedTask, headers(
                ("Location" = String, description = "Where the task will be."),
                ("Preference-Applied" = String, description = "`respond-async`.")
            ))
    )
)]
pub(crate) async fn create_task(
    State(api): State<Shared>,
    Member(caller): Member,
    Key(key): Key,
    RespondAsync(respond_async): RespondAsync,
    Json(input): Json<CreateTask>,
) -> Result<Response> {
    create(&api, &caller, input, Once { key, render: created }, respond_async).await
}

/// Create a task in a project
///
/// As `POST /tasks` with its `project_id`.
#[utoipa::path(
    post, path = "/projects/{id}/tasks", tag = "tasks", request_body = CreateTask,
    params(("id" = ProjectId, Path, description = "The project.")),
    responses(
        (status = 201, description = "The task.", body = Task),
        (status = 202, description = "The task is on the log and will be stored.", body = AcceptedTask)
    )
)]
pub(crate) async fn create_project_task(
    State(api): State<Shared>,
    Member(caller): Member,
    Id(project): Id<ProjectId>,
    Key(key): Key,
    RespondAsync(respond_async): RespondAsync,
    Json(input): Json<CreateTask>,
) -> Result<Response> {
    if input.project_id.is_some_and(|given| given != project) {
        let error =
            FieldError::new("/project_id", "invalid_value", "must be the project of the address, or absent");
        return Err(Error::Invalid(vec![error]).into());
    }
    api.app.tracker.project(&caller, project).await?;
    let input = CreateTask { project_id: Some(project), ..input };
    create(&api, &caller, input, Once { key, render: created }, respond_async).await
}

async fn create(
    api: &Api,
    caller: &Caller,
    input: CreateTask,
    once: Once<Task>,
    respond_async: bool,
) -> Result<Response> {
    let tracker = &api.app.tracker;
    if respond_async && once.key.is_none() && tracker.accepts() {
        return accepted(&tracker.accept_task(caller, input).await?);
    }
    Ok(Reply::answered(tracker.create_task(caller, input, once).await?).done())
}

/// A task that is on the log and not stored yet.
#[derive(Serialize, ToSchema)]
pub(crate) struct AcceptedTask {
    /// Its id.
    id: TaskId,
    /// Always `accepted`.
    #[schema(example = "accepted")]
    status: &'static str,
}

impl AcceptedTask {
    fn reply(id: TaskId) -> Result<Reply> {
        Reply::json(StatusCode::ACCEPTED, &Self { id, status: "accepted" })
    }
}

fn accepted(task: &Accepted) -> Result<Response> {
    let location = format!("/v1/tasks/{}?accepted={}", task.id, task.token);
    Ok(AcceptedTask::reply(task.id)?.location(&location).with(PREFERENCE_APPLIED, "respond-async").done())
}

fn created(task: &Task, event: Option<EventId>) -> std::result::Result<StoredAnswer, serde_json::Error> {
    let mut answer = reply::stored(StatusCode::CREATED, task, event)?;
    answer.location = Some(format!("/v1/tasks/{}", task.id));
    answer.etag = Some(task_tag(task));
    Ok(answer)
}

/// Keys of a list of tasks.
#[derive(Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(crate) struct TaskKeys {
    /// In one of these projects.
    #[param(value_type = Option<String>)]
    project_id: AnyOf<ProjectId>,
    /// One of these statuses; commas between them.
    #[param(value_type = Option<String>, example = "todo,in_progress")]
    status: AnyOf<Word>,
    /// `open` or `closed`.
    #[param(inline, value_type = Option<TaskState>)]
    state: AnyOf<TaskState>,
    /// One of these priorities.
    #[param(value_type = Option<String>, example = "high,urgent")]
    priority: AnyOf<Priority>,
    /// One of these types.
    #[serde(rename = "type")]
    #[param(value_type = Option<String>, example = "bug")]
    task_type: AnyOf<Word>,
    /// In one of these categories.
    #[param(value_type = Option<String>)]
    category_id: AnyOf<CategoryId>,
    /// Carrying one of these labels.
    #[param(value_type = Option<String>, example = "garden")]
    label: AnyOf<Word>,
    /// One of these assignees; `me` is who asks.
    #[param(value_type = Option<String>, example = "me")]
    assignee_id: AnyOf<Person>,
    /// One of these reporters; `me` is who asks.
    #[param(value_type = Option<String>, example = "me")]
    reporter_id: AnyOf<Person>,
    /// All of these words are in the title or description.
    #[param(value_type = Option<String>, min_length = 1, max_length = 200, example = "lift stuck")]
    q: Option<Parsed<SearchWords>>,
    /// Due at or after.
    #[serde(rename = "due_at[gte]")]
    #[param(value_type = Option<String>, format = DateTime)]
    due_from: Option<Parsed<Time>>,
    /// Due before.
    #[serde(rename = "due_at[lt]")]
    #[param(value_type = Option<String>, format = DateTime)]
    due_before: Option<Parsed<Time>>,
    /// Made at or after.
    #[serde(rename = "created_at[gte]")]
    #[param(value_type = Option<String>, format = DateTime)]
    created_from: Option<Parsed<Time>>,
    /// Made before.
    #[serde(rename = "created_at[lt]")]
    #[param(value_type = Option<String>, format = DateTime)]
    created_before: Option<Parsed<Time>>,
    /// The order; `-created_at` when not said. By `due_at` come those only that have one. By `updated_at` a personal task
    /// that nobody changed stands at the millisecond of its making.
    #[param(inline)]
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
    Oldest,
    /// Newest first.
    #[default]
    #[serde(rename = "-created_at")]
    Newest,
    /// Least lately changed first.
    #[serde(rename = "updated_at")]
    Stalest,
    /// Last changed first.
    #[serde(rename = "-updated_at")]
    Freshest,
    /// Due soonest first.
    #[serde(rename = "due_at")]
    Soonest,
    /// Due latest first.
    #[serde(rename = "-due_at")]
    Latest,
}

/// List tasks
///
/// Those one may see: personal ones that one made or has, those of projects one may read, and for admins every one.
/// What no index leads to is looked for among 5,000 tasks: then a page may come short, or empty, and the list ends only
/// where there is no `next_cursor`.
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
    let projects = keys.project_id.0.clone();
    let filter = filter(keys, caller.identity.user_id);
    pages::by_cursor(&uri, api.app.tracker.tasks(&caller, &projects, filter, page).await?)
}

/// List the tasks of a project
///
/// As `GET /tasks` with its `project_id`.
#[utoipa::path(
    get, path = "/projects/{id}/tasks", tag = "tasks",
    params(("id" = ProjectId, Path, description = "The project."), TaskKeys),
    responses((status = 200, description = "A page of tasks.", body = Listed<Task>))
)]
pub(crate) async fn list_project_tasks(
    State(api): State<Shared>,
    Member(caller): Member,
    Id(project): Id<ProjectId>,
    Query(keys): Query<TaskKeys>,
    uri: Uri,
) -> Result<Response> {
    if keys.project_id.0.iter().any(|given| *given != project) {
        let error =
            FieldError::new("?project_id", "invalid_value", "must be the project of the address, or absent");
        return Err(ApiError::at(Code::BadRequest, error));
    }
    let page = pages::request(&keys.limit, keys.cursor.clone());
    let filter = filter(keys, caller.identity.user_id);
    pages::by_cursor(&uri, api.app.tracker.project_tasks(&caller, project, filter, page).await?)
}

fn filter(keys: TaskKeys, me: UserId) -> TaskFilter {
    let words = |AnyOf(words): AnyOf<Word>| words.into_iter().map(|Word(word)| word).collect();
    let people = |AnyOf(people): AnyOf<Person>| people.into_iter().map(|person| person.id(me)).collect();
    let time = |key: Option<Parsed<Time>>| key.map(|Parsed(Time(time))| time);
    let (order, descending) = match keys.sort {
        Sort::Oldest => (TaskOrder::CreatedAt, false),
        Sort::Newest => (TaskOrder::CreatedAt, true),
        Sort::Stalest => (TaskOrder::UpdatedAt, false),
        Sort::Freshest => (TaskOrder::UpdatedAt, true),
        Sort::Soonest => (TaskOrder::DueAt, false),
        Sort::Latest => (TaskOrder::DueAt, true),
    };
    TaskFilter {
        status: words(keys.status),
        state: one_state(&keys.state.0),
        priority: keys.priority.0,
        task_type: words(keys.task_type),
        category_id: keys.category_id.0,
        label: words(keys.label),
        assignee_id: people(keys.assignee_id),
        reporter_id: people(keys.reporter_id),
        words: keys.q.map(|Parsed(SearchWords(words))| words).unwrap_or_default(),
        due_from: time(keys.due_from),
        due_before: time(keys.due_before),
        created_from: time(keys.created_from),
        created_before: time(keys.created_before),
        order,
        descending,
    }
}

/// Open or closed is no condition at all.
fn one_state(states: &[TaskState]) -> Option<TaskState> {
    let first = *states.first()?;
    states.iter().all(|state| *state == first).then_some(first)
}

/// What shows that a task was accepted.
#[derive(Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(crate) struct AcceptedKeys {
    /// From the Location of a 202. One that does not hold here, or not any more, is as good as none.
    accepted: Option<String>,
}

/// Show a task
///
/// One that was accepted with 202 is 202 again until it is stored; if it cannot be stored, the answer is why.
#[utoipa::path(
    get, path = "/tasks/{id}", tag = "tasks", params(("id" = String, Path, description = "The task's id, or its key."), AcceptedKeys),
    responses(
        (status = 200, description = "The task.", body = Task),
        (status = 202, description = "It was accepted and is not stored yet; ask again after Retry-After.",
            body = AcceptedTask, headers(("Retry-After" = u32, description = "Seconds."))),
        (status = 304, description = "It is as If-None-Match names it."),
        (status = 422, description = "It was accepted and cannot be stored.", body = Problem,
            content_type = "application/problem+json")
    )
)]
pub(crate) async fn get_task(
    State(api): State<Shared>,
    Member(caller): Member,
    TaskParam(name): TaskParam,
    Query(keys): Query<AcceptedKeys>,
    headers: HeaderMap,
) -> Result<Response> {
    let id = api.app.tracker.find_task_id(&caller, &name).await?;
    match api.app.tracker.accepted_task(&caller, id, keys.accepted.as_deref()).await? {
        Some(task) => conditions::show(&headers, &task_tag(&task), &task),
        None => Ok(AcceptedTask::reply(id)?.with(header::RETRY_AFTER, "1").done()),
    }
}

/// Change a task
///
/// A merge patch: what is absent stays, null empties.
#[utoipa::path(
    patch, path = "/tasks/{id}", tag = "tasks", params(("id" = String, Path, description = "The task's id, or its key.")),
    request_body(content((PatchTask = "application/merge-patch+json"), (PatchTask = "application/json"))),
    responses((status = 200, description = "The task as it is now.", body = Task))
)]
pub(crate) async fn update_task(
    State(api): State<Shared>,
    Member(caller): Member,
    TaskParam(name): TaskParam,
    IfMatch(version): IfMatch,
    Json(patch): Json<PatchTask>,
) -> Result<Response> {
    let id = api.app.tracker.find_task_id(&caller, &name).await?;
    changed(&api.app.tracker.update_task(&caller, id, patch, version).await?)
}

/// Delete a task
#[utoipa::path(
    delete, path = "/tasks/{id}", tag = "tasks", params(("id" = String, Path, description = "The task's id, or its key.")),
    responses((status = 204, description = "It is gone."))
)]
pub(crate) async fn delete_task(
    State(api): State<Shared>,
    Member(caller): Member,
    TaskParam(name): TaskParam,
    IfMatch(version): IfMatch,
) -> Result<Response> {
    let id = api.app.tracker.find_task_id(&caller, &name).await?;
    let event = api.app.tracker.delete_task(&caller, id, version).await?;
    Ok(Reply::empty(StatusCode::NO_CONTENT).event(Some(event)).done())
}

/// Move a task to another status
///
/// Any move is legal except out of done or cancelled, which goes only to todo or in_progress.
#[utoipa::path(
    post, path = "/tasks/{id}/transitions", tag = "tasks", params(("id" = String, Path, description = "The task's id, or its key.")),
    request_body = Transition, responses((status = 200, description = "The task as it is now.", body = Task))
)]
pub(crate) async fn move_task(
    State(api): State<Shared>,
    Member(caller): Member,
    TaskParam(name): TaskParam,
    IfMatch(version): IfMatch,
    Key(key): Key,
    Json(input): Json<Transition>,
) -> Result<Response> {
    let id = api.app.tracker.find_task_id(&caller, &name).await?;
    let once = Once { key, render: moved };
    Ok(Reply::answered(api.app.tracker.transition(&caller, id, input, version, once).await?).done())
}

fn moved(task: &Task, event: Option<EventId>) -> std::result::Result<StoredAnswer, serde_json::Error> {
    let mut answer = reply::stored(StatusCode::OK, task, event)?;
    answer.etag = Some(task_tag(task));
    Ok(answer)
}

/// Keys of a task's history.
#[derive(Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(crate) struct HistoryKeys {
    /// How many, 50 when not said.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 200)]
    limit: Limit,
    /// From an earlier page of the same list.
    cursor: Option<String>,
}

/// Show what happened to a task
///
/// Oldest first: that it was made, then each change.
#[utoipa::path(
    get, path = "/tasks/{id}/history", tag = "tasks",
    params(("id" = String, Path, description = "The task's id, or its key."), HistoryKeys),
    responses((status = 200, description = "A page of its history.", body = Listed<HistoryItem>))
)]
pub(crate) async fn task_history(
    State(api): State<Shared>,
    Member(caller): Member,
    TaskParam(name): TaskParam,
    Query(keys): Query<HistoryKeys>,
    uri: Uri,
) -> Result<Response> {
    let id = api.app.tracker.find_task_id(&caller, &name).await?;
    let page = pages::request(&keys.limit, keys.cursor);
    pages::by_cursor(&uri, api.app.tracker.task_history(&caller, id, page).await?)
}

/// Deal the open tasks of a project out again
///
/// Among its members who are more than viewers. The same seed deals the same tasks to the same members alike.
#[utoipa::path(
    post, path = "/projects/{id}/tasks/reassign", tag = "tasks", request_body = Reassign,
    params(("id" = ProjectId, Path, description = "The project.")),
    responses((status = 200, description = "How many tasks changed hands.", body = Reassigned))
)]
pub(crate) async fn reassign_tasks(
    State(api): State<Shared>,
    Member(caller): Member,
    Id(project): Id<ProjectId>,
    Key(key): Key,
    Json(input): Json<Reassign>,
) -> Result<Response> {
    let render: fn(&Reassigned, Option<EventId>) -> std::result::Result<StoredAnswer, serde_json::Error> =
        |outcome, event| reply::stored(StatusCode::OK, outcome, event);
    let once = Once { key, render };
    Ok(Reply::answered(api.app.tracker.reassign(&caller, project, input, once).await?).done())
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
    put, path = "/tasks/{id}/assignee", tag = "tasks", params(("id" = String, Path, description = "The task's id, or its key.")),
    request_body = Assignee, responses((status = 200, description = "The task as it is now.", body = Task))
)]
pub(crate) async fn assign_task(
    State(api): State<Shared>,
    Member(caller): Member,
    TaskParam(name): TaskParam,
    IfMatch(version): IfMatch,
    Json(Assignee { assignee_id }): Json<Assignee>,
) -> Result<Response> {
    let id = api.app.tracker.find_task_id(&caller, &name).await?;
    changed(&api.app.tracker.assign(&caller, id, Some(assignee_id), version).await?)
}

/// Take a task from whoever has it
#[utoipa::path(
    delete, path = "/tasks/{id}/assignee", tag = "tasks", params(("id" = String, Path, description = "The task's id, or its key.")),
    responses((status = 204, description = "Nobody has it."))
)]
pub(crate) async fn unassign_task(
    State(api): State<Shared>,
    Member(caller): Member,
    TaskParam(name): TaskParam,
    IfMatch(version): IfMatch,
) -> Result<Response> {
    let id = api.app.tracker.find_task_id(&caller, &name).await?;
    let (task, event) = api.app.tracker.assign(&caller, id, None, version).await?;
    Ok(Reply::empty(StatusCode::NO_CONTENT).event(event).etag(&task_tag(&task)).done())
}

fn changed((task, event): &(Task, Option<EventId>)) -> Result<Response> {
    Ok(Reply::json(StatusCode::OK, task)?.event(*event).etag(&task_tag(task)).done())
}
