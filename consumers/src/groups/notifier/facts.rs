//! What the store says now about the people of a batch and what they would read, and the verdicts that follow.

use std::collections::{BTreeSet, HashMap};

use taskpost_common::{
    Envelope, PostId, ProjectId, TaskId, UserId,
    post::{Post, PostStatus},
    project::ProjectRole,
    user::{User, UserStatus},
};
use taskpost_store::{
    MAX_BATCH, Session, StoreError, posts,
    projects::{self, Readers},
    tasks, users,
};

use super::{
    kinds,
    who::{About, Candidate},
};
use crate::Decoded;

/// Whether a candidate is told; if not, by which rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Send,
    Suppress(&'static str),
}

/// What is there of what a verdict depends on.
#[derive(Debug, Default)]
pub(super) struct Facts {
    users: HashMap<UserId, User>,
    tasks: HashMap<TaskId, Owners>,
    posts: HashMap<PostId, Post>,
    projects: HashMap<ProjectId, Readers>,
}

/// Who may read a task: who may read its project, and without one its reporter and assignee.
#[derive(Debug)]
struct Owners {
    project: Option<ProjectId>,
    people: [Option<UserId>; 2],
}

impl Facts {
    /// Reads only what a verdict depends on.
    pub(super) async fn read(
        reader: &mut Session,
        asked: &[(&Decoded, Candidate)],
    ) -> Result<Self, StoreError> {
        let mut facts = Self::default();
        let open: Vec<&Candidate> = asked
            .iter()
            .filter(|(decoded, candidate)| by_table(&decoded.envelope, candidate).is_none())
            .map(|(_, candidate)| candidate)
            .collect();
        let people: BTreeSet<UserId> = open.iter().map(|candidate| candidate.user_id).collect();
        let people = Vec::from_iter(people);
        for ids in people.chunks(MAX_BATCH) {
            let found = users::by_ids(reader, ids).await?;
            facts.users.extend(found.into_iter().map(|user| (user.id, user)));
        }
        let mut wanted = Wanted::default();
        for about in open.iter().filter_map(|candidate| must_read(candidate)) {
            wanted.add(about);
        }
        for task in tasks::by_ids(reader, &Vec::from_iter(wanted.tasks)).await? {
            let people = [Some(task.reporter_id), task.assignee_id];
            wanted.projects.extend(task.project_id);
            facts.tasks.insert(task.id, Owners { project: task.project_id, people });
        }
        for post in posts::by_ids(reader, &Vec::from_iter(wanted.posts)).await? {
            wanted.projects.extend(post.project_id);
            facts.posts.insert(post.id, post);
        }
        facts.projects = projects::readers_among(reader, &Vec::from_iter(wanted.projects), &people).await?;
        Ok(facts)
    }

    /// The rules in the order of `who`; the first that speaks decides.
    pub(super) fn judge(&self, envelope: &Envelope, candidate: &Candidate) -> Verdict {
        if let Some(rule) = by_table(envelope, candidate) {
            return Verdict::Suppress(rule);
        }
        let Some(user) = self.users.get(&candidate.user_id) else { return Verdict::Suppress("unknown user") };
        let may_read = must_read(candidate).is_none_or(|about| self.may_read(user, about));
        if !may_read {
            return Verdict::Suppress("cannot read");
        }
        by_status(user.status)
    }

    /// Whether the user can read it now; nobody can read what is gone.
    fn may_read(&self, user: &User, about: About) -> bool {
        let admin = user.roles.is_admin();
        let in_project = |project: ProjectId| {
            self.projects.get(&project).is_some_and(|readers| admin || readers.may_read(user.id))
        };
        match about {
            About::Task(id) => self.tasks.get(&id).is_some_and(|task| match task.project {
                Some(project) => in_project(project),
                None => admin || task.people.contains(&Some(user.id)),
            }),
            About::Post(id) => self.posts.get(&id).is_some_and(|post| match post.status {
                PostStatus::Published => post.project_id.is_none_or(in_project),
                PostStatus::Draft | PostStatus::Unpublished => {
                    let is_author = post.author_id == user.id && post.project_id.is_none_or(in_project);
                    admin || is_author || self.keeps(user.id, post.project_id)
                }
            }),
            About::Project(id) => in_project(id),
            About::Account => true,
        }
    }

    /// Whether the user is maintainer of the project, and so sees its drafts.
    fn keeps(&self, user: UserId, project: Option<ProjectId>) -> bool {
        let readers = project.and_then(|project| self.projects.get(&project));
        let role = readers.and_then(|readers| readers.members.get(&user));
        role.is_some_and(|role| *role >= ProjectRole::Maintainer)
    }
}

/// As [`Facts::judge`], of somebody of this status who is known to be able to read it.
pub(super) fn judge_reader(envelope: &Envelope, candidate: &Candidate, status: UserStatus) -> Verdict {
    by_table(envelope, candidate).map_or_else(|| by_status(status), Verdict::Suppress)
}

const fn by_status(status: UserStatus) -> Verdict {
    match status {
        UserStatus::Active => Verdict::Send,
        UserStatus::Disabled => Verdict::Suppress("disabled"),
    }
}

/// What candidates must be able to read.
#[derive(Default)]
struct Wanted {
    tasks: BTreeSet<TaskId>,
    posts: BTreeSet<PostId>,
    projects: BTreeSet<ProjectId>,
}

impl Wanted {
    fn add(&mut self, about: About) {
        match about {
            About::Task(id) => self.tasks.extend([id]),
            About::Post(id) => self.posts.extend([id]),
            About::Project(id) => self.projects.extend([id]),
            About::Account => {}
        }
    }
}

/// The rules that need nothing from the store.
fn by_table(envelope: &Envelope, candidate: &Candidate) -> Option<&'static str> {
    let by_actor = envelope.actor_id == Some(candidate.user_id) && !kinds::tells_the_actor(candidate.kind);
    candidate.veto.or_else(|| by_actor.then_some("actor"))
}

/// What a candidate must be able to read to be told.
fn must_read(candidate: &Candidate) -> Option<About> {
    kinds::tells_only_readers(candidate.kind).then_some(candidate.about)
}
