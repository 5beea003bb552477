//! Tasks by the hundred.

use std::{borrow::Cow, num::NonZeroU32};

use axum::{
    extract::State,
    http::StatusCode,
    response::{IntoResponse as _, Response},
};
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{Error as _, SeqAccess, Visitor},
};
use serde_json::value::RawValue;
use taskpost_common::{EventId, problem::Problem};
use taskpost_ports::limiter::{LimitClass, LimitKey};
use taskpost_store::{MAX_BATCH, idempotency::StoredAnswer};
use taskpost_tracker::{BatchItem, Caller, CreateTask, Once};
use utoipa::ToSchema;

use super::{
    app::{Api, Shared},
    extract::{Json, Key, Member},
    json,
    problem::{ApiError, Result},
    reply::{self, Reply},
    visit::Charged,
};

/// Create many tasks
///
/// Up to 500, each of which fails alone. It costs one write and a tenth more for each task.
#[utoipa::path(
    post, path = "/tasks/batch", tag = "tasks", request_body = Batch,
    responses((status = 207, description = "A result for each task, in order.", body = BatchResults<'static>))
)]
pub(crate) async fn create_tasks(
    State(api): State<Shared>,
    Member(caller): Member,
    Key(key): Key,
    Json(Batch { tasks }): Json<Batch>,
) -> Result<Response> {
    let charged = charge(&api, &caller, tasks.len()).await?;
    let mut inputs = Vec::with_capacity(tasks.len());
    for task in &tasks {
        inputs.push(match json::parse(task.get().as_bytes()) {
            Ok(input) => Ok(input),
            Err(error) => Err(error.problem()),
        });
    }
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
async fn charge(api: &Api, caller: &Caller, tasks: usize) -> Result<Option<Charged>> {
    let Some(cost) = u32::try_from(tasks.div_ceil(10)).ok().and_then(NonZeroU32::new) else {
        return Ok(None);
    };
    let class = LimitClass::Write;
    let decision = api.app.limiter.check(class, LimitKey::User(caller.identity.user_id), cost).await;
    if decision.allowed {
        Ok(Some(Charged(class, decision)))
    } else {
        Err(ApiError::Limited(class, decision))
    }
}

/// Tasks to create.
#[derive(Deserialize, ToSchema)]
#[schema(as = NewTasks)]
#[serde(deny_unknown_fields)]
pub(crate) struct Batch {
    /// 1 to 500 of them.
    // Not read yet, so that a bad one fails alone.
    #[serde(deserialize_with = "at_most_a_batch")]
    #[schema(value_type = Vec<CreateTask>, min_items = 1, max_items = 500)]
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

#[expect(clippy::ptr_arg, reason = "the tracker hands every outcome by a reference to its own type")]
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
