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

/// A topic of ours: `<prefix>.work`, `<prefix>.ingest`, ….
pub(crate) fn topic(settings: &Kafka, name: &str) -> String {
    format!("{}.{name}", settings.topic_prefix)
}

/// A consumer group of ours.
pub(crate) fn group(instance: &str, name: &str) -> String {
    format!("{instance}.{name}")
}
