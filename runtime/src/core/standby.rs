//! Standbys: units that a process keeps warm without owning them.
//!
//! Each is restored as its owner would restore it and then folded in silence behind its owner, never beyond
//! what the owner has committed: a state beyond that would be one whose outputs were dropped. So a standby
//! is a snapshot that need not be read, and is taken over as one is restored: what it lacks is replayed.
//!
//! Knows no broker, no store and no thread: a driver executes its commands, as it does the loop's, and builds
//! what takes long. What cannot go on is dropped with a warning and begun anew after a rest.

mod job;
mod one;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use job::NotBuilt;
pub use job::{Finished, Job};
pub use one::Standby;

use super::rebuild::{check_range, is_stateful, wanted};
use super::{Clock, Command, Event, Standing};
use crate::processor::{InRecord, ProcessorFactory, TopicPartition, UnitId};
use crate::snapshot::Snapshot;

/// How long a unit that could not be followed is left alone, ms: until its owner has saved another snapshot.
const REST_MS: u64 = 30_000;
/// How long one of which nothing was committed yet is left alone, ms.
const EARLY_MS: u64 = 1_000;

/// A unit that is followed.
struct Follow {
    partitions: BTreeSet<TopicPartition>,
    stage: Stage,
}

enum Stage {
    /// What is committed has to be found out.
    Looking,
    /// A snapshot has to be found, older than the one with this key.
    Loading(Vec<Standing>, Option<u64>),
    /// It is being built, in the job of this number.
    Building(u64),
    /// It stands ready.
    Following(Standby),
}

/// The standbys of one process, for one service.
pub struct Standbys {
    factory: Arc<dyn ProcessorFactory>,
    /// What is to be followed as long as no worker of this process owns it.
    placed: BTreeMap<UnitId, BTreeSet<TopicPartition>>,
    /// What the workers of this process own.
    owned: BTreeMap<usize, BTreeSet<UnitId>>,
    follows: BTreeMap<UnitId, Follow>,
    /// Until when units are left alone.
    resting: BTreeMap<UnitId, u64>,
    jobs: Vec<Job>,
    last_job: u64,
    /// Given up, to be freed where nobody waits.
    dropped: Vec<Standby>,
    /// All that is followed is to be looked at again: the log is not as it was thought to be.
    doubted: bool,
    consume: bool,
    paused: Vec<TopicPartition>,
    /// A call failed: poll before the next.
    hold: bool,
    asked: Option<Asked>,
    clock: Clock,
}

/// Which command waits for its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    Look,
    Load(UnitId),
    Consume,
    Pause,
}

impl Standbys {
    /// Follows nothing yet.
    pub fn new(factory: Arc<dyn ProcessorFactory>, clock: Clock) -> Self {
        Self {
            factory,
            placed: BTreeMap::new(),
            owned: BTreeMap::new(),
            follows: BTreeMap::new(),
            resting: BTreeMap::new(),
            jobs: Vec::new(),
            last_job: 0,
            dropped: Vec::new(),
            doubted: false,
            consume: false,
            paused: Vec::new(),
            hold: false,
            asked: None,
            clock,
        }
    }

    /// Exactly these partitions are to be followed from now on, as far as no worker of this process owns them.
    pub fn place(&mut self, partitions: impl IntoIterator<Item = TopicPartition>) {
        self.placed.clear();
        if is_stateful(self.factory.as_ref()) {
            for of in partitions {
                self.placed.entry(self.factory.unit(&of)).or_default().insert(of);
            }
        }
        self.settle();
    }

    /// A worker of this process owns exactly these partitions.
    pub fn owns<'a>(&mut self, worker: usize, partitions: impl IntoIterator<Item = &'a TopicPartition>) {
        let units = partitions.into_iter().map(|of| self.factory.unit(of)).collect();
        self.owned.insert(worker, units);
        self.settle();
    }

    /// A worker of this process was given these partitions, beside what it owns.
    pub fn given<'a>(&mut self, worker: usize, partitions: impl IntoIterator<Item = &'a TopicPartition>) {
        let units: Vec<UnitId> = partitions.into_iter().map(|of| self.factory.unit(of)).collect();
        // What lies ready is taken when its state is asked for.
        let is_ready = |unit: &UnitId| {
            self.follows.get(unit).is_some_and(|follow| matches!(follow.stage, Stage::Following(_)))
        };
        let others: Vec<UnitId> = units.into_iter().filter(|unit| !is_ready(unit)).collect();
        self.owned.entry(worker).or_default().extend(others);
        self.settle();
    }

    /// A worker of this process owns the unit and takes the standby of it, if there is one that has once stood
    /// where its owner did: one that has not is no better than a snapshot.
    pub fn take(&mut self, worker: usize, unit: UnitId) -> Option<Standby> {
        self.owned.entry(worker).or_default().insert(unit);
        let Stage::Following(standby) = self.follows.remove(&unit)?.stage else { return None };
        self.consume = true;
        if standby.is_warm() {
            return Some(standby);
        }
        self.dropped.push(standby);
        None
    }

    /// What to do now; `None`: poll. Its answer must come before the next call.
    pub fn next_command(&mut self) -> Option<Command> {
        debug_assert!(self.asked.is_none(), "{:?} has not been answered", self.asked);
        let command = if self.hold { None } else { self.choose() }?;
        self.asked = match &command {
            Command::Look(_) => Some(Asked::Look),
            Command::Load(wanted) => Some(Asked::Load(wanted.unit)),
            Command::Consume(_) => Some(Asked::Consume),
            _ => Some(Asked::Pause),
        };
        Some(command)
    }

    fn choose(&mut self) -> Option<Command> {
        let look: Vec<TopicPartition> = self
            .follows
            .values()
            .filter(|follow| match follow.stage {
                Stage::Looking => true,
                Stage::Following(_) => self.doubted,
                _ => false,
            })
            .flat_map(|follow| follow.partitions.iter().cloned())
            .collect();
        if !look.is_empty() {
            return Some(Command::Look(look));
        }
        self.doubted = false;
        let fingerprint = self.factory.state_fingerprint().unwrap_or_default();
        let load = self.follows.iter().find_map(|(unit, follow)| match &follow.stage {
            Stage::Loading(standings, below) => Some(wanted(*unit, standings, *below, fingerprint)),
            _ => None,
        });
        if let Some(wanted) = load {
            return Some(Command::Load(wanted));
        }
        if self.consume {
            // What is held is read again.
            self.standbys_mut().for_each(|(_, standby)| standby.let_go());
            let mut from: Vec<_> = self.standbys().flat_map(|(_, standby)| standby.reading()).collect();
            from.sort();
            return Some(Command::Consume(from));
        }
        let mut paused: Vec<TopicPartition> =
            self.standbys_mut().filter_map(|(_, standby)| standby.full()).flatten().collect();
        paused.sort();
        if paused == self.paused {
            return None;
        }
        self.paused.clone_from(&paused);
        Some(Command::Pause(paused))
    }

    /// Takes in what has happened: answers, and what polls gave.
    pub fn on(&mut self, event: Event) {
        match event {
            Event::Records { records, clock } => {
                self.polled(clock);
                self.hold_back(records);
            }
            Event::Drained { clock, .. } | Event::Quiet { clock } => self.polled(clock),
            Event::Looked(standings) => {
                self.asked = None;
                self.looked(standings);
            }
            Event::Loaded { unit, found } => {
                self.asked = None;
                self.loaded(unit, found);
            }
            Event::Failed { what, .. } => {
                tracing::debug!(asked = ?self.asked, what, "a call for standbys failed (retry)");
                if self.asked.take() == Some(Asked::Pause) {
                    self.paused.clear();
                }
                self.hold = true;
            }
            _ => {
                if self.asked.take() == Some(Asked::Consume) {
                    self.consume = false;
                    self.paused.clear();
                }
            }
        }
    }

    /// The next unit to be built: outside of any lock, it may take seconds.
    pub fn job(&mut self) -> Option<Job> {
        self.jobs.pop()
    }

    /// Takes in what came of a job, unless it is not wanted any more.
    pub fn finished(&mut self, finished: Finished) {
        let Finished { number, unit, standings, built } = finished;
        let is_awaited =
            |follow: &Follow| matches!(follow.stage, Stage::Building(awaited) if awaited == number);
        let is_awaited = self.follows.get(&unit).is_some_and(is_awaited);
        match built {
            Ok(standby) if is_awaited => {
                self.stage(unit, Stage::Following(standby));
                self.consume = true;
            }
            Ok(standby) => self.dropped.push(standby),
            Err(_) if !is_awaited => {}
            Err(NotBuilt::Older(below)) => self.stage(unit, Stage::Loading(standings, Some(below))),
            Err(NotBuilt::Hopeless(why)) => self.rest(unit, &why),
        }
    }

    /// What is followed, and what is known to be committed of it is asked for now and then.
    pub fn followed(&self) -> Vec<TopicPartition> {
        self.standbys().flat_map(|(_, standby)| standby.partitions().cloned().collect::<Vec<_>>()).collect()
    }

    /// So much is committed by the owners.
    pub fn committed(&mut self, offsets: &[(TopicPartition, i64)]) {
        let behind: Vec<UnitId> = self
            .standbys_mut()
            .filter_map(|(unit, standby)| (!standby.committed(offsets)).then_some(unit))
            .collect();
        for unit in behind {
            self.rest(unit, &"less is committed than it has folded: the group's offsets were set back");
        }
    }

    /// Folds some of what is committed, at most so many records; whether there is more.
    pub fn fold(&mut self, most: usize) -> bool {
        let now_ms = self.clock.wall_ms;
        let (mut left, mut failed) = (most, Vec::new());
        for (unit, standby) in self.standbys_mut() {
            match standby.fold(left, now_ms) {
                Ok(Some(folded)) => left -= folded.min(left),
                Ok(None) => failed.push((unit, None)),
                Err(error) => failed.push((unit, Some(error))),
            }
        }
        for (unit, error) in failed {
            if let Some(error) = error {
                self.rest(unit, &error);
            } else {
                tracing::info!(unit = unit.0, "the state of a standby is rebuilt from the log");
                self.drop_follow(unit);
                self.settle();
            }
        }
        left == 0
    }

    /// The log is not as it was thought to be: a reader was told that its place is not there.
    pub fn doubt(&mut self) {
        self.doubted = true;
        self.consume = true;
    }

    /// How far each partition that is followed is behind what is known to be committed of it.
    pub fn lags(&self) -> impl Iterator<Item = (&TopicPartition, i64)> {
        self.standbys().flat_map(|(_, standby)| standby.lags())
    }

    /// What was given up, to be freed outside of any lock.
    pub fn dropped(&mut self) -> Vec<Standby> {
        std::mem::take(&mut self.dropped)
    }

    fn standbys(&self) -> impl Iterator<Item = (UnitId, &Standby)> {
        self.follows.iter().filter_map(|(unit, follow)| match &follow.stage {
            Stage::Following(standby) => Some((*unit, standby)),
            _ => None,
        })
    }

    fn standbys_mut(&mut self) -> impl Iterator<Item = (UnitId, &mut Standby)> {
        self.follows.iter_mut().filter_map(|(unit, follow)| match &mut follow.stage {
            Stage::Following(standby) => Some((*unit, standby)),
            _ => None,
        })
    }

    fn polled(&mut self, clock: Clock) {
        self.clock = clock;
        self.hold = false;
        self.settle();
    }

    /// Drops what is not to be followed, and begins with what is.
    fn settle(&mut self) {
        let is_owned = |unit: &UnitId| self.owned.values().any(|units| units.contains(unit));
        let wanted = |unit: &UnitId| self.placed.get(unit).filter(|_| !is_owned(unit));
        let changed: Vec<UnitId> = self
            .follows
            .iter()
            .filter(|(unit, follow)| wanted(unit) != Some(&follow.partitions))
            .map(|(unit, _)| *unit)
            .collect();
        let now = self.clock.steady_ms;
        self.resting.retain(|_, until| *until > now);
        let begun: Vec<(UnitId, BTreeSet<TopicPartition>)> = self
            .placed
            .iter()
            .filter(|(unit, _)| !is_owned(unit) && !self.resting.contains_key(unit))
            .filter(|(unit, _)| changed.contains(unit) || !self.follows.contains_key(unit))
            .map(|(unit, partitions)| (*unit, partitions.clone()))
            .collect();
        for unit in changed {
            self.drop_follow(unit);
        }
        for (unit, partitions) in begun {
            self.follows.insert(unit, Follow { partitions, stage: Stage::Looking });
        }
    }

    fn stage(&mut self, unit: UnitId, stage: Stage) {
        if let Some(follow) = self.follows.get_mut(&unit) {
            follow.stage = stage;
        }
    }

    fn drop_follow(&mut self, unit: UnitId) {
        if let Some(Follow { stage: Stage::Following(standby), .. }) = self.follows.remove(&unit) {
            self.dropped.push(standby);
            self.consume = true;
        }
    }

    /// Leaves alone what cannot be followed now.
    fn rest(&mut self, unit: UnitId, why: &dyn std::fmt::Display) {
        tracing::warn!(unit = unit.0, %why, "a standby is dropped, and begun anew later");
        self.drop_follow(unit);
        self.resting.insert(unit, self.clock.steady_ms + REST_MS);
    }

    fn hold_back(&mut self, records: Vec<InRecord>) {
        if self.consume {
            // They are of places that are read anew.
            return;
        }
        let mut batches: BTreeMap<UnitId, Vec<InRecord>> = BTreeMap::new();
        for record in records {
            batches.entry(self.factory.unit(&record.topic_partition())).or_default().push(record);
        }
        for (unit, standby) in self.standbys_mut() {
            standby.hold(batches.remove(&unit).unwrap_or_default());
        }
    }

    fn looked(&mut self, standings: Vec<Standing>) {
        self.doubted = false;
        let mut units: BTreeMap<UnitId, Vec<Standing>> = BTreeMap::new();
        for standing in standings {
            units.entry(self.factory.unit(&standing.partition)).or_default().push(standing);
        }
        for (unit, standings) in units {
            let Some(follow) = self.follows.get(&unit) else { continue };
            if standings.len() != follow.partitions.len() {
                continue;
            }
            if let Some(error) = standings.iter().find_map(|standing| check_range(standing).err()) {
                self.rest(unit, &error);
                continue;
            }
            match &follow.stage {
                Stage::Looking if standings.iter().all(|standing| standing.committed.is_none()) => {
                    self.follows.remove(&unit);
                    self.resting.insert(unit, self.clock.steady_ms + EARLY_MS);
                }
                Stage::Looking => self.stage(unit, Stage::Loading(standings, None)),
                Stage::Following(standby) if !standby.stands_in(&standings) => {
                    tracing::warn!(
                        unit = unit.0,
                        "the log has lost what a standby was to read next: it is restored from a snapshot"
                    );
                    self.drop_follow(unit);
                }
                _ => {}
            }
        }
        self.settle();
    }

    fn loaded(&mut self, unit: UnitId, found: Option<Snapshot>) {
        let Some(follow) = self.follows.get_mut(&unit) else { return };
        let Stage::Loading(standings, _) = &mut follow.stage else { return };
        let standings = std::mem::take(standings);
        self.last_job += 1;
        follow.stage = Stage::Building(self.last_job);
        let (number, factory, clock) = (self.last_job, Arc::clone(&self.factory), self.clock);
        self.jobs.push(Job { number, unit, standings, found, factory, clock });
    }
}

#[cfg(test)]
mod tests;
