//! The broker: topics, transactions with epochs, groups and their offsets.
//!
//! Knows Kafka's rules as far as the loop leans on them: what `read_committed` shows, who is
//! fenced, which commits a stale member may not make. Faults are injected elsewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use runtime::core::{Failure, Standing};
use runtime::processor::{InRecord, MadeOf, OutRecord, Position, TopicPartition, TopicRecord};

use crate::group::Group;
use crate::log::{Fate, Log, Written};

/// Which of so many partitions a key belongs to.
pub type Partitioner = fn(&[u8], i32) -> i32;

#[derive(Debug, Default)]
struct Producer {
    epoch: u64,
    open: Option<Transaction>,
}

#[derive(Debug, Default)]
struct Transaction {
    records: Vec<(TopicPartition, usize)>,
    /// By the group whose offsets they are.
    offsets: BTreeMap<String, Vec<Position>>,
}

/// The broker.
#[derive(Debug)]
pub struct Broker {
    partitioner: Partitioner,
    logs: BTreeMap<TopicPartition, Log>,
    /// Partitions by topic.
    counts: BTreeMap<Arc<str>, i32>,
    producers: BTreeMap<String, Producer>,
    groups: BTreeMap<String, Group>,
    /// Records without partition and key go to partitions in turn.
    turn: i32,
}

impl Broker {
    /// Without topics; records without a partition go where `partitioner` says.
    pub fn new(partitioner: Partitioner) -> Self {
        Self {
            partitioner,
            logs: BTreeMap::new(),
            counts: BTreeMap::new(),
            producers: BTreeMap::new(),
            groups: BTreeMap::new(),
            turn: 0,
        }
    }

    /// Makes a topic.
    pub fn create(&mut self, topic: &Arc<str>, partitions: i32) {
        self.counts.insert(Arc::clone(topic), partitions);
        let partitions = self.partitions(topic).into_iter();
        self.logs.extend(partitions.map(|of| (of, Log::default())));
    }

    /// The partitions of a topic.
    pub fn partitions(&self, topic: &Arc<str>) -> Vec<TopicPartition> {
        let of = |partition| TopicPartition { topic: Arc::clone(topic), partition };
        (0..self.counts[topic]).map(of).collect()
    }

    /// Makes a group over topics.
    pub(crate) fn create_group(&mut self, name: &str, topics: &[Arc<str>]) {
        let inputs = topics.iter().flat_map(|topic| self.partitions(topic)).collect();
        self.groups.insert(name.to_owned(), Group::new(inputs));
    }

    /// A group.
    pub fn group(&mut self, name: &str) -> &mut Group {
        self.groups.get_mut(name).expect("a known group")
    }

    /// All groups, by name.
    pub fn groups(&self) -> impl Iterator<Item = (&str, &Group)> {
        self.groups.iter().map(|(name, group)| (name.as_str(), group))
    }

    fn log(&mut self, of: &TopicPartition) -> &mut Log {
        self.logs.get_mut(of).expect("a known partition")
    }

    /// Somebody else writes: in a transaction that ends at once (`marked`), in one that is aborted, or
    /// in none.
    pub fn feed(&mut self, to: &TopicPartition, record: impl Into<Written>, marked: bool, aborted: bool) {
        let log = self.log(to);
        log.push(if aborted { Fate::Aborted } else { Fate::Committed }, record.into());
        if marked || aborted {
            log.mark();
        }
    }

    /// Deletes the head of a log.
    pub fn cut(&mut self, of: &TopicPartition, low: i64) {
        let log = self.log(of);
        log.low = log.low.max(low);
    }

    /// Values that a `read_committed` reader sees of a partition, from its beginning.
    pub fn visible(&self, of: &TopicPartition) -> Vec<(i64, bytes::Bytes)> {
        let records = self.logs[of].read(of.partition, 0);
        records.map(|record| (record.offset, record.value.expect("a value"))).collect()
    }

    /// All records that a `read_committed` reader could ever see of a partition, expired or not.
    pub fn all(&self, of: &TopicPartition) -> Vec<TopicRecord> {
        self.logs[of].visible(of.partition, 0).collect()
    }

    /// Records to be read from `from` on, as a poll gives them.
    pub fn poll(&self, of: &TopicPartition, from: i64, most: usize) -> Vec<InRecord> {
        let records = self.logs[of].read(of.partition, from).take(most);
        records.map(|record| InRecord { topic: Arc::clone(&of.topic), record }).collect()
    }

    /// Offset after the last one that a `read_committed` reader may see.
    pub fn high(&self, of: &TopicPartition) -> i64 {
        self.logs[of].high()
    }

    /// First offset that the log still holds.
    pub(crate) fn low(&self, of: &TopicPartition) -> i64 {
        self.logs[of].low
    }

    pub(crate) fn is_at_end(&self, of: &TopicPartition, from: i64) -> bool {
        self.logs[of].is_at_end(from)
    }

    /// Offset of the last committed record before `offset`.
    pub(crate) fn before(&self, of: &TopicPartition, offset: i64) -> Option<i64> {
        self.logs[of].before(offset)
    }

    /// Committed offsets and bounds; not while a transaction holds offsets of these partitions.
    pub(crate) fn look(&self, group: &str, partitions: &[TopicPartition]) -> Result<Vec<Standing>, Failure> {
        let open = self.producers.values().filter_map(|producer| producer.open.as_ref());
        let mut pending = open.filter_map(|open| open.offsets.get(group)).flatten();
        if pending.any(|position| partitions.contains(&position.partition)) {
            return Err(Failure::Retriable);
        }
        let standing = |of: &TopicPartition| Standing {
            partition: of.clone(),
            committed: self.groups[group].committed(of).cloned(),
            low: self.logs[of].low,
            high: self.logs[of].high(),
        };
        Ok(partitions.iter().map(standing).collect())
    }

    /// A producer takes its transactional id: whoever had it is fenced, its transaction aborted.
    pub fn init(&mut self, id: &str) -> u64 {
        self.end(id, false);
        let producer = self.producers.entry(id.to_owned()).or_default();
        producer.epoch += 1;
        producer.epoch
    }

    fn open(&mut self, id: &str, epoch: u64) -> Result<&mut Transaction, Failure> {
        let producer = self.producers.get_mut(id).ok_or(Failure::Fenced)?;
        if producer.epoch != epoch {
            return Err(Failure::Fenced);
        }
        Ok(producer.open.get_or_insert_default())
    }

    /// Where a record goes.
    fn place(&mut self, record: &OutRecord) -> TopicPartition {
        let count = self.counts[&record.topic];
        let partition = record.partition.unwrap_or_else(|| {
            if let Some(key) = &record.key {
                (self.partitioner)(key, count)
            } else {
                self.turn = (self.turn + 1) % count;
                self.turn
            }
        });
        TopicPartition { topic: Arc::clone(&record.topic), partition }
    }

    pub(crate) fn produce(&mut self, id: &str, epoch: u64, record: &OutRecord) -> Result<(), Failure> {
        self.open(id, epoch)?;
        let to = self.place(record);
        let at = self.log(&to).push(Fate::Open, record.into());
        self.open(id, epoch)?.records.push((to, at));
        Ok(())
    }

    /// Outside transactions.
    pub(crate) fn produce_plainly(&mut self, record: &OutRecord) {
        let to = self.place(record);
        self.log(&to).push(Fate::Committed, record.into());
    }

    pub(crate) fn send_offsets(
        &mut self,
        id: &str,
        epoch: u64,
        (group, member, generation): (&str, &str, u64),
        positions: &[Position],
    ) -> Result<(), Failure> {
        self.open(id, epoch)?;
        self.group(group).check_member(member, generation)?;
        self.open(id, epoch)?.offsets.insert(group.to_owned(), positions.to_vec());
        Ok(())
    }

    /// Whether all that a group has not read of a partition was made of records from `from` on, where no
    /// transaction is open.
    pub(crate) fn is_read(
        &self,
        group: &str,
        of: &TopicPartition,
        from: i64,
        made_of: MadeOf,
    ) -> Result<bool, Failure> {
        if self.logs[of].is_open() {
            return Err(Failure::Retriable);
        }
        let next = self.groups[group].committed(of).map_or(0, |(offset, _)| *offset);
        let is_new = |record: &InRecord| made_of(record).is_ok_and(|made_of| made_of >= from);
        Ok(self.poll(of, next, usize::MAX).iter().all(is_new))
    }

    /// Adds to a transaction the offsets of a group without members, behind what the transaction wrote to a
    /// topic.
    pub(crate) fn send_ends(
        &mut self,
        id: &str,
        epoch: u64,
        group: &str,
        topic: &Arc<str>,
    ) -> Result<(), Failure> {
        let open = self.open(id, epoch)?;
        let mut ends = BTreeMap::new();
        for (of, at) in open.records.iter().filter(|(of, _)| of.topic == *topic) {
            ends.insert(of.clone(), *at as i64 + 1);
        }
        let position = |(partition, offset)| Position { partition, offset, metadata: String::new() };
        open.offsets.insert(group.to_owned(), ends.into_iter().map(position).collect());
        Ok(())
    }

    pub(crate) fn commit_offsets(
        &mut self,
        (group, member, generation): (&str, &str, u64),
        positions: &[Position],
    ) -> Result<(), Failure> {
        let group = self.group(group);
        group.check_member(member, generation)?;
        group.commit(positions.to_vec());
        Ok(())
    }

    /// Commits or aborts; the same call again is no error.
    pub(crate) fn finish(&mut self, id: &str, epoch: u64, commit: bool) -> Result<(), Failure> {
        if self.producers.get(id).is_none_or(|producer| producer.epoch != epoch) {
            return Err(Failure::Fenced);
        }
        self.end(id, commit);
        Ok(())
    }

    /// The coordinator gives up on a transaction that has been open for too long; whether there was one.
    pub fn time_out(&mut self, id: &str) -> bool {
        let open = self.producers.get(id).is_some_and(|producer| producer.open.is_some());
        if open {
            self.init(id);
        }
        open
    }

    fn end(&mut self, id: &str, commit: bool) {
        let Some(open) = self.producers.get_mut(id).and_then(|producer| producer.open.take()) else { return };
        let fate = if commit { Fate::Committed } else { Fate::Aborted };
        let mut touched = BTreeSet::new();
        for (of, at) in open.records {
            self.log(&of).decide(at, fate);
            touched.insert(of);
        }
        for of in touched {
            self.log(&of).mark();
        }
        if commit {
            for (group, positions) in open.offsets {
                self.group(&group).commit(positions);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(topic: &str, partition: i32) -> TopicPartition {
        TopicPartition { topic: topic.into(), partition }
    }

    fn record(key: Option<&'static str>, value: &'static str) -> OutRecord {
        OutRecord {
            topic: "out".into(),
            partition: None,
            key: key.map(|key| key.as_bytes().into()),
            value: Some(value.as_bytes().into()),
            headers: Vec::new(),
        }
    }

    /// Two partitions in and out; keys go by their length.
    fn broker() -> Broker {
        let mut broker = Broker::new(|key, count| key.len() as i32 % count);
        broker.create(&"in".into(), 2);
        broker.create(&"out".into(), 2);
        broker.create_group("group", &["in".into()]);
        broker
    }

    fn values(broker: &Broker, partition: i32) -> Vec<(i64, bytes::Bytes)> {
        broker.visible(&of("out", partition))
    }

    fn position(offset: i64) -> Position {
        Position { partition: of("in", 0), offset, metadata: "m".to_owned() }
    }

    #[test]
    fn nobody_reads_past_an_open_transaction_nor_what_was_aborted() {
        let mut broker = broker();
        let (a, b) = (broker.init("a"), broker.init("b"));
        broker.produce("a", a, &record(Some("even"), "first")).unwrap();
        broker.produce("b", b, &record(Some("even"), "second")).unwrap();
        broker.finish("b", b, true).unwrap();
        assert_eq!((values(&broker, 0), broker.high(&of("out", 0))), (Vec::new(), 0));
        broker.finish("a", a, false).unwrap();
        assert_eq!(values(&broker, 0), [(1, "second".into())]);
        assert_eq!(broker.high(&of("out", 0)), 4, "both markers are passed");
        assert!(broker.is_at_end(&of("out", 0), 2));
        assert_eq!(values(&broker, 1), []);
    }

    #[test]
    fn who_lost_an_id_is_fenced_and_what_was_open_is_gone() {
        let mut broker = broker();
        let old = broker.init("a");
        broker.produce("a", old, &record(Some("odd"), "lost")).unwrap();
        let new = broker.init("a");
        assert_eq!(broker.produce("a", old, &record(None, "late")), Err(Failure::Fenced));
        assert_eq!(broker.finish("a", old, true), Err(Failure::Fenced));
        broker.produce("a", new, &record(Some("odd"), "kept")).unwrap();
        broker.finish("a", new, true).unwrap();
        assert_eq!(values(&broker, 1), [(2, "kept".into())]);
    }

    #[test]
    fn offsets_come_with_the_commit_and_nobody_looks_before() {
        let mut broker = broker();
        broker.group("group").join("a");
        let (epoch, generation) = (broker.init("a"), 1);
        broker.send_offsets("a", epoch, ("group", "a", generation), &[position(7)]).unwrap();
        assert_eq!(broker.look("group", &[of("in", 0)]), Err(Failure::Retriable));
        assert!(broker.look("group", &[of("in", 1)]).is_ok(), "only of those in the transaction");
        broker.finish("a", epoch, true).unwrap();
        assert_eq!(broker.group("group").committed(&of("in", 0)), Some(&(7, "m".to_owned())));
    }

    #[test]
    fn a_member_of_an_old_generation_commits_nothing() {
        let mut broker = broker();
        broker.group("group").join("a");
        let epoch = broker.init("a");
        broker.group("group").evict("a");
        broker.group("group").join("b");
        let sent = broker.send_offsets("a", epoch, ("group", "a", 1), &[position(7)]);
        assert_eq!(sent, Err(Failure::Abortable));
        assert_eq!(broker.commit_offsets(("group", "a", 1), &[position(7)]), Err(Failure::Abortable));
        assert_eq!(broker.group("group").committed(&of("in", 0)), None);
    }
}
