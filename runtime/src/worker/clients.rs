//! The loop's Kafka clients: their properties, and their callbacks.
//!
//! Knows which settings the loop's promises rest on; those cannot be overridden, all others can.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, FromClientConfigAndContext as _, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext, RebalanceProtocol};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::message::{DeliveryResult, Message as _};
use rdkafka::producer::{BaseProducer, Producer as _, ProducerContext};
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::types::RDKafkaRespErr;

use crate::config::{Delivery, GroupProtocol, Kafka};
use crate::kafka::client::{self, Read};
use crate::processor::{StandIn, TopicPartition};

/// The names under which the cluster knows a worker.
#[derive(Debug, Clone)]
pub(super) struct Names {
    /// Consumer group.
    pub(super) group: String,
    /// `transactional.id`.
    pub(super) id: String,
    /// `group.instance.id` and the consumer's `client.id`: they say for whom a worker stands in, which the group
    /// shows to others.
    pub(super) member: String,
}

impl Names {
    pub(super) fn new(
        kafka: &Kafka,
        service: &str,
        instance: &str,
        number: usize,
        stands_in: Option<&StandIn>,
    ) -> Self {
        let group = super::group_id(kafka, service);
        let id = format!("{group}-{instance}-{number}");
        let member = stands_in.map_or_else(|| id.clone(), |other| format!("{id}.{}", other.service));
        Self { group, id, member }
    }
}

pub(super) type LoopConsumer = BaseConsumer<GroupContext>;
pub(super) type LoopProducer = BaseProducer<DeliveryContext>;

/// Wakes the worker when there is something to poll.
#[derive(Debug, Default)]
pub(super) struct Wake {
    woken: Mutex<bool>,
    changed: Condvar,
}

impl Wake {
    pub(super) fn wake(&self) {
        *lock(&self.woken) = true;
        self.changed.notify_one();
    }

    /// Waits until woken since the last wait, at most `time`.
    pub(super) fn wait(&self, time: Duration) {
        let woken = self
            .changed
            .wait_timeout_while(lock(&self.woken), time, |woken| !*woken)
            .map_or_else(|poisoned| poisoned.into_inner().0, |(woken, _)| woken);
        let mut woken = woken;
        *woken = false;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the group said.
#[derive(Debug)]
pub(super) enum GroupEvent {
    Assigned(Vec<TopicPartition>),
    Revoked(Vec<TopicPartition>),
    Lost(Vec<TopicPartition>),
}

/// What the group wants to hear the answer of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    /// That partitions are taken.
    Assign,
    /// That they are given back.
    Revoke,
}

/// Keeps what the group says until the worker has polled; the answer, an assignment or none, is
/// given by the worker itself, when it has committed or restored.
#[derive(Debug, Default)]
pub(super) struct GroupContext {
    events: Mutex<VecDeque<GroupEvent>>,
    /// What the group asked and was not answered.
    asked: Mutex<Option<Asked>>,
    closing: AtomicBool,
    /// The broker does not speak the group protocol.
    unspoken: AtomicBool,
}

/// What librdkafka logs where the broker does not speak KIP-848.
const UNSPOKEN: &str = "ConsumerGroupHeartbeatRequest not supported by broker";

impl GroupContext {
    /// Whether the broker was found not to speak the group protocol.
    pub(super) fn is_unspoken(&self) -> bool {
        self.unspoken.load(Ordering::SeqCst)
    }

    pub(super) fn take(&self) -> Option<GroupEvent> {
        lock(&self.events).pop_front()
    }

    /// What the group has asked since it was last answered.
    pub(super) fn asked(&self) -> Option<Asked> {
        *lock(&self.asked)
    }

    /// The answer has been given.
    pub(super) fn answered(&self) {
        *lock(&self.asked) = None;
    }

    /// From now on partitions are given back without asking anybody: the consumer is being closed.
    pub(super) fn close(&self) {
        self.closing.store(true, Ordering::SeqCst);
    }
}

impl ClientContext for GroupContext {
    fn log(&self, level: RDKafkaLogLevel, fac: &str, message: &str) {
        if message.contains(UNSPOKEN) {
            self.unspoken.store(true, Ordering::SeqCst);
        }
        log(level, fac, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(target: "librdkafka", %error, reason, "consumer");
    }
}

impl ConsumerContext for GroupContext {
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        code: RDKafkaRespErr,
        partitions: &mut TopicPartitionList,
    ) {
        if self.closing.load(Ordering::SeqCst) {
            let given_back = match consumer.rebalance_protocol() {
                RebalanceProtocol::Cooperative => consumer.incremental_unassign(partitions),
                _ => consumer.unassign(),
            };
            if let Err(error) = given_back {
                tracing::debug!(%error, "could not give partitions back while closing");
            }
            return;
        }
        let partitions = partitions
            .elements()
            .iter()
            .map(|element| TopicPartition { topic: element.topic().into(), partition: element.partition() })
            .collect();
        let (asked, event) = match code {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => {
                (Asked::Assign, GroupEvent::Assigned(partitions))
            }
            _ if consumer.assignment_lost() => (Asked::Revoke, GroupEvent::Lost(partitions)),
            _ => (Asked::Revoke, GroupEvent::Revoked(partitions)),
        };
        *lock(&self.asked) = Some(asked);
        lock(&self.events).push_back(event);
    }
}

/// Keeps the first delivery that failed, and how far those to one topic have come.
#[derive(Debug, Default)]
pub(super) struct DeliveryContext {
    failed: Mutex<Option<KafkaError>>,
    followed: Option<Arc<str>>,
    ends: Mutex<BTreeMap<i32, i64>>,
}

impl DeliveryContext {
    fn following(topic: Option<&Arc<str>>) -> Self {
        Self { followed: topic.cloned(), ..Self::default() }
    }

    pub(super) fn take_failure(&self) -> Option<KafkaError> {
        lock(&self.failed).take()
    }

    /// The offset behind the last record that was delivered to each partition of the topic followed, since
    /// these were forgotten.
    pub(super) fn ends(&self) -> BTreeMap<i32, i64> {
        lock(&self.ends).clone()
    }

    pub(super) fn forget_ends(&self) {
        lock(&self.ends).clear();
    }
}

impl ClientContext for DeliveryContext {
    fn log(&self, level: RDKafkaLogLevel, fac: &str, message: &str) {
        log(level, fac, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(target: "librdkafka", %error, reason, "producer");
    }
}

impl ProducerContext for DeliveryContext {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        match result {
            Ok(message) if self.followed.as_deref() == Some(message.topic()) => {
                lock(&self.ends).insert(message.partition(), message.offset() + 1);
            }
            Ok(_) => {}
            Err((error, _)) => {
                lock(&self.failed).get_or_insert_with(|| error.clone());
            }
        }
    }
}

fn log(level: RDKafkaLogLevel, fac: &str, message: &str) {
    match level {
        RDKafkaLogLevel::Emerg
        | RDKafkaLogLevel::Alert
        | RDKafkaLogLevel::Critical
        | RDKafkaLogLevel::Error => tracing::error!(target: "librdkafka", fac, "{message}"),
        RDKafkaLogLevel::Warning => tracing::warn!(target: "librdkafka", fac, "{message}"),
        RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => {
            tracing::info!(target: "librdkafka", fac, "{message}");
        }
        RDKafkaLogLevel::Debug => tracing::debug!(target: "librdkafka", fac, "{message}"),
    }
}

/// Sets what the user has not set.
fn default(config: &mut ClientConfig, kafka: &Kafka, own: &BTreeMap<String, String>, key: &str, value: &str) {
    if !kafka.properties.contains_key(key) && !own.contains_key(key) {
        config.set(key, value);
    }
}

/// The consumer of one worker, subscribed to nothing yet.
pub(super) fn consumer(kafka: &Kafka, names: &Names, wake: &Arc<Wake>) -> KafkaResult<Arc<LoopConsumer>> {
    let mut config = client::member(kafka, Read::Committed, &names.group, &names.member);
    if names.member == names.id {
        default(&mut config, kafka, &kafka.consumer, "client.id", &names.id);
    } else {
        config.set("client.id", &names.member);
    }
    // A broker that gives its whole backlog at once must not be refused.
    default(&mut config, kafka, &kafka.consumer, "receive.message.max.bytes", "1000000000");
    // Partitions of the same number go to the same worker, whatever their topic.
    match kafka.group_protocol {
        GroupProtocol::Classic => {
            default(&mut config, kafka, &kafka.consumer, "session.timeout.ms", "10000");
            // How late a member may hear that the group changes, while what another has given up stands still.
            default(&mut config, kafka, &kafka.consumer, "heartbeat.interval.ms", "1000");
            // All are given back before any is given out: the loop commits in between.
            config.set("group.protocol", "classic").set("partition.assignment.strategy", "range");
        }
        GroupProtocol::Consumer => {
            config.set("group.protocol", "consumer").set("group.remote.assignor", "range");
            // Of a broker that does not speak it librdkafka tells nowhere else.
            default(&mut config, kafka, &kafka.consumer, "debug", "cgrp");
            config.set_log_level(RDKafkaLogLevel::Debug);
        }
    }
    waking(&config, wake)
}

/// The consumer of standbys: of the group's offsets, never of the group.
pub(super) fn follower(kafka: &Kafka, names: &Names, wake: &Arc<Wake>) -> KafkaResult<Arc<LoopConsumer>> {
    let mut config = client::consumer(kafka, Read::Committed, &names.group);
    default(&mut config, kafka, &kafka.consumer, "receive.message.max.bytes", "1000000000");
    // What is read ahead of what is committed waits: less of it is enough.
    default(&mut config, kafka, &kafka.consumer, "queued.max.messages.kbytes", "16384");
    config.set("client.id", &names.id);
    waking(&config, wake)
}

fn waking(config: &ClientConfig, wake: &Arc<Wake>) -> KafkaResult<Arc<LoopConsumer>> {
    let mut consumer = LoopConsumer::from_config_and_context(config, GroupContext::default())?;
    let wake = Arc::clone(wake);
    consumer.set_nonempty_callback(move || wake.wake());
    Ok(Arc::new(consumer))
}

/// The producer of one worker; with transactions, the predecessor's are settled and it is fenced. Deliveries
/// to `followed` are kept account of.
pub(super) fn producer(
    kafka: &Kafka,
    names: &Names,
    delivery: Delivery,
    followed: Option<&Arc<str>>,
) -> KafkaResult<LoopProducer> {
    let mut config = match delivery {
        Delivery::ExactlyOnce => client::transactional(kafka, &names.id),
        Delivery::AtLeastOnce => client::producer(kafka, "1"),
    };
    default(&mut config, kafka, &kafka.producer, "client.id", &names.id);
    config.set("delivery.report.only.error", if followed.is_none() { "true" } else { "false" });
    let context = || DeliveryContext::following(followed);
    if delivery == Delivery::AtLeastOnce {
        return LoopProducer::from_config_and_context(&config, context());
    }
    // `init_transactions` waits two half seconds, one for a connection and one for a predecessor's
    // open transaction. A throwaway producer that asks for a moment only settles the second, and
    // metadata first settles the first.
    let settled = LoopProducer::from_config_and_context(&config, DeliveryContext::default())?;
    connect(&settled)?;
    match settled.init_transactions(Duration::from_millis(20)) {
        Err(KafkaError::Transaction(error)) if !error.is_retriable() => {
            return Err(KafkaError::Transaction(error));
        }
        _ => drop(settled),
    }
    let producer = LoopProducer::from_config_and_context(&config, context())?;
    connect(&producer)?;
    for _ in 0..6 {
        match producer.init_transactions(Duration::from_secs(10)) {
            Err(KafkaError::Transaction(error)) if error.is_retriable() => {
                tracing::warn!(%error, "waiting for the transaction coordinator");
            }
            result => return result.map(|()| producer),
        }
    }
    producer.init_transactions(Duration::from_secs(10)).map(|()| producer)
}

fn connect(producer: &LoopProducer) -> KafkaResult<()> {
    producer.client().fetch_metadata(Some("__consumer_offsets"), Duration::from_secs(10))?;
    std::thread::sleep(Duration::from_millis(30));
    Ok(())
}
