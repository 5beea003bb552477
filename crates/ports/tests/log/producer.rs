//! The relay's producer, against a Kafka that fails on demand.

use rdkafka::{
    ClientConfig,
    mocking::MockCluster,
    producer::{DefaultProducerContext, FutureProducer, FutureRecord},
    types::{RDKafkaApiKey, RDKafkaRespErr},
};
use taskpost_common::Position;
use taskpost_ports::{
    Log,
    log::kafka::{Acknowledged, Failure, RelayProducer, Sending, Start},
};

use crate::harness::{DEADLINE, Site, once_and_in_order, soon, things};

type Cluster = MockCluster<'static, DefaultProducerContext>;

/// A site with events in the store and none in Kafka.
async fn site(cluster: &Cluster, events: usize) -> Site {
    let site = Site::on(&cluster.bootstrap_servers()).await;
    for topic in ["identity", "work", "content", "delivery", "ingest", "dlq"] {
        cluster.create_topic(&site.topic(topic), 2, 1).unwrap();
    }
    let mut local = site.clone();
    local.log = Log::local(site.db.clone(), site.wakes.clone(), site.clock.clone());
    local.publish(&things(6), events).await;
    site
}

async fn producer(site: &Site, from: Position) -> RelayProducer {
    let Log::Kafka(kafka) = &site.log else { panic!("no Kafka") };
    kafka.relay_producer(&Start { cursor: from, ..site.start().await }).unwrap()
}

async fn send_all(site: &Site, producer: &RelayProducer) {
    let from = producer.cursor();
    for event in site.events().await.iter().filter(|event| event.position > from) {
        while producer.send(event) == Sending::Full {
            producer.moved().await;
        }
    }
}

/// Waits until Kafka has all up to there, and ends.
async fn end_at(producer: RelayProducer, to: i64) -> Acknowledged {
    soon("all is acknowledged", async {
        while producer.cursor() < Position(to) {
            assert_eq!(producer.failure(), None);
            producer.moved().await;
        }
    })
    .await;
    producer.end().await
}

async fn failure(producer: &RelayProducer) -> Failure {
    soon("it fails", async {
        loop {
            if let Some(failure) = producer.failure() {
                return failure;
            }
            producer.moved().await;
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn passing_errors_are_got_over_in_order() {
    let cluster = MockCluster::new(1).unwrap();
    let site = site(&cluster, 600).await;
    cluster.request_errors(
        RDKafkaApiKey::Produce,
        &[
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__TRANSPORT,
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS,
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT,
        ],
    );
    let producer = producer(&site, Position(0)).await;
    send_all(&site, &producer).await;
    let done = end_at(producer, 600).await;
    assert_eq!((done.cursor.0, done.in_flight, done.total), (600, 0, 600));
    let mut reader = site.reader();
    reader.apply(600).await;
    once_and_in_order(&reader.close().await, &site.events().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_refused_is_not_passed_in_its_partition() {
    let cluster = MockCluster::new(1).unwrap();
    let site = site(&cluster, 400).await;
    cluster.request_errors(RDKafkaApiKey::Produce, &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE]);
    let refused = producer(&site, Position(0)).await;
    send_all(&site, &refused).await;
    let failure = failure(&refused).await;
    let Failure::Refused(position, why) = &failure else { panic!("{failure:?}") };
    assert!(why.contains("size"), "{why}");
    let events = site.events().await;
    assert_eq!(refused.send(&events[399]), Sending::Failed, "nothing more goes through it");
    let done = refused.end().await;
    assert!(done.cursor < *position, "{done:?} has passed {position}");
    // Another one goes on where it stood.
    let producer = producer(&site, done.cursor).await;
    send_all(&site, &producer).await;
    assert_eq!(end_at(producer, 400).await.cursor, Position(400));
    let mut reader = site.reader();
    reader.apply(400).await;
    once_and_in_order(&reader.close().await, &events);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_fatal_error_another_one_goes_on() {
    let cluster = MockCluster::new(1).unwrap();
    let site = site(&cluster, 300).await;
    cluster.request_errors(
        RDKafkaApiKey::Produce,
        &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER],
    );
    let lost = producer(&site, Position(0)).await;
    send_all(&site, &lost).await;
    let failure = failure(&lost).await;
    assert!(matches!(failure, Failure::Lost(_)), "{failure:?}");
    let from = lost.end().await.cursor;
    let producer = producer(&site, from).await;
    send_all(&site, &producer).await;
    assert_eq!(end_at(producer, 300).await.cursor, Position(300));
    let mut reader = site.reader();
    reader.apply(300).await;
    once_and_in_order(&reader.close().await, &site.events().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_sent_before_the_stop_is_given_up_in_time() {
    let cluster = MockCluster::new(1).unwrap();
    let site = site(&cluster, 50).await;
    let producer = producer(&site, Position(0)).await;
    cluster.broker_down(-1).unwrap();
    send_all(&site, &producer).await;
    assert_eq!(producer.in_flight(), 50);
    let done = soon("it gives up", producer.end()).await;
    assert_eq!((done.cursor.0, done.total), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partitions_are_those_that_other_clients_of_kafka_choose() {
    let cluster = MockCluster::new(1).unwrap();
    let site = site(&cluster, 60).await;
    let producer = producer(&site, Position(0)).await;
    send_all(&site, &producer).await;
    end_at(producer, 60).await;
    let mut reader = site.reader();
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", cluster.bootstrap_servers()).set("partitioner", "murmur2_random");
    let other: FutureProducer = config.create().unwrap();
    while reader.applied.len() < 60 {
        let batch = reader.batch(100).await;
        for event in &batch.events {
            let (key, topic) = (event.aggregate_id.to_string(), site.topic("dlq"));
            let record = FutureRecord::<str, str>::to(&topic).key(&key).payload("");
            let placed = other.send(record, DEADLINE).await.unwrap();
            assert_eq!(batch.partition, format!("delivery/{}", placed.partition));
        }
        assert!(reader.commit(batch).await);
    }
}
