//! Accepting a task before it is stored: the command that goes on the log, and what becomes of it.
//!
//! Before: `api/src/http/tasks.rs`, for `Prefer: respond-async`. Next: `consumers/src/ingestion`, which hands the
//! commands back to [`store`].

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use taskpost_common::{
    Cause, Clock, DeadLetterId, TaskId, UserId,
    problem::{Code, Problem},
    task::Task,
    trace,
};
use taskpost_ports::log::ingest::IngestError;
use taskpost_store::{
    Change, StoreError, Tx, Viewer,
    dead_letters::{self, DeadLetter},
    tasks::{self, NewTask},
    users,
};
use tracing::{Instrument as _, info_span};
use uuid::Uuid;

use crate::{
    Caller, CreateTask, Error, Tracker,
    committer::refused_value,
    placing::{Draft, Facts, Wanted, place},
    tasks::check_new,
};

/// What the dead letters of refused commands name as their group.
pub const GROUP: &str = "ingestion";
/// The form of a command that this version writes, and the only one that it reads.
const VERSION: u32 = 1;
/// How long the token of an accepted task is good.
const GOOD: TimeDelta = TimeDelta::hours(24);

/// A task that was accepted: what the log keeps of it until it is stored.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Command {
    version: u32,
    /// The task's id, and that of its dead letter if it is refused.
    pub id: TaskId,
    accepted_at: DateTime<Utc>,
    actor_id: UserId,
    /// Whether it was sent with the rights of an admin, which count in projects only.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    admin: bool,
    correlation_id: Uuid,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    traceparent: Option<String>,
    task: CreateTask,
}

/// An accepted task.
#[derive(Clone, Debug)]
pub struct Accepted {
    /// Its id.
    pub id: TaskId,
    /// Shows to its creator, for a day, what has become of it.
    pub token: String,
}

/// What became of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Its task is stored, with its events.
    Stored,
    /// Its task was stored before, so nothing has happened.
    Doubled,
    /// Its task cannot be stored; nothing has happened.
    Refused(Problem),
}

impl Tracker {
    /// Whether tasks can be accepted before they are stored.
    pub fn accepts(&self) -> bool {
        self.0.log.ingest().is_some()
    }

    /// Checks a task as [`Tracker::create_task`] does and puts it on the log; it is durable there when this returns.
    pub async fn accept_task(&self, caller: &Caller, input: CreateTask) -> Result<Accepted, Error> {
        let Some(ingest) = self.0.log.ingest() else {
            return Err(Error::Internal("this log takes no commands".to_owned()));
        };
        check_new(&input)?;
        let (id, now) = (self.0.clock.id(), self.0.clock.now());
        let span = info_span!(target: trace::TARGET, "accept", otel.kind = "producer", task.id = %id);
        let traceparent = trace::traceparent_of(&span).or_else(|| caller.cause.traceparent.clone());
        let command = Command {
            version: VERSION,
            id,
            accepted_at: now,
            actor_id: caller.user_id(),
            admin: caller.viewer().admin && input.project_id.is_some(),
            correlation_id: caller.cause.correlation_id,
            traceparent: traceparent.clone(),
            task: input,
        };
        let value = serde_json::to_vec(&command)?;
        let key = id.to_string();
        let accepted = ingest.accept(&key, &value, traceparent.as_deref()).instrument(span).await;
        accepted.map_err(|error| match error {
            IngestError::Full => Error::Busy("the queue to the log"),
            error => {
                tracing::warn!(task.id = %id, %error, "an accepted task may not be on the log; its client gets 503");
                Error::Unacknowledged
            }
        })?;
        metrics::counter!("taskpost_ingestion_accepted_total").increment(1);
        let token = self.0.cursors.seal(&scope(id, caller.user_id()), now, now)?;
        Ok(Accepted { id, token })
    }

    /// A task that the caller may see. None while it is accepted, as `token` shows, and not stored yet; a refusal is
    /// what [`Tracker::create_task`] would have said. A token that does not hold here is as good as none.
    pub async fn accepted_task(
        &self,
        caller: &Caller,
        id: TaskId,
        token: Option<&str>,
    ) -> Result<Option<Task>, Error> {
        match self.task(caller, id).await {
            Err(Error::NotFound(_)) if token.is_some_and(|token| self.is_good(caller, id, token)) => {}
            found => return found.map(Some),
        }
        let mut reader = self.0.db.reader().await?;
        if let Some(letter) = dead_letters::get(&mut reader, DeadLetterId(id.0)).await?
            && matches!(letter.state.as_str(), "dead" | "discarded")
        {
            return Err(refusal(&letter));
        }
        if tasks::deleted(&mut reader, &[id]).await?.is_empty() {
            Ok(None)
        } else {
            Err(Error::NotFound("task"))
        }
    }

    fn is_good(&self, caller: &Caller, id: TaskId, token: &str) -> bool {
        let now = self.0.clock.now();
        let sealed = self.0.cursors.open::<DateTime<Utc>>(&scope(id, caller.user_id()), token, now);
        sealed.is_ok_and(|accepted_at| now - accepted_at <= GOOD)
    }
}

/// What a token holds for. No list has a scope that begins like this.
fn scope(id: TaskId, user_id: UserId) -> String {
    format!("accepted {id} {user_id}")
}

impl Command {
    /// Reads a command, or says why that cannot be done. Fields that are not known are not passed over: they are of a
    /// newer version, and what they ask for must not be lost.
    pub fn decode(value: &[u8]) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Form {
            version: u32,
        }
        let not = |error: serde_json::Error| format!("it is no command: {error}");
        let read = serde_json::from_slice::<Self>(value);
        let version = match &read {
            Ok(command) => command.version,
            Err(_) => serde_json::from_slice::<Form>(value).map_err(not)?.version,
        };
        if version != VERSION {
            return Err(format!("it is a command of version {version}, and this process reads {VERSION}"));
        }
        read.map_err(not)
    }

    /// W3C Trace Context of its request.
    pub fn traceparent(&self) -> Option<&str> {
        self.traceparent.as_deref()
    }

    /// The task that it asks for, if that can be at all.
    fn draft(&self, clock: &Clock, admins: &HashSet<UserId>) -> Result<Draft, Error> {
        check_new(&self.task)?;
        let cause = Cause {
            actor_id: Some(self.actor_id),
            correlation_id: self.correlation_id,
            causation_id: None,
            traceparent: self.traceparent.clone(),
        };
        let reporter =
            Viewer { user_id: self.actor_id, admin: self.admin && admins.contains(&self.actor_id) };
        let change = Change { clock, cause: &cause };
        Ok(Draft::new(change, (self.id, self.accepted_at), reporter, self.task.clone())?)
    }
}

/// Stores the tasks of up to [`MAX_BATCH`](taskpost_store::MAX_BATCH) commands with their events, each at most once,
/// whoever stored it before; says what became of each, in their order.
pub async fn store(tx: &mut Tx, clock: &Clock, commands: &[Command]) -> Result<Vec<Fate>, StoreError> {
    let in_projects: Vec<&Command> =
        commands.iter().filter(|command| command.task.project_id.is_some()).collect();
    let admins = admins(tx, &in_projects).await?;
    // A command that comes once more must not take another number.
    let numbered = known(tx, in_projects.into_iter()).await?;
    let fresh = |command: &&Command| !numbered.contains(&command.id);
    let drafts: Vec<(TaskId, Result<Draft, Error>)> =
        commands.iter().filter(fresh).map(|command| (command.id, command.draft(clock, &admins))).collect();
    let (mut made, mut refused) = make(tx, clock, drafts).await?;
    // Writers lock in the order of ids; of twins the one that came first counts.
    made.sort_by_key(|task| task.task().id);
    let mut new = tasks::insert_missing(tx, &made.iter().collect::<Vec<_>>()).await?;
    let known = known(tx, commands.iter().filter(|command| refused.contains_key(&command.id))).await?;
    let fate = |command: &Command| match refused.remove(&command.id) {
        // What was right when it was stored stays stored.
        Some(problem) if !known.contains(&command.id) => Fate::Refused(problem),
        None if new.remove(&command.id) => Fate::Stored,
        _ => Fate::Doubled,
    };
    Ok(commands.iter().map(fate).collect())
}

/// The tasks of those drafts that can be stored, and why the others cannot.
async fn make(
    tx: &mut Tx,
    clock: &Clock,
    drafts: Vec<(TaskId, Result<Draft, Error>)>,
) -> Result<(Vec<NewTask>, HashMap<TaskId, Problem>), StoreError> {
    let facts = Facts::read(tx, drafts.iter().filter_map(|(_, draft)| draft.as_ref().ok())).await?;
    let (mut made, mut wanted, mut refused) = (Vec::new(), Vec::new(), HashMap::new());
    for (id, draft) in drafts {
        match draft.and_then(|draft| facts.check(&draft).map(|()| draft)) {
            Ok(Draft::Ready(new)) => made.push(*new),
            Ok(Draft::InProject(task)) => wanted.push((id, task)),
            Err(error) => drop(refused.insert(id, error.problem())),
        }
    }
    // Twins of one call are one task, with one number.
    let mut seen = HashSet::new();
    wanted.retain(|(id, _)| seen.insert(*id));
    let tasks: Vec<&Wanted> = wanted.iter().map(|(_, task)| &**task).collect();
    for ((id, _), placed) in wanted.iter().zip(place(tx, clock, &facts, &tasks).await?) {
        match placed {
            Ok(new) => made.push(new),
            Err(error) => drop(refused.insert(*id, error.problem())),
        }
    }
    Ok((made, refused))
}

/// Which of those who sent these commands with the rights of an admin are still admins.
async fn admins(tx: &mut Tx, commands: &[&Command]) -> Result<HashSet<UserId>, StoreError> {
    let sent_by_admins = commands.iter().filter(|command| command.admin);
    let senders: HashSet<UserId> = sent_by_admins.map(|command| command.actor_id).collect();
    let users = users::by_ids(tx, &Vec::from_iter(senders)).await?;
    Ok(users.into_iter().filter(|user| user.roles.is_admin()).map(|user| user.id).collect())
}

/// Which of these commands have been carried out before.
async fn known<'a>(
    tx: &mut Tx,
    commands: impl Iterator<Item = &'a Command>,
) -> Result<HashSet<TaskId>, StoreError> {
    let ids: Vec<TaskId> = commands.map(|command| command.id).collect();
    if ids.is_empty() {
        return Ok(HashSet::new());
    }
    let mut known: HashSet<TaskId> = tasks::by_ids(tx, &ids).await?.into_iter().map(|task| task.id).collect();
    known.extend(tasks::deleted(tx, &ids).await?);
    Ok(known)
}

/// What the client of a command is told that the store refuses for its values.
pub fn refused_by_store() -> Problem {
    refused_value().problem()
}

/// A problem in one line, for operators.
pub fn in_words(problem: &Problem) -> String {
    match problem.errors.as_slice() {
        [] => problem.detail.clone(),
        errors => {
            let each: Vec<String> =
                errors.iter().map(|error| format!("{} {}", error.pointer, error.detail)).collect();
            each.join("; ")
        }
    }
}

/// The tries of a command as its dead letter keeps them: with the first the id of its record, which task it was to make,
/// and what its client is told.
pub fn history(
    tries: &[(DateTime<Utc>, String)],
    record: DeadLetterId,
    task: Option<TaskId>,
    problem: Option<&Problem>,
) -> Result<String, StoreError> {
    let status = problem.map(|problem| i64::from(problem.status));
    let tries = tries.iter().map(|(at, reason)| (*at, Some(reason.clone()), status));
    let mut history: Value = serde_json::from_str(&dead_letters::history(tries)?)?;
    if let Some(first) = history["attempts"].get_mut(0) {
        first["record"] = json!(record);
        first["task_id"] = json!(task);
        first["problem"] = json!(problem);
    }
    Ok(history.to_string())
}

/// What [`history`] keeps with the first try.
#[derive(Default, Deserialize)]
struct Kept {
    record: Option<DeadLetterId>,
    task_id: Option<TaskId>,
    problem: Option<Problem>,
}

fn kept(letter: &DeadLetter) -> Kept {
    #[derive(Deserialize)]
    struct History {
        attempts: Vec<Kept>,
    }
    let history = serde_json::from_str::<History>(&letter.attempts).ok();
    history.and_then(|history| history.attempts.into_iter().next()).unwrap_or_default()
}

/// Whether a letter is of this record: of the same place on the log, or with the same words.
pub fn is_letter_of(letter: &DeadLetter, record: DeadLetterId, payload: &str) -> bool {
    letter.payload == payload || kept(letter).record == Some(record)
}

/// The task that a letter's command was to make, as far as that is known.
pub fn task_of(letter: &DeadLetter) -> Option<TaskId> {
    kept(letter).task_id
}

/// What the client is told of a command that became a dead letter.
fn refusal(letter: &DeadLetter) -> Error {
    match kept(letter).problem {
        Some(problem) if problem.status == Code::Invalid.status() => Error::Invalid(problem.errors),
        Some(problem) if problem.status == Code::Conflict.status() => Error::Conflict(problem.detail),
        // Not the client's doing; an operator finds it among the dead letters.
        _ => Error::Internal(format!("the accepted task is a dead letter: {}", letter.reason)),
    }
}

#[cfg(test)]
mod tests {
    use taskpost_common::problem::FieldError;

    use super::*;

    fn command() -> Value {
        let id = |n| Uuid::from_u128(n);
        json!({
            "version": 1, "id": id(1), "accepted_at": "2026-01-31T12:00:00.123456Z", "actor_id": id(2),
            "correlation_id": id(3), "traceparent": "00-a-b-01", "task": {"title": "Fix the lift", "labels": ["a"]},
        })
    }

    #[test]
    fn a_command_comes_back_as_it_was_written() {
        let read = Command::decode(command().to_string().as_bytes()).unwrap();
        let again = Command::decode(&serde_json::to_vec(&read).unwrap()).unwrap();
        assert_eq!(serde_json::to_value(&read).unwrap(), serde_json::to_value(&again).unwrap());
        let made = again.draft(&Clock::system(), &HashSet::new()).unwrap();
        let task = made.task();
        assert_eq!((task.id.0, task.reporter_id.0), (Uuid::from_u128(1), Uuid::from_u128(2)));
        assert_eq!((task.title.as_str(), task.status.as_str(), task.version), ("Fix the lift", "todo", 1));
        assert_eq!(json!(task.created_at), "2026-01-31T12:00:00.123456Z");
    }

    /// What a newer version asks for is not passed over in silence.
    #[test]
    fn what_is_no_command_of_this_version_says_so() {
        let changed = |edit: &dyn Fn(&mut Value)| {
            let mut command = command();
            edit(&mut command);
            Command::decode(command.to_string().as_bytes()).unwrap_err()
        };
        for (reason, expected) in [
            (changed(&|c| c["version"] = json!(2)), "of version 2"),
            (changed(&|c| (c["version"], c["new"]) = (json!(2), json!(1))), "of version 2"),
            (changed(&|c| c["new"] = json!(1)), "unknown field `new`"),
            (changed(&|c| c["task"]["new"] = json!(1)), "unknown field `new`"),
            (changed(&|c| c["version"] = json!("1")), "it is no command"),
            (changed(&|c| c["id"] = json!("x")), "it is no command"),
            (changed(&|c| *c = json!([])), "it is no command"),
            (Command::decode(b"").unwrap_err(), "it is no command"),
            (Command::decode(b"\xff").unwrap_err(), "it is no command"),
        ] {
            assert!(reason.contains(expected), "{reason}");
        }
    }

    #[test]
    fn a_letter_keeps_what_its_client_is_told_however_often_it_is_tried() {
        let field = FieldError::new("/assignee_id", "unknown_user", "there is no active user 7");
        let problem = Error::Invalid(vec![field.clone()]).problem();
        let (at, record) = (DateTime::UNIX_EPOCH, DeadLetterId(Uuid::from_u128(9)));
        let tries = [(at, in_words(&problem)), (at, "again".to_owned())];
        let task = Some(TaskId(Uuid::from_u128(1)));
        let letter = |problem: Option<&Problem>| DeadLetter {
            id: DeadLetterId(Uuid::from_u128(1)),
            source: "log".to_owned(),
            handler: GROUP.to_owned(),
            event_id: None,
            position: None,
            delivery_id: None,
            reason: "again".to_owned(),
            fingerprint: String::new(),
            attempts: history(&tries, record, task, problem).unwrap(),
            payload: "{}".to_owned(),
            state: "dead".to_owned(),
            created_at: at,
            resolved_at: None,
            resolve_reason: None,
        };
        let refused = letter(Some(&problem));
        assert!(matches!(refusal(&refused), Error::Invalid(errors) if errors == [field]));
        assert!(refused.attempts.contains("/assignee_id there is no active user 7"), "{}", refused.attempts);
        assert_eq!(task_of(&refused), task);
        let other = DeadLetterId(Uuid::from_u128(8));
        assert!(is_letter_of(&refused, record, "x") && is_letter_of(&refused, other, "{}"));
        assert!(!is_letter_of(&refused, other, "x"));
        let conflict = Error::Conflict("taken".to_owned()).problem();
        assert!(matches!(refusal(&letter(Some(&conflict))), Error::Conflict(detail) if detail == "taken"));
        // Not the client's doing.
        assert!(matches!(refusal(&letter(None)), Error::Internal(_)));
        let damaged = DeadLetter { attempts: "[]".to_owned(), ..letter(None) };
        assert!(matches!(refusal(&damaged), Error::Internal(_)));
    }
}
