//! Workers of several services that drive their cores against one broker, and what goes wrong meanwhile.

mod calls;
mod harm;
mod standbys;

use std::collections::BTreeMap;
use std::sync::Arc;

use runtime::core::{Clock, Command, Core, CoreError, Delivery, Event, Rules, Standbys};
use runtime::processor::ProcessorFactory;

use crate::broker::Broker;
use crate::faults::{CrashAt, Faults, Sabotage};
use crate::rng::Rng;
use crate::totals::Totals;
use crate::worker::Worker;

/// A service: what its workers run.
struct Service {
    factory: Arc<dyn ProcessorFactory>,
    rules: Rules,
    /// The steady time up to which its coordinator answers nothing.
    slow_until_ms: u64,
}

/// The cluster.
pub struct Cluster {
    /// The broker.
    pub broker: Broker,
    /// All workers; zombies stand at the end.
    pub workers: Vec<Worker>,
    /// The object store: snapshots by path.
    pub files: BTreeMap<String, Vec<u8>>,
    /// Where decisions come from.
    pub rng: Rng,
    /// What goes wrong by chance.
    pub faults: Faults,
    /// Where the next worker dies.
    pub crash_at: Option<CrashAt>,
    /// What was built in on purpose.
    pub sabotage: Sabotage,
    /// Now.
    pub clock: Clock,
    totals: Totals,
    traced: bool,
    services: BTreeMap<Arc<str>, Service>,
}

impl Cluster {
    /// Without services.
    pub fn new(broker: Broker, seed: u64) -> Self {
        Self {
            broker,
            workers: Vec::new(),
            files: BTreeMap::new(),
            rng: Rng::new(seed),
            faults: Faults::default(),
            crash_at: None,
            sabotage: Sabotage::None,
            clock: Clock { wall_ms: 1_700_000_000_000, steady_ms: 1_000 },
            totals: Totals::default(),
            traced: std::env::var("SIMULATION_SEED").is_ok(),
            services: BTreeMap::new(),
        }
    }

    /// Adds a service and its group; its topics exist.
    pub fn add_service(&mut self, name: &str, factory: Arc<dyn ProcessorFactory>, delivery: Delivery) {
        self.broker.create_group(name, &factory.inputs());
        if let Some(other) = factory.stands_in() {
            self.broker.create_group(&other.service, &[Arc::clone(&other.topic)]);
        }
        let rules = Rules {
            delivery,
            commit_interval_ms: 50,
            idle_commit: true,
            snapshot_interval_ms: 200,
            most_pending: 40,
            rest_ms: 3,
        };
        self.services.insert(name.into(), Service { factory, rules, slow_until_ms: 0 });
    }

    /// What a service's workers run that are started from now on.
    pub fn redeploy(&mut self, name: &str, factory: Arc<dyn ProcessorFactory>) {
        self.services.get_mut(name).expect("a known service").factory = factory;
    }

    /// Stops the workers of a service, which commit what they have and leave their group.
    ///
    /// # Panics
    /// One that does not come to an end.
    pub fn stop(&mut self, service: &str) {
        let of_service = |worker: &Worker| *worker.service == *service && !worker.zombie;
        for index in 0..self.workers.len() {
            if !of_service(&self.workers[index]) {
                continue;
            }
            self.tally(index);
            let mut told = self.tell(index, Event::Stop);
            for _ in 0..1_000 {
                // Of no more use, and so stopped as well.
                if told.is_err() || self.workers[index].core.has_left() {
                    break;
                }
                self.pass(10);
                told = self.turn(index);
            }
            assert!(told.is_err() || self.workers[index].core.has_left(), "it does not stop");
            let id = self.workers[index].id.clone();
            self.broker.group(service).leave(&id);
        }
        self.workers.retain(|worker| !of_service(worker));
    }

    /// Starts a worker. Its id is no other's, of another service neither.
    pub fn start(&mut self, service: &str, id: &str) {
        let worker = self.fresh(service, id);
        self.workers.push(worker);
        self.broker.group(service).join(id);
    }

    fn fresh(&mut self, service: &str, id: &str) -> Worker {
        let (name, known) = self.services.get_key_value(service).expect("a known service");
        let core = Core::new(Arc::clone(&known.factory), known.rules, self.clock);
        let standbys = Standbys::new(Arc::clone(&known.factory), self.clock);
        Worker::new(id, Arc::clone(name), core, standbys, self.broker.init(id))
    }

    /// A worker under the names of that one, which is given back.
    fn replace(&mut self, index: usize) -> Worker {
        let (service, id) = (Arc::clone(&self.workers[index].service), self.workers[index].id.clone());
        let fresh = self.fresh(&service, &id);
        let old = std::mem::replace(&mut self.workers[index], fresh);
        self.workers[index].calls = old.calls;
        self.broker.group(&service).rejoin(&id);
        old
    }

    /// The worker dies and is started again under the same names.
    pub fn crash(&mut self, index: usize) {
        self.tally(index);
        if self.workers[index].zombie {
            self.workers[index].gone = true;
            return;
        }
        self.totals.crashes += 1;
        self.replace(index);
    }

    fn tally(&mut self, index: usize) {
        let counters = self.workers[index].core.counters();
        self.totals.commits += counters.commits;
        self.totals.aborts += counters.aborts;
        self.totals.replayed += counters.replayed;
        self.totals.taken_over += counters.taken_over;
    }

    /// What happened, what the living workers have done included.
    pub fn finish(&mut self) -> Totals {
        for index in 0..self.workers.len() {
            if !self.workers[index].gone {
                self.tally(index);
            }
        }
        self.totals
    }

    /// Time passes.
    pub fn pass(&mut self, ms: u64) {
        self.clock.steady_ms += ms;
        self.clock.wall_ms += ms as i64;
    }

    /// One poll of a worker, and all that follows from it.
    ///
    /// # Errors
    /// It is of no more use: the process would exit.
    pub fn turn(&mut self, index: usize) -> Result<(), CoreError> {
        let worker = &mut self.workers[index];
        if worker.frozen || worker.gone {
            return Ok(());
        }
        if let Some(command) = worker.held.take() {
            if let Some(answer) = self.execute(index, &command) {
                return self.tell(index, answer);
            }
            self.crash(index);
            return Ok(());
        }
        let event = self.workers[index].poll(&mut self.broker, &mut self.rng, self.clock);
        self.tell(index, event)
    }

    /// Tells a worker of an event, whatever the broker says, and lets it do what follows.
    ///
    /// # Errors
    /// As [`Self::turn`].
    pub fn tell(&mut self, index: usize, event: Event) -> Result<(), CoreError> {
        let mut event = event;
        loop {
            self.trace(index, "<-", &event);
            match self.workers[index].core.on(event) {
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
            self.trace(index, "->", &command);
            if self.rng.chance(self.faults.freeze) {
                self.totals.frozen += 1;
                self.workers[index].frozen = true;
                self.workers[index].held = Some(command);
                return Ok(());
            }
            let Some(next) = self.execute(index, &command) else {
                self.crash(index);
                return Ok(());
            };
            event = next;
        }
    }

    /// As [`Self::turn`]; a worker that was fenced is started again.
    ///
    /// # Panics
    /// Any other end of a worker.
    pub fn turn_or_restart(&mut self, index: usize) {
        match self.turn(index) {
            Ok(()) => {}
            Err(CoreError::Fenced { .. }) => self.crash(index),
            Err(error) => panic!("worker {}: {error}", self.workers[index].id),
        }
    }

    /// Turns off all faults, wakes everybody, and goes on until nothing more happens.
    ///
    /// # Panics
    /// Something happens for ever.
    pub fn settle(&mut self) {
        self.faults = Faults::default();
        self.crash_at = None;
        self.services.values_mut().for_each(|service| service.slow_until_ms = 0);
        for worker in &mut self.workers {
            worker.frozen = false;
            worker.forgetful = false;
        }
        let mut calm = 0;
        for _ in 0..5_000 {
            let before = self.totals.calls;
            for index in 0..self.workers.len() {
                self.turn_or_restart(index);
                self.turn_standbys(index);
            }
            self.pass(10);
            let mut living = self.workers.iter().filter(|worker| !worker.zombie);
            let busy = self.broker.groups().any(|(_, group)| group.is_rebalancing())
                || living.clone().any(|worker| worker.core.is_dirty() || worker.held.is_some());
            let unread = living
                .any(|worker| worker.reading.iter().any(|(of, next)| !self.broker.is_at_end(of, *next)));
            calm = if busy || unread || self.totals.calls != before { 0 } else { calm + 1 };
            // Ticks keep coming; all that was read being committed is calm enough then.
            if calm > 8 || (calm == 0 && !busy && !unread && self.is_settled()) {
                return;
            }
        }
        panic!("it never settles");
    }

    fn is_settled(&self) -> bool {
        let works = |name: &str| self.workers.iter().any(|worker| *worker.service == *name && !worker.zombie);
        self.broker.groups().filter(|(name, _)| works(name)).all(|(name, group)| {
            group.inputs().iter().all(|of| {
                let next = group.committed(of).map_or(0, |(offset, _)| *offset);
                let is_read = |worker: &Worker| {
                    *worker.service == *name && !worker.zombie && worker.reading.contains_key(of)
                };
                self.broker.is_at_end(of, next) && self.workers.iter().any(is_read)
            })
        })
    }

    /// One line of a trace.
    fn trace(&self, index: usize, arrow: &str, what: &impl std::fmt::Debug) {
        if self.traced {
            let mut line = format!("{what:?}");
            let end = line.char_indices().nth(300).map_or(line.len(), |(at, _)| at);
            line.truncate(end);
            println!("{} {arrow} {line}", self.workers[index].id);
        }
    }
}

/// Whether a command is of the transaction.
fn is_transactional(command: &Command) -> bool {
    matches!(command, Command::Begin | Command::Produce | Command::SendOffsets(_) | Command::Commit)
}
