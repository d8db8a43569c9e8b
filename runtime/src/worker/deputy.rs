//! Standing in for another service: its group's offsets, and that the two never work at the same time.
//!
//! Who stands in says so in the text of the offsets that it commits for the other's group. It commits them first
//! as somebody of no group, which brokers take of a group without members only: then the other does not run.
//! The other, when it starts, finds the text, and waits while the group that it names has a member that stands
//! in. So whichever comes second waits, and neither needs to have heard of the other's processes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _, ConsumerContext, ConsumerGroupMetadata};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode as Code};
use rdkafka::message::Message as _;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::execute::PATIENCE;
use super::input::offsets;
use super::members::members;
use crate::config::Kafka;
use crate::core::Standing;
use crate::kafka::client::{self, Plain, PlainConsumer, Read, in_record};
use crate::pages::Pages;
use crate::processor::{Position, StandIn, TopicPartition};

/// In front of the name of the group that stands in, in the text of an offset.
const MARK: &str = "stood in for by ";
/// How long the other may take to be gone: sessions end meanwhile.
const WAIT: Duration = Duration::from_mins(1);
/// How long until it is looked for again.
const BETWEEN: Duration = Duration::from_millis(300);
/// How long a poll for what the other has not read may wait.
const POLL: Duration = Duration::from_millis(100);

/// Whether the text of a committed offset says that somebody stood in for its group.
pub fn is_stood_in(metadata: &str) -> bool {
    metadata.starts_with(MARK)
}

/// What keeps a worker from its partitions.
#[derive(Debug)]
pub(super) enum Kept {
    /// Something that may pass.
    Waits(String),
    /// Something that an operator must mend.
    Refused(String),
    /// A call that failed.
    Failed(KafkaError),
}

impl From<KafkaError> for Kept {
    fn from(error: KafkaError) -> Self {
        Self::Failed(error)
    }
}

/// The other service's offsets, for the worker that stands in for it.
pub(super) struct Deputy {
    stand_in: StandIn,
    group: String,
    mark: String,
    /// Of the group, and never a member of it.
    committed: PlainConsumer,
    /// Where the logs end, open transactions included.
    ends: PlainConsumer,
    /// What is committed, or was when the partition was taken.
    at: BTreeMap<i32, i64>,
}

impl Deputy {
    /// For a worker of the group `own`.
    pub(super) fn new(kafka: &Kafka, stand_in: &StandIn, own: &str) -> KafkaResult<Self> {
        let group = super::group_id(kafka, &stand_in.service);
        let make = |read| {
            let mut config = client::consumer(kafka, read, &group);
            // Reads to the end of a log now and then, which an empty fetch tells: it must not be held back.
            config.set("fetch.wait.max.ms", "20");
            config.create_with_context(Plain)
        };
        Ok(Self {
            stand_in: stand_in.clone(),
            mark: format!("{MARK}{own}"),
            committed: make(Read::Committed)?,
            ends: make(Read::Uncommitted)?,
            at: BTreeMap::new(),
            group,
        })
    }

    /// Takes the other's partitions beside those of the input that have been looked at: nobody else works on
    /// them, and nothing in them is left to do.
    pub(super) fn take(&mut self, standings: &[Standing]) -> Result<(), Kept> {
        let StandIn { service, topic, .. } = &self.stand_in;
        let of = |standing: &Standing| TopicPartition {
            topic: Arc::clone(topic),
            partition: standing.partition.partition,
        };
        let partitions: Vec<TopicPartition> = standings.iter().map(of).collect();
        let committed = committed_offsets(&self.committed, &partitions)?;
        let lows = offsets(&self.committed, partitions.iter(), Offset::Beginning)?;
        let begins = |at: usize| committed[at].as_ref().map_or(lows[at], |(offset, _)| *offset);
        let claimed: BTreeMap<i32, i64> =
            partitions.iter().enumerate().map(|(at, of)| (of.partition, begins(at))).collect();
        match self.commit_all(&claimed) {
            Err(KafkaError::ConsumerCommit(
                Code::UnknownMemberId | Code::IllegalGeneration | Code::RebalanceInProgress,
            )) => {
                return Err(Kept::Waits(format!(
                    "the group {} has members: {service} runs by itself, and must not while this service does \
                     its work. Stop it, or let this one not stand in for it",
                    self.group
                )));
            }
            done => done?,
        }
        let stable = offsets(&self.committed, partitions.iter(), Offset::End)?;
        let ends = offsets(&self.ends, partitions.iter(), Offset::End)?;
        let mut unread = BTreeMap::new();
        for (at, of) in partitions.iter().enumerate() {
            if stable[at] < ends[at] {
                return Err(Kept::Waits(format!("{of} has an open transaction")));
            }
            if begins(at) > ends[at] {
                return Err(Kept::Refused(format!(
                    "the offset {} that the group {} has committed of {of} is outside the log, which ends at {}: \
                     the topic was made anew (to go on from what is there, delete the group's offsets)",
                    begins(at),
                    self.group,
                    ends[at]
                )));
            }
            let from = begins(at).max(lows[at]);
            if from < ends[at] {
                unread.insert(of.partition, (from, &standings[at]));
            }
        }
        self.check_read(&unread)?;
        self.at.extend(claimed);
        Ok(())
    }

    /// Whether all that stands behind these offsets will be made again.
    #[expect(clippy::disallowed_methods, reason = "how long to wait for the end is the shell's business")]
    fn check_read(&self, from: &BTreeMap<i32, (i64, &Standing)>) -> Result<(), Kept> {
        if from.is_empty() {
            return Ok(());
        }
        let StandIn { service, topic, made_of } = &self.stand_in;
        let mut list = TopicPartitionList::with_capacity(from.len());
        for (partition, (offset, _)) in from {
            list.add_partition_offset(topic, *partition, Offset::Offset(*offset))?;
        }
        self.committed.assign(&list)?;
        let mut open: BTreeSet<i32> = from.keys().copied().collect();
        let until = Instant::now() + PATIENCE;
        let mut found = Ok(());
        while !open.is_empty() && found.is_ok() {
            match self.committed.poll(POLL) {
                Some(Ok(message)) if open.remove(&message.partition()) => {
                    // The first one tells: those behind it were made later, of later records.
                    let record = in_record(&message, Arc::clone(topic), &mut Pages::default());
                    let done = from.get(&message.partition()).map_or(0, |(_, standing)| {
                        standing.committed.as_ref().map_or(standing.low, |(offset, _)| *offset)
                    });
                    found = match made_of(&record) {
                        Ok(made_of) if made_of >= done => Ok(()),
                        Ok(_) => Err(Kept::Refused(format!(
                            "{} holds records from offset {} on that {service} has not read, as its group {} has \
                             committed: let it run by itself to the end of the topic, while this service does \
                             not, and then start this one again; or, if the group's offsets have expired, set \
                             them to where it had come",
                            record.topic_partition(),
                            record.record.offset,
                            self.group
                        ))),
                        Err(error) => Err(Kept::Refused(error.to_string())),
                    };
                }
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    open.remove(&partition);
                }
                Some(Err(error)) => tracing::debug!(%error, "looking for what {service} has not read"),
                Some(Ok(_)) | None => {}
            }
            if Instant::now() >= until {
                found = Err(Kept::Failed(KafkaError::MessageConsumption(Code::OperationTimedOut)));
            }
        }
        self.committed.unassign()?;
        found
    }

    /// What is to be added to the open transaction: how far the other would have read with it, in the partitions
    /// of the input that these are of, delivered to or not, as offsets that nobody renews expire.
    pub(super) fn offer(
        &self,
        positions: &[Position],
        ends: &BTreeMap<i32, i64>,
    ) -> KafkaResult<(TopicPartitionList, ConsumerGroupMetadata)> {
        let Some(group) = self.committed.group_metadata() else {
            return Err(KafkaError::ConsumerCommit(Code::UnknownMemberId));
        };
        Ok((self.list(&self.moved(positions, ends))?, group))
    }

    /// The same outside of a transaction, once all has been delivered.
    pub(super) fn commit(&mut self, positions: &[Position], ends: BTreeMap<i32, i64>) -> KafkaResult<()> {
        self.commit_all(&self.moved(positions, &ends))?;
        self.settle(ends);
        Ok(())
    }

    /// What was offered has been committed.
    pub(super) fn settle(&mut self, ends: BTreeMap<i32, i64>) {
        self.at.extend(ends);
    }

    fn moved(&self, positions: &[Position], ends: &BTreeMap<i32, i64>) -> BTreeMap<i32, i64> {
        let of = |partition: i32| {
            let offset = ends.get(&partition).or_else(|| self.at.get(&partition))?;
            Some((partition, *offset))
        };
        positions.iter().filter_map(|position| of(position.partition.partition)).collect()
    }

    fn commit_all(&self, offsets: &BTreeMap<i32, i64>) -> KafkaResult<()> {
        if offsets.is_empty() {
            return Ok(());
        }
        self.committed.commit(&self.list(offsets)?, CommitMode::Sync)
    }

    fn list(&self, ends: &BTreeMap<i32, i64>) -> KafkaResult<TopicPartitionList> {
        let mut list = TopicPartitionList::with_capacity(ends.len());
        for (partition, offset) in ends {
            let mut element = list.add_partition(&self.stand_in.topic, *partition);
            element.set_offset(Offset::Offset(*offset))?;
            element.set_metadata(&self.mark);
        }
        Ok(list)
    }
}

/// Whether nobody stands in for `service` any more; if so, the offsets say no more that somebody did.
pub(super) fn take_back<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    service: &str,
    standings: &mut [Standing],
) -> Result<(), Kept> {
    let mark = |standing: &Standing| {
        let (_, text) = standing.committed.as_ref()?;
        text.strip_prefix(MARK).map(str::to_owned)
    };
    let groups: BTreeSet<String> = standings.iter().filter_map(mark).collect();
    for group in groups {
        let stands_in = format!(".{service}");
        if let Some(found) =
            members(consumer, &group)?.into_iter().find(|m| m.client_id.ends_with(&stands_in))
        {
            return Err(Kept::Waits(format!(
                "{} of the group {group} stands in for {service}, which must not run by itself meanwhile. Stop \
                 that, or this",
                found.client_id
            )));
        }
    }
    for standing in standings {
        if mark(standing).is_some()
            && let Some((_, text)) = &mut standing.committed
        {
            text.clear();
        }
    }
    Ok(())
}

/// What a consumer's group has committed, in the same order.
pub(super) fn committed_offsets<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    partitions: &[TopicPartition],
) -> KafkaResult<Vec<Option<(i64, String)>>> {
    let mut list = TopicPartitionList::with_capacity(partitions.len());
    for partition in partitions {
        list.add_partition(&partition.topic, partition.partition);
    }
    let committed = consumer.committed_offsets(list, PATIENCE)?;
    let of = |partition: &TopicPartition| {
        let element = committed.find_partition(&partition.topic, partition.partition);
        let element = element.ok_or(KafkaError::OffsetFetch(Code::UnknownPartition))?;
        element.error()?;
        Ok(match element.offset() {
            Offset::Offset(offset) => Some((offset, element.metadata().to_owned())),
            _ => None,
        })
    };
    partitions.iter().map(of).collect()
}

/// What is waited for, since when, and when it was last looked at.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    since: Option<Instant>,
    last: Option<(Instant, String)>,
}

#[expect(clippy::disallowed_methods, reason = "how long to wait is the shell's business")]
impl Waiting {
    /// It was there again; whether that is for longer than it may be. Says so when it begins.
    pub(super) fn is_over(&mut self, service: &str, what: &str) -> bool {
        self.last = Some((Instant::now(), what.to_owned()));
        let since = *self.since.get_or_insert_with(|| {
            tracing::warn!(service, what, "waiting");
            Instant::now()
        });
        since.elapsed() > WAIT
    }

    /// What was there a moment ago: it is too early to look again.
    pub(super) fn for_now(&self) -> Option<String> {
        self.last.as_ref().filter(|(at, _)| at.elapsed() < BETWEEN).map(|(_, what)| what.clone())
    }

    pub(super) fn end(&mut self) {
        *self = Self::default();
    }
}
