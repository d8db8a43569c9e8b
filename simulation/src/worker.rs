//! One worker: a core, and what its clients would hold.

use std::collections::BTreeMap;
use std::sync::Arc;

use runtime::core::{Clock, Command, Core, Counters, Event, Job, Standbys};
use runtime::processor::{InRecord, TopicPartition};

use crate::broker::Broker;
use crate::group::GroupEvent;
use crate::rng::Rng;

/// A worker of a service.
#[expect(clippy::struct_excessive_bools, reason = "each may befall it whatever the others have done")]
pub struct Worker {
    /// Its member and transactional id.
    pub id: String,
    /// Its service, which is its group.
    pub service: Arc<str>,
    /// Whether its process stands still.
    pub frozen: bool,
    pub(crate) core: Core,
    /// What its process keeps warm, and one of it that is being built.
    pub(crate) standbys: Standbys,
    pub(crate) job: Option<Job>,
    pub(crate) following: BTreeMap<TopicPartition, i64>,
    pub(crate) following_paused: Vec<TopicPartition>,
    pub(crate) epoch: u64,
    pub(crate) generation: u64,
    pub(crate) reading: BTreeMap<TopicPartition, i64>,
    pub(crate) paused: Vec<TopicPartition>,
    pub(crate) calls: u64,
    /// The next commit finds a coordinator that has forgotten.
    pub(crate) forgetful: bool,
    /// The call before which it was frozen.
    pub(crate) held: Option<Command>,
    /// Somebody else was started under its id: the group speaks to that one.
    pub(crate) zombie: bool,
    /// A zombie that has learned of it.
    pub(crate) gone: bool,
}

impl Worker {
    pub(crate) fn new(id: &str, service: Arc<str>, core: Core, standbys: Standbys, epoch: u64) -> Self {
        Self {
            id: id.to_owned(),
            service,
            frozen: false,
            core,
            standbys,
            job: None,
            following: BTreeMap::new(),
            following_paused: Vec::new(),
            epoch,
            generation: 0,
            reading: BTreeMap::new(),
            paused: Vec::new(),
            calls: 0,
            forgetful: false,
            held: None,
            zombie: false,
            gone: false,
        }
    }

    /// What its core has done since it was last started.
    pub fn counters(&self) -> Counters {
        self.core.counters()
    }

    /// What a poll gives: the group's word, or records, or nothing.
    pub(crate) fn poll(&mut self, broker: &mut Broker, rng: &mut Rng, clock: Clock) -> Event {
        let heard = if self.zombie { None } else { broker.group(&self.service).hear(&self.id) };
        match heard {
            Some(GroupEvent::Assigned(generation, partitions)) => {
                self.generation = generation;
                return Event::Assigned { partitions };
            }
            Some(GroupEvent::Revoked(partitions)) => return Event::Revoked { partitions },
            Some(GroupEvent::Lost(partitions)) => return Event::Lost { partitions },
            None => {}
        }
        let mut records: Vec<InRecord> = Vec::new();
        for (of, next) in &mut self.reading {
            if self.paused.contains(of) || rng.chance(200) {
                continue;
            }
            let most = 1 + rng.below(8) as usize;
            let polled = broker.poll(of, *next, most);
            *next = polled.last().map_or(*next, |record| record.record.offset + 1);
            records.extend(polled);
        }
        if !records.is_empty() {
            return Event::Records { records, clock };
        }
        if rng.chance(200) {
            return Event::Quiet { clock };
        }
        let at_end = self.reading.iter().filter(|(of, next)| broker.is_at_end(of, **next));
        Event::Drained { at_end: at_end.map(|(of, _)| of.clone()).collect(), clock }
    }
}
