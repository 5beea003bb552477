//! Mails over SMTP: what comes over the wire, and what becomes of a server that refuses, stalls or vanishes.

use std::{collections::HashSet, time::Duration};

use serde_json::{Value, json};
use taskpost_common::{
    delivery::{AttemptOutcome, DeliveryState, EmailPayload},
    notification::{self, Class, NotificationType},
    secret::{Keys, Purpose},
};
use taskpost_store::deliveries::Delivery;
use taskpost_testkit::{
    Backend, Fields as _, Port, SmtpAnswer, SmtpMail, SmtpSink, TestApp, User, both, until,
};
use taskpost_workers::channels::{
    AttemptResult, Channel as _,
    email::{Email, Mailer},
};

both!(
    a_mail_comes_once_and_whole,
    nothing_gets_out_of_its_header,
    a_busy_server_is_tried_again,
    a_refusal_for_good_is_a_dead_letter,
    a_mail_of_unknown_fate_is_sent_again,
    a_refused_login_is_no_fault_of_the_mail,
    mails_wait_for_a_server_that_is_away,
    connections_are_used_again,
    a_late_answer_is_given_to_no_other_mail,
    a_check_says_what_is_wrong,
);

/// Enough tries for anything that passes.
const PATIENT: &str = "20ms,40ms,80ms,200ms,500ms,1s,2s,2s";

/// An app whose two users have had their welcome.
struct Scene {
    app: TestApp,
    sink: SmtpSink,
    /// An admin.
    ada: User,
    bob: User,
}

impl Scene {
    async fn new(backend: Backend) -> Self {
        let sink = SmtpSink::start().await;
        let app = TestApp::start(backend).with("SMTP_URL", sink.url()).with("RETRY_DELAYS", PATIENT).await;
        // One after the other, so that one connection takes both.
        let ada = app.user("Ada").await;
        app.drain().await;
        let bob = app.user("Bob").await;
        app.drain().await;
        assert_eq!((sink.received().len(), sink.connections()), (2, 1));
        Self { app, sink, ada, bob }
    }

    /// Lets Bob have one mail, and gives what has come since.
    async fn mail(&self, title: &str) -> Vec<SmtpMail> {
        let before = self.sink.received().len();
        self.app.task(&self.ada, json!({"title": title, "assignee_id": self.bob.id})).await;
        self.app.drain().await;
        self.sink.received().split_off(before)
    }

    /// How the tries of the newest mail ended.
    async fn outcomes(&self) -> Vec<i64> {
        let mut counts = Vec::new();
        for outcome in ["failed", "timed_out", "rejected", "delivered"] {
            let sql = format!(
                "SELECT count(*) FROM attempts WHERE outcome = '{outcome}' AND delivery_id = \
                 (SELECT id FROM deliveries WHERE channel = 'email' ORDER BY id DESC LIMIT 1)"
            );
            counts.push(self.app.number(&sql).await);
        }
        counts
    }

    async fn letters(&self) -> Vec<Value> {
        self.app.list(&self.ada, "/v1/admin/dead-letters?state=dead").await
    }
}

fn message_ids(mails: &[SmtpMail]) -> HashSet<&str> {
    mails.iter().map(|one| one.mail.header("Message-ID")).collect()
}

async fn a_mail_comes_once_and_whole(backend: Backend) {
    let sink = SmtpSink::start().await;
    let app = TestApp::start(backend)
        .with("SMTP_URL", sink.url())
        .with("PUBLIC_URL", "https://tasks.example.org")
        .with("MAIL_FROM", "Taskpost <post@example.org>")
        .await;
    let (ada, bob) = (app.user("Ada").await, app.user("Bób").await);
    app.drain().await;
    app.task(&ada, json!({"title": "Réparer l’ascenseur", "assignee_id": bob.id})).await;
    app.drain().await;

    let received = sink.received();
    assert_eq!((received.len(), message_ids(&received).len()), (3, 3));
    let SmtpMail { from, to, mail, taken, .. } = &received[2];
    assert!(taken);
    assert_eq!((from.as_str(), to.as_slice()), ("post@example.org", &[bob.email.clone()][..]));
    assert_eq!(mail.subject(), "“Réparer l’ascenseur” was assigned to you");
    assert_eq!(mail.header("From"), "Taskpost <post@example.org>");
    assert_eq!(mail.to(), bob.email);
    let id = app.number("SELECT count(*) FROM deliveries WHERE channel = 'email' AND attempt = 1").await;
    assert_eq!(id, 3, "each at its first try");
    assert!(mail.header("Message-ID").ends_with("@tasks.example.org>"), "{}", mail.source);
    assert!(mail.text().contains("https://tasks.example.org/v1/tasks/"), "{}", mail.text());
    assert!(mail.html().contains("<h1>"), "{}", mail.html());
    assert!(!app.folder().join("mail").exists(), "no files beside the server");
    app.finish().await;
}

async fn nothing_gets_out_of_its_header(backend: Backend) {
    let scene = Scene::new(backend).await;
    let evil = "x\r\nBcc: eve@example.org\r\n\r\nbody\r\n.\r\nMAIL FROM:<eve@example.org>\r\nRCPT TO:<eve@example.org>\r\n.";
    // The doors refuse it as a name and as a title.
    let account = json!({"email": "eve@example.org", "name": evil, "password": "correct horse battery"});
    scene.app.post("/v1/auth/register", account).refused(422).await;
    scene.app.post("/v1/tasks", json!({"title": evil})).as_(&scene.ada).refused(422).await;
    // An admin may edit what is in a dead letter, and a name may have been stored by another way.
    scene.app.execute("UPDATE users SET name = 'Bob\r\nBcc: eve@example.org\r\n\r\n'").await;
    scene.sink.script([SmtpAnswer::recipient("550 5.1.1 gone")]);
    scene.mail("harmless").await;
    let letter = scene.letters().await.remove(0);
    let mut payload = letter["payload"].clone();
    payload["title"] = json!(evil);
    payload["body"] = json!(evil);
    payload["url"] = json!(evil);
    let path = format!("/v1/admin/dead-letters/{}/redrive", letter.text("id"));
    scene.app.post(&path, json!({"payload": payload})).as_(&scene.ada).expect(202).await;
    scene.app.drain().await;

    let received = scene.sink.received();
    assert_eq!(received.len(), 3, "one mail, whatever is in it");
    let SmtpMail { to, mail, .. } = &received[2];
    assert_eq!(to.as_slice(), std::slice::from_ref(&scene.bob.email));
    assert!(!mail.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("bcc")), "{}", mail.source);
    assert!(mail.subject().contains("Bcc: eve@example.org"), "it is kept as text: {}", mail.source);
    assert!(mail.text().contains("\r\n.\r\nMAIL FROM:<eve@example.org>"), "{}", mail.text());
    let commands = scene.sink.commands();
    assert!(!commands.iter().any(|line| line.contains("eve@") || line.contains("body")), "{commands:?}");
    scene.app.finish().await;
}

async fn a_busy_server_is_tried_again(backend: Backend) {
    let scene = Scene::new(backend).await;
    scene.sink.script([
        // What a kept connection is told of the sender is not the last word: a new one is made.
        SmtpAnswer::sender("421 4.7.0 enough for now"),
        SmtpAnswer::recipient("450 4.2.1 come back later"),
        SmtpAnswer::sender("451 4.3.0 not now"),
        SmtpAnswer::content("452 4.3.1 no room"),
    ]);
    let received = scene.mail("a").await;
    assert_eq!(received.iter().map(|one| one.taken).collect::<Vec<_>>(), [false, true]);
    assert_eq!(message_ids(&received).len(), 1, "the same Message-ID on every try");
    assert_eq!(scene.outcomes().await, [2, 0, 0, 1], "neither answer to the sender cost a try");
    scene.app.finish().await;
}

async fn a_refusal_for_good_is_a_dead_letter(backend: Backend) {
    let scene = Scene::new(backend).await;
    let reply = format!("550 5.1.1 <{}>: no such user", scene.bob.email.to_uppercase());
    for (tries, answer, sentence) in [
        (1, SmtpAnswer::recipient(&reply), "does not take mails for the recipient (550)"),
        (2, SmtpAnswer::content("554 5.7.1 looks like spam"), "does not take the mail (554)"),
    ] {
        scene.sink.script([answer]);
        scene.mail("a").await;
        assert_eq!(scene.outcomes().await, [0, 0, 1, 0], "one try and no more");
        let letter = scene.letters().await.remove(0);
        assert!(letter.text("reason").contains(sentence), "{letter}");
        assert_eq!((letter.text("channel"), letter.list("attempts").len()), ("email", 1));
        let said = "SELECT count(*) FROM attempts WHERE excerpt LIKE '%5.1.1 <…>: no such user' OR excerpt LIKE '554 5.7.1 %'";
        assert_eq!(scene.app.number(said).await, tries, "what the server said is kept");
    }
    let named = format!(
        "SELECT count(*) FROM attempts WHERE lower(error || excerpt) LIKE '%{}%'",
        scene.bob.email.to_lowercase()
    );
    assert_eq!(scene.app.number(&named).await, 0, "an address is kept");
    assert_eq!(scene.app.list(&scene.ada, "/v1/events?type=delivery.exhausted").await.len(), 2);
    // What was refused is no reason to leave the connection.
    assert_eq!(scene.mail("b").await.len(), 1);
    assert_eq!(scene.sink.connections(), 1);
    scene.app.expect_dead_letters();
    scene.app.finish().await;
}

async fn a_mail_of_unknown_fate_is_sent_again(backend: Backend) {
    let scene = Scene::new(backend).await;
    scene.sink.script([SmtpAnswer::drop()]);
    let received = scene.mail("a").await;
    assert_eq!(received.iter().map(|one| one.taken).collect::<Vec<_>>(), [false, true]);
    assert_eq!(message_ids(&received).len(), 1, "the receiver can tell that it is the same mail");
    assert_eq!(scene.outcomes().await, [1, 0, 0, 1]);
    scene.app.finish().await;
}

async fn a_refused_login_is_no_fault_of_the_mail(backend: Backend) {
    let sink = SmtpSink::start().await;
    sink.require_login("PLAIN LOGIN", "post@example.org", "changed since");
    let url = sink.url().replace("smtp://", "smtp://post%40example.org:p%C3%A4ss%3Aw%25rd@");
    let app = TestApp::start(backend).with("SMTP_URL", url).with("RETRY_DELAYS", PATIENT).await;
    app.user("Ada").await;
    let refused = "SELECT count(*) FROM attempts WHERE outcome = 'failed' AND error LIKE '%SMTP_URL%'";
    until(|| async {
        match app.number(refused).await {
            0 => Err("no try has failed".to_owned()),
            _ => Ok(()),
        }
    })
    .await;
    assert!(sink.received().is_empty());
    // An operator mends it, and the server knows only the older way.
    sink.require_login("LOGIN", "post@example.org", "päss:w%rd");
    app.drain().await;
    assert_eq!(sink.received().len(), 1);
    let secret = app.number("SELECT count(*) FROM attempts WHERE error LIKE '%ss:w%'").await;
    assert_eq!(secret, 0, "the password is in an attempt");
    app.finish().await;
}

async fn mails_wait_for_a_server_that_is_away(backend: Backend) {
    let port = Port::take();
    let url = format!("smtp://{}", port.address());
    let app = TestApp::start(backend).with("SMTP_URL", url).with("RETRY_DELAYS", PATIENT).await;
    app.user("Ada").await;
    until(|| async {
        match app.number("SELECT count(*) FROM attempts WHERE outcome = 'failed'").await {
            0 => Err("no try has failed".to_owned()),
            _ => Ok(()),
        }
    })
    .await;
    let sink = SmtpSink::start_at(port);
    assert!(sink.wait_for(1).await[0].taken);
    app.finish().await;
}

async fn connections_are_used_again(backend: Backend) {
    let scene = Scene::new(backend).await;
    for title in ["a", "b", "c"] {
        assert_eq!(scene.mail(title).await.len(), 1);
    }
    assert_eq!(scene.sink.connections(), 1, "five mails, one after the other, over one connection");
    // A server closes what it has not heard of for a while; that costs no try.
    scene.sink.hang_up().await;
    assert_eq!(scene.mail("d").await.len(), 1);
    assert_eq!(scene.outcomes().await, [0, 0, 0, 1]);
    assert_eq!(scene.sink.connections(), 2);
    scene.app.finish().await;
}

async fn a_late_answer_is_given_to_no_other_mail(backend: Backend) {
    let app = TestApp::start(backend).await;
    let ada = app.user("Ada").await;
    let sink = SmtpSink::start().await;
    let email = Email {
        db: app.db().clone(),
        clock: app.clock().clone(),
        from: "Taskpost <post@example.org>".parse().expect("a mailbox"),
        public_url: None,
        keys: Keys::derive(&[], Purpose::MailedToken),
        mailer: Mailer::smtp(&sink.url().into(), 4).expect("a URL"),
        timeout: Duration::from_secs(5),
    };
    let send = || async {
        let delivery = delivery(&app, &ada);
        let target = email.targets(std::slice::from_ref(&delivery)).await.expect("the recipient").remove(0);
        email.send(&delivery, target).await.result
    };
    let late = SmtpAnswer::take().after(Duration::from_mins(1));
    sink.script([SmtpAnswer::take(), late, SmtpAnswer::content("554 5.6.0 no"), SmtpAnswer::take()]);
    let ended = [send().await, send().await, send().await, send().await];
    assert!(matches!(&ended[0], AttemptResult::Sent { excerpt: Some(said), .. } if said.contains("4F1")));
    let failed = |result: &AttemptResult, expected| match result {
        AttemptResult::Failed(failure) => assert_eq!(failure.outcome, expected, "{failure:?}"),
        other => panic!("{other:?}"),
    };
    failed(&ended[1], AttemptOutcome::TimedOut);
    // On a connection that is still busy with the mail before, its answer would pass for this one's.
    failed(&ended[2], AttemptOutcome::Rejected);
    assert!(matches!(&ended[3], AttemptResult::Sent { .. }), "{:?}", ended[3]);
    app.finish().await;
}

fn delivery(app: &TestApp, user: &User) -> Delivery {
    let (clock, user_id) = (app.clock(), user.id.parse().expect("an id"));
    let payload = EmailPayload {
        user_id,
        kind: NotificationType::TaskAssigned,
        notification_id: clock.id(),
        title: "a".to_owned(),
        body: "b".to_owned(),
        url: "/v1/tasks/1".to_owned(),
        token: None,
    };
    Delivery {
        id: clock.id(),
        channel: notification::Channel::Email,
        class: Class::High,
        state: DeliveryState::Sending,
        event_id: clock.id(),
        user_id: Some(user_id),
        endpoint_id: None,
        payload: serde_json::to_string(&payload).expect("JSON"),
        traceparent: None,
        attempt: 0,
        lease: 1,
        due_at: clock.now(),
        created_at: clock.now(),
    }
}

async fn a_check_says_what_is_wrong(_: Backend) {
    let sink = SmtpSink::start().await;
    let check = |url: String| async move { Mailer::smtp(&url.into(), 1).expect("a URL").check().await };
    assert_eq!(check(sink.url()).await.problem, None);
    let problem = check(format!("{}?tls=required", sink.url())).await.problem.unwrap_or_default();
    assert!(problem.starts_with("SMTP_URL: ") && problem.contains("STARTTLS"), "{problem}");
    sink.require_login("PLAIN", "post", "secret");
    let problem = check(sink.url().replace("//", "//post:wrong@")).await.problem.unwrap_or_default();
    assert!(problem.contains("refuses the login") && !problem.contains("wrong"), "{problem}");
    let nobody = Port::take();
    let address = nobody.address();
    let problem = check(format!("smtp://{address}")).await.problem.unwrap_or_default();
    assert!(problem.contains("cannot be reached") && problem.contains(&address.to_string()), "{problem}");
}
