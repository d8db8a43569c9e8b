//! Workers that drive the core against the broker in memory, and what goes wrong meanwhile.

use std::collections::BTreeMap;
use std::sync::Arc;

use runtime::core::{Clock, Command, Core, CoreError, Delivery, Event, Failure, Rules};
use runtime::processor::{ProcessorFactory, TopicPartition, UnitId};
use runtime::snapshot::{self, Snapshot};

use crate::broker::{Broker, GroupEvent};
use crate::rng::Rng;

/// How often what goes wrong, in a thousand.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Faults {
    /// A call fails and may be made again.
    pub retriable: u64,
    /// A call fails and the transaction must be aborted.
    pub abortable: u64,
    /// A commit is made and reported as not known.
    pub doubtful: u64,
    /// A worker dies before or after a call.
    pub crash: u64,
    /// The clients break for good.
    pub fatal: u64,
}

/// Where a worker dies: at its n-th call, before or after the broker has done it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CrashAt {
    pub call: u64,
    pub after: bool,
}

pub(crate) struct Worker {
    pub id: String,
    core: Core,
    epoch: u64,
    generation: u64,
    reading: BTreeMap<TopicPartition, i64>,
    paused: Vec<TopicPartition>,
    calls: u64,
    /// The next commit or abort finds a coordinator that has forgotten.
    forgetful: bool,
    pub frozen: bool,
}

pub(crate) struct Cluster {
    pub broker: Broker,
    pub workers: Vec<Worker>,
    pub files: BTreeMap<String, Vec<u8>>,
    pub rng: Rng,
    pub faults: Faults,
    pub crash_at: Option<CrashAt>,
    pub clock: Clock,
    pub totals: Totals,
    pub traced: bool,
    factory: Arc<dyn ProcessorFactory>,
    rules: Rules,
}

/// What happened in a run, to see that the scenario took place.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Totals {
    pub commits: u64,
    pub aborts: u64,
    pub replayed: u64,
    pub crashes: u64,
    pub fenced: u64,
    pub restored: u64,
    pub refused: u64,
    pub calls: u64,
}

impl Cluster {
    pub(crate) fn new(
        factory: Arc<dyn ProcessorFactory>,
        delivery: Delivery,
        partitions: i32,
        seed: u64,
    ) -> Self {
        let rules = Rules {
            delivery,
            commit_interval_ms: 50,
            idle_commit: true,
            snapshot_interval_ms: 200,
            most_pending: 40,
        };
        Self {
            broker: Broker::new(crate::processors::INPUT, crate::processors::OUTPUT, partitions),
            workers: Vec::new(),
            files: BTreeMap::new(),
            rng: Rng::new(seed),
            faults: Faults::default(),
            crash_at: None,
            clock: Clock { wall_ms: 1_700_000_000_000, steady_ms: 1_000 },
            totals: Totals::default(),
            traced: std::env::var("SIMULATION_SEED").is_ok(),
            factory,
            rules,
        }
    }

    pub(crate) fn start(&mut self, id: &str) {
        let worker = self.fresh(id);
        self.workers.push(worker);
        self.broker.join(id);
    }

    fn fresh(&mut self, id: &str) -> Worker {
        Worker {
            id: id.to_owned(),
            core: Core::new(Arc::clone(&self.factory), self.rules, self.clock),
            epoch: self.broker.init(id),
            generation: 0,
            reading: BTreeMap::new(),
            paused: Vec::new(),
            calls: 0,
            forgetful: false,
            frozen: false,
        }
    }

    /// The worker dies and is started again under the same names.
    pub(crate) fn crash(&mut self, index: usize) {
        self.tally(index);
        self.totals.crashes += 1;
        let id = self.workers[index].id.clone();
        let calls = self.workers[index].calls;
        self.workers[index] = self.fresh(&id);
        self.workers[index].calls = calls;
        self.broker.rejoin(&id);
    }

    fn tally(&mut self, index: usize) {
        let counters = self.workers[index].core.counters();
        self.totals.commits += counters.commits;
        self.totals.aborts += counters.aborts;
        self.totals.replayed += counters.replayed;
    }

    /// Adds what the living workers have done.
    pub(crate) fn finish(&mut self) -> Totals {
        for index in 0..self.workers.len() {
            self.tally(index);
            self.totals.calls += self.workers[index].calls;
        }
        self.totals
    }

    pub(crate) fn pass(&mut self, ms: u64) {
        self.clock.steady_ms += ms;
        self.clock.wall_ms += ms as i64;
    }

    /// One poll of a worker, and all that follows from it. False if it is of no more use: the
    /// process would exit and be started again.
    pub(crate) fn turn(&mut self, index: usize) -> Result<(), CoreError> {
        if self.workers[index].frozen {
            return Ok(());
        }
        let event = self.poll(index);
        self.tell(index, event)
    }

    /// Tells a worker of an event, whatever the broker says, and lets it do what follows.
    pub(crate) fn tell(&mut self, index: usize, event: Event) -> Result<(), CoreError> {
        let mut event = event;
        loop {
            if self.traced {
                println!("{} <- {}", self.workers[index].id, brief(&event));
            }
            let told = self.workers[index].core.on(event);
            match told {
                Ok(()) => {}
                // Built anew, as the worker does; a fenced one is started again by whoever runs it.
                Err(CoreError::Client { .. }) => {
                    self.crash(index);
                    return Ok(());
                }
                Err(error @ CoreError::Fenced { .. }) => {
                    self.totals.fenced += 1;
                    return Err(error);
                }
                Err(error) => return Err(error),
            }
            let Some(command) = self.workers[index].core.next_command() else { return Ok(()) };
            if self.traced {
                println!("{} -> {}", self.workers[index].id, brief(&command));
            }
            let Some(next) = self.execute(index, &command) else {
                self.crash(index);
                return Ok(());
            };
            event = next;
        }
    }

    fn poll(&mut self, index: usize) -> Event {
        let Self { broker, workers, rng, clock, .. } = self;
        let worker = &mut workers[index];
        match broker.hear(&worker.id) {
            Some(GroupEvent::Assigned(generation, partitions)) => {
                worker.generation = generation;
                return Event::Assigned { partitions };
            }
            Some(GroupEvent::Revoked(partitions)) => return Event::Revoked { partitions },
            Some(GroupEvent::Lost(partitions)) => return Event::Lost { partitions },
            None => {}
        }
        let mut records = Vec::new();
        for (of, next) in &mut worker.reading {
            if worker.paused.contains(of) || rng.chance(200) {
                continue;
            }
            let most = 1 + rng.below(8) as usize;
            let polled = broker.poll(of, *next, most);
            *next = polled.last().map_or(*next, |record| record.record.offset + 1);
            records.extend(polled);
        }
        if !records.is_empty() {
            return Event::Records { records, clock: *clock };
        }
        if rng.chance(200) {
            return Event::Quiet { clock: *clock };
        }
        let at_end = worker.reading.iter().filter(|(of, next)| broker.is_at_end(of, **next));
        Event::Drained { at_end: at_end.map(|(of, _)| of.clone()).collect(), clock: *clock }
    }

    /// Executes a command, or fails to; `None`: the worker died of it.
    fn execute(&mut self, index: usize, command: &Command) -> Option<Event> {
        let failed = |failure| Event::Failed { failure, what: "injected".to_owned() };
        let call = self.workers[index].calls;
        self.workers[index].calls += 1;
        let dies = |after| self.crash_at == Some(CrashAt { call, after });
        let (dies_before, dies_after) = (dies(false), dies(true));
        if dies_before || self.rng.chance(self.faults.crash) {
            return None;
        }
        if self.rng.chance(self.faults.fatal) {
            return Some(failed(Failure::Fatal));
        }
        let transactional =
            matches!(command, Command::Begin | Command::Produce | Command::SendOffsets(_) | Command::Commit);
        let harmless = matches!(command, Command::Save(_) | Command::Pause(_) | Command::Leave);
        if self.rng.chance(self.faults.retriable) && !harmless {
            // Sometimes it has happened all the same.
            if self.rng.chance(500) && !matches!(command, Command::Produce | Command::Begin) {
                let _answer = self.apply(index, command);
            }
            return Some(failed(Failure::Retriable));
        }
        if transactional && self.rng.chance(self.faults.abortable) {
            return Some(failed(Failure::Abortable));
        }
        if self.workers[index].forgetful && matches!(command, Command::Commit) {
            self.workers[index].forgetful = false;
            return Some(failed(Failure::Abortable));
        }
        let answer = self.apply(index, command);
        if matches!(command, Command::Commit) && self.rng.chance(self.faults.doubtful) {
            self.workers[index].forgetful = self.rng.chance(300);
            return Some(failed(Failure::Retriable));
        }
        if dies_after || self.rng.chance(self.faults.crash) {
            return None;
        }
        Some(answer)
    }

    fn apply(&mut self, index: usize, command: &Command) -> Event {
        let Self { broker, workers, files, rng, totals, .. } = self;
        let worker = &mut workers[index];
        let (id, epoch) = (worker.id.clone(), worker.epoch);
        let result = match command {
            Command::Look(partitions) => match broker.look(partitions) {
                Ok(standings) => return Event::Looked(standings),
                Err(failure) => Err(failure),
            },
            Command::Load(wanted) => {
                let folder = snapshot::folder("test", wanted.unit);
                let paths = files.keys().filter(|path| path.starts_with(&format!("{folder}/"))).cloned();
                for path in snapshot::newest_first(paths.collect(), wanted.below) {
                    match snapshot::open(&files[&path], wanted) {
                        Ok(found) => {
                            totals.restored += 1;
                            return Event::Loaded { unit: wanted.unit, found: Some(found) };
                        }
                        Err(_) => totals.refused += 1,
                    }
                }
                return Event::Loaded { unit: wanted.unit, found: None };
            }
            Command::Consume(from) => {
                worker.reading = from.iter().cloned().collect();
                worker.paused.clear();
                if from.is_empty() {
                    broker.gave_back(&id);
                }
                Ok(())
            }
            Command::Pause(partitions) => {
                worker.paused.clone_from(partitions);
                Ok(())
            }
            Command::Begin | Command::Flush | Command::Leave => Ok(()),
            Command::Produce => {
                let most = if rng.chance(50) { rng.below(4) as usize } else { usize::MAX };
                let records: Vec<_> = worker.core.unsent().take(most).cloned().collect();
                for record in &records {
                    if self.rules.delivery == Delivery::AtLeastOnce {
                        broker.produce_plainly(record);
                    } else if let Err(failure) = broker.produce(&id, epoch, record) {
                        return Event::Failed { failure, what: "produce".to_owned() };
                    }
                }
                return Event::Produced(records.len());
            }
            Command::SendOffsets(positions) => {
                broker.send_offsets(&id, epoch, (&id, worker.generation), positions)
            }
            Command::CommitOffsets(positions) => broker.commit_offsets((&id, worker.generation), positions),
            Command::Commit => broker.finish(&id, epoch, true),
            Command::Abort => broker.finish(&id, epoch, false),
            Command::Save(snapshot) => {
                save(files, snapshot);
                Ok(())
            }
        };
        match result {
            Ok(()) => Event::Done,
            Err(failure) => Event::Failed { failure, what: format!("{command:?}") },
        }
    }

    /// Turns off all faults, wakes everybody, and goes on until nothing more happens.
    pub(crate) fn settle(&mut self) {
        self.faults = Faults::default();
        self.crash_at = None;
        for worker in &mut self.workers {
            worker.frozen = false;
            worker.forgetful = false;
        }
        let mut calm = 0;
        for _ in 0..5_000 {
            let before = self.calls();
            for index in 0..self.workers.len() {
                self.turn_or_restart(index);
            }
            self.pass(10);
            let busy = self.broker.is_rebalancing() || self.workers.iter().any(|w| w.core.is_dirty());
            let unread = self
                .workers
                .iter()
                .any(|worker| worker.reading.iter().any(|(of, next)| !self.broker.is_at_end(of, *next)));
            calm = if busy || unread || self.calls() != before { 0 } else { calm + 1 };
            // Ticks keep coming; all that was read being committed is calm enough then.
            if calm > 8 || (calm == 0 && !busy && !unread && self.is_settled()) {
                return;
            }
        }
        panic!("it never settles");
    }

    fn is_settled(&self) -> bool {
        self.broker.inputs().iter().all(|of| {
            let next = self.broker.committed(of).map_or(0, |(offset, _)| *offset);
            self.broker.is_at_end(of, next) && self.workers.iter().any(|w| w.reading.contains_key(of))
        })
    }

    fn calls(&self) -> u64 {
        self.workers.iter().map(|worker| worker.calls).sum()
    }

    pub(crate) fn turn_or_restart(&mut self, index: usize) {
        match self.turn(index) {
            Ok(()) => {}
            Err(CoreError::Fenced { .. }) => self.crash(index),
            Err(error) => panic!("worker {index}: {error}"),
        }
    }
}

fn save(files: &mut BTreeMap<String, Vec<u8>>, snapshot: &Snapshot) {
    files.insert(snapshot.path("test"), snapshot.encode());
    let folder = format!("{}/", snapshot::folder("test", snapshot.unit));
    let paths: Vec<_> = files.keys().filter(|path| path.starts_with(&folder)).cloned().collect();
    for old in snapshot::newest_first(paths, None).into_iter().skip(3) {
        files.remove(&old);
    }
}

impl Cluster {
    /// Damages the newest snapshot of a unit, if there is one.
    pub(crate) fn truncate_snapshot(&mut self, unit: u32) -> bool {
        let folder = format!("{}/", snapshot::folder("test", UnitId(unit)));
        let paths: Vec<_> = self.files.keys().filter(|path| path.starts_with(&folder)).cloned().collect();
        let Some(newest) = snapshot::newest_first(paths, None).into_iter().next() else { return false };
        let file = self.files.get_mut(&newest).expect("just listed");
        file.truncate(file.len() / 2);
        true
    }
}

/// One line of a trace.
fn brief(what: &impl std::fmt::Debug) -> String {
    let mut line = format!("{what:?}");
    let end = line.char_indices().nth(300).map_or(line.len(), |(at, _)| at);
    line.truncate(end);
    line
}
