//! The standbys of a service's process: shared by its workers, kept up by a thread of their own, so that no
//! owned partition waits for them.
//!
//! Reads beside the group, never as a member of it, and commits nothing. Knows when to ask what; what is
//! followed, how far, and what becomes of it the core decides. Nothing that fails here stops a worker.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use metrics::{NoopRecorder, with_local_recorder};
use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::topic_partition_list::Offset;

use super::clients::{self, LoopConsumer, Names, Wake};
use super::closing::close;
use super::input::{Input, Polled};
use super::placement::{Member, would_own};
use super::thread::clock;
use super::{Settings, Stop, execute, measure, saver};
use crate::config::GroupProtocol;
use crate::core::{Command, Event, Failure, Standby, Standbys};
use crate::kafka;
use crate::kafka::client::{self, PlainConsumer, Read};
use crate::processor::{ProcessorFactory, TopicPartition, UnitId};

/// How often what is committed is asked for.
const ASK: Duration = Duration::from_millis(150);
/// How often the group's members are.
const PLACE: Duration = Duration::from_secs(1);
/// For how long a worker may own nothing until that is taken to be so: as long as a rebalance takes.
const GIVEN_UP: Duration = Duration::from_secs(3);
/// How long a broker may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long to gather records before they are taken: nothing waits for them.
const GATHER: Duration = Duration::from_millis(20);
/// Records that are folded while a worker that wants a standby has to wait: a few milliseconds.
const STEP: usize = 1_000;
/// Records taken from the client at once.
const BATCH: usize = 8_192;
/// How long to wait before clients are made anew.
const PAUSE: Duration = Duration::from_secs(1);

/// Where workers find standbys.
pub(super) struct Pool {
    standbys: Mutex<Standbys>,
    /// Workers that have given all back, and since when.
    given_up: Mutex<BTreeMap<usize, Instant>>,
}

impl Pool {
    /// The worker owns the unit; its standby, if there is one to be taken over.
    pub(super) fn take(&self, worker: usize, unit: UnitId) -> Option<Standby> {
        self.lock().take(worker, unit)
    }

    /// The worker reads exactly these partitions.
    pub(super) fn owns(&self, worker: usize, from: &[(TopicPartition, i64)]) {
        if from.is_empty() {
            // In a rebalance all is given back, and most of it comes again.
            self.given_up().entry(worker).or_insert_with(now);
            return;
        }
        self.given_up().remove(&worker);
        self.lock().owns(worker, from.iter().map(|(partition, _)| partition));
    }

    /// The worker was given these partitions, and finds out what is committed of them: that may take as long as
    /// a transaction of who had them before.
    pub(super) fn given(&self, worker: usize, partitions: &[TopicPartition]) {
        self.given_up().remove(&worker);
        self.lock().given(worker, partitions);
    }

    /// Takes note of workers that have come out of a rebalance with nothing.
    fn settle(&self) {
        let given_up = self.given_up();
        let gone = given_up.iter().filter(|(_, since)| since.elapsed() >= GIVEN_UP);
        gone.for_each(|(worker, _)| self.lock().owns(*worker, []));
    }

    fn lock(&self) -> MutexGuard<'_, Standbys> {
        // Only where a fold has panicked is it poisoned, and its thread has ended then.
        self.standbys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn given_up(&self) -> MutexGuard<'_, BTreeMap<usize, Instant>> {
        self.given_up.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Starts the standbys of a service's process; `None` where it has none.
pub(super) fn start(
    service: &str,
    factory: &Arc<dyn ProcessorFactory>,
    settings: &Settings,
    stop: &Arc<Stop>,
) -> std::io::Result<Option<(Arc<Pool>, JoinHandle<()>)>> {
    if settings.service.standbys == 0 || !crate::core::is_stateful(factory.as_ref()) {
        return Ok(None);
    }
    let started = now();
    let standbys = Mutex::new(Standbys::new(Arc::clone(factory), clock(started)));
    let pool = Arc::new(Pool { standbys, given_up: Mutex::default() });
    let instance = settings.service.instance_name();
    let group = super::group_id(&settings.kafka, service);
    let id = format!("{group}-{instance}-standby");
    let keeper = Keeper {
        service: service.to_owned(),
        instance,
        names: Names { group, member: id.clone(), id },
        topics: factory.inputs(),
        settings: settings.clone(),
        pool: Arc::clone(&pool),
        stop: Arc::clone(stop),
        started,
        members: BTreeSet::new(),
        placed: BTreeSet::new(),
        told: BTreeSet::new(),
    };
    let thread =
        std::thread::Builder::new().name(format!("{service}-standbys")).spawn(move || keeper.work())?;
    Ok(Some((pool, thread)))
}

/// Keeps standbys up.
struct Keeper {
    service: String,
    instance: String,
    names: Names,
    topics: Vec<Arc<str>>,
    settings: Settings,
    pool: Arc<Pool>,
    stop: Arc<Stop>,
    started: Instant,
    /// The group as it was when last asked for, and when standbys were placed.
    members: BTreeSet<Member>,
    placed: BTreeSet<Member>,
    /// Partitions whose lag is shown.
    told: BTreeSet<TopicPartition>,
}

/// What reads, and what asks: it must not wait for open transactions, so it is no reader of committed records.
struct Clients {
    input: Input,
    asker: PlainConsumer,
    /// Partitions of each topic.
    counts: BTreeMap<Arc<str>, i32>,
}

impl Keeper {
    fn work(mut self) {
        let mut warned = false;
        while !self.stop.is_set() {
            match self.connect() {
                Ok(mut clients) => {
                    warned = false;
                    self.keep(&mut clients);
                    close(&self.service, &self.names.id, clients);
                    self.pool.lock().doubt();
                }
                Err(error) if !warned => {
                    warned = true;
                    tracing::warn!(service = self.service, %error, "there are no standbys for now (retry)");
                }
                Err(_) => {}
            }
            if self.stop.shutdown.sleep(PAUSE) {
                return;
            }
        }
    }

    fn connect(&self) -> KafkaResult<Clients> {
        let Settings { kafka, .. } = &self.settings;
        let wake = Arc::new(Wake::default());
        let consumer: Arc<LoopConsumer> = clients::follower(kafka, &self.names, &wake)?;
        let mut config = client::consumer(kafka, Read::Uncommitted, &self.names.group);
        config.set("client.id", &self.names.id);
        let asker: PlainConsumer = config.create_with_context(client::Plain)?;
        let mut counts = BTreeMap::new();
        for topic in &self.topics {
            let metadata = asker.fetch_metadata(Some(topic), PATIENCE)?;
            let known = metadata.topics().iter().find(|known| known.name() == &**topic);
            counts.insert(Arc::clone(topic), known.map_or(0, |known| known.partitions().len() as i32));
        }
        Ok(Clients { input: Input::new(consumer, wake), asker, counts })
    }

    /// Until the service stops or the clients are of no more use.
    fn keep(&mut self, clients: &mut Clients) {
        let (mut placed, mut asked): (Option<Instant>, Option<Instant>) = (None, None);
        while !self.stop.is_set() {
            if placed.is_none_or(|at| at.elapsed() >= PLACE) {
                self.pool.settle();
                self.place(clients);
                placed = Some(now());
            }
            if asked.is_none_or(|at| at.elapsed() >= ASK) {
                self.ask(clients);
                asked = Some(now());
            }
            self.obey(clients);
            let job = self.pool.lock().job();
            if let Some(job) = job {
                // What its owner counts is not counted twice.
                let finished = with_local_recorder(&NoopRecorder, || job.run());
                self.pool.lock().finished(finished);
                continue;
            }
            let dropped = self.pool.lock().dropped();
            drop(dropped);
            let more = with_local_recorder(&NoopRecorder, || self.pool.lock().fold(STEP));
            if !more && self.stop.shutdown.sleep(GATHER) {
                return;
            }
            let event = match clients.input.poll(BATCH, Duration::ZERO) {
                Ok(Polled::Records(records)) => Event::Records { records, clock: clock(self.started) },
                Ok(_) => Event::Quiet { clock: clock(self.started) },
                Err(KafkaError::MessageConsumption(RDKafkaErrorCode::AutoOffsetReset)) => {
                    self.pool.lock().doubt();
                    continue;
                }
                Err(error) => {
                    tracing::warn!(service = self.service, %error, "standbys are read by new clients");
                    return;
                }
            };
            self.pool.lock().on(event);
        }
    }

    fn obey(&self, clients: &mut Clients) {
        loop {
            let command = self.pool.lock().next_command();
            let Some(command) = command else { return };
            let event = self.execute(clients, command);
            self.pool.lock().on(event);
        }
    }

    fn execute(&self, clients: &mut Clients, command: Command) -> Event {
        let failed = |error: &dyn std::fmt::Display| Event::Failed {
            failure: Failure::Retriable,
            what: error.to_string(),
        };
        match command {
            Command::Look(partitions) => {
                execute::look(&clients.asker, &partitions).map_or_else(|error| failed(&error), Event::Looked)
            }
            Command::Load(wanted) => {
                let unit = wanted.unit;
                saver::find(&self.settings.store, &self.service, &wanted)
                    .map_or_else(|error| failed(&error), |found| Event::Loaded { unit, found })
            }
            Command::Consume(from) => {
                tracing::info!(service = self.service, partitions = from.len(), "following as a standby");
                clients.input.consume(&from).map_or_else(|error| failed(&error), |()| Event::Done)
            }
            Command::Pause(partitions) => {
                clients.input.pause(&partitions);
                Event::Done
            }
            other => failed(&format!("{other:?} is no command of standbys")),
        }
    }

    /// Asks who is in the group, and places standbys anew where that has changed.
    fn place(&mut self, clients: &Clients) {
        if self.settings.kafka.group_protocol == GroupProtocol::Consumer {
            // The broker shares partitions out, and what it would do is not known: all are followed.
            let all = clients.counts.iter().flat_map(|(topic, count)| {
                (0..*count).map(|partition| TopicPartition { topic: Arc::clone(topic), partition })
            });
            self.pool.lock().place(all);
            return;
        }
        let group = &self.names.group;
        let members: BTreeSet<Member> = match kafka::members(&clients.asker, group) {
            Ok(Some(ids)) => ids.iter().filter_map(|id| Member::of(group, id)).collect(),
            Ok(None) => return,
            Err(error) => {
                tracing::debug!(group, %error, "cannot ask for the group's members (retry)");
                return;
            }
        };
        // Workers that have just joined take what is theirs first.
        let is_settled = members == std::mem::replace(&mut self.members, members.clone());
        if !is_settled || members == self.placed {
            return;
        }
        let departures = self.settings.service.standbys;
        let partitions: Vec<TopicPartition> = clients
            .counts
            .iter()
            .flat_map(|(topic, count)| {
                let own = would_own(&members, &self.instance, *count, departures);
                own.into_iter().map(|partition| TopicPartition { topic: Arc::clone(topic), partition })
            })
            .collect();
        tracing::debug!(service = self.service, members = members.len(), ?partitions, "placing standbys");
        self.pool.lock().place(partitions);
        self.placed = members;
    }

    /// Asks what the owners have committed.
    fn ask(&mut self, clients: &Clients) {
        let followed = self.pool.lock().followed();
        match committed(&clients.asker, &followed) {
            Ok(offsets) => self.pool.lock().committed(&offsets),
            Err(error) => {
                tracing::debug!(service = self.service, %error, "cannot ask what is committed (retry)");
            }
        }
        let gone: Vec<_> = self.told.iter().filter(|told| !followed.contains(told)).cloned().collect();
        for partition in gone {
            measure::standby_lag(&self.service, &partition, 0);
            self.told.remove(&partition);
        }
        for (partition, offsets) in self.pool.lock().lags() {
            measure::standby_lag(&self.service, partition, offsets);
        }
        measure::standbys(&self.service, followed.len());
        self.told.extend(followed);
    }
}

/// What the group has committed of partitions, as far as it has.
fn committed(
    asker: &PlainConsumer,
    partitions: &[TopicPartition],
) -> KafkaResult<Vec<(TopicPartition, i64)>> {
    if partitions.is_empty() {
        return Ok(Vec::new());
    }
    let mut list = TopicPartitionList::with_capacity(partitions.len());
    for partition in partitions {
        list.add_partition(&partition.topic, partition.partition);
    }
    let found = BaseConsumer::committed_offsets(asker, list, PATIENCE)?;
    let offset = |partition: &TopicPartition| {
        let element = found.find_partition(&partition.topic, partition.partition)?;
        match (element.error(), element.offset()) {
            (Ok(()), Offset::Offset(offset)) => Some((partition.clone(), offset)),
            _ => None,
        }
    };
    Ok(partitions.iter().filter_map(offset).collect())
}

#[expect(clippy::disallowed_methods, reason = "the shell's clock")]
fn now() -> Instant {
    Instant::now()
}
