//! The end of a transaction: none is committed of which a record was not delivered.
//!
//! librdkafka (2.12.1) throws away what is queued when a transaction fails, on the threads of its brokers and without
//! waiting for them. One that gets no processor for long enough does so when the transaction has been aborted and the
//! next one's records are queued: it takes these, numbers what follows as if they had never been, and commits. All that
//! tells of it is the report of a delivery that failed.

use std::time::{Duration, Instant};

use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::producer::{Producer as _, PurgeConfig};

use super::clients::LoopProducer;
use crate::kafka::client;

/// How often reports of deliveries are taken while they are waited for.
const LOOK: Duration = Duration::from_millis(1);

/// Sends what lingers, and waits until everything that was produced has been answered. The client's own `flush`
/// looks only every 100 ms, since deliveries that succeed are not reported one by one.
#[expect(clippy::disallowed_methods, reason = "how long to wait for deliveries")]
pub(super) fn deliver(producer: &LoopProducer, patience: Duration) -> KafkaResult<()> {
    let until = Instant::now() + patience;
    loop {
        producer.poll(Duration::ZERO);
        if producer.in_flight_count() == 0 {
            return Ok(());
        }
        if Instant::now() >= until {
            return Err(KafkaError::Flush(RDKafkaErrorCode::OperationTimedOut));
        }
        client::send_now(producer, LOOK);
    }
}

/// Commits the transaction.
///
/// # Errors
/// [`KafkaError::MessageProduction`] where a record was not delivered: the transaction must be aborted.
pub(super) fn commit(producer: &LoopProducer, patience: Duration) -> KafkaResult<()> {
    deliver(producer, patience)?;
    match producer.context().take_failure() {
        Some(error) => Err(error),
        None => producer.commit_transaction(patience),
    }
}

/// Aborts the transaction.
pub(super) fn abort(producer: &LoopProducer, patience: Duration) -> KafkaResult<()> {
    // The client waits until all reports have been taken, and takes none itself.
    producer.purge(PurgeConfig::default().queue().inflight());
    if let Err(error) = deliver(producer, Duration::from_secs(1)) {
        tracing::debug!(%error, "reports are still missing at an abort");
    }
    let _purged = producer.context().take_failure();
    producer.abort_transaction(patience)
}

#[cfg(all(test, feature = "embedded-broker"))]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed setup is a failed test")]
    use rdkafka::producer::BaseRecord;

    use super::super::clients::{self, Names};
    use super::*;
    use crate::config::{Delivery, Kafka};
    use crate::embedded;
    use crate::kafka::{Admin, Isolation, Reader, TopicSpec};
    use crate::processor::TopicPartition;

    const PATIENCE: Duration = Duration::from_secs(30);

    fn send(producer: &LoopProducer, value: &str) {
        let record: BaseRecord<'_, str, str, ()> = BaseRecord::to("topic").partition(0).payload(value);
        producer.send(record).map_err(|(error, _)| error).unwrap();
    }

    #[test]
    fn what_the_client_has_thrown_away_is_not_committed_without() {
        let broker = embedded::spawn().unwrap();
        let mut kafka = Kafka::at(broker.bootstrap());
        // Nothing leaves the queue before it is thrown away.
        kafka.producer.insert("linger.ms".into(), "5000".into());
        let name = "topic".into();
        let spec = TopicSpec { name, partitions: 1, replication_factor: -1, config: Vec::new() };
        Admin::new(&kafka).unwrap().create_topics(&[spec]).unwrap();
        let names = Names::new(&kafka, "purged", "instance", 0, None);
        let producer = clients::producer(&kafka, &names, Delivery::ExactlyOnce, None).unwrap();

        producer.begin_transaction().unwrap();
        send(&producer, "thrown away");
        producer.purge(PurgeConfig::default().queue());
        let refused = commit(&producer, PATIENCE).unwrap_err();
        let purged = matches!(refused, KafkaError::MessageProduction(RDKafkaErrorCode::PurgeQueue));
        assert!(purged, "{refused:?}");
        abort(&producer, PATIENCE).unwrap();

        producer.begin_transaction().unwrap();
        send(&producer, "sent again");
        commit(&producer, PATIENCE).unwrap();
        let mut reader = Reader::new(&kafka, Isolation::ReadCommitted).unwrap();
        let partition = TopicPartition { topic: "topic".into(), partition: 0 };
        reader.assign(&[(partition.clone(), 0)]).unwrap();
        let mut read = Vec::new();
        while !reader.at_end(&partition) {
            read.extend(reader.poll(10, Duration::from_millis(20)).unwrap());
        }
        let values: Vec<_> = read.iter().map(|record| record.record.value.as_deref().unwrap()).collect();
        assert_eq!(values, [b"sent again".as_slice()]);
    }
}
