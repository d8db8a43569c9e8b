//! A broker in memory: partitions, transactions with epochs, a group with generations, offsets.
//!
//! Knows Kafka's rules as far as the loop leans on them: what `read_committed` shows, who is
//! fenced, which commits a stale member may not make. Faults are injected elsewhere.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use runtime::core::{Failure, Standing};
use runtime::processor::{InRecord, OutRecord, Position, TopicPartition, TopicRecord};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Open,
    Committed,
    Aborted,
    /// Ends a transaction; no reader sees it, but it takes an offset.
    Marker,
}

#[derive(Debug, Clone)]
struct Entry {
    fate: Fate,
    value: bytes::Bytes,
}

#[derive(Debug, Default)]
struct Log {
    entries: Vec<Entry>,
    low: i64,
}

impl Log {
    /// Offset of the first record whose transaction is open.
    fn stable_end(&self) -> i64 {
        self.entries.iter().position(|entry| entry.fate == Fate::Open).unwrap_or(self.entries.len()) as i64
    }

    fn push(&mut self, fate: Fate, value: bytes::Bytes) -> usize {
        self.entries.push(Entry { fate, value });
        self.entries.len() - 1
    }
}

#[derive(Debug, Default)]
struct Producer {
    epoch: u64,
    open: Option<Transaction>,
}

#[derive(Debug, Default)]
struct Transaction {
    records: Vec<(TopicPartition, usize)>,
    offsets: Vec<Position>,
}

/// What the group tells a member.
#[derive(Debug, Clone)]
pub(crate) enum GroupEvent {
    Assigned(u64, Vec<TopicPartition>),
    Revoked(Vec<TopicPartition>),
    Lost(Vec<TopicPartition>),
}

#[derive(Debug, Default)]
struct Member {
    generation: u64,
    partitions: Vec<TopicPartition>,
    told: VecDeque<GroupEvent>,
    /// Must give its partitions back before the next generation begins.
    asked_back: bool,
}

/// The broker.
#[derive(Debug, Default)]
pub(crate) struct Broker {
    logs: BTreeMap<TopicPartition, Log>,
    producers: BTreeMap<String, Producer>,
    committed: BTreeMap<TopicPartition, (i64, String)>,
    generation: u64,
    members: BTreeMap<String, Member>,
    rebalancing: bool,
    inputs: Vec<TopicPartition>,
}

impl Broker {
    pub(crate) fn new(input: &str, output: &str, partitions: i32) -> Self {
        let tp = |topic: &str, partition| TopicPartition { topic: topic.into(), partition };
        let inputs: Vec<_> = (0..partitions).map(|partition| tp(input, partition)).collect();
        let outputs = (0..partitions).map(|partition| tp(output, partition));
        let logs = inputs.iter().cloned().chain(outputs).map(|of| (of, Log::default())).collect();
        Self { logs, inputs, ..Self::default() }
    }

    pub(crate) fn inputs(&self) -> &[TopicPartition] {
        &self.inputs
    }

    /// Somebody else writes to an input: committed, aborted, or without a transaction at all.
    pub(crate) fn feed(&mut self, to: &TopicPartition, value: bytes::Bytes, marker: bool, aborted: bool) {
        let log = self.logs.get_mut(to).expect("a known partition");
        log.push(if aborted { Fate::Aborted } else { Fate::Committed }, value);
        if marker || aborted {
            log.push(Fate::Marker, bytes::Bytes::new());
        }
    }

    /// Deletes the head of a log.
    pub(crate) fn cut(&mut self, of: &TopicPartition, low: i64) {
        self.logs.get_mut(of).expect("a known partition").low = low;
    }

    /// What a `read_committed` reader sees of a partition, from its beginning.
    pub(crate) fn visible(&self, of: &TopicPartition) -> Vec<(i64, bytes::Bytes)> {
        self.read(of, 0, usize::MAX)
            .into_iter()
            .map(|record| (record.offset, record.value.unwrap()))
            .collect()
    }

    pub(crate) fn committed(&self, of: &TopicPartition) -> Option<&(i64, String)> {
        self.committed.get(of)
    }

    /// Records to be read from `from` on.
    pub(crate) fn read(&self, of: &TopicPartition, from: i64, most: usize) -> Vec<TopicRecord> {
        let log = &self.logs[of];
        let range = from.max(log.low).max(0) as usize..log.stable_end().max(from) as usize;
        let entries = log.entries.get(range.clone()).unwrap_or_default();
        range
            .zip(entries)
            .filter(|(_, entry)| entry.fate == Fate::Committed)
            .take(most)
            .map(|(offset, entry)| TopicRecord {
                partition: of.partition,
                offset: offset as i64,
                timestamp_ms: 0,
                key: None,
                value: Some(entry.value.clone()),
                headers: Vec::new(),
            })
            .collect()
    }

    pub(crate) fn poll(&self, of: &TopicPartition, from: i64, most: usize) -> Vec<InRecord> {
        let topic = Arc::clone(&of.topic);
        let records = self.read(of, from, most).into_iter();
        records.map(|record| InRecord { topic: Arc::clone(&topic), record }).collect()
    }

    pub(crate) fn is_at_end(&self, of: &TopicPartition, from: i64) -> bool {
        self.read(of, from, 1).is_empty()
    }

    /// Committed offsets and bounds; not while a transaction holds offsets of these partitions.
    pub(crate) fn look(&self, partitions: &[TopicPartition]) -> Result<Vec<Standing>, Failure> {
        let unstable = |of: &TopicPartition| {
            let open = self.producers.values().filter_map(|producer| producer.open.as_ref());
            open.flat_map(|open| &open.offsets).any(|position| position.partition == *of)
        };
        if partitions.iter().any(unstable) {
            return Err(Failure::Retriable);
        }
        let standing = |of: &TopicPartition| Standing {
            partition: of.clone(),
            committed: self.committed.get(of).cloned(),
            low: self.logs[of].low,
            high: self.logs[of].stable_end(),
        };
        Ok(partitions.iter().map(standing).collect())
    }

    /// A producer takes its transactional id: whoever had it is fenced, its transaction aborted.
    pub(crate) fn init(&mut self, id: &str) -> u64 {
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

    pub(crate) fn produce(&mut self, id: &str, epoch: u64, record: &OutRecord) -> Result<(), Failure> {
        let partition = record.partition.expect("the test's processors name partitions");
        let to = TopicPartition { topic: Arc::clone(&record.topic), partition };
        self.open(id, epoch)?;
        let value = record.value.clone().expect("the test's processors write values");
        let at = self.logs.get_mut(&to).expect("a known partition").push(Fate::Open, value);
        self.open(id, epoch)?.records.push((to, at));
        Ok(())
    }

    /// Outside transactions.
    pub(crate) fn produce_plainly(&mut self, record: &OutRecord) {
        let partition = record.partition.expect("the test's processors name partitions");
        let to = TopicPartition { topic: Arc::clone(&record.topic), partition };
        let value = record.value.clone().expect("the test's processors write values");
        self.logs.get_mut(&to).expect("a known partition").push(Fate::Committed, value);
    }

    pub(crate) fn send_offsets(
        &mut self,
        id: &str,
        epoch: u64,
        (member, generation): (&str, u64),
        positions: &[Position],
    ) -> Result<(), Failure> {
        self.open(id, epoch)?;
        self.check_member(member, generation)?;
        self.open(id, epoch)?.offsets = positions.to_vec();
        Ok(())
    }

    pub(crate) fn commit_offsets(
        &mut self,
        (member, generation): (&str, u64),
        positions: &[Position],
    ) -> Result<(), Failure> {
        self.check_member(member, generation)?;
        self.apply(positions.to_vec());
        Ok(())
    }

    fn check_member(&self, member: &str, generation: u64) -> Result<(), Failure> {
        match self.members.get(member) {
            Some(known) if known.generation == generation => Ok(()),
            _ => Err(Failure::Abortable),
        }
    }

    fn apply(&mut self, positions: Vec<Position>) {
        for position in positions {
            self.committed.insert(position.partition, (position.offset, position.metadata));
        }
    }

    /// Commits or aborts; the same call again is no error.
    pub(crate) fn finish(&mut self, id: &str, epoch: u64, commit: bool) -> Result<(), Failure> {
        if self.producers.get(id).is_none_or(|producer| producer.epoch != epoch) {
            return Err(Failure::Fenced);
        }
        self.end(id, commit);
        Ok(())
    }

    /// The coordinator gives up on a transaction that has been open for too long.
    pub(crate) fn time_out(&mut self, id: &str) {
        if self.producers.get(id).is_some_and(|producer| producer.open.is_some()) {
            self.init(id);
        }
    }

    fn end(&mut self, id: &str, commit: bool) {
        let Some(open) = self.producers.get_mut(id).and_then(|producer| producer.open.take()) else { return };
        let fate = if commit { Fate::Committed } else { Fate::Aborted };
        let mut touched = BTreeSet::new();
        for (of, at) in open.records {
            self.logs.get_mut(&of).expect("a known partition").entries[at].fate = fate;
            touched.insert(of);
        }
        for of in touched {
            self.logs.get_mut(&of).expect("a known partition").push(Fate::Marker, bytes::Bytes::new());
        }
        if commit {
            self.apply(open.offsets);
        }
    }

    // The group.

    pub(crate) fn join(&mut self, member: &str) {
        self.members.entry(member.to_owned()).or_default();
        self.rebalance();
    }

    /// A static member is back after a crash: it keeps what it had, under the same generation.
    pub(crate) fn rejoin(&mut self, member: &str) {
        let generation = self.generation;
        let rebalancing = self.rebalancing;
        let known = self.members.entry(member.to_owned()).or_default();
        known.told.clear();
        known.asked_back = false;
        known.generation = generation;
        if rebalancing {
            known.partitions.clear();
            self.settle();
        } else {
            known.told.push_back(GroupEvent::Assigned(generation, known.partitions.clone()));
        }
    }

    /// Asks everybody for everything.
    pub(crate) fn rebalance(&mut self) {
        self.rebalancing = true;
        for member in self.members.values_mut().filter(|member| !member.asked_back) {
            // What was given and not yet taken is asked back as well, in order.
            let given = member.told.iter().any(|told| matches!(told, GroupEvent::Assigned(..)));
            if !member.partitions.is_empty() || given {
                member.asked_back = true;
                member.told.push_back(GroupEvent::Revoked(member.partitions.clone()));
            }
        }
        self.settle();
    }

    /// A member that is not heard from is put out; it will learn of it when it wakes.
    pub(crate) fn evict(&mut self, member: &str) {
        if let Some(mut gone) = self.members.remove(member) {
            gone.told.clear();
            gone.told.push_back(GroupEvent::Lost(std::mem::take(&mut gone.partitions)));
            gone.asked_back = false;
            gone.generation = u64::MAX;
            self.members.insert(format!("evicted {member}"), gone);
        }
        self.rebalance();
    }

    /// The next word for a member.
    pub(crate) fn hear(&mut self, member: &str) -> Option<GroupEvent> {
        if let Some(mut evicted) = self.members.remove(&format!("evicted {member}")) {
            let lost = evicted.told.pop_front();
            self.join(member);
            return lost;
        }
        self.members.get_mut(member)?.told.pop_front()
    }

    /// A member has given everything back.
    pub(crate) fn gave_back(&mut self, member: &str) {
        if let Some(member) = self.members.get_mut(member)
            && member.asked_back
            && member.told.is_empty()
        {
            member.asked_back = false;
            member.partitions.clear();
        }
        self.settle();
    }

    pub(crate) fn is_rebalancing(&self) -> bool {
        self.rebalancing
    }

    /// The next generation, once everything has been given back.
    fn settle(&mut self) {
        let in_group = |name: &String| !name.starts_with("evicted");
        let waiting = self.members.iter().any(|(name, member)| in_group(name) && member.asked_back);
        if !self.rebalancing || waiting {
            return;
        }
        self.rebalancing = false;
        self.generation += 1;
        let generation = self.generation;
        let names: Vec<String> = self.members.keys().filter(|name| in_group(name)).cloned().collect();
        for (index, name) in names.iter().enumerate() {
            // Another split in each generation, so that partitions move.
            let share = |partition: i32| (partition as u64 + generation) as usize % names.len() == index;
            let partitions: Vec<_> = self.inputs.iter().filter(|of| share(of.partition)).cloned().collect();
            let member = self.members.get_mut(name).expect("named above");
            member.generation = generation;
            member.partitions.clone_from(&partitions);
            member.told.push_back(GroupEvent::Assigned(generation, partitions));
        }
    }
}
