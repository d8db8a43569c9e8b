//! Executes the core's commands, one call of a client each, and says what came of it.
//!
//! Knows no rule of the loop: it decides nothing but what an error means.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseRecord, Producer as _};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::clients::{LoopConsumer, LoopProducer};
use super::closing::close;
use super::deputy::{Deputy, Kept, Waiting, committed_offsets, take_back};
use super::input::{Input, offsets};
use super::saver::{self, Saver};
use super::settle::Settler;
use super::standby::Pool;
use super::{errors, measure, transaction};
use crate::core::{Command, Core, Event, Failure, Standing};
use crate::kafka::client;
use crate::processor::{OutRecord, Position, TopicPartition};
use crate::store::Store;

/// How long one call may take before it is made again.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// How long a client may not know a partition that there is.
const UNKNOWN: Duration = Duration::from_secs(5);
/// How long to wait for room in the producer's queue before partitions are paused.
const ROOM: Duration = Duration::from_millis(100);

/// A record that no retry can produce.
#[derive(Debug)]
pub(super) struct Hopeless {
    pub(super) topic: String,
    pub(super) source: KafkaError,
}

/// The clients, and what else commands need.
pub(super) struct Hands {
    pub(super) service: String,
    pub(super) id: String,
    pub(super) member: String,
    pub(super) group: String,
    pub(super) input: Input,
    pub(super) consumer: Arc<LoopConsumer>,
    /// Of the service that this one stands in for.
    pub(super) deputy: Option<Deputy>,
    pub(super) waiting: Waiting,
    pub(super) producer: Arc<LoopProducer>,
    pub(super) settler: Settler,
    pub(super) store: Store,
    pub(super) saver: Saver,
    /// Since when the client has said that a partition is not there.
    pub(super) unknown_since: Option<Instant>,
    /// Of all workers of this process, and which of them this is.
    pub(super) standbys: Option<Arc<Pool>>,
    pub(super) number: usize,
    pub(super) stopping: bool,
}

impl Hands {
    /// Closes the clients, and waits for snapshots that are being written.
    pub(super) fn close(self) {
        let Self { service, id, input, consumer, deputy, producer, settler, saver, .. } = self;
        close(&service, &id, (input, consumer, deputy, settler, producer));
        drop(saver);
    }

    /// Executes a command.
    ///
    /// # Errors
    /// A record that no retry can produce.
    pub(super) fn execute(&mut self, core: &Core, command: Command) -> Result<Event, Hopeless> {
        let done = match command {
            Command::Look(partitions) => {
                if let Some(standbys) = &self.standbys {
                    standbys.given(self.number, &partitions);
                }
                if let Some(what) = self.waiting.for_now() {
                    return Ok(Event::Failed { failure: Failure::Retriable, what });
                }
                let looked = self.look(&partitions);
                return Ok(self.looked(looked));
            }
            Command::Load(wanted) => {
                let unit = wanted.unit;
                let standby = self.standbys.as_ref().filter(|_| wanted.below.is_none());
                if let Some(standby) = standby.and_then(|standbys| standbys.take(self.number, unit)) {
                    return Ok(Event::TakenOver { unit, standby });
                }
                return Ok(match saver::find(&self.store, &self.service, &wanted) {
                    Ok(found) => Event::Loaded { unit, found },
                    Err(error) => {
                        tracing::warn!(service = self.service, %error, "cannot look for snapshots (retry)");
                        Event::Failed { failure: Failure::Retriable, what: error.to_string() }
                    }
                });
            }
            Command::Consume(from) => {
                tracing::info!(service = self.service, id = self.id, partitions = from.len(), "reading");
                if let Some(standbys) = &self.standbys {
                    standbys.owns(self.number, &from);
                }
                return Ok(match self.input.consume(&from) {
                    Ok(()) => {
                        self.unknown_since = None;
                        Event::Done
                    }
                    Err(error) => self.failed_to_read("read its partitions", &error),
                });
            }
            Command::Pause(partitions) => {
                self.input.pause(&partitions);
                Ok(())
            }
            Command::Save(snapshot, base) => {
                return Ok(match self.saver.save(snapshot, base, self.stopping) {
                    Ok(()) => Event::Done,
                    Err(what) => Event::Failed { failure: Failure::Retriable, what },
                });
            }
            Command::Produce => return self.produce(core),
            Command::Begin => {
                self.producer.context().forget_ends();
                self.producer.begin_transaction()
            }
            Command::Flush => return Ok(self.flush()),
            Command::SendOffsets(positions) => return Ok(self.send_offsets(&positions)),
            Command::Commit => self.timed_commit(),
            Command::CommitOffsets(positions) => self.commit_offsets(&positions),
            Command::Abort => transaction::abort(&self.producer, PATIENCE),
            Command::Leave => Ok(()),
        };
        Ok(match done {
            Ok(()) => Event::Done,
            Err(error) => self.failed(&error),
        })
    }

    /// Serves the producer's callbacks.
    pub(super) fn producer_events(&self) {
        self.producer.poll(Duration::ZERO);
    }

    /// Reports an error of the producer, or of a commit.
    pub(super) fn failed(&self, error: &KafkaError) -> Event {
        let fatal = self.producer.client().fatal_error();
        let failure = errors::classify(error, fatal.as_ref().map(|(code, _)| *code));
        let reason = fatal.map_or_else(String::new, |(_, reason)| format!(": {reason}"));
        let what = format!("{error}{reason} (transactional.id and group.instance.id {})", self.id);
        tracing::warn!(service = self.service, ?failure, what, "a Kafka call failed");
        Event::Failed { failure, what }
    }

    /// Whether the client has for too long not known a partition that it was given: one that learned while
    /// brokers came and went that there is none may never ask again.
    #[expect(clippy::disallowed_methods, reason = "the shell's clock")]
    fn is_blind(&mut self, error: &KafkaError) -> bool {
        let unknown = [RDKafkaErrorCode::UnknownPartition, RDKafkaErrorCode::UnknownTopic];
        if !error.rdkafka_error_code().is_some_and(|code| unknown.contains(&code)) {
            self.unknown_since = None;
            return false;
        }
        self.unknown_since.get_or_insert_with(Instant::now).elapsed() > UNKNOWN
    }

    /// Reports an error of the consumer, where the call can be made again.
    pub(super) fn failed_to_read(&mut self, action: &str, error: &KafkaError) -> Event {
        let fatal = self.consumer.client().fatal_error();
        let failure = match errors::classify(error, fatal.map(|(code, _)| code)) {
            _ if self.is_blind(error) => Failure::Fatal,
            Failure::Abortable => Failure::Retriable,
            other => other,
        };
        let what = format!("{} could not {action}: {error} (group {})", self.id, self.group);
        tracing::warn!(service = self.service, ?failure, what, "a Kafka call failed");
        Event::Failed { failure, what }
    }

    /// What is known of the partitions, once it is sure that nobody else does their work.
    fn look(&mut self, partitions: &[TopicPartition]) -> Result<Vec<Standing>, Kept> {
        let mut standings = look(&self.consumer, partitions)?;
        match &mut self.deputy {
            Some(deputy) => deputy.take(&standings)?,
            None => take_back(&self.consumer, &self.service, &mut standings)?,
        }
        Ok(standings)
    }

    fn looked(&mut self, looked: Result<Vec<Standing>, Kept>) -> Event {
        let (failure, what) = match looked {
            Ok(standings) => {
                self.waiting.end();
                return Event::Looked(standings);
            }
            Err(Kept::Failed(error)) => return self.failed_to_read("look up what is committed", &error),
            Err(Kept::Waits(what)) if !self.waiting.is_over(&self.service, &what) => {
                (Failure::Retriable, what)
            }
            Err(Kept::Waits(what) | Kept::Refused(what)) => (Failure::Refused, what),
        };
        Event::Failed { failure, what }
    }

    #[expect(clippy::disallowed_methods, reason = "how long to wait for room is the shell's business")]
    fn produce(&mut self, core: &Core) -> Result<Event, Hopeless> {
        let mut count = 0;
        let mut full_since: Option<Instant> = None;
        for record in core.unsent() {
            loop {
                match self.send(record) {
                    Ok(()) => {
                        full_since = None;
                        break;
                    }
                    Err(KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull)) => {
                        if full_since.get_or_insert_with(Instant::now).elapsed() > ROOM {
                            return Ok(self.produced(count));
                        }
                        self.producer.poll(Duration::from_millis(1));
                    }
                    Err(source) if errors::is_hopeless(&source) => {
                        return Err(Hopeless { topic: record.topic.to_string(), source });
                    }
                    Err(error) => {
                        let fatal = self.producer.client().fatal_error();
                        let failure = fatal.map_or(Failure::Abortable, |(code, _)| errors::of_fatal(code));
                        return Ok(Event::Failed { failure, what: format!("{error} ({})", self.id) });
                    }
                }
            }
            count += 1;
        }
        Ok(self.produced(count))
    }

    fn produced(&self, count: usize) -> Event {
        self.producer.poll(Duration::ZERO);
        measure::produced(&self.service, count);
        Event::Produced(count)
    }

    fn send(&self, record: &OutRecord) -> Result<(), KafkaError> {
        let mut message: BaseRecord<'_, [u8], [u8], ()> = BaseRecord::to(&record.topic);
        message.partition = record.partition;
        if let Some(key) = &record.key {
            message = message.key(key);
        }
        if let Some(value) = &record.value {
            message = message.payload(value);
        }
        if let Some(headers) = client::headers(record) {
            message = message.headers(headers);
        }
        self.producer.send(message).map_err(|(error, _)| error)
    }

    fn send_offsets(&mut self, positions: &[Position]) -> Event {
        match self.try_send_offsets(positions) {
            Ok(true) => Event::Done,
            Ok(false) => {
                let what = format!("the client does not answer when offsets are added ({})", self.id);
                tracing::warn!(service = self.service, what, "a Kafka call failed");
                Event::Failed { failure: Failure::Fatal, what }
            }
            Err(error) => self.failed(&error),
        }
    }

    /// `false` if the client does not answer.
    fn try_send_offsets(&mut self, positions: &[Position]) -> Result<bool, KafkaError> {
        let Some(group) = self.consumer.group_metadata() else {
            return Err(KafkaError::ConsumerCommit(RDKafkaErrorCode::UnknownMemberId));
        };
        if !self.settler.settle(to_list(positions)?, group, PATIENCE)? {
            return Ok(false);
        }
        let Some(deputy) = &self.deputy else { return Ok(true) };
        // Where the other would stand is known when its records have been delivered.
        transaction::deliver(&self.producer, PATIENCE)?;
        let (offsets, group) = deputy.offer(positions, &self.producer.context().ends())?;
        self.settler.settle(offsets, group, PATIENCE)
    }

    /// At least once: the other's offsets first. What stands behind them is then made again whatever happens
    /// before those of the input follow.
    fn commit_offsets(&mut self, positions: &[Position]) -> Result<(), KafkaError> {
        if let Some(deputy) = &mut self.deputy {
            deputy.commit(positions, self.producer.context().ends())?;
            self.producer.context().forget_ends();
        }
        self.consumer.commit(&to_list(positions)?, CommitMode::Sync)
    }

    #[expect(clippy::disallowed_methods, reason = "the metric of how long commits take")]
    fn timed_commit(&mut self) -> Result<(), KafkaError> {
        let begun = Instant::now();
        transaction::commit(&self.producer, PATIENCE)?;
        if let Some(deputy) = &mut self.deputy {
            deputy.settle(self.producer.context().ends());
        }
        measure::commit(&self.service, begun.elapsed());
        Ok(())
    }

    fn flush(&self) -> Event {
        if let Err(error) = transaction::deliver(&self.producer, PATIENCE) {
            return self.failed(&error);
        }
        match self.producer.context().take_failure() {
            None => Event::Done,
            Some(error) => {
                tracing::warn!(service = self.service, %error, "a delivery failed, all goes out again");
                Event::Failed { failure: Failure::Abortable, what: error.to_string() }
            }
        }
    }
}

/// What the group has committed of partitions, and what their logs hold.
pub(super) fn look<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    partitions: &[TopicPartition],
) -> Result<Vec<Standing>, KafkaError> {
    let committed = committed_offsets(consumer, partitions)?;
    let lows = offsets(consumer, partitions.iter(), Offset::Beginning)?;
    let highs = offsets(consumer, partitions.iter(), Offset::End)?;
    let known = partitions.iter().zip(committed).zip(lows).zip(highs);
    let standing = |(((partition, committed), low), high): (((&TopicPartition, _), _), _)| Standing {
        partition: partition.clone(),
        committed,
        low,
        high,
    };
    Ok(known.map(standing).collect())
}

fn to_list(positions: &[Position]) -> Result<TopicPartitionList, KafkaError> {
    let mut list = TopicPartitionList::with_capacity(positions.len());
    for position in positions {
        let of = &position.partition;
        let mut element = list.add_partition(&of.topic, of.partition);
        element.set_offset(Offset::Offset(position.offset))?;
        if !position.metadata.is_empty() {
            element.set_metadata(&position.metadata);
        }
    }
    Ok(list)
}
