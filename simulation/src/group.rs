//! A consumer group: members, generations, and what is committed.

use std::collections::{BTreeMap, VecDeque};

use runtime::core::Failure;
use runtime::processor::{Position, TopicPartition};

/// What the group tells a member.
#[derive(Debug, Clone)]
pub enum GroupEvent {
    /// These partitions are its, in that generation.
    Assigned(u64, Vec<TopicPartition>),
    /// It is to give these back.
    Revoked(Vec<TopicPartition>),
    /// These were given to others.
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

/// A group.
#[derive(Debug, Default)]
pub struct Group {
    inputs: Vec<TopicPartition>,
    generation: u64,
    members: BTreeMap<String, Member>,
    rebalancing: bool,
    committed: BTreeMap<TopicPartition, (i64, String)>,
}

impl Group {
    /// Of a service that reads these.
    pub(crate) fn new(inputs: Vec<TopicPartition>) -> Self {
        Self { inputs, ..Self::default() }
    }

    /// The partitions that it shares among its members.
    pub fn inputs(&self) -> &[TopicPartition] {
        &self.inputs
    }

    /// What is committed of a partition: the next offset, and its metadata.
    pub fn committed(&self, of: &TopicPartition) -> Option<&(i64, String)> {
        self.committed.get(of)
    }

    pub(crate) fn commit(&mut self, positions: Vec<Position>) {
        for position in positions {
            self.committed.insert(position.partition, (position.offset, position.metadata));
        }
    }

    pub(crate) fn check_member(&self, member: &str, generation: u64) -> Result<(), Failure> {
        match self.members.get(member) {
            Some(known) if known.generation == generation => Ok(()),
            _ => Err(Failure::Abortable),
        }
    }

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
    pub fn rebalance(&mut self) {
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
    pub fn evict(&mut self, member: &str) {
        if let Some(mut gone) = self.members.remove(member) {
            gone.told.clear();
            gone.told.push_back(GroupEvent::Lost(std::mem::take(&mut gone.partitions)));
            gone.asked_back = false;
            gone.generation = u64::MAX;
            self.members.insert(format!("evicted {member}"), gone);
        }
        self.rebalance();
    }

    /// A member goes for good.
    pub(crate) fn leave(&mut self, member: &str) {
        self.members.remove(member);
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
            let share = |at: usize| (at as u64 + generation) as usize % names.len() == index;
            let inputs = self.inputs.iter().enumerate().filter(|(at, _)| share(*at));
            let partitions: Vec<_> = inputs.map(|(_, of)| of.clone()).collect();
            let member = self.members.get_mut(name).expect("named above");
            member.generation = generation;
            member.partitions.clone_from(&partitions);
            member.told.push_back(GroupEvent::Assigned(generation, partitions));
        }
    }
}
