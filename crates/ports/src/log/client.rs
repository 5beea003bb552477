//! What every client of Kafka here begins with: the connection, and the names of topics and groups. Both the log and
//! ingestion take them from here, so that one variable means one thing.

use rdkafka::ClientConfig;
use secrecy::ExposeSecret as _;
use taskpost_common::config::Kafka;

/// The connection, without anything that only producers or only consumers understand.
pub(crate) fn connection(settings: &Kafka, instance: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", &settings.brokers)
        .set("client.id", instance)
        .set("security.protocol", &settings.security_protocol)
        .set("allow.auto.create.topics", "false")
        .set("socket.keepalive.enable", "true")
        // A broker that is back is found again within seconds, not after the default of up to ten.
        .set("reconnect.backoff.max.ms", "2000");
    if let Some(file) = &settings.ca_file {
        config.set("ssl.ca.location", file.to_string_lossy());
    }
    if let Some(sasl) = &settings.sasl {
        config
            .set("sasl.mechanism", &sasl.mechanism)
            .set("sasl.username", &sasl.username)
            .set("sasl.password", sasl.password.expose_secret());
    }
    config
}

/// A member of a group, which stores an offset once what lies below it needs nothing more, and for which up to `ahead` KiB are
/// fetched ahead.
pub(crate) fn member(connection: &ClientConfig, group: &str, ahead: usize) -> ClientConfig {
    let answer = (ahead * 1024 / 8).to_string();
    let of_a_partition = (ahead * 1024 / 32).to_string();
    let mut config = connection.clone();
    config
        .set("group.id", group)
        .set("enable.auto.offset.store", "false")
        .set("enable.auto.commit", "true")
        .set("auto.commit.interval.ms", "1000")
        .set("auto.offset.reset", "earliest")
        // A process that was killed is missed after this; the broker's own lower bound.
        .set("session.timeout.ms", "6000")
        .set("heartbeat.interval.ms", "1500")
        .set("queued.max.messages.kbytes", ahead.to_string())
        // By default one answer brings a MiB of each partition, compressed. A larger record still comes, alone.
        .set("fetch.message.max.bytes", of_a_partition)
        .set("fetch.max.bytes", &answer)
        .set("message.max.bytes", &answer)
        // A full queue is looked at again after this; by default a whole second later.
        .set("fetch.queue.backoff.ms", "10");
    config
}

/// A topic of ours: `<prefix>.work`, `<prefix>.ingest`, ….
pub(crate) fn topic(settings: &Kafka, name: &str) -> String {
    format!("{}.{name}", settings.topic_prefix)
}

/// A consumer group of ours.
pub(crate) fn group(instance: &str, name: &str) -> String {
    format!("{instance}.{name}")
}
