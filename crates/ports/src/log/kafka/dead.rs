//! Copies of dead letters on `<prefix>.dlq`, for tools that read Kafka. The row in the store is the truth.

use std::{sync::Arc, time::Duration};

use rdkafka::{
    ClientConfig,
    error::{KafkaError, RDKafkaErrorCode},
    message::{Header, OwnedHeaders},
    producer::{FutureProducer, FutureRecord},
};

use super::{
    super::{LogError, Poison},
    Kafka,
    context::{Quiet, Trouble},
};

/// How long Kafka has to take a copy; the group waits for it.
const PATIENCE: Duration = Duration::from_secs(5);

pub(super) fn producer(
    connection: &ClientConfig,
    trouble: &Arc<Trouble>,
) -> Result<FutureProducer<Quiet>, LogError> {
    let mut config = connection.clone();
    config
        .set("acks", "all")
        .set("message.timeout.ms", PATIENCE.as_millis().to_string())
        .set("partitioner", "murmur2_random")
        .set("linger.ms", "0")
        .set("queue.buffering.max.kbytes", "16384");
    config.create_with_context(Quiet::new(trouble)).map_err(|error| LogError::Settings(error.to_string()))
}

impl Kafka {
    /// Puts a copy on the dead-letter topic; it is durable there when this returns, and may be there twice.
    pub(in super::super) async fn bury(&self, poison: &Poison<'_>) -> Result<(), LogError> {
        let topic = self.name("dlq");
        let record = FutureRecord::<[u8], [u8]> {
            topic: &topic,
            partition: None,
            payload: Some(poison.payload),
            key: poison.key,
            timestamp: None,
            headers: Some(headers(poison)),
        };
        let sending = match self.0.side.producer()?.send_result(record) {
            Ok(sending) => sending,
            Err((error, _)) => return self.judge(&error, poison),
        };
        match tokio::time::timeout(PATIENCE, sending).await {
            Ok(Ok(Ok(_))) => Ok(()),
            Ok(Ok(Err((error, _)))) => self.judge(&error, poison),
            Ok(Err(_)) => Err(LogError::Away("the client was closed".to_owned())),
            Err(_) => {
                Err(LogError::Away(format!("a dead letter was not taken within {} s", PATIENCE.as_secs())))
            }
        }
    }

    /// What Kafka can never take must not hold the group: the row is kept all the same.
    fn judge(&self, error: &KafkaError, poison: &Poison<'_>) -> Result<(), LogError> {
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::MessageSizeTooLarge | RDKafkaErrorCode::InvalidMessageSize) => {
                tracing::warn!(
                    id = %poison.id, %error,
                    "a dead letter is too large for Kafka; its copy is in the store only"
                );
                Ok(())
            }
            _ => Err(self.away(error)),
        }
    }
}

fn headers(poison: &Poison<'_>) -> OwnedHeaders {
    let id = poison.id.to_string();
    let mut headers = OwnedHeaders::new_with_capacity(6).insert(Header { key: "ce_id", value: Some(&id) });
    let optional = [("ce_type", poison.type_name), ("traceparent", poison.traceparent)];
    let always = [("group", poison.group), ("partition", poison.partition), ("reason", poison.reason)];
    let always = always.map(|(key, value)| (key, Some(value)));
    for (key, value) in optional.into_iter().chain(always) {
        if value.is_some() {
            headers = headers.insert(Header { key, value });
        }
    }
    headers
}
