//! How this broker and this client behave where the design rests on it: an upgrade that changes it is seen here.

use futures::{StreamExt, future::join_all};
use lapin::{
    BasicProperties, Channel, Confirmation, Connection, ConnectionProperties,
    options::{BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions},
    types::{AMQPValue, FieldTable},
};
use taskpost_common::notification::Class;
use tokio::{io::AsyncReadExt, net::TcpListener, time::timeout};

use crate::harness::{LADDER, SOON, Stage, Store, ids, rabbit, unconnected, until};

async fn publish(channel: &Channel, exchange: &str, key: &str, mandatory: bool) -> Confirmation {
    let options = BasicPublishOptions { mandatory, ..BasicPublishOptions::default() };
    let properties = BasicProperties::default().with_message_id(key.into());
    let sent = channel.basic_publish(exchange.into(), key.into(), options, b"x", properties);
    sent.await.unwrap().await.unwrap()
}

/// F10: only `Ack(None)` in confirm mode of a mandatory message says that a queue has it.
#[tokio::test]
async fn a_confirm_alone_does_not_say_that_a_queue_has_the_message() {
    unconnected(async |stage: Stage| {
        let name = stage.name("notify.dlq");
        let text = |value: &str| AMQPValue::LongString(value.into());
        let arguments = [
            ("x-queue-type", text("quorum")),
            ("x-max-length", AMQPValue::LongLongInt(1)),
            ("x-overflow", text("reject-publish")),
        ];
        stage.broker().declare(&name, &arguments).await;
        let plain = stage.broker().channel().await;
        assert_eq!(publish(&plain, "", &name, true).await, Confirmation::NotRequested);
        let confirming = stage.broker().confirming().await;
        assert_eq!(
            publish(&confirming, "", "no-such-queue", false).await,
            Confirmation::Ack(None),
            "it is gone"
        );
        let Confirmation::Ack(Some(returned)) = publish(&confirming, "", "no-such-queue", true).await else {
            panic!("a message that no queue takes is returned")
        };
        assert_eq!(returned.delivery.routing_key.as_str(), "no-such-queue");
        until("a full queue refuses", async || {
            (publish(&confirming, "", &name, true).await == Confirmation::Nack(None)).then_some(())
        })
        .await;
    })
    .await;
}

/// One confirm for many messages gives the returned one to any of them: its own id tells which it is.
#[tokio::test]
async fn a_returned_message_names_itself() {
    unconnected(async |stage: Stage| {
        let channel = stage.broker().confirming().await;
        stage
            .broker()
            .declare(&stage.name("notify.dlq"), &[("x-queue-type", AMQPValue::LongString("quorum".into()))])
            .await;
        let queue = stage.name("notify.dlq");
        let keys: Vec<&str> =
            (0..200).map(|i| if i % 10 == 3 { "no-such-queue" } else { queue.as_str() }).collect();
        let answers = join_all(keys.iter().map(|key| publish(&channel, "", key, true))).await;
        let returned: Vec<String> = answers
            .into_iter()
            .filter_map(Confirmation::take_message)
            .map(|message| message.delivery.properties.message_id().as_ref().unwrap().to_string())
            .collect();
        assert_eq!(returned, vec!["no-such-queue"; 20]);
    })
    .await;
}

/// F9: acknowledging on a connection that is gone is no error.
#[tokio::test]
async fn an_acknowledgement_that_comes_too_late_says_false() {
    unconnected(async |stage: Stage| {
        let queue = stage.name("notify.dlq");
        stage.broker().declare(&queue, &[("x-queue-type", AMQPValue::LongString("quorum".into()))]).await;
        publish(&stage.broker().confirming().await, "", &queue, true).await;
        let other = Connection::connect(&stage.broker().url, ConnectionProperties::default()).await.unwrap();
        let channel = other.create_channel().await.unwrap();
        let mut consumer = channel
            .basic_consume(queue.into(), "".into(), BasicConsumeOptions::default(), FieldTable::default())
            .await
            .unwrap();
        let message = consumer.next().await.unwrap().unwrap();
        other.close(200, "OK".into()).await.unwrap();
        assert!(!message.ack(BasicAckOptions::default()).await.unwrap());
    })
    .await;
}

/// F11: the delays do not wait for one another, as each is the time to live of a queue of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_short_delay_does_not_wait_behind_a_long_one() {
    rabbit(Store::Sqlite, async |stage: Stage| {
        let due = stage.insert(Class::Normal, 2).await;
        let claimed = stage.claim_all(2).await;
        stage.retry(&claimed[0], LADDER[2]).await;
        stage.broker_holds(&[("notify.retry.1h", 1)]).await;
        stage.retry(&claimed[1], LADDER[0]).await;
        stage.clock.advance(LADDER[0]);
        let short = until("the short one is back", async || {
            Some(stage.claim(2).await).filter(|claimed| !claimed.is_empty())
        })
        .await;
        assert_eq!(short[0].id, claimed[1].id);
        stage.deliver(&short).await;
        stage.broker_holds(&[("notify.retry.1h", 1)]).await;
        assert_eq!(due.len(), 2);
    })
    .await;
}

/// F14: a few crashes set no innocent message aside.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn crashing_consumers_do_not_use_up_the_delivery_limit() {
    rabbit(Store::Sqlite, async |stage: Stage| {
        let due = stage.insert(Class::Normal, 10).await;
        until("they are announced", async || {
            stage.dispatch().await;
            (stage.queued().await == 10).then_some(())
        })
        .await;
        for _ in 0..5 {
            let other =
                Connection::connect(&stage.broker().url, ConnectionProperties::default()).await.unwrap();
            let channel = other.create_channel().await.unwrap();
            channel.basic_qos(10, BasicQosOptions::default()).await.unwrap();
            let queue = stage.name("notify.email.normal");
            let consumer = channel
                .basic_consume(queue.into(), "".into(), BasicConsumeOptions::default(), FieldTable::default())
                .await
                .unwrap();
            let taken: Vec<_> = consumer.take(10).collect().await;
            assert!(taken.iter().all(Result::is_ok));
            other.close(200, "OK".into()).await.unwrap();
        }
        stage.broker_holds(&[("notify.email.normal", 10)]).await;
        let claimed = stage.claim_all(10).await;
        assert_eq!(ids(&claimed), due);
        stage.deliver(&claimed).await;
        stage.broker_holds(&[]).await;
    })
    .await;
}

/// lapin leaves a login that hangs to itself; the socket is ours, and cut.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_attempt_at_a_silent_broker_leaves_nothing_behind() {
    unconnected(async |stage: Stage| {
        let silent = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        stage.start_queue(Some(&stage.broker().url_at(silent.local_addr().unwrap().port()))).await;
        let (mut peer, _) = silent.accept().await.unwrap();
        let mut said = Vec::new();
        timeout(SOON, peer.read_to_end(&mut said)).await.unwrap().unwrap();
        assert_eq!(said, b"AMQP\0\0\x09\x01", "nothing but the protocol's header, and then the end");
        stage.stop().await;
    })
    .await;
}
