//! What /health says when the broker cannot be used, and to whom.

use lapin::types::AMQPValue;
use taskpost_common::notification::Class;
use taskpost_ports::PortHealth;

use crate::harness::{Stage, local, unconnected, until};

#[tokio::test]
async fn the_store_is_always_well() {
    local(async |stage: Stage| {
        assert_eq!(stage.queue().await.check().await, PortHealth::well("local"));
        assert!(stage.queue().await.is_ready() && !stage.queue().await.is_shared());
    })
    .await;
}

#[tokio::test]
async fn a_refused_login_and_a_missing_virtual_host_are_named() {
    unconnected(async |stage: Stage| {
        let mut wrong_password = url::Url::parse(&stage.broker().url).unwrap();
        wrong_password.set_password(Some("hunter2")).unwrap();
        let mut no_such_host = url::Url::parse(&stage.broker().url).unwrap();
        no_such_host.set_path("/nowhere");
        for (url, says) in [(wrong_password, "user and password"), (no_such_host, "virtual host \"nowhere\"")]
        {
            let queue = stage.start_queue(Some(url.as_str())).await;
            let problem = until(&format!("it names the {says}"), async || {
                let health = queue.check().await;
                assert_eq!(health.name, "rabbitmq");
                // Until the broker has answered, there is another one.
                let problem = health.problem.unwrap();
                assert!(problem.starts_with("RABBITMQ_URL: "), "{problem}");
                Some(problem).filter(|problem| problem.contains(says))
            })
            .await;
            assert!(!problem.contains("hunter2"), "{problem}");
            stage.stop().await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_with_other_arguments_is_named_until_it_is_gone() {
    unconnected(async |stage: Stage| {
        let name = stage.name("notify.retry.20ms");
        let arguments = [
            ("x-queue-type", AMQPValue::LongString("quorum".into())),
            ("x-message-ttl", AMQPValue::LongLongInt(7)),
        ];
        stage.broker().declare(&name, &arguments).await;
        let url = stage.broker().url.clone();
        let queue = stage.start_queue(Some(&url)).await;
        let says = ["RABBITMQ_URL", &name, "x-", "delete it"];
        until("it is known", async || {
            queue.check().await.problem.filter(|problem| says.iter().all(|says| problem.contains(says)))
        })
        .await;
        stage.insert(Class::Normal, 1).await;
        stage.dispatch().await;
        assert_eq!(stage.queued().await, 0);

        stage.broker().delete_queue(&name).await;
        let claimed = stage.claim_all(1).await;
        stage.deliver(&claimed).await;
        stage.is_well().await;
    })
    .await;
}
