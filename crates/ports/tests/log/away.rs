//! Kafka is away, and comes.

use std::time::{Duration, Instant};

use rdkafka::mocking::MockCluster;
use taskpost_common::Clock;
use taskpost_ports::Log;
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::harness::{Site, brokers, once_and_in_order, settings, soon, things, until};

/// An address where nobody listens: the socket holds it, so that nobody else gets it meanwhile, and may listen later.
fn nowhere() -> (TcpSocket, String) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap().to_string();
    (socket, address)
}

async fn is_well(log: &Log) -> bool {
    log.check().await.problem.is_none()
}

/// Lets clients through to the real broker.
fn open(listener: TcpListener) {
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut broker = TcpStream::connect(brokers()).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut client, &mut broker).await;
            });
        }
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_need_not_be_there_at_first() {
    let (socket, address) = nowhere();
    let site = Site::on(&address).await.cleaned();
    let begun = Instant::now();
    let another =
        Log::kafka(&settings(&address, &site.name), &site.name, site.db.clone(), site.clock.clone());
    let mut reader = site.reader();
    // A broker would be given as long for one question; this takes a few milliseconds.
    assert!(begun.elapsed() < Duration::from_secs(5), "nothing waits for a broker");
    drop(another.unwrap());
    let early = tokio::time::timeout(Duration::from_millis(500), reader.subscription.next(10)).await;
    assert!(early.is_err(), "{early:?}");
    let health = soon("it answers", site.log.check()).await;
    let problem = health.problem.unwrap();
    assert!(problem.starts_with("KAFKA_BROKERS: no broker of 127.0.0.1"), "{problem}");
    open(socket.listen(64).unwrap());
    let things = things(3);
    site.publish(&things, 30).await;
    reader.apply(30).await;
    once_and_in_order(&reader.close().await, &site.events().await);
    until("it is well", async || is_well(&site.log).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closed_reading_of_a_kafka_that_is_away_ends_soon() {
    let (_socket, address) = nowhere();
    let site = Site::on(&address).await;
    let mut reader = site.reader();
    let early = tokio::time::timeout(Duration::from_millis(200), reader.subscription.next(10)).await;
    assert!(early.is_err(), "{early:?}");
    reader.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_goes_and_comes_costs_nothing() {
    let cluster = MockCluster::new(1).unwrap();
    let site = Site::on(&cluster.bootstrap_servers()).await;
    for topic in ["identity", "work", "content", "delivery", "ingest", "dlq"] {
        cluster.create_topic(&site.topic(topic), 3, 1).unwrap();
    }
    let things = things(5);
    site.publish(&things, 50).await;
    let mut reader = site.reader();
    reader.apply(50).await;
    cluster.broker_down(-1).unwrap();
    let sending = tokio::spawn({
        let (site, things) = (site.clone(), things.clone());
        async move { site.publish(&things, 50).await }
    });
    let none = tokio::time::timeout(Duration::from_millis(500), reader.subscription.next(10)).await;
    assert!(none.is_err(), "{none:?}");
    cluster.broker_up(-1).unwrap();
    soon("what was under way arrives", sending).await.unwrap();
    reader.apply(100).await;
    once_and_in_order(&reader.close().await, &site.events().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_says_what_to_do() {
    let cluster = MockCluster::new(1).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let db = taskpost_store::Db::sqlite(folder.path()).await.unwrap();
    db.migrate().await.unwrap();
    let log =
        Log::kafka(&settings(&cluster.bootstrap_servers(), "health"), "health", db.clone(), Clock::system());
    let log = log.unwrap();
    let Log::Kafka(kafka) = &log else { panic!("no Kafka") };
    assert_eq!(log.name(), "kafka");
    kafka.stuck(Some("mend it".to_owned()));
    assert_eq!(log.check().await.problem.as_deref(), Some("mend it"));
    kafka.stuck(None);
    cluster.create_topic("health.work", 3, 1).unwrap();
    until("it is well", async || is_well(&log).await).await;
    cluster.broker_down(-1).unwrap();
    until("it is not", async || !is_well(&log).await).await;
    let wrong = taskpost_common::config::Kafka {
        security_protocol: "ssl".to_owned(),
        ca_file: Some("/nowhere".into()),
        ..settings("localhost:1", "x")
    };
    let said = Log::kafka(&wrong, "x", db, Clock::system()).unwrap_err().to_string();
    assert!(said.starts_with("the KAFKA_ variables cannot be used"), "{said}");
}
