//! A project of the demo: who belongs to it, and what they do there.

use chrono::TimeDelta;
use taskpost_common::{
    CategoryId, PostId, ProjectId, TaskId, UserId,
    comment::{Subject, SubjectType},
    post::PostStatus,
    project::ProjectRole,
    task::Priority,
    user::User,
    watch::WatchLevel,
};
use taskpost_store::{
    Start, members,
    posts::{self, PostFilter},
};

use super::{
    EVERYTHING, Seeded,
    demo::{COMMENTS, LABELS, NEWS, POSTS, Plan, Post, Task},
    id_of, nothing, whole,
};
use crate::{
    AddMember, AddWatchers, Caller, CreateCategory, CreateComment, CreateLabel, CreatePost, CreateTask,
    Error, Once, PatchTask, SetWatch, Tracker, Transition,
};

/// The most people of a project.
const CREW: usize = 8;

/// A project with its people.
pub(super) struct Stage<'a> {
    tracker: &'a Tracker,
    id: ProjectId,
    plan: Plan,
    crew: Vec<Actor>,
}

struct Actor {
    caller: Caller,
    id: UserId,
    handle: String,
    role: ProjectRole,
}

/// Who belongs to a project, the owner first, and as what; of four or more one only looks.
pub(super) fn team(people: &[User], project: usize) -> Vec<(&User, ProjectRole)> {
    let size = people.len().min(CREW);
    let role = |place: usize| match place {
        0 => ProjectRole::Owner,
        last if size >= 4 && last == size - 1 => ProjectRole::Viewer,
        1 if size >= 3 => ProjectRole::Maintainer,
        _ => ProjectRole::Member,
    };
    let start = people.iter().cycle().skip(project % people.len().max(1));
    start.take(size).enumerate().map(|(place, user)| (user, role(place))).collect()
}

impl<'a> Stage<'a> {
    pub(super) fn set(
        tracker: &'a Tracker,
        id: ProjectId,
        plan: Plan,
        team: &[(&User, ProjectRole)],
    ) -> Self {
        let actor = |(user, role): &(&User, ProjectRole)| Actor {
            caller: tracker.acting(user),
            id: user.id,
            handle: user.handle.clone(),
            role: *role,
        };
        Self { tracker, id, plan, crew: team.iter().map(actor).collect() }
    }

    /// Whoever may write there, counted round.
    fn writer(&self, number: usize) -> Result<&Actor, Error> {
        let writers = self.crew.iter().filter(|actor| actor.role >= ProjectRole::Member);
        let count = writers.clone().count().max(1);
        writers.clone().nth(number % count).ok_or(Error::NotFound("member"))
    }

    /// Adds what the project lacks besides tasks.
    pub(super) async fn fill(&self, seeded: &mut Seeded) -> Result<(), Error> {
        let owner = &self.writer(0)?.caller;
        for actor in self.crew.iter().skip(1) {
            let known = members::get(&mut self.tracker.0.db.reader().await?, self.id, actor.id).await?;
            if known.is_none() {
                let input = AddMember { user_id: actor.id, role: Some(actor.role) };
                self.tracker.add_member(owner, self.id, input, Once::new(nothing)).await?;
            }
        }
        let categories = self.tracker.categories(owner, self.id).await?;
        for name in self.plan.theme.categories {
            if categories.iter().all(|category| category.name != name) {
                let input = CreateCategory { name: name.to_owned(), position: None };
                self.tracker.create_category(owner, self.id, input, Once::new(nothing)).await?;
            }
        }
        let labels = self.tracker.labels(owner, self.id).await?;
        for (name, color, description) in LABELS {
            if labels.iter().all(|label| label.name != name) {
                let (color, description) = (Some(color.to_owned()), Some(description.to_owned()));
                let input = CreateLabel { name: name.to_owned(), color, description };
                self.tracker.create_label(owner, self.id, input, Once::new(nothing)).await?;
            }
        }
        let level = Some(WatchLevel::Participating);
        self.tracker.watch_project(&self.writer(2)?.caller, self.id, SetWatch { level }).await?;
        self.add_posts(Some(self.id), &POSTS, seeded).await
    }

    /// Adds news of the organisation, if the owner may write them.
    pub(super) async fn news(&self, seeded: &mut Seeded) -> Result<(), Error> {
        if self.writer(0)?.caller.identity.roles.is_admin() {
            self.add_posts(None, &NEWS, seeded).await?;
        }
        Ok(())
    }

    async fn add_posts(
        &self,
        project: Option<ProjectId>,
        wanted: &[Post],
        seeded: &mut Seeded,
    ) -> Result<(), Error> {
        let filter = PostFilter { projects: vec![project], statuses: Vec::new() };
        let mut reader = self.tracker.0.db.reader().await?;
        let known = posts::list(&mut reader, EVERYTHING, &filter, Start::Newest, 200).await?;
        drop(reader);
        for (place, post) in wanted.iter().enumerate() {
            if known.iter().any(|known| known.title == post.title) {
                continue;
            }
            let author = &self.writer(if project.is_some() { place } else { 0 })?.caller;
            let (title, body) = (post.title.to_owned(), Some(post.body.to_owned()));
            let input = CreatePost { title, body, project_id: project };
            let id: PostId = id_of(&self.tracker.create_post(author, input, Once::new(whole)).await?)?;
            seeded.posts += 1;
            if post.status != PostStatus::Draft {
                self.tracker.set_post_published(author, id, true, Once::new(nothing)).await?;
                let subject = Subject { kind: SubjectType::Post, id: id.0 };
                self.comment(subject, place + 1, place, seeded).await?;
            }
            if post.status == PostStatus::Unpublished {
                self.tracker.set_post_published(author, id, false, Once::new(nothing)).await?;
            }
        }
        Ok(())
    }

    /// Makes a task, and lets happen to it what is to happen.
    pub(super) async fn task(&self, number: usize, seeded: &mut Seeded) -> Result<(), Error> {
        let task = self.plan.task(number);
        let (reporter, assignee) = (self.writer(number)?, self.writer(number + 1)?);
        let input = self.input(&task, task.assigned.then_some(assignee.id)).await?;
        let made = self.tracker.create_task(&reporter.caller, input, Once::new(whole)).await?;
        let id: TaskId = id_of(&made)?;
        seeded.tasks += 1;
        for (to, resolution) in task.moves {
            let (to, resolution) = ((*to).to_owned(), resolution.map(str::to_owned));
            let input = Transition { to, resolution };
            self.tracker.transition(&assignee.caller, id, input, None, Once::new(nothing)).await?;
        }
        if task.hurries {
            let patch = PatchTask { priority: Some(Some(Priority::Urgent)), ..PatchTask::default() };
            self.tracker.update_task(&reporter.caller, id, patch, None).await?;
        }
        let subject = Subject { kind: SubjectType::Task, id: id.0 };
        for comment in 0..task.comments {
            self.comment(subject, number + comment, number + comment, seeded).await?;
        }
        self.watch(number, id).await
    }

    async fn input(&self, task: &Task, assignee_id: Option<UserId>) -> Result<CreateTask, Error> {
        let categories = self.tracker.categories(&self.writer(0)?.caller, self.id).await?;
        let category = categories.iter().find(|category| category.name == task.category);
        let category_id: Option<CategoryId> = category.map(|category| category.id);
        let due = task.due_in_hours.map(TimeDelta::hours);
        Ok(CreateTask {
            title: task.title.to_owned(),
            description: Some(task.description()),
            project_id: Some(self.id),
            category_id,
            task_type: Some(task.kind.to_owned()),
            priority: Some(task.priority),
            assignee_id,
            labels: Some(task.labels.iter().map(|&label| label.to_owned()).collect()),
            due_at: due.map(|due| self.tracker.0.clock.now() + due),
        })
    }

    /// A comment by one that names the next.
    async fn comment(
        &self,
        subject: Subject,
        author: usize,
        text: usize,
        seeded: &mut Seeded,
    ) -> Result<(), Error> {
        let (author, named) = (self.writer(author)?, self.writer(author + 1)?);
        let text = COMMENTS[text % COMMENTS.len()];
        let body = text.replace("@somebody", &format!("@{}", named.handle));
        let input = CreateComment { body };
        self.tracker.comment_on(&author.caller, subject, input, Once::new(nothing)).await?;
        seeded.comments += 1;
        Ok(())
    }

    /// Of the first task everybody hears, of the second the last one nothing.
    async fn watch(&self, number: usize, id: TaskId) -> Result<(), Error> {
        if number == 0 {
            let input = AddWatchers { user_ids: self.crew.iter().map(|actor| actor.id).collect() };
            self.tracker.add_watchers(&self.writer(0)?.caller, id, input, Once::new(nothing)).await?;
        }
        if number == 1
            && let Some(last) = self.crew.last()
        {
            self.tracker.unwatch_task(&last.caller, id).await?;
        }
        Ok(())
    }
}
