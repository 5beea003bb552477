//! The ingest topic, on librdkafka's own mock of a cluster: what is accepted is read, and read again until it is done.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test may stop at the first surprise")]

use std::{ops::Range, time::Duration};

use rdkafka::{mocking::MockCluster, producer::DefaultProducerContext};
use taskpost_common::config::Kafka;
use taskpost_ports::log::ingest::{Commands, Ingest, IngestError, Record};

type Cluster = MockCluster<'static, DefaultProducerContext>;

/// No step takes nearly so long.
const DEADLINE: Duration = Duration::from_mins(1);

/// A record that nobody counts.
const WARM_UP: &[u8] = b"warm-up";

/// A cluster, and a way to it that stands: until then a command may take longer than the two seconds that it has.
async fn cluster() -> (Cluster, Ingest) {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("test.ingest", 3, 1).unwrap();
    let settings = Kafka {
        brokers: cluster.bootstrap_servers(),
        topic_prefix: "test".to_owned(),
        partitions: 3,
        replication: 1,
        security_protocol: "plaintext".to_owned(),
        ca_file: None,
        sasl: None,
    };
    let ingest = Ingest::new(&settings, "test");
    let stands = async { while ingest.accept("key", WARM_UP, None).await.is_err() {} };
    tokio::time::timeout(DEADLINE, stands).await.expect("it accepts");
    (cluster, ingest)
}

async fn accept(ingest: &Ingest, numbers: Range<usize>) {
    for number in numbers {
        let key = format!("key {}", number % 7);
        ingest.accept(&key, number.to_string().as_bytes(), Some("00-trace")).await.unwrap();
    }
}

/// Reads until there are so many.
async fn read(commands: &mut Commands, count: usize) -> Vec<Record> {
    read_until(commands, |records| records.len() >= count).await
}

async fn read_until(commands: &mut Commands, enough: impl Fn(&[Record]) -> bool) -> Vec<Record> {
    let mut records = Vec::new();
    let reading = tokio::time::timeout(DEADLINE, async {
        while !enough(&records) {
            match commands.next(10).await {
                Ok(batch) => {
                    assert!((1..=10).contains(&batch.len()), "{}", batch.len());
                    records.extend(batch.into_iter().filter(is_counted));
                }
                Err(error) => println!("passes: {error}"),
            }
        }
    });
    assert!(reading.await.is_ok(), "only these were read: {records:?}");
    records
}

fn is_counted(record: &Record) -> bool {
    record.value.as_deref() != Some(WARM_UP)
}

fn number(record: &Record) -> usize {
    String::from_utf8(record.value.clone().unwrap()).unwrap().parse().unwrap()
}

fn numbers(records: &[Record]) -> Vec<usize> {
    let mut numbers: Vec<usize> = records.iter().map(number).collect();
    numbers.sort_unstable();
    numbers
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_accepted_is_read_until_it_is_done() {
    let (_cluster, ingest) = cluster().await;
    accept(&ingest, 0..20).await;
    let mut commands = ingest.commands();
    let first = read(&mut commands, 20).await;
    assert_eq!(numbers(&first), (0..20).collect::<Vec<_>>());
    for partition in 0..3 {
        let of_one: Vec<&Record> = first.iter().filter(|record| record.partition == partition).collect();
        let in_order = |two: &[&Record]| two[0].offset < two[1].offset && number(two[0]) < number(two[1]);
        assert!(of_one.windows(2).all(in_order), "{of_one:?}");
    }

    // Nothing was said to be done, so all comes again.
    commands.rewind().await;
    assert_eq!(numbers(&read(&mut commands, 20).await), (0..20).collect::<Vec<_>>());
    commands.done();
    commands.rewind().await;
    accept(&ingest, 20..25).await;
    assert_eq!(numbers(&read(&mut commands, 5).await), (20..25).collect::<Vec<_>>());
    commands.rewind().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_that_is_given_up_loses_nothing() {
    let (_cluster, ingest) = cluster().await;
    let mut commands = ingest.commands();
    let sender = ingest.clone();
    let accepting = tokio::spawn(async move { accept(&sender, 0..50).await });
    let mut records = Vec::new();
    let reading = tokio::time::timeout(DEADLINE, async {
        // Given up many times, before and while the records come, and each time a little later: a read that has a record
        // waits some milliseconds for more.
        let mut patience = Duration::ZERO;
        while records.len() < 50 {
            patience += Duration::from_millis(1);
            if let Ok(Ok(batch)) = tokio::time::timeout(patience, commands.next(1_000)).await {
                records.extend(batch.into_iter().filter(is_counted));
                patience = Duration::ZERO;
            }
        }
    });
    reading.await.expect("all are read");
    accepting.await.unwrap();
    assert_eq!(numbers(&records), (0..50).collect::<Vec<_>>());
    commands.rewind().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_broker_the_outcome_is_unknown_and_it_heals() {
    let (cluster, ingest) = cluster().await;
    accept(&ingest, 0..1).await;
    cluster.broker_down(1).unwrap();
    let error = ingest.accept("key", b"lost", None).await.unwrap_err();
    assert!(matches!(error, IngestError::Unknown(_)), "{error:?}");
    assert!(error.to_string().contains("KAFKA_BROKERS"), "{error}");
    cluster.broker_up(1).unwrap();
    let healed =
        tokio::time::timeout(DEADLINE, async { while ingest.accept("key", b"1", None).await.is_err() {} });
    healed.await.expect("it accepts again");
    let mut commands = ingest.commands();
    // They are in two partitions, and what was not acknowledged may be there as well.
    let found = |records: &[Record], value: &[u8]| {
        records.iter().any(|record| record.value.as_deref() == Some(value))
    };
    read_until(&mut commands, |records| found(records, b"0") && found(records, b"1")).await;
    commands.rewind().await;
}
