//! The runner: once each, in order, whatever fails.

use std::sync::{Arc, atomic::Ordering};

use taskpost_common::{Envelope, Position, notification::Channel, notification::NotificationType};
use taskpost_consumers::{Decoded, Group, Standing, groups::Notifier};
use taskpost_store::{
    deliveries,
    progress::{self, Step},
};

use crate::{
    echo::Echo,
    support::{Running, Stage, begin, until},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_that_crashed_takes_effect_once() {
    let stage = Stage::sqlite().await;
    let (ann, bob) = (stage.member("ann").await, stage.member("bob").await);
    stage.task("Fix the lift", ann, Some(bob)).await;
    let notifier = Notifier::new(stage.clock().clone());
    let wanted = stage.events().await.into_iter().filter(|event| notifier.wants(event));
    let decoded = |envelope: Envelope| {
        let event = envelope.decode().unwrap();
        Decoded::new(Notifier::NAME, envelope, event)
    };
    let events: Vec<Decoded> = wanted.map(decoded).collect();
    assert_eq!(events.len(), 3);
    let plan = notifier.plan(&mut stage.reader().await, &events).await.unwrap();
    let mut tx = begin(stage.db()).await;
    notifier.apply(&mut tx, &events, plan.unwrap()).await.unwrap();
    let (from, to) = (Position(0), events.last().unwrap().envelope.position);
    assert!(
        progress::advance(&mut tx, Notifier::NAME, &[Step { partition: "", from, to }], stage.clock().now())
            .await
            .unwrap()
    );
    drop(tx);
    assert_eq!(stage.inbox(bob).await.len(), 0, "the crash undid everything");
    // Worse than any crash: the effects without the progress.
    let plan = notifier.plan(&mut stage.reader().await, &events).await.unwrap();
    let mut tx = begin(stage.db()).await;
    notifier.apply(&mut tx, &events, plan.unwrap()).await.unwrap();
    stage.commit(tx).await;
    stage.drain(&Arc::new(notifier)).await;
    let kinds: Vec<NotificationType> = stage.inbox(bob).await.iter().map(|item| item.kind).collect();
    assert_eq!(kinds, [NotificationType::Welcome, NotificationType::TaskAssigned]);
    let mails = deliveries::unfinished(&mut stage.reader().await).await.unwrap();
    assert_eq!(mails, [(Channel::Email.to_string(), 3)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_runners_with_the_same_batch_one_is_fenced() {
    // On SQLite, where no lease keeps the second one from reading.
    let stage = Stage::sqlite().await;
    let ann = stage.member("ann").await;
    let titles: Vec<String> = (0..40).map(|i| format!("task {i}")).collect();
    for title in &titles {
        stage.task(title, ann, None).await;
    }
    // Both have read the batch before either may begin.
    let echo = Arc::new(Echo::meeting(&stage));
    let running = stage.start(&echo, 2);
    until("the group has caught up", || async {
        (stage.caught_up(Echo::NAME).await && Echo::answered(&stage).await.len() >= titles.len())
            .then_some(())
    })
    .await;
    running.end().await;
    assert_eq!(Echo::answered(&stage).await, titles);
    assert_eq!(echo.applied.load(Ordering::SeqCst), titles.len(), "the loser leaves before it works");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_processes_one_reads_and_the_other_goes_on_when_it_stops() {
    let stage = Stage::postgres().await;
    let ann = stage.member("ann").await;
    stage.task("one", ann, None).await;
    let (first, second) = (Arc::new(Echo::new(&stage)), Arc::new(Echo::new(&stage)));
    let reading = stage.start(&first, 1);
    stage.until_caught_up::<Echo>().await;
    let standing_by = stage.start(&second, 1);
    stage.task("two", ann, None).await;
    stage.until_caught_up::<Echo>().await;
    assert_eq!(second.applied.load(Ordering::SeqCst), 0, "it stands by");
    reading.end().await;
    stage.task("three", ann, None).await;
    stage.until_caught_up::<Echo>().await;
    standing_by.end().await;
    let applied = |echo: &Echo| echo.applied.load(Ordering::SeqCst);
    assert_eq!((applied(&first), applied(&second)), (2, 1));
    assert_eq!(Echo::answered(&stage).await, ["one", "two", "three"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_poisonous_event_is_buried_and_the_next_goes_on() {
    for stage in Stage::both().await {
        let ann = stage.member("ann").await;
        for title in ["one", "poison", "two", "panic", "three"] {
            stage.task(title, ann, None).await;
        }
        stage.drain(&Arc::new(Echo::new(&stage))).await;
        stage.task("four", ann, None).await;
        stage.drain(&Arc::new(Echo::new(&stage))).await;
        assert_eq!(Echo::answered(&stage).await, ["one", "two", "three", "four"]);
        let letters = stage.letters(Echo::NAME).await;
        let reasons: Vec<&str> = letters.iter().map(|letter| letter.reason.as_str()).collect();
        assert_eq!(reasons, ["will not have poison", "the handler panicked: cannot stand panic"]);
        let events = stage.events().await;
        for letter in letters {
            assert_eq!((letter.source.as_str(), letter.state.as_str()), ("log", "dead"));
            assert_eq!(letter.attempts.matches(r#""at""#).count(), 3, "{}", letter.attempts);
            let event = events.iter().find(|event| Some(event.id.0) == letter.event_id).unwrap();
            assert_eq!(letter.position, Some(event.position.0));
            let whole = serde_json::to_string(&event.to_cloudevent().unwrap()).unwrap();
            assert_eq!(letter.payload, whole, "kept to the byte");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_holds_the_group_and_skips_nothing() {
    let stage = Stage::sqlite().await;
    let ann = stage.member("ann").await;
    for title in ["one", "two"] {
        stage.task(title, ann, None).await;
    }
    let echo = Arc::new(Echo::new(&stage));
    echo.broken.store(true, Ordering::SeqCst);
    let running = stage.start(&echo, 1);
    // More tries than an event is allowed refusals.
    until("it was held", || async { (echo.held.load(Ordering::SeqCst) > 4).then_some(()) }).await;
    let first = stage.events().await.into_iter().find(|event| event.type_name == "task.created").unwrap();
    assert!(stage.progress(Echo::NAME).await < first.position, "only what it does not want may be passed");
    assert!(Echo::answered(&stage).await.is_empty());
    stage.task("three", ann, None).await;
    echo.broken.store(false, Ordering::SeqCst);
    stage.until_caught_up::<Echo>().await;
    running.end().await;
    assert_eq!(Echo::answered(&stage).await, ["one", "two", "three"]);
    assert!(stage.letters(Echo::NAME).await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_log_is_applied_in_batches_and_a_stop_ends_a_held_group() {
    let stage = Stage::sqlite().await;
    let ann = stage.member("ann").await;
    let titles: Vec<String> = (0..1_200).map(|i| format!("task {i}")).collect();
    for title in &titles {
        stage.task(title, ann, None).await;
    }
    let echo = Arc::new(Echo::new(&stage));
    stage.drain(&echo).await;
    assert_eq!(Echo::answered(&stage).await, titles);
    echo.broken.store(true, Ordering::SeqCst);
    stage.task("never", ann, None).await;
    let running = stage.start(&echo, 1);
    until("it was held", || async { (echo.held.load(Ordering::SeqCst) > 0).then_some(()) }).await;
    running.end().await;
    assert_eq!(Echo::answered(&stage).await.len(), titles.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_loops_run_together_and_end_when_told() {
    let [sqlite, postgres] = Stage::both().await;
    for stage in [sqlite, postgres, Stage::kafka().await] {
        let mut running = Running::default();
        stage.consumers.clone().start(&mut running.tasks, &running.stop);
        let (ann, bob) = (stage.member("ann").await, stage.member("bob").await);
        stage.task("Fix the lift", ann, Some(bob)).await;
        until("bob is told", || async { (stage.inbox(bob).await.len() == 2).then_some(()) }).await;
        until("all is still", || async {
            Standing::read(stage.db()).await.unwrap().is_still().then_some(())
        })
        .await;
        running.end().await;
    }
}
