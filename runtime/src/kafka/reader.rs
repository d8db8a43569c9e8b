//! Reading partitions without a group: for tables, catalogues, models, `verify`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer as _;
use rdkafka::error::{KafkaError as Client, RDKafkaErrorCode as Code};
use rdkafka::message::Message as _;
use rdkafka::{Offset, TopicPartitionList};

use super::admin::{count, offsets};
use super::client::{self, Plain, PlainConsumer, Read};
use super::error::{code_of, transient};
use super::{KafkaError, Result};
use crate::config::Kafka;
use crate::pages::Pages;
use crate::processor::{InRecord, TopicPartition};

/// What a reader sees of transactions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    /// Nothing of open and aborted ones.
    ReadCommitted,
    /// Everything.
    ReadUncommitted,
}

impl From<Isolation> for Read {
    fn from(isolation: Isolation) -> Self {
        match isolation {
            Isolation::ReadCommitted => Self::Committed,
            Isolation::ReadUncommitted => Self::Uncommitted,
        }
    }
}

/// A consumer without a group: it reads the partitions that it is told, from where it is told, and
/// commits nothing. For one thread.
pub struct Reader {
    consumer: PlainConsumer,
    bootstrap: String,
    topics: BTreeMap<String, Arc<str>>,
    /// Next offset to read of each assigned partition.
    next: BTreeMap<TopicPartition, i64>,
    /// Partition numbers that stood at their end in the last fetch. librdkafka names no topic with
    /// it, so this is of use only where one topic is assigned.
    ended: BTreeSet<i32>,
    pages: Pages,
}

impl Reader {
    /// A reader that is assigned nothing yet. No broker is spoken to.
    ///
    /// # Errors
    /// [`KafkaError::Config`].
    pub fn new(kafka: &Kafka, isolation: Isolation) -> Result<Self> {
        let group = format!("{}reader", kafka.prefix);
        let consumer = client::consumer(kafka, isolation.into(), &group)
            .create_with_context(Plain)
            .map_err(|error| KafkaError::Config { what: error.to_string() })?;
        Ok(Self {
            consumer,
            bootstrap: kafka.bootstrap.clone(),
            topics: BTreeMap::new(),
            next: BTreeMap::new(),
            ended: BTreeSet::new(),
            pages: Pages::default(),
        })
    }

    /// Reads these partitions, each from the given offset on, and no others.
    ///
    /// # Errors
    /// A partition twice, or a client that has failed.
    pub fn assign(&mut self, partitions: &[(TopicPartition, i64)]) -> Result<()> {
        let mut list = TopicPartitionList::with_capacity(partitions.len());
        for (partition, offset) in partitions {
            list.add_partition_offset(&partition.topic, partition.partition, Offset::Offset(*offset))
                .map_err(|error| self.refused("assign partitions", &error))?;
        }
        self.consumer.assign(&list).map_err(|error| self.refused("assign partitions", &error))?;
        self.next = partitions.iter().cloned().collect();
        self.ended.clear();
        self.topics = partitions.iter().map(|(p, _)| (p.topic.to_string(), Arc::clone(&p.topic))).collect();
        Ok(())
    }

    /// Up to `max` records; waits up to `timeout` for the first and for no other. In order within
    /// each partition. Empty when none came.
    ///
    /// # Errors
    /// A cut log, a topic that is gone, a refused login. What passes by itself is logged and
    /// waited out.
    #[expect(clippy::disallowed_methods, reason = "a reader's patience is measured in real time")]
    pub fn poll(&mut self, max: usize, timeout: Duration) -> Result<Vec<InRecord>> {
        let until = Instant::now() + timeout;
        let mut records = Vec::new();
        while records.len() < max {
            let wait = if records.is_empty() {
                until.saturating_duration_since(Instant::now())
            } else {
                Duration::ZERO
            };
            let Some(polled) = self.consumer.poll(wait) else { break };
            match polled {
                Ok(message) => {
                    let Some(topic) = self.topics.get(message.topic()) else { continue };
                    let record = client::in_record(&message, Arc::clone(topic), &mut self.pages);
                    self.next.insert(record.topic_partition(), record.record.offset + 1);
                    self.ended.remove(&record.record.partition);
                    records.push(record);
                }
                Err(Client::PartitionEOF(number)) => {
                    self.ended.insert(number);
                }
                Err(error) if transient(code_of(&error)) => {
                    tracing::warn!(%error, bootstrap = self.bootstrap, "reading is interrupted");
                }
                Err(error) if records.is_empty() => return Err(self.explained(&error)),
                Err(error) => {
                    // What was read counts; the error comes again or was of that moment.
                    tracing::warn!(%error, "reading was refused");
                    break;
                }
            }
        }
        Ok(records)
    }

    /// Whether the partition had nothing more when it was last fetched, markers and aborted
    /// records passed over. Always `false` where several topics are assigned: librdkafka does not
    /// say of which topic a partition ended.
    pub fn at_end(&self, partition: &TopicPartition) -> bool {
        self.topics.len() == 1 && self.ended.contains(&partition.partition)
    }

    /// The next offset that [`Reader::poll`] will read of each assigned partition. Behind the end
    /// of a partition whose last records are transaction markers.
    pub fn positions(&self) -> Vec<(TopicPartition, i64)> {
        self.next.iter().map(|(partition, offset)| (partition.clone(), *offset)).collect()
    }

    /// The next offset that the client will fetch, per assigned partition: unlike
    /// [`Reader::positions`] it has passed the markers and the aborted records that were skipped.
    /// Only for partitions of which something was polled since they were assigned.
    pub fn fetched(&self) -> Vec<(TopicPartition, i64)> {
        let Ok(positions) = self.consumer.position() else { return self.positions() };
        self.next
            .iter()
            .map(|(partition, next)| {
                let at = positions
                    .find_partition(&partition.topic, partition.partition)
                    .and_then(|element| element.offset().to_raw())
                    .filter(|offset| offset > next)
                    .unwrap_or(*next);
                (partition.clone(), at)
            })
            .collect()
    }

    /// The first offset of each partition.
    ///
    /// # Errors
    /// No such topic, or no broker that answers.
    pub fn begin_offsets(&self, topic: &str) -> Result<Vec<i64>> {
        Ok(self.offsets(topic)?.into_iter().map(|(begin, _)| begin).collect())
    }

    /// The offset behind the last record of each partition; with
    /// [`Isolation::ReadCommitted`] the last stable one, before any open transaction.
    ///
    /// # Errors
    /// No such topic, or no broker that answers.
    pub fn end_offsets(&self, topic: &str) -> Result<Vec<i64>> {
        Ok(self.offsets(topic)?.into_iter().map(|(_, end)| end).collect())
    }

    /// How many partitions a topic has; `None` where there is no such topic.
    ///
    /// # Errors
    /// No broker that answers.
    pub fn partitions(&self, topic: &str) -> Result<Option<i32>> {
        count(&self.consumer, topic, &self.bootstrap)
    }

    fn offsets(&self, topic: &str) -> Result<Vec<(i64, i64)>> {
        offsets(&self.consumer, topic, &self.bootstrap)
    }

    fn refused(&self, action: &str, error: &Client) -> KafkaError {
        KafkaError::refused(action, &self.bootstrap, error)
    }

    /// The error with its partition, where librdkafka leaves it out.
    fn explained(&self, error: &Client) -> KafkaError {
        let cut = matches!(code_of(error), Some(Code::AutoOffsetReset | Code::OffsetOutOfRange));
        if cut {
            for (partition, wanted) in &self.next {
                let Ok(begins) = self.begin_offsets(&partition.topic) else { continue };
                let begin = begins.get(partition.partition as usize).copied().unwrap_or(0);
                if begin > *wanted {
                    return KafkaError::Cut { partition: partition.clone(), wanted: *wanted, begin };
                }
            }
        }
        if matches!(
            code_of(error),
            Some(Code::UnknownTopic | Code::UnknownTopicOrPartition | Code::UnknownPartition)
        ) {
            for topic in self.topics.keys() {
                if matches!(self.partitions(topic), Ok(None)) {
                    return KafkaError::NoTopic { topic: topic.clone() };
                }
            }
        }
        self.refused("read", error)
    }
}
