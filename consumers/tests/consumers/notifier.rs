//! Who is told of what.

use std::sync::Arc;

use taskpost_common::{
    UserId,
    delivery::EmailPayload,
    notification::{Channel, Class, NotificationType as Kind, Reason},
    post::{Post, PostStatus},
    task::{StatusCategory, Task, TaskState},
    user::UserStatus,
};
use taskpost_consumers::groups::Notifier;
use taskpost_store::{Change, MAX_BATCH, deliveries, posts};

use crate::support::{Stage, begin};

async fn told(stage: &Stage, user: UserId) -> Vec<(Kind, Reason)> {
    stage.inbox(user).await.iter().map(|item| (item.kind, item.reason)).collect()
}

/// The mails that wait, claimed: who gets which.
async fn mails(stage: &Stage) -> Vec<(UserId, Kind)> {
    let (now, places) = (stage.clock().now(), [(Class::High, 100)]);
    let until = now + chrono::Duration::hours(1);
    let claimed = deliveries::claim(stage.db(), Channel::Email, &places, now, until).await.unwrap();
    claimed
        .iter()
        .map(|mail| {
            let payload: EmailPayload = serde_json::from_str(&mail.payload).unwrap();
            assert_eq!(mail.user_id, Some(payload.user_id));
            (payload.user_id, payload.kind)
        })
        .collect()
}

fn close(task: &mut Task) {
    task.status = "done".to_owned();
    task.status_category = StatusCategory::Done;
    task.state = TaskState::Closed;
    task.resolution = Some("done".to_owned());
    task.completed_at = Some(task.created_at);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_is_told_what_concerns_them_and_not_what_they_did() {
    for stage in Stage::both().await {
        let notifier = Arc::new(Notifier::new(stage.clock().clone()));
        let (ann, bob) = (stage.member("ann").await, stage.member("bob").await);
        let cat = stage.member("cat").await;
        stage.drain(&notifier).await;
        for user in [ann, bob, cat] {
            assert_eq!(
                told(&stage, user).await,
                [(Kind::Welcome, Reason::Account)],
                "though they are the actor"
            );
        }
        assert_eq!(mails(&stage).await, [(ann, Kind::Welcome), (bob, Kind::Welcome), (cat, Kind::Welcome)]);

        let task = stage.task("Fix the lift", ann, Some(bob)).await;
        stage.drain(&notifier).await;
        assert_eq!(told(&stage, bob).await[1..], [(Kind::TaskAssigned, Reason::Assigned)]);
        assert_eq!(mails(&stage).await, [(bob, Kind::TaskAssigned)]);

        let task = stage.change(ann, &task, |task| task.assignee_id = Some(cat)).await;
        stage.drain(&notifier).await;
        assert_eq!(
            told(&stage, bob).await[2..],
            [(Kind::TaskUnassigned, Reason::Assigned)],
            "though they read it no more"
        );
        assert_eq!(told(&stage, cat).await[1..], [(Kind::TaskAssigned, Reason::Assigned)]);
        assert_eq!(mails(&stage).await.len(), 2);

        let task = stage.change(cat, &task, |task| task.status = "in_review".to_owned()).await;
        let task = stage.change(cat, &task, close).await;
        stage.drain(&notifier).await;
        let expected = [(Kind::TaskStatusChanged, Reason::Author), (Kind::TaskCompleted, Reason::Author)];
        assert_eq!(told(&stage, ann).await[1..], expected, "a closing is told once");
        assert_eq!(told(&stage, cat).await.len(), 2, "not what they did");
        assert_eq!(mails(&stage).await, [], "no e-mail of these");
        let last = stage.inbox(ann).await.pop().unwrap();
        assert_eq!(
            (last.title.as_str(), last.subject.url),
            ("“Fix the lift” was closed", format!("/v1/tasks/{}", task.id))
        );
        assert!(stage.letters("notifier").await.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_cannot_read_the_task_any_more_or_is_disabled_is_not_told() {
    for stage in Stage::both().await {
        let notifier = Arc::new(Notifier::new(stage.clock().clone()));
        let (ann, bob) = (stage.member("ann").await, stage.member("bob").await);
        let gone = stage.user("gone", "", UserStatus::Disabled).await;
        let task = stage.task("Fix the lift", ann, Some(bob)).await;
        stage.change(ann, &task, |task| task.assignee_id = None).await;
        stage.task("Paint the door", ann, Some(gone)).await;
        stage.task("Sweep the yard", bob, Some(bob)).await;
        stage.drain(&notifier).await;
        let expected = [(Kind::Welcome, Reason::Account), (Kind::TaskUnassigned, Reason::Assigned)];
        assert_eq!(told(&stage, bob).await, expected, "the assignment was over before it was told");
        assert_eq!(told(&stage, gone).await, []);
        assert_eq!(mails(&stage).await.len(), 3);
    }
}

/// Writes news of the organisation and publishes them.
async fn publish(stage: &Stage, author: UserId) -> Post {
    let now = stage.clock().now();
    let draft = Post {
        id: stage.clock().id(),
        project_id: None,
        author_id: author,
        title: "The lift runs".to_owned(),
        body: String::new(),
        status: PostStatus::Draft,
        comment_count: 0,
        version: 1,
        created_at: now,
        updated_at: now,
        published_at: None,
    };
    let published = Post { status: PostStatus::Published, published_at: Some(now), ..draft.clone() };
    let cause = stage.cause(author);
    let change = Change { clock: stage.clock(), cause: &cause };
    let mut tx = begin(stage.db()).await;
    posts::insert(&mut tx, change, &draft).await.unwrap();
    let (post, _) = posts::update(&mut tx, change, &draft, published).await.unwrap();
    stage.commit(tx).await;
    post
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn news_of_the_organisation_are_told_to_everybody() {
    for stage in Stage::both().await {
        let notifier = Arc::new(Notifier::new(stage.clock().clone()));
        let author = stage.member("author").await;
        let gone = stage.user("gone", "", UserStatus::Disabled).await;
        let crowd = stage.crowd(MAX_BATCH + 10).await;
        publish(&stage, author).await;
        stage.drain(&notifier).await;
        let expected = [(Kind::Welcome, Reason::Account), (Kind::PostPublished, Reason::Member)];
        for user in &crowd {
            assert_eq!(told(&stage, *user).await, expected);
        }
        assert_eq!(told(&stage, author).await, [(Kind::Welcome, Reason::Account)], "not what they did");
        assert_eq!(told(&stage, gone).await, []);
        assert!(stage.letters("notifier").await.is_empty());

        // What is taken back before it is told is told to nobody.
        let post = publish(&stage, author).await;
        let cause = stage.cause(author);
        let mut tx = begin(stage.db()).await;
        let back = Post { status: PostStatus::Unpublished, ..post.clone() };
        let change = Change { clock: stage.clock(), cause: &cause };
        posts::update(&mut tx, change, &post, back).await.unwrap();
        stage.commit(tx).await;
        stage.drain(&notifier).await;
        assert_eq!(told(&stage, crowd[0]).await, expected);
    }
}
