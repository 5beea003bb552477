//! A demo: people, projects and what happens in them, made by the same use cases as anything else. What is there already
//! is left as it is, so that making it again adds nothing.

mod demo;
mod stage;

use chrono::TimeDelta;
use serde::{Deserialize, Serialize};
use taskpost_common::{
    Cause, EventId, ProjectId, UserId,
    project::ProjectRole,
    user::{Role, Roles, User, UserStatus},
};
use taskpost_store::{
    Start, Viewer,
    idempotency::StoredAnswer,
    leases, members,
    projects::{self, ProjectFilter},
    tasks, users,
};
use uuid::Uuid;

use crate::{Answered, Caller, CreateProject, CreateUser, Error, Identity, Once, Tracker};
use demo::{Plan, TASKS, person};
use stage::{Stage, team};

/// Of one who makes a demo at a time.
const LEASE: &str = "seed";
/// How long it lasts; each project renews it.
const LASTS: TimeDelta = TimeDelta::minutes(5);
/// The password of everybody in the demo.
pub const DEMO_PASSWORD: &str = "a taskpost demo";
/// Who looks for what is there.
const EVERYTHING: Viewer = Viewer { user_id: UserId(Uuid::nil()), admin: true };

/// How large the demo is.
#[derive(Clone, Copy, Debug)]
pub struct Demo {
    /// How many people.
    pub users: usize,
    /// How many projects.
    pub projects: usize,
}

/// What was added.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Seeded {
    /// People.
    pub users: usize,
    /// Projects.
    pub projects: usize,
    /// Tasks.
    pub tasks: usize,
    /// Comments.
    pub comments: usize,
    /// Posts.
    pub posts: usize,
}

impl Tracker {
    /// Adds what is missing of the demo, and tells of each part how much is done of how much. The first of its people is
    /// admin. Nobody else can do so meanwhile: [`Error::Conflict`].
    pub async fn seed(
        &self,
        demo: Demo,
        mut tell: impl FnMut(&'static str, usize, usize),
    ) -> Result<Seeded, Error> {
        let holder: Uuid = self.0.clock.id();
        self.hold_seed(holder).await?;
        let mut seeded = Seeded::default();
        let made = self.seed_all(demo, holder, &mut seeded, &mut tell).await;
        let given_back = leases::give_back(&self.0.db, LEASE, holder).await;
        made?;
        given_back?;
        Ok(seeded)
    }

    async fn hold_seed(&self, holder: Uuid) -> Result<(), Error> {
        let now = self.0.clock.now();
        if leases::take(&self.0.db, LEASE, holder, now, now + LASTS).await? {
            return Ok(());
        }
        let detail = "another process makes the demo, or died of it within five minutes; try again later";
        Err(Error::Conflict(detail.to_owned()))
    }

    async fn seed_all(
        &self,
        demo: Demo,
        holder: Uuid,
        seeded: &mut Seeded,
        tell: &mut impl FnMut(&'static str, usize, usize),
    ) -> Result<(), Error> {
        let mut people = Vec::with_capacity(demo.users);
        for number in 0..demo.users {
            let user = self.seed_person(number, seeded).await?;
            if user.status == UserStatus::Active {
                people.push(user);
            }
            tell("users", number + 1, demo.users);
        }
        for number in 0..demo.projects {
            self.hold_seed(holder).await?;
            let mut done = |tasks: usize| tell("tasks", number * TASKS + tasks, demo.projects * TASKS);
            self.seed_project(number, &people, seeded, &mut done).await?;
            done(TASKS);
        }
        Ok(())
    }

    async fn seed_person(&self, number: usize, seeded: &mut Seeded) -> Result<User, Error> {
        let (email, name) = person(number);
        let found = users::by_email(&mut self.0.db.reader().await?, &email).await?;
        if let Some((user, _)) = found {
            return Ok(user);
        }
        let roles = Roles::from(if number == 0 { vec![Role::Admin] } else { Vec::new() });
        seeded.users += 1;
        self.make_account(CreateUser { email, name, password: DEMO_PASSWORD.to_owned(), roles }).await
    }

    async fn seed_project(
        &self,
        number: usize,
        people: &[User],
        seeded: &mut Seeded,
        done: &mut impl FnMut(usize),
    ) -> Result<(), Error> {
        let plan = Plan::new(number);
        let team = team(people, number);
        let Some((owner, _)) = team.first() else { return Ok(()) };
        let Some(id) = self.demo_project(&plan, owner, seeded).await? else { return Ok(()) };
        // Numbers are never given twice, so that what was deleted since does not come back.
        let made = self.tasks_made(id).await?;
        if made >= TASKS {
            return Ok(());
        }
        let stage = Stage::set(self, id, plan, &team);
        stage.fill(seeded).await?;
        if number == 0 {
            stage.news(seeded).await?;
        }
        for task in made..TASKS {
            done(task);
            stage.task(task, seeded).await?;
        }
        Ok(())
    }

    /// The project of the demo; none where the key is somebody else's, or the project was renamed.
    async fn demo_project(
        &self,
        plan: &Plan,
        owner: &User,
        seeded: &mut Seeded,
    ) -> Result<Option<ProjectId>, Error> {
        let mut reader = self.0.db.reader().await?;
        let filter = ProjectFilter { title: Some(plan.title.clone()), archived: None };
        let found = projects::list(&mut reader, EVERYTHING, &filter, Start::Newest, 200).await?;
        if let Some(project) = found.into_iter().find(|project| project.key == plan.key) {
            let member = members::get(&mut reader, project.id, owner.id).await?;
            let ours = member.is_some_and(|member| member.role == ProjectRole::Owner);
            return Ok(ours.then_some(project.id));
        }
        drop(reader);
        let input = CreateProject {
            title: plan.title.clone(),
            key: Some(plan.key.clone()),
            description: Some(plan.theme.description.to_owned()),
            visibility: Some(plan.theme.visibility),
        };
        match self.create_project(&self.acting(owner), input, Once::new(whole)).await {
            Ok(answered) => {
                seeded.projects += 1;
                Ok(Some(id_of(&answered)?))
            }
            Err(Error::Conflict(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// How many tasks a project has had so far. One that is put away wants no more.
    async fn tasks_made(&self, id: ProjectId) -> Result<usize, Error> {
        let made = self
            .change(&Cause::default(), move |tx, _| {
                Box::pin(async move { Ok(tasks::take_numbers(tx, id, 0).await?) })
            })
            .await?;
        Ok(made.map_or(TASKS, |last| usize::try_from(last).unwrap_or(TASKS)))
    }

    /// The user as a caller.
    fn acting(&self, user: &User) -> Caller {
        let identity = Identity {
            user_id: user.id,
            session_id: self.0.clock.id(),
            roles: user.roles.clone(),
            scopes: None,
        };
        Caller::new(identity, self.0.clock.id(), None)
    }
}

/// An answer that holds the outcome.
fn whole<T: Serialize>(value: &T, event_id: Option<EventId>) -> Result<StoredAnswer, serde_json::Error> {
    let body = serde_json::to_string(value)?;
    Ok(StoredAnswer { status: 201, location: None, etag: None, event_id, body })
}

/// An answer that nobody reads.
fn nothing<T>(_: &T, event_id: Option<EventId>) -> Result<StoredAnswer, serde_json::Error> {
    whole(&(), event_id)
}

fn id_of<T: From<Uuid>>(answered: &Answered) -> Result<T, Error> {
    #[derive(Deserialize)]
    struct Made {
        id: Uuid,
    }
    let made: Made = serde_json::from_str(&answered.answer.body)?;
    Ok(made.id.into())
}
