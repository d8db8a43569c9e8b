//! What a worker reads: one queue a partition, and what is known of each one's end.
//!
//! Partitions have queues of their own so that a paused one keeps what is fetched, so that none
//! starves the others, and because the client names no topic when it tells of an end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::base_consumer::PartitionQueue;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext, RebalanceProtocol};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message as _};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::clients::{Asked, GroupContext, GroupEvent, LoopConsumer, Wake};
use crate::kafka::client::in_record;
use crate::pages::Pages;
use crate::processor::{InRecord, TopicPartition};

/// How long a question to the broker may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a poll gave.
#[derive(Debug)]
pub(super) enum Polled {
    /// The group spoke.
    Group(GroupEvent),
    /// Records, in each partition's order.
    Records(Vec<InRecord>),
    /// Nothing.
    Nothing,
}

/// The queues of what is assigned.
pub(super) struct Input {
    // Queues go before the consumer that they point into.
    queues: Vec<Queue>,
    next: usize,
    consumer: Arc<LoopConsumer>,
    wake: Arc<Wake>,
    fresh: bool,
    pages: Pages,
}

struct Queue {
    partition: TopicPartition,
    messages: PartitionQueue<GroupContext>,
    paused: bool,
    next: i64,
    at_end: bool,
    /// The end of the log that `at_end` was found to hold for.
    end: Option<i64>,
}

impl Queue {
    fn take(&mut self, message: &BorrowedMessage<'_>, pages: &mut Pages) -> InRecord {
        self.next = message.offset() + 1;
        self.at_end = false;
        self.end = None;
        in_record(message, Arc::clone(&self.partition.topic), pages)
    }

    fn ended(&mut self) {
        self.at_end = true;
        self.end = None;
    }
}

impl Input {
    pub(super) fn new(consumer: Arc<LoopConsumer>, wake: Arc<Wake>) -> Self {
        Self { queues: Vec::new(), next: 0, consumer, wake, fresh: false, pages: Pages::default() }
    }

    /// Reads exactly these partitions from these offsets; also the answer to what the group gave
    /// or took.
    pub(super) fn consume(&mut self, from: &[(TopicPartition, i64)]) -> KafkaResult<()> {
        self.next = 0;
        if matches!(self.consumer.rebalance_protocol(), RebalanceProtocol::Cooperative) {
            return self.consume_other(from);
        }
        self.queues.clear();
        // That nothing is given has to be accepted, too: librdkafka waits for it, and takes no part in what the
        // group does next. Giving everything back is another answer.
        if from.is_empty() && self.consumer.context().asked() != Some(Asked::Assign) {
            self.consumer.unassign()?;
        } else {
            self.consumer.assign(&list(from)?)?;
        }
        self.consumer.context().answered();
        self.split(from)
    }

    /// The same where partitions are given and taken one by one (KIP-848): what is read from where it is to be
    /// read goes on.
    fn consume_other(&mut self, from: &[(TopicPartition, i64)]) -> KafkaResult<()> {
        let is_wanted =
            |queue: &Queue| from.iter().any(|(of, next)| *of == queue.partition && *next == queue.next);
        self.queues.retain(is_wanted);
        self.queues.iter_mut().for_each(|queue| queue.paused = false);
        let goes_on = |topic: &str, partition: i32| {
            let mut queues = self.queues.iter();
            queues.any(|queue| *queue.partition.topic == *topic && queue.partition.partition == partition)
        };
        let mut gone = TopicPartitionList::new();
        for element in self.consumer.assignment()?.elements() {
            if !goes_on(element.topic(), element.partition()) {
                gone.add_partition(element.topic(), element.partition());
            }
        }
        let new: Vec<(TopicPartition, i64)> =
            from.iter().filter(|(of, _)| !goes_on(&of.topic, of.partition)).cloned().collect();
        let asked = self.consumer.context().asked();
        if gone.count() > 0 || asked == Some(Asked::Revoke) {
            self.consumer.incremental_unassign(&gone)?;
        }
        if !new.is_empty() || asked == Some(Asked::Assign) {
            self.consumer.incremental_assign(&list(&new)?)?;
        }
        self.consumer.context().answered();
        self.split(&new)
    }

    /// Gives partitions that were just assigned queues of their own.
    fn split(&mut self, from: &[(TopicPartition, i64)]) -> KafkaResult<()> {
        for (partition, offset) in from {
            let Some(mut queue) = self.consumer.split_partition_queue(&partition.topic, partition.partition)
            else {
                return Err(KafkaError::Subscription(format!("{partition} has no queue")));
            };
            let wake = Arc::clone(&self.wake);
            queue.set_nonempty_callback(move || wake.wake());
            let partition = partition.clone();
            let (paused, at_end, end) = (false, false, None);
            self.queues.push(Queue { partition, messages: queue, paused, next: *offset, at_end, end });
        }
        Ok(())
    }

    /// Reads exactly these partitions no more until told otherwise. What is fetched is kept.
    pub(super) fn pause(&mut self, paused: &[TopicPartition]) {
        for queue in &mut self.queues {
            queue.paused = paused.contains(&queue.partition);
        }
    }

    /// Gives the consumer's partitions up without a word: it is being closed.
    fn close(&mut self) {
        self.consumer.context().close();
        // What the group asked and nobody answered is answered here, rather than from within the close,
        // which may ask again and wait. Where nothing was asked, this changes nothing.
        if let Err(error) = self.consume(&[]) {
            tracing::debug!(%error, "could not give partitions back before closing");
        }
    }

    pub(super) fn is_assigned(&self) -> bool {
        !self.queues.is_empty()
    }

    pub(super) fn all_at_end(&self) -> bool {
        self.queues.iter().all(|queue| queue.at_end)
    }

    /// Partitions that stand at their end, and whether the broker was heard from since this was
    /// last asked.
    pub(super) fn at_end(&mut self) -> (Vec<TopicPartition>, bool) {
        let ended = self.queues.iter().filter(|queue| queue.at_end);
        (ended.map(|queue| queue.partition.clone()).collect(), std::mem::take(&mut self.fresh))
    }

    /// Waits at most `time` for something, and takes at most `most` records.
    #[expect(clippy::disallowed_methods, reason = "how long to wait is the shell's business")]
    pub(super) fn poll(&mut self, most: usize, time: Duration) -> KafkaResult<Polled> {
        let until = Instant::now() + time;
        loop {
            let mut records = Vec::new();
            self.poll_main(&mut records)?;
            if let Some(event) = self.consumer.context().take() {
                // What was read belongs to an assignment that ends here, and is read again.
                return Ok(Polled::Group(event));
            }
            let ended = self.poll_queues(most, &mut records)?;
            if !records.is_empty() {
                self.fresh = true;
                return Ok(Polled::Records(records));
            }
            let left = until.saturating_duration_since(Instant::now());
            if ended || left.is_zero() {
                self.fresh |= ended;
                return Ok(Polled::Nothing);
            }
            self.wake.wait(left);
        }
    }

    /// Asks the broker for the ends of all partitions: a round trip that proves that it is there.
    /// Gives how far each is from its end.
    pub(super) fn confirm(&mut self) -> KafkaResult<Vec<(TopicPartition, i64)>> {
        let partitions = self.queues.iter().map(|queue| &queue.partition);
        let ends = offsets(&self.consumer, partitions, Offset::End)?;
        self.fresh = true;
        let mut lags = Vec::with_capacity(ends.len());
        for (queue, end) in self.queues.iter_mut().zip(ends) {
            match queue.end {
                // Something has come since; the client will tell of the end again.
                Some(known) if known != end => queue.at_end = queue.next >= end,
                _ => queue.at_end |= queue.next >= end,
            }
            queue.end = Some(end);
            let lag = if queue.at_end { 0 } else { end - queue.next };
            lags.push((queue.partition.clone(), lag));
        }
        Ok(lags)
    }

    fn poll_main(&mut self, records: &mut Vec<InRecord>) -> KafkaResult<()> {
        let consumer = Arc::clone(&self.consumer);
        while let Some(polled) = consumer.poll(Duration::ZERO) {
            match polled {
                // Fetched between the assignment and the making of the queues.
                Ok(message) => {
                    let of = self.queues.iter_mut().find(|queue| {
                        queue.partition.partition == message.partition()
                            && *queue.partition.topic == *message.topic()
                    });
                    records.extend(of.map(|queue| queue.take(&message, &mut self.pages)));
                }
                Err(KafkaError::PartitionEOF(partition)) => self.ended_somewhere(partition)?,
                Err(error) => tell(error)?,
            }
        }
        Ok(())
    }

    /// The end of a partition of this number, told before it had a queue of its own.
    fn ended_somewhere(&mut self, partition: i32) -> KafkaResult<()> {
        let mut candidates: Vec<&mut Queue> =
            self.queues.iter_mut().filter(|queue| queue.partition.partition == partition).collect();
        if let [only] = &mut candidates[..] {
            only.ended();
            return Ok(());
        }
        for queue in candidates.into_iter().filter(|queue| !queue.at_end) {
            // Read again from where we are: the end will be told again, in the right queue.
            let at = Offset::Offset(queue.next);
            self.consumer.seek(&queue.partition.topic, partition, at, PATIENCE)?;
        }
        Ok(())
    }

    fn poll_queues(&mut self, most: usize, records: &mut Vec<InRecord>) -> KafkaResult<bool> {
        let count = self.queues.len();
        let share = (most / self.queues.iter().filter(|queue| !queue.paused).count().max(1)).max(1);
        let mut ended = false;
        self.next = if count == 0 { 0 } else { (self.next + 1) % count };
        for turn in 0..count {
            let queue = &mut self.queues[(self.next + turn) % count];
            if queue.paused {
                continue;
            }
            let mut taken = 0;
            while taken < share {
                match queue.messages.poll(Duration::ZERO) {
                    None => break,
                    Some(Ok(message)) => {
                        // The message borrows the queue, and says all that is needed of it.
                        let record = in_record(&message, Arc::clone(&queue.partition.topic), &mut self.pages);
                        drop(message);
                        queue.next = record.record.offset + 1;
                        queue.at_end = false;
                        queue.end = None;
                        records.push(record);
                        taken += 1;
                    }
                    Some(Err(KafkaError::PartitionEOF(_))) => {
                        queue.ended();
                        ended = true;
                    }
                    Some(Err(error)) => tell(error)?,
                }
            }
        }
        Ok(ended)
    }
}

impl Drop for Input {
    /// The consumer waits, when it is dropped, until nothing is assigned to it; while unwinding too.
    fn drop(&mut self) {
        self.close();
    }
}

fn list(from: &[(TopicPartition, i64)]) -> KafkaResult<TopicPartitionList> {
    let mut list = TopicPartitionList::with_capacity(from.len());
    for (partition, offset) in from {
        list.add_partition_offset(&partition.topic, partition.partition, Offset::Offset(*offset))?;
    }
    Ok(list)
}

/// Passes on what the loop cannot go on after; the rest the client mends by itself.
fn tell(error: KafkaError) -> KafkaResult<()> {
    match &error {
        KafkaError::MessageConsumptionFatal(_)
        | KafkaError::MessageConsumption(RDKafkaErrorCode::AutoOffsetReset) => Err(error),
        _ => {
            tracing::warn!(%error, "the consumer reports an error (retry)");
            Ok(())
        }
    }
}

/// Offsets of partitions at `place`: [`Offset::Beginning`] or [`Offset::End`], in the same order.
pub(super) fn offsets<'a, C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    partitions: impl Iterator<Item = &'a TopicPartition> + Clone,
    place: Offset,
) -> KafkaResult<Vec<i64>> {
    let mut list = TopicPartitionList::new();
    for partition in partitions.clone() {
        list.add_partition_offset(&partition.topic, partition.partition, place)?;
    }
    if list.count() == 0 {
        return Ok(Vec::new());
    }
    let found = consumer.offsets_for_times(list, PATIENCE)?;
    partitions
        .map(|partition| {
            let element = found.find_partition(&partition.topic, partition.partition);
            let element = element.ok_or(KafkaError::OffsetFetch(RDKafkaErrorCode::UnknownPartition))?;
            element.error()?;
            match element.offset() {
                Offset::Offset(offset) => Ok(offset),
                _ => Err(KafkaError::OffsetFetch(RDKafkaErrorCode::NoOffset)),
            }
        })
        .collect()
}

#[cfg(all(test, feature = "embedded-broker"))]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed setup is a failed test")]
    use super::super::clients::{self, Names};
    use super::super::closing::close_within;
    use super::*;
    use crate::config::Kafka;
    use crate::embedded::{self, Broker};
    use crate::kafka::{Admin, TopicSpec};

    /// Within this time a member closes on any machine.
    const CLOSED: Duration = Duration::from_secs(30);

    fn cluster() -> (Broker, Kafka) {
        let broker = embedded::spawn().unwrap();
        let kafka = Kafka::at(broker.bootstrap());
        let name = "topic".into();
        let spec = TopicSpec { name, partitions: 2, replication_factor: -1, config: Vec::new() };
        Admin::new(&kafka).unwrap().create_topics(&[spec]).unwrap();
        (broker, kafka)
    }

    fn member(kafka: &Kafka, number: usize) -> Input {
        let wake = Arc::new(Wake::default());
        let names = Names::new(kafka, "close", "instance", number, None);
        let consumer = clients::consumer(kafka, &names, &wake).unwrap();
        consumer.subscribe(&["topic"]).unwrap();
        Input::new(consumer, wake)
    }

    /// What the group says next to one member; the others' answers are given meanwhile.
    fn asked(of: &mut Input, others: &mut [&mut Input]) -> GroupEvent {
        for _ in 0..1_000 {
            for other in &mut *others {
                if let Polled::Group(GroupEvent::Revoked(_) | GroupEvent::Lost(_)) =
                    other.poll(1, Duration::ZERO).unwrap()
                {
                    other.consume(&[]).unwrap();
                }
            }
            if let Polled::Group(event) = of.poll(1, Duration::from_millis(20)).unwrap() {
                return event;
            }
        }
        panic!("the group says nothing");
    }

    #[test]
    fn closes_while_what_was_given_is_not_yet_taken() {
        let (_broker, kafka) = cluster();
        let mut one = member(&kafka, 0);
        let event = asked(&mut one, &mut []);
        assert!(matches!(&event, GroupEvent::Assigned(given) if given.len() == 2), "{event:?}");
        assert!(close_within(CLOSED, one));
    }

    #[test]
    fn closes_while_what_is_taken_is_not_yet_given_back() {
        let (_broker, kafka) = cluster();
        let mut one = member(&kafka, 0);
        let event = asked(&mut one, &mut []);
        let GroupEvent::Assigned(given) = event else { panic!("{event:?}") };
        let from: Vec<_> = given.into_iter().map(|partition| (partition, 0)).collect();
        one.consume(&from).unwrap();
        let mut two = member(&kafka, 1);
        let event = asked(&mut one, &mut [&mut two]);
        assert!(matches!(&event, GroupEvent::Revoked(_)), "{event:?}");
        assert!(close_within(CLOSED, one));
        assert!(close_within(CLOSED, two));
    }

    #[test]
    fn closes_where_nothing_is_asked() {
        let (_broker, kafka) = cluster();
        assert!(close_within(CLOSED, member(&kafka, 0)));
    }
}
