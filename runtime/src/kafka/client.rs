//! The settings of every client: what was measured to be best, then the user's properties, then
//! those that the guarantees rest on.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, ConsumerContext};
use rdkafka::error::KafkaError as Client;
use rdkafka::message::{BorrowedMessage, Header, Headers as _, Message as _, OwnedHeaders};
use rdkafka::producer::{BaseProducer, Partitioner, Producer as _, ProducerContext};
use rdkafka::{ClientConfig, ClientContext};
use schemas::table::TopicRecord;

use crate::config::Kafka;
use crate::pages::Pages;
use crate::processor::{InRecord, OutRecord};

/// A consumer without a group's callbacks.
pub(crate) type PlainConsumer = BaseConsumer<Plain>;

/// What librdkafka says on its own, at the level that it deserves: lost connections come back, and
/// what does not pass comes out of the call that met it.
pub(crate) struct Plain;

impl ClientContext for Plain {
    fn log(&self, _level: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(target: "librdkafka", facility, "{message}");
    }

    fn error(&self, error: Client, reason: &str) {
        tracing::debug!(target: "librdkafka", %error, reason, "client");
    }
}

impl ConsumerContext for Plain {}

/// How a consumer treats what open and aborted transactions wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Read {
    Committed,
    Uncommitted,
}

impl Read {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Committed => "read_committed",
            Self::Uncommitted => "read_uncommitted",
        }
    }
}

fn with(
    defaults: &[(&str, &str)],
    layers: &[&BTreeMap<String, String>],
    own: &[(&str, &str)],
) -> ClientConfig {
    let mut config = ClientConfig::new();
    for (key, value) in defaults {
        config.set(*key, *value);
    }
    for (key, value) in layers.iter().flat_map(|layer| layer.iter()) {
        config.set(key, value);
    }
    for (key, value) in own {
        config.set(*key, *value);
    }
    config
}

/// For calls that neither read nor write records.
pub(crate) fn admin(kafka: &Kafka) -> ClientConfig {
    with(&[("client.id", "salience")], &[&kafka.properties], &[("bootstrap.servers", &kafka.bootstrap)])
}

/// A consumer that is told its partitions: of no group, unless `group`'s offsets are to be asked
/// for (librdkafka wants a name even of those that never use it).
pub(crate) fn consumer(kafka: &Kafka, read: Read, group: &str) -> ClientConfig {
    with(
        &[
            ("client.id", "salience"),
            // With the default of 1 s a full queue starves the consumer: 15 k events/s, not 121 k.
            ("fetch.queue.backoff.ms", "5"),
            ("fetch.min.bytes", "1"),
            // The last records of a burst may lie there while the broker holds the request that asks for them (seen on
            // Apache Kafka 4.3.1): not for the half second of the default.
            ("fetch.wait.max.ms", "100"),
            // Otherwise a broker that has gone away for a moment is asked again only after 10 s.
            ("reconnect.backoff.max.ms", "1000"),
        ],
        &[&kafka.properties, &kafka.consumer],
        &[
            ("bootstrap.servers", &kafka.bootstrap),
            ("group.id", group),
            ("enable.auto.commit", "false"),
            ("enable.auto.offset.store", "false"),
            ("enable.partition.eof", "true"),
            ("auto.offset.reset", "error"),
            ("isolation.level", read.as_str()),
        ],
    )
}

/// A member of a consumer group, static under the name `instance`. The caller seeks where no
/// offset is committed; with `enable.partition.eof`, a poll says when a partition is at its end.
pub(crate) fn member(kafka: &Kafka, read: Read, group: &str, instance: &str) -> ClientConfig {
    let mut config = consumer(kafka, read, group);
    config.set("group.instance.id", instance);
    config
}

/// The largest record that Salience writes, bytes: a raw record of the most that brokers take by
/// default with all that is added to it, with room. Internal topics are made to take it.
pub(super) const LARGEST_RECORD: &str = "8388608";

/// An idempotent producer. `linger` in milliseconds, unless the user says otherwise.
pub(crate) fn producer(kafka: &Kafka, linger: &str) -> ClientConfig {
    with(
        &[
            ("client.id", "salience"),
            ("compression.type", "lz4"),
            ("linger.ms", linger),
            // As Java clients do, so that a key meets its partition whoever wrote it.
            ("partitioner", "murmur2_random"),
            ("reconnect.backoff.max.ms", "1000"),
            ("message.max.bytes", LARGEST_RECORD),
        ],
        &[&kafka.properties, &kafka.producer],
        &[("bootstrap.servers", &kafka.bootstrap), ("enable.idempotence", "true"), ("acks", "all")],
    )
}

/// A transactional producer. Nobody sees its records before the commit, which sends what lingers: see [`send_now`].
/// Where it lingers for less, batches are small and five of them soon on their way, more than which the broker takes of
/// none; librdkafka then spins until one is answered, and takes a tenth of what all services take.
pub(crate) fn transactional(kafka: &Kafka, id: &str) -> ClientConfig {
    let mut config = producer(kafka, "20");
    config.set("transactional.id", id);
    let defaults = [
        ("transaction.timeout.ms", "10000"),
        // The first of pauses that grow to a second. By default it is 100 ms, which a transaction of nothing but
        // offsets waits where it follows another at once: the coordinator is still busy with that.
        ("retry.backoff.ms", "5"),
    ];
    for (key, value) in defaults {
        if !kafka.properties.contains_key(key) && !kafka.producer.contains_key(key) {
            config.set(key, value);
        }
    }
    config
}

/// Sends what lingers, and waits at most `time`, in whole ms, until it has been answered. The wrapper's `flush` gives
/// the client no time in which to send it.
#[expect(
    unsafe_code,
    reason = "with it a transactional producer may linger: `bench pipeline` is 1.1 times as fast"
)]
pub(crate) fn send_now<C: ProducerContext<P>, P: Partitioner>(producer: &BaseProducer<C, P>, time: Duration) {
    // SAFETY: the handle is the borrowed producer's own, and any thread may make the call at any time. What it answers
    // is whether all has been answered, which whoever calls this looks for.
    unsafe { rdkafka::bindings::rd_kafka_flush(producer.client().native_ptr(), time.as_millis() as i32) };
}

/// A consumed message as a record of ours, its bytes in `pages`. `topic`: its topic, shared.
pub(crate) fn in_record(message: &BorrowedMessage<'_>, topic: Arc<str>, pages: &mut Pages) -> InRecord {
    // rdkafka panics at a header's name that is not UTF-8; a customer's record must not stop a
    // service. Such a record loses its headers, which nothing here reads of a raw record.
    let headers = catch_unwind(AssertUnwindSafe(|| {
        message.headers().map_or_else(Vec::new, |headers| {
            headers
                .iter()
                .map(|header| (header.key.to_owned(), header.value.map(Bytes::copy_from_slice)))
                .collect()
        })
    }))
    .unwrap_or_default();
    InRecord {
        topic,
        record: TopicRecord {
            partition: message.partition(),
            offset: message.offset(),
            timestamp_ms: message.timestamp().to_millis().unwrap_or(0),
            key: message.key().map(|key| pages.put(key)),
            value: message.payload().map(|value| pages.put(value)),
            headers,
        },
    }
}

/// A record's headers as librdkafka takes them; `None` where there are none.
pub(crate) fn headers(record: &OutRecord) -> Option<OwnedHeaders> {
    if record.headers.is_empty() {
        return None;
    }
    let headers = OwnedHeaders::new_with_capacity(record.headers.len());
    Some(
        record
            .headers
            .iter()
            .fold(headers, |headers, (key, value)| headers.insert(Header { key, value: value.as_deref() })),
    )
}
