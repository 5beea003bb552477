//! Which endpoint gets what.

use std::sync::Arc;

use taskpost_common::{
    Cause, EndpointId, UserId,
    delivery::{AttemptOutcome, WebhookPayload},
    event::CloudEvent,
    notification::{Channel, Class},
    user::UserStatus,
};
use taskpost_consumers::groups::Webhooks;
use taskpost_store::{
    Change,
    deliveries::{self, Attempt, Delivery, Settlement},
    endpoints::{self, Endpoint},
};

use crate::support::{Stage, begin};

async fn endpoint(
    stage: &Stage,
    owner: UserId,
    types: &[&str],
    edit: impl FnOnce(&mut Endpoint),
) -> EndpointId {
    let now = stage.clock().now();
    let mut endpoint = Endpoint {
        id: stage.clock().id(),
        user_id: owner,
        project_id: None,
        url: "https://example.org/hook".to_owned(),
        event_types: types.iter().map(|&name| name.to_owned()).collect(),
        description: String::new(),
        secret: "whsec_c2VjcmV0".to_owned(),
        previous_secret: None,
        previous_until: None,
        enabled: true,
        disabled_reason: None,
        failing_since: None,
        version: 1,
        created_at: now,
        updated_at: now,
    };
    edit(&mut endpoint);
    let mut tx = begin(stage.db()).await;
    endpoints::insert(&mut tx, &endpoint).await.unwrap();
    tx.commit().await.unwrap();
    endpoint.id
}

/// What is due, claimed: which endpoint gets which type.
async fn due(stage: &Stage) -> Vec<(Delivery, EndpointId, String)> {
    let (now, places) = (stage.clock().now(), [(Class::Normal, 100), (Class::Low, 100)]);
    let until = now + chrono::Duration::hours(1);
    let claimed = deliveries::claim(stage.db(), Channel::Webhook, &places, now, until).await.unwrap();
    let told = claimed.into_iter().map(|delivery| {
        let payload: WebhookPayload = serde_json::from_str(&delivery.payload).unwrap();
        let event: CloudEvent = serde_json::from_str(&payload.body).unwrap();
        assert_eq!((payload.event_id, delivery.endpoint_id), (event.id, Some(payload.endpoint_id)));
        let low = event.type_name.starts_with("delivery.");
        assert_eq!(delivery.class, if low { Class::Low } else { Class::Normal });
        (delivery, payload.endpoint_id, event.type_name)
    });
    told.collect()
}

async fn give_up(stage: &Stage, delivery: &Delivery) {
    let reason = "the receiver answered 404".to_owned();
    let attempt = Attempt {
        outcome: AttemptOutcome::Rejected,
        status_code: Some(404),
        error: Some(reason.clone()),
        excerpt: None,
        started_at: stage.clock().now(),
        duration_ms: 1,
    };
    let cause = Cause::default();
    let mut tx = begin(stage.db()).await;
    let change = Change { clock: stage.clock(), cause: &cause };
    assert!(deliveries::settle(&mut tx, change, delivery, &Settlement::Bury(attempt, reason)).await.unwrap());
    stage.commit(tx).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_gets_what_it_asked_for_and_its_owner_may_see() {
    for stage in Stage::both().await {
        let webhooks = Arc::new(Webhooks::new(stage.clock().clone()));
        let (ann, bob) = (stage.member("ann").await, stage.member("bob").await);
        let root = stage.user("root", "admin", UserStatus::Active).await;
        stage.drain(&webhooks).await;
        assert!(due(&stage).await.is_empty());

        let all_of_ann = endpoint(&stage, ann, &["*"], |_| {}).await;
        let assigned_to_bob = endpoint(&stage, bob, &["task.assigned"], |_| {}).await;
        let family_of_root = endpoint(&stage, root, &["user.*", "task.*"], |_| {}).await;
        let project = stage.clock().id();
        endpoint(&stage, root, &["*"], |endpoint| endpoint.project_id = Some(project)).await;
        endpoint(&stage, ann, &["*"], |endpoint| endpoint.enabled = false).await;
        stage.task("Fix the lift", ann, Some(bob)).await;
        stage.task("Sweep the yard", bob, None).await;
        stage.drain(&webhooks).await;
        let mut expected = [
            (all_of_ann, "task.created"),
            (family_of_root, "task.created"),
            (all_of_ann, "task.assigned"),
            (assigned_to_bob, "task.assigned"),
            (family_of_root, "task.assigned"),
            (family_of_root, "task.created"),
        ];
        let found = due(&stage).await;
        let mut found: Vec<(EndpointId, &str)> =
            found.iter().map(|(_, id, name)| (*id, name.as_str())).collect();
        found.sort_unstable();
        expected.sort_unstable();
        assert_eq!(found, expected);
        assert!(stage.letters("webhooks").await.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failure_is_told_to_others_and_never_goes_round() {
    for stage in Stage::both().await {
        let webhooks = Arc::new(Webhooks::new(stage.clock().clone()));
        let root = stage.user("root", "admin", UserStatus::Active).await;
        stage.drain(&webhooks).await;
        let failing = endpoint(&stage, root, &["task.created", "delivery.*"], |_| {}).await;
        let watching = endpoint(&stage, root, &["delivery.exhausted"], |_| {}).await;
        endpoint(&stage, root, &["*"], |_| {}).await;
        stage.task("Fix the lift", root, None).await;
        stage.drain(&webhooks).await;
        let first = due(&stage).await.into_iter().find(|(_, id, _)| *id == failing).unwrap();
        give_up(&stage, &first.0).await;
        stage.drain(&webhooks).await;
        let told = due(&stage).await;
        let names: Vec<(EndpointId, &str)> = told.iter().map(|(_, id, name)| (*id, name.as_str())).collect();
        assert_eq!(names, [(watching, "delivery.exhausted")]);
        give_up(&stage, &told[0].0).await;
        stage.drain(&webhooks).await;
        assert!(due(&stage).await.is_empty(), "a failure to tell of a failure is told to nobody");
    }
}
