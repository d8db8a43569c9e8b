//! Records that are written together: all of them become visible, or none.

use std::time::Duration;

use rdkafka::error::KafkaError as Client;
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer as _, ThreadedProducer};

use super::client;
use super::{KafkaError, Result};
use crate::config::Kafka;
use crate::processor::OutRecord;

/// How long the cluster is given for each step.
const PATIENCE: Duration = Duration::from_secs(20);

/// Writes records in one transaction of a producer with that id. Whoever writes under the same id at the same
/// time is fenced: of two, one's records stand before the other's in every partition, or one's do not stand.
///
/// # Errors
/// Nothing was written, or (where the cluster went away while it was told to commit) it is not known: the
/// topic tells.
pub fn write_together(kafka: &Kafka, id: &str, records: &[OutRecord]) -> Result<()> {
    let config = client::transactional(kafka, id);
    let producer: ThreadedProducer<DefaultProducerContext> =
        config.create().map_err(|error| KafkaError::Config { what: error.to_string() })?;
    let refused =
        |action: &'static str| move |error: Client| KafkaError::refused(action, &kafka.bootstrap, &error);
    producer.init_transactions(PATIENCE).map_err(refused("begin to write in transactions"))?;
    producer.begin_transaction().map_err(refused("begin a transaction"))?;
    let sent = records.iter().try_for_each(|record| send(&producer, record));
    let written =
        sent.and_then(|()| producer.commit_transaction(PATIENCE).map_err(refused("commit a transaction")));
    if written.is_err()
        && let Err(error) = producer.abort_transaction(PATIENCE)
    {
        tracing::debug!(id, %error, "a transaction that failed could not be aborted, it will time out");
    }
    written
}

fn send(producer: &ThreadedProducer<DefaultProducerContext>, record: &OutRecord) -> Result<()> {
    let mut message = BaseRecord::<[u8], [u8]>::to(&record.topic);
    if let Some(partition) = record.partition {
        message = message.partition(partition);
    }
    if let Some(key) = &record.key {
        message = message.key(key.as_ref());
    }
    if let Some(value) = &record.value {
        message = message.payload(value.as_ref());
    }
    if let Some(headers) = client::headers(record) {
        message = message.headers(headers);
    }
    producer.send(message).map_err(|(source, _)| KafkaError::Delivery {
        topic: record.topic.to_string(),
        source: Box::new(source),
    })
}
