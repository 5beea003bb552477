//! One group's transaction: what is to be stored of each submission, and what each will be told.

use std::collections::HashMap;

use taskpost_common::{Clock, EventId, task::Task};
use taskpost_store::{
    StoreError, Tx,
    idempotency::{self, KeyId, KeyRow, StoredAnswer},
    tasks::{self, NewTask},
};

use super::{Failure, Submission};
use crate::{
    Answered, Error,
    change::{replay, running_twin},
    placing::{Draft, Facts, Wanted, place},
};

/// A submission, with what is known already to be wrong with its drafts, by their places.
pub(super) struct Case<'a> {
    pub(super) submission: &'a Submission,
    pub(super) bad: Vec<(usize, Error)>,
}

impl<'a> Case<'a> {
    pub(super) const fn new(submission: &'a Submission) -> Self {
        Self { submission, bad: Vec::new() }
    }

    /// Its tasks, if nothing has to be asked before they are stored: it claims no key, and they have no assignees and no
    /// projects.
    pub(super) fn plain(&self) -> Option<impl Iterator<Item = &'a NewTask> + use<'a>> {
        let Submission { drafts, key, ready, .. } = self.submission;
        let is_plain = |draft: &Draft| draft.ready().is_some_and(|new| new.task().assignee_id.is_none());
        let all = key.is_none() && ready.is_some() && self.bad.is_empty() && drafts.iter().all(is_plain);
        all.then(|| drafts.iter().filter_map(Draft::ready))
    }
}

/// Claims the keys, asks what must be asked, stores the rest. The outer result is the group's, the inner ones are each
/// submission's own.
pub(super) async fn store_in(
    tx: &mut Tx,
    clock: &Clock,
    cases: Vec<Case<'_>>,
) -> Result<Vec<Result<Answered, Error>>, Failure> {
    let drafts = cases.iter().flat_map(|case| &case.submission.drafts);
    // Before the keys, which are of this route only: nobody who holds one of them waits for a project here.
    let facts = Facts::read(tx, drafts).await?;
    let mut plans: Vec<Plan<'_>> =
        cases.into_iter().map(|case| Plan::new(case, &facts)).collect::<Result<_, _>>()?;
    claim_keys(tx, &mut plans).await?;
    place_wanted(tx, clock, &facts, &mut plans).await?;
    let fresh: Vec<&NewTask> = plans.iter().flat_map(Plan::tasks).collect();
    tasks::insert(tx, &fresh).await?;
    answer_late(tx, &mut plans).await?;
    Ok(plans.into_iter().map(|plan| plan.outcome.unwrap_or(Err(Error::Unknown))).collect())
}

/// Whether a draft alone could be stored: the error says why not.
pub(super) async fn try_one(tx: &mut Tx, clock: &Clock, draft: &Draft) -> Result<(), Error> {
    let facts = Facts::read(tx, std::iter::once(draft)).await?;
    facts.check(draft)?;
    match draft {
        Draft::Ready(new) => tasks::insert(tx, &[&**new]).await?,
        Draft::InProject(wanted) => {
            for new in place(tx, clock, &facts, &[&**wanted]).await? {
                tasks::insert(tx, &[&new?]).await?;
            }
        }
    }
    Ok(())
}

/// What is to be stored of a submission, and what it will be told.
struct Plan<'a> {
    submission: &'a Submission,
    key: Option<KeyRow>,
    fates: Vec<Fate<'a>>,
    /// None until it can be told.
    outcome: Option<Result<Answered, Error>>,
    /// The place of the one in the same group that came first with the same key.
    twin: Option<usize>,
}

/// What becomes of a draft.
enum Fate<'a> {
    /// It is stored as it is.
    Ready(&'a NewTask),
    /// It waits for its number.
    Wanted(&'a Wanted),
    /// It has its number.
    Placed(Box<NewTask>),
    /// It cannot be stored.
    Bad(Error),
}

impl<'a> Plan<'a> {
    fn new(case: Case<'a>, facts: &Facts) -> Result<Self, Error> {
        let mut bad: HashMap<usize, Error> = case.bad.into_iter().collect();
        let fate = |(place, draft): (usize, &'a Draft)| match bad
            .remove(&place)
            .map_or_else(|| facts.check(draft), Err)
        {
            Err(error) => Fate::Bad(error),
            Ok(()) => match draft {
                Draft::Ready(new) => Fate::Ready(new),
                Draft::InProject(wanted) => Fate::Wanted(wanted),
            },
        };
        let submission = case.submission;
        let fates = submission.drafts.iter().enumerate().map(fate).collect();
        let mut plan = Self { submission, key: submission.key.clone(), fates, outcome: None, twin: None };
        if !submission.apart {
            plan.fail_whole();
        }
        if plan.outcome.is_none() && plan.fates.iter().all(|fate| !matches!(fate, Fate::Wanted(_))) {
            plan.tell()?;
        } else if let (Some(key), Some(draft)) = (&mut plan.key, submission.drafts.first()) {
            key.answer = pending(draft);
        }
        Ok(plan)
    }

    /// Fails with the first task's error, if there is one, and stores nothing.
    fn fail_whole(&mut self) {
        let bad = self.fates.iter().position(|fate| matches!(fate, Fate::Bad(_)));
        if let Some(Fate::Bad(error)) = bad.map(|place| self.fates.swap_remove(place)) {
            self.outcome = Some(Err(error));
            self.key = None;
            self.fates.clear();
        }
    }

    /// Makes the answer, which its key keeps.
    fn tell(&mut self) -> Result<(), Error> {
        let told: Vec<Result<&Task, &Error>> = self.fates.iter().filter_map(Fate::told).collect();
        let as_wished = told.iter().all(Result::is_ok);
        let answer = match (&self.submission.ready, &self.submission.tell) {
            (Some(ready), _) if as_wished => ready.clone(),
            (_, Some(tell)) => tell(&told, self.last_event())?,
            _ => return Err(Error::Internal("a submission without an answer".to_owned())),
        };
        if let Some(key) = &mut self.key {
            key.answer = answer.clone();
        }
        self.outcome = Some(Ok(Answered { answer, replayed: false }));
        Ok(())
    }

    fn tasks(&self) -> impl Iterator<Item = &NewTask> {
        self.fates.iter().filter_map(Fate::task)
    }

    /// Only what is stored has happened.
    fn last_event(&self) -> Option<EventId> {
        self.tasks().last().and_then(NewTask::last_event)
    }
}

impl<'a> Fate<'a> {
    const fn waits(&self) -> Option<&'a Wanted> {
        match self {
            Fate::Wanted(wanted) => Some(wanted),
            Fate::Ready(_) | Fate::Placed(_) | Fate::Bad(_) => None,
        }
    }

    fn task(&self) -> Option<&NewTask> {
        match self {
            Fate::Ready(new) => Some(new),
            Fate::Placed(new) => Some(new),
            Fate::Wanted(_) | Fate::Bad(_) => None,
        }
    }

    fn told(&self) -> Option<Result<&Task, &Error>> {
        match self {
            Fate::Bad(error) => Some(Err(error)),
            fate => fate.task().map(|new| Ok(new.task())),
        }
    }
}

/// What a key holds while its tasks wait for their numbers; nobody else ever sees it, and no other is like it.
fn pending(draft: &Draft) -> StoredAnswer {
    StoredAnswer { status: 0, location: None, etag: None, event_id: None, body: draft.task().id.to_string() }
}

/// Claims every key once. Whoever finds its key taken, by another transaction or an earlier one of this group, gets
/// what is stored under it.
async fn claim_keys(tx: &mut Tx, plans: &mut [Plan<'_>]) -> Result<(), StoreError> {
    let mut firsts: HashMap<KeyId, (usize, KeyRow)> = HashMap::new();
    for (place, plan) in plans.iter().enumerate() {
        if let Some(key) = &plan.key {
            firsts.entry(key.id.clone()).or_insert_with(|| (place, key.clone()));
        }
    }
    if firsts.is_empty() {
        return Ok(());
    }
    let mut rows: Vec<&KeyRow> = firsts.values().map(|(_, row)| row).collect();
    let all_ours = idempotency::claim(tx, &mut rows).await? == rows.len() as u64;
    let ids: Vec<&KeyId> = if all_ours { Vec::new() } else { firsts.keys().collect() };
    let stored: HashMap<KeyId, KeyRow> =
        idempotency::get(tx, &ids).await?.into_iter().map(|row| (row.id.clone(), row)).collect();
    for (place, plan) in plans.iter_mut().enumerate() {
        let Some((first, ours)) = plan.key.as_ref().and_then(|key| firsts.get(&key.id)) else { continue };
        // The answer names the event, or the task, which is new in every request: only what we just wrote is equal to it.
        let theirs = stored.get(&ours.id).filter(|row| row.answer != ours.answer);
        match theirs {
            // Twins of a first that came too late were too late as well.
            Some(row) => {
                plan.outcome = plan.key.take().map(|key| replay(&key, row));
                plan.fates.clear();
            }
            None if place != *first => {
                plan.twin = Some(*first);
                plan.fates.clear();
            }
            None => {}
        }
    }
    Ok(())
}

/// Gives every task that waits for it its number.
async fn place_wanted(
    tx: &mut Tx,
    clock: &Clock,
    facts: &Facts,
    plans: &mut [Plan<'_>],
) -> Result<(), StoreError> {
    let wanted: Vec<&Wanted> = plans.iter().flat_map(|plan| &plan.fates).filter_map(Fate::waits).collect();
    if wanted.is_empty() {
        return Ok(());
    }
    let mut placed = place(tx, clock, facts, &wanted).await?.into_iter();
    for fate in plans.iter_mut().flat_map(|plan| &mut plan.fates) {
        if matches!(fate, Fate::Wanted(_)) {
            *fate = match placed.next() {
                Some(Ok(new)) => Fate::Placed(Box::new(new)),
                Some(Err(error)) => Fate::Bad(error),
                None => Fate::Bad(Error::Unknown),
            };
        }
    }
    for plan in plans.iter_mut().filter(|plan| !plan.submission.apart && plan.outcome.is_none()) {
        if let Some(key) = plan.key.clone() {
            plan.fail_whole();
            if plan.key.is_none() {
                // It was claimed, and nothing came of it.
                idempotency::release(tx, &key.id).await?;
            }
        } else {
            plan.fail_whole();
        }
    }
    Ok(())
}

/// Answers those that had to wait until their tasks had numbers, and twins as their first.
async fn answer_late(tx: &mut Tx, plans: &mut [Plan<'_>]) -> Result<(), Failure> {
    let mut late = Vec::new();
    for (place, plan) in plans.iter_mut().enumerate() {
        if plan.outcome.is_none() && plan.twin.is_none() {
            plan.tell()?;
            late.push(place);
        }
    }
    let mut rows: Vec<&KeyRow> = late.iter().filter_map(|place| plans.get(*place)?.key.as_ref()).collect();
    if !rows.is_empty() {
        idempotency::answer_all(tx, &mut rows).await?;
    }
    let told = |first: Option<usize>| plans.get(first?).and_then(|plan| plan.key.clone());
    let firsts: Vec<Option<KeyRow>> = plans.iter().map(|plan| told(plan.twin)).collect();
    for (plan, first) in plans.iter_mut().zip(firsts) {
        if plan.twin.is_some() {
            let replayed = plan.key.as_ref().zip(first).map(|(key, first)| replay(key, &first));
            plan.outcome = Some(replayed.unwrap_or_else(|| Err(running_twin())));
        }
    }
    Ok(())
}
