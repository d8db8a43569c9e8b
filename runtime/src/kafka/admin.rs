//! What an administrator asks of a cluster.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};

use rdkafka::consumer::Consumer;
use rdkafka::error::RDKafkaErrorCode as Code;
use rdkafka::{Offset, TopicPartitionList};

use super::client::{self, Plain, PlainConsumer, Read};
use super::error::code_of;
use super::topics::TopicSpec;
use super::{KafkaError, Result};
use crate::config::Kafka;

/// How long a broker may take to answer.
const PATIENCE: Duration = Duration::from_secs(15);
/// How often a cluster is asked whether it has caught up with a change.
const BETWEEN: Duration = Duration::from_millis(20);

/// Asks and changes what concerns whole topics and groups. Blocks; made for start-up, tools and
/// tests, not for the path of an event.
pub struct Admin {
    client: AdminClient<Plain>,
    consumer: PlainConsumer,
    kafka: Kafka,
    /// One consumer for each group that was asked about: it knows its coordinator by then.
    groups: Mutex<BTreeMap<String, Arc<PlainConsumer>>>,
}

impl Admin {
    /// For the cluster that the configuration names. No broker is spoken to.
    ///
    /// # Errors
    /// [`KafkaError::Config`].
    pub fn new(kafka: &Kafka) -> Result<Self> {
        let config = |error: rdkafka::error::KafkaError| KafkaError::Config { what: error.to_string() };
        let group = format!("{}admin", kafka.prefix);
        Ok(Self {
            client: client::admin(kafka).create_with_context(Plain).map_err(config)?,
            consumer: client::consumer(kafka, Read::Committed, &group)
                .create_with_context(Plain)
                .map_err(config)?,
            kafka: kafka.clone(),
            groups: Mutex::default(),
        })
    }

    /// Waits until a broker answers.
    ///
    /// # Errors
    /// [`KafkaError::Unreachable`] after `patience`.
    pub fn reach(&self, patience: Duration) -> Result<()> {
        self.consumer.fetch_metadata(None, patience).map(drop).map_err(|error| KafkaError::Unreachable {
            bootstrap: self.kafka.bootstrap.clone(),
            what: error.to_string(),
        })
    }

    /// Makes those topics that are not there, and waits until they can be used. Returns the names
    /// of those that it made.
    ///
    /// # Errors
    /// A topic that the cluster refuses to make.
    pub fn create_topics(&self, specs: &[TopicSpec]) -> Result<Vec<String>> {
        let new: Vec<NewTopic<'_>> = specs
            .iter()
            .map(|spec| {
                let replication = TopicReplication::Fixed(spec.replication_factor);
                let topic = NewTopic::new(&spec.name, spec.partitions, replication);
                spec.config.iter().fold(topic, |topic, (key, value)| topic.set(key, value))
            })
            .collect();
        let options = AdminOptions::new().operation_timeout(Some(PATIENCE)).request_timeout(Some(PATIENCE));
        let results = block_on(self.client.create_topics(&new, &options))
            .map_err(|error| self.refused("create topics", &error))?;
        let mut made = Vec::new();
        for result in results {
            match result {
                Ok(topic) => made.push(topic),
                Err((_, Code::TopicAlreadyExists)) => {}
                Err((topic, code)) => {
                    let error = rdkafka::error::KafkaError::AdminOp(code);
                    return Err(self.refused(&format!("create topic {topic}"), &error));
                }
            }
        }
        self.until(|| {
            let known = self.all_partitions()?;
            Ok(specs.iter().all(|spec| known.contains_key(&*spec.name)))
        })?;
        Ok(made)
    }

    /// Deletes topics; those that are not there are no error. Waits until they are gone.
    ///
    /// # Errors
    /// A topic that the cluster refuses to delete.
    pub fn delete_topics(&self, topics: &[&str]) -> Result<()> {
        let options = AdminOptions::new().operation_timeout(Some(PATIENCE)).request_timeout(Some(PATIENCE));
        let results = block_on(self.client.delete_topics(topics, &options))
            .map_err(|error| self.refused("delete topics", &error))?;
        for result in results {
            if let Err((topic, code)) = result
                && !matches!(code, Code::UnknownTopicOrPartition | Code::UnknownTopic)
            {
                let error = rdkafka::error::KafkaError::AdminOp(code);
                return Err(self.refused(&format!("delete topic {topic}"), &error));
            }
        }
        self.until(|| {
            let known = self.all_partitions()?;
            Ok(!topics.iter().any(|topic| known.contains_key(*topic)))
        })
    }

    /// How many partitions a topic has; `None` where there is no such topic.
    ///
    /// # Errors
    /// No broker that answers.
    pub fn partitions(&self, topic: &str) -> Result<Option<i32>> {
        count(&self.consumer, topic, &self.kafka.bootstrap)
    }

    /// The partition counts of all topics.
    ///
    /// # Errors
    /// No broker that answers.
    pub fn all_partitions(&self) -> Result<BTreeMap<String, i32>> {
        counts(&self.consumer, &self.kafka.bootstrap)
    }

    /// What a group has committed for each partition of a topic: the offset and the text beside
    /// it; `None` where it has committed nothing. `group` is the full name, with prefix. Waits
    /// for offsets of open transactions to be decided.
    ///
    /// # Errors
    /// No such topic, or no broker that answers.
    pub fn committed(&self, group: &str, topic: &str) -> Result<Vec<Option<(i64, String)>>> {
        let partitions =
            self.partitions(topic)?.ok_or_else(|| KafkaError::NoTopic { topic: topic.to_owned() })?;
        let consumer = self.group(group)?;
        let mut list = TopicPartitionList::with_capacity(partitions as usize);
        list.add_partition_range(topic, 0, partitions - 1);
        let action = || format!("read the offsets of group {group} in {topic}");
        let mut left = PATIENCE.as_millis() / BETWEEN.as_millis();
        let committed = loop {
            match consumer.committed_offsets(list.clone(), PATIENCE) {
                // Another broker has the group now, or will have it in a moment: nothing tells when.
                Err(error) if left > 0 && is_moving(code_of(&error)) => {
                    left -= 1;
                    std::thread::sleep(BETWEEN);
                }
                answer => break answer.map_err(|error| self.refused(&action(), &error))?,
            }
        };
        (0..partitions)
            .map(|partition| {
                let Some(element) = committed.find_partition(topic, partition) else { return Ok(None) };
                element.error().map_err(|error| self.refused(&action(), &error))?;
                Ok(match element.offset() {
                    Offset::Offset(offset) => Some((offset, element.metadata().to_owned())),
                    _ => None,
                })
            })
            .collect()
    }

    /// The first offset of each partition.
    ///
    /// # Errors
    /// No such topic, or no broker that answers.
    pub fn begin_offsets(&self, topic: &str) -> Result<Vec<i64>> {
        let offsets = offsets(&self.consumer, topic, &self.kafka.bootstrap)?;
        Ok(offsets.into_iter().map(|(begin, _)| begin).collect())
    }

    /// The last stable offset of each partition: where a reader of committed records ends.
    ///
    /// # Errors
    /// No such topic, or no broker that answers.
    pub fn end_offsets(&self, topic: &str) -> Result<Vec<i64>> {
        let offsets = offsets(&self.consumer, topic, &self.kafka.bootstrap)?;
        Ok(offsets.into_iter().map(|(_, end)| end).collect())
    }

    /// The ids of a group's members, as its coordinator gave them; `None` while they share partitions out anew,
    /// and where there is no such group of the classic protocol.
    ///
    /// # Errors
    /// No broker that answers.
    pub fn members(&self, group: &str) -> Result<Option<Vec<String>>> {
        members(&self.consumer, group)
            .map_err(|error| self.refused(&format!("list the members of group {group}"), &error))
    }

    fn group(&self, group: &str) -> Result<Arc<PlainConsumer>> {
        let mut groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(consumer) = groups.get(group) {
            return Ok(Arc::clone(consumer));
        }
        let consumer: PlainConsumer = client::consumer(&self.kafka, Read::Committed, group)
            .create_with_context(Plain)
            .map_err(|error| KafkaError::Config { what: error.to_string() })?;
        let consumer = Arc::new(consumer);
        groups.insert(group.to_owned(), Arc::clone(&consumer));
        Ok(consumer)
    }

    /// Asks until the cluster says yes: a change reaches its brokers one after the other.
    fn until(&self, mut done: impl FnMut() -> Result<bool>) -> Result<()> {
        for _ in 0..PATIENCE.as_millis() / BETWEEN.as_millis() {
            if done()? {
                return Ok(());
            }
            // Between questions: the protocol has no way to be told.
            std::thread::sleep(BETWEEN);
        }
        Err(KafkaError::Refused {
            action: "see the changed topics".to_owned(),
            what: format!("{} has not shown them for {PATIENCE:?}", self.kafka.bootstrap),
            verdict: "retry",
        })
    }

    fn refused(&self, action: &str, error: &rdkafka::error::KafkaError) -> KafkaError {
        KafkaError::refused(action, &self.kafka.bootstrap, error)
    }
}

/// Members of a group that is at rest.
pub(crate) fn members(
    consumer: &PlainConsumer,
    group: &str,
) -> std::result::Result<Option<Vec<String>>, rdkafka::error::KafkaError> {
    let listed = consumer.fetch_group_list(Some(group), PATIENCE)?;
    let found = listed.groups().iter().find(|listed| listed.name() == group);
    let at_rest = found.filter(|found| found.state() == "Stable");
    Ok(at_rest.map(|found| found.members().iter().map(|member| member.id().to_owned()).collect()))
}

/// The partition counts of all topics. All are asked for, since asking for one that is not there
/// makes some brokers create it.
fn counts(consumer: &PlainConsumer, bootstrap: &str) -> Result<BTreeMap<String, i32>> {
    let metadata = consumer
        .fetch_metadata(None, PATIENCE)
        .map_err(|error| KafkaError::refused("list topics", bootstrap, &error))?;
    Ok(metadata
        .topics()
        .iter()
        .filter(|topic| !topic.partitions().is_empty())
        .filter(|topic| topic.partitions().iter().all(|partition| partition.leader() >= 0))
        .map(|topic| (topic.name().to_owned(), topic.partitions().len() as i32))
        .collect())
}

pub(super) fn count(consumer: &PlainConsumer, topic: &str, bootstrap: &str) -> Result<Option<i32>> {
    Ok(counts(consumer, bootstrap)?.get(topic).copied())
}

/// First offset, and offset behind the last, of each partition.
pub(super) fn offsets(consumer: &PlainConsumer, topic: &str, bootstrap: &str) -> Result<Vec<(i64, i64)>> {
    let partitions =
        count(consumer, topic, bootstrap)?.ok_or_else(|| KafkaError::NoTopic { topic: topic.to_owned() })?;
    (0..partitions)
        .map(|partition| {
            watermarks(consumer, topic, partition).map_err(|error| {
                KafkaError::refused(format!("read the offsets of {topic}[{partition}]"), bootstrap, &error)
            })
        })
        .collect()
}

/// A partition's offsets. Asked again while the client takes another broker for its leader, as
/// happens when the topic has just been made.
fn watermarks(
    consumer: &PlainConsumer,
    topic: &str,
    partition: i32,
) -> Result<(i64, i64), rdkafka::error::KafkaError> {
    let mut left = PATIENCE.as_millis() / BETWEEN.as_millis();
    loop {
        let asked = consumer.fetch_watermarks(topic, partition, PATIENCE);
        let code = asked.as_ref().err().and_then(code_of);
        let unsettled = matches!(code, Some(Code::NotLeaderForPartition | Code::LeaderNotAvailable));
        if !unsettled || left == 0 {
            return asked;
        }
        left -= 1;
        // An election is under way, and nothing tells when it has ended.
        std::thread::sleep(BETWEEN);
    }
}

/// Whether a group's coordinator is on its way to another broker.
fn is_moving(code: Option<Code>) -> bool {
    use Code::{CoordinatorLoadInProgress, CoordinatorNotAvailable, NotCoordinator};
    matches!(code, Some(NotCoordinator | CoordinatorLoadInProgress | CoordinatorNotAvailable))
}

/// Waits for a future on this thread. rdkafka completes its own from a thread of its own, so
/// nothing but a wake-up is needed, and it works inside and outside of any runtime.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(std::thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(value) => return value,
            Poll::Pending => std::thread::park(),
        }
    }
}
