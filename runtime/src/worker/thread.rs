//! One worker thread: polls, tells the core, does what it says.
//!
//! Knows when to poll and for how long; everything else the core decides.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use rdkafka::consumer::Consumer as _;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::clients::{self, GroupEvent, Names, Wake};
use super::deputy::{Deputy, Waiting};
use super::execute::Hands;
use super::input::{Input, Polled};
use super::leave::leave;
use super::saver::Saver;
use super::seat::Seat;
use super::settle::Settler;
use super::{Settings, WorkerError, measure};
use crate::config::{Delivery, GroupProtocol};
use crate::core::{Clock, Core, CoreError, Counters, Event, Failure, Rules};
use crate::processor::Positions;

/// How long input must be dry to count as drained.
const DRY: Duration = Duration::from_millis(1);
/// The longest a poll waits.
const IDLE: Duration = Duration::from_millis(50);
/// How long to wait after a failure before the next try.
const PAUSE: Duration = Duration::from_millis(20);
/// How often the broker is asked for the ends of the partitions when nothing comes, where a
/// processor counts such polls, and where none does.
const CONFIRM_COUNTED: Duration = Duration::from_millis(100);
const CONFIRM: Duration = Duration::from_secs(1);
/// The shortest time between two such questions.
const CONFIRM_AT_MOST: Duration = Duration::from_millis(5);
/// How often lag is measured while records keep coming.
const LAG: Duration = Duration::from_secs(5);
/// Outputs at which a commit is due at once.
const MOST_PENDING: usize = 50_000;
/// So many times the interval is the time between two commits at least once: nobody waits for one, and each takes the
/// time of records that wait meanwhile.
const UNSEEN: u64 = 20;
/// How long after a commit the next transaction begins at the earliest, ms: the coordinator writes the last one's
/// markers meanwhile. librdkafka asks again only after 20 ms where it comes too early (`CONCURRENT_TRANSACTIONS`).
const REST_MS: u64 = 4;
/// Within this time a member learns that another has taken its place: a heartbeat of up to 3 s, and the answer.
const HEARTBEAT: Duration = Duration::from_millis(4_500);

pub(super) struct Worker<'a> {
    seat: &'a Seat,
    pub(super) core: Core,
    hands: Hands,
    started: Instant,
    asked_ends: Instant,
    counts_polls: bool,
    told: Counters,
}

impl<'a> Worker<'a> {
    #[expect(clippy::disallowed_methods, reason = "the shell's clock")]
    pub(super) fn new(seat: &'a Seat, names: &Names) -> Result<Self, WorkerError> {
        let Settings { kafka, service, store } = &seat.settings;
        let client = |source| WorkerError::Client { service: seat.service.clone(), source: Box::new(source) };
        let wake = Arc::new(Wake::default());
        // The transactional id first: a predecessor's transaction must be settled before its
        // offsets are read.
        let stand_in = seat.factory.stands_in();
        let followed = stand_in.map(|other| &other.topic);
        let producer = clients::producer(kafka, names, service.delivery, followed).map_err(client)?;
        let producer = Arc::new(producer);
        let deputy =
            stand_in.map(|other| Deputy::new(kafka, other, &names.group)).transpose().map_err(client)?;
        let consumer = clients::consumer(kafka, names, &wake).map_err(client)?;
        let topics = seat.factory.inputs();
        let topics: Vec<&str> = topics.iter().map(|topic| &**topic).collect();
        consumer.subscribe(&topics).map_err(client)?;
        let thread = |error: std::io::Error| WorkerError::Thread {
            service: seat.service.clone(),
            what: format!("cannot start: {error}"),
        };
        let saver = Saver::start(&seat.service, store.clone(), service.snapshots_kept).map_err(thread)?;
        let settler = Settler::start(&seat.service, Arc::clone(&producer)).map_err(thread)?;
        let unseen = if service.delivery == Delivery::AtLeastOnce { UNSEEN } else { 1 };
        let rules = Rules {
            delivery: service.delivery,
            commit_interval_ms: service.commit_interval.0.unsigned_abs() * unseen,
            idle_commit: service.idle_commit,
            snapshot_interval_ms: service.snapshot_interval.0.unsigned_abs(),
            most_pending: MOST_PENDING,
            rest_ms: REST_MS,
        };
        let started = Instant::now();
        let core = Core::new(Arc::clone(&seat.factory), rules, clock(started));
        let hands = Hands {
            service: seat.service.clone(),
            id: names.id.clone(),
            member: names.member.clone(),
            group: names.group.clone(),
            input: Input::new(Arc::clone(&consumer), wake),
            consumer,
            deputy,
            waiting: Waiting::default(),
            producer,
            settler,
            store: store.clone(),
            saver,
            unknown_since: None,
            standbys: seat.standbys.clone(),
            number: seat.number,
            stopping: false,
        };
        let counts_polls = seat.factory.positions() == Positions::Reported;
        tracing::info!(service = seat.service, id = names.id, group = names.group, "a worker has started");
        Ok(Self { seat, core, hands, started, asked_ends: started, counts_polls, told: Counters::default() })
    }

    pub(super) fn run(&mut self) -> Result<(), WorkerError> {
        let mut stop_at: Option<Instant> = None;
        loop {
            self.obey()?;
            if self.core.has_left() {
                self.leave_for_good();
                return Ok(());
            }
            if self.seat.stop.is_set() && stop_at.is_none() {
                stop_at = Some(self.stop()?);
                continue;
            }
            if stop_at.is_some_and(is_past) {
                tracing::warn!(
                    service = self.hands.service,
                    "could not commit within service.stop_timeout: what was not committed is done again"
                );
                return Ok(());
            }
            let event = self.poll()?;
            self.tell(event)?;
            measure::progress(&self.hands.service, self.told, self.core.counters());
            self.told = self.core.counters();
        }
    }

    /// Ends with its clients. Snapshots that are being written are waited for, clients only for so long.
    pub(super) fn close(self) {
        drop(self.core);
        self.hands.close();
    }

    #[expect(clippy::disallowed_methods, reason = "the shell's clock")]
    fn stop(&mut self) -> Result<Instant, WorkerError> {
        self.hands.stopping = true;
        self.tell(Event::Stop)?;
        Ok(Instant::now() + self.seat.settings.service.stop_timeout.as_duration())
    }

    /// What an error means, where the consumer has one that it cannot go on after.
    pub(super) fn explain(&self, error: WorkerError) -> WorkerError {
        let WorkerError::Loop { service, source: CoreError::Client { what } } = error else { return error };
        let source = match self.hands.consumer.client().fatal_error().map(|(code, _)| code) {
            Some(RDKafkaErrorCode::UnreleasedInstanceId) => CoreError::Held { what },
            _ => CoreError::Client { what },
        };
        WorkerError::Loop { service, source }
    }

    /// Where the process does not come back.
    fn leave_for_good(&mut self) {
        if !self.seat.stop.shutdown.is_draining() {
            return;
        }
        if self.seat.settings.kafka.group_protocol == GroupProtocol::Consumer {
            // librdkafka says of every static member that it comes back.
            tracing::warn!(
                service = self.hands.service,
                id = self.hands.id,
                "with kafka.group_protocol = \"consumer\" a member cannot leave for good: its partitions move \
                 when its session ends (group.consumer.session.timeout.ms of the broker)"
            );
            return;
        }
        let patience = self.seat.settings.service.stop_timeout.as_duration();
        let Hands { input, consumer, group, id, member, service, .. } = &mut self.hands;
        if leave(input, consumer, group, member, patience) {
            tracing::info!(service, id, group, "left the group");
        } else {
            tracing::warn!(
                service,
                id,
                group,
                "is still in the group: its partitions move when the session ends"
            );
        }
    }

    fn obey(&mut self) -> Result<(), WorkerError> {
        while let Some(command) = self.core.next_command() {
            let event = self.hands.execute(&self.core, command).map_err(|hopeless| WorkerError::Produce {
                service: self.seat.service.clone(),
                topic: hopeless.topic,
                source: Box::new(hopeless.source),
            })?;
            self.tell(event)?;
        }
        Ok(())
    }

    fn tell(&mut self, event: Event) -> Result<(), WorkerError> {
        self.core.on(event).map_err(|source| WorkerError::Loop { service: self.seat.service.clone(), source })
    }

    fn poll(&mut self) -> Result<Event, WorkerError> {
        // A processor that merges holds records back until it is said that the other partitions have no more.
        let holds = self.counts_polls && !self.hands.input.all_at_end();
        let time = match () {
            () if self.core.is_in_a_hurry() || self.core.is_writing() || holds => DRY,
            () if self.core.is_dirty() => PAUSE,
            () => IDLE,
        };
        let polled = match self.hands.input.poll(self.seat.settings.service.batch_records, time) {
            Ok(polled) => polled,
            Err(error) => return self.unreadable(&error),
        };
        self.hands.producer_events();
        if self.hands.consumer.context().is_unspoken() {
            let what = format!("{} cannot join group {}", self.hands.id, self.hands.group);
            let source = CoreError::Protocol { what };
            return Err(WorkerError::Loop { service: self.seat.service.clone(), source });
        }
        Ok(match polled {
            Polled::Group(GroupEvent::Assigned(partitions)) => Event::Assigned { partitions },
            Polled::Group(GroupEvent::Revoked(partitions)) => Event::Revoked { partitions },
            Polled::Group(GroupEvent::Lost(partitions)) => Event::Lost { partitions },
            Polled::Records(records) => {
                measure::batch(&self.hands.service, records.len());
                if self.asked_ends.elapsed() > LAG {
                    self.ask_ends();
                }
                Event::Records { records, clock: clock(self.started) }
            }
            Polled::Nothing => self.nothing(),
        })
    }

    fn nothing(&mut self) -> Event {
        let every = if self.counts_polls { CONFIRM_COUNTED } else { CONFIRM };
        let (mut at_end, mut heard) = self.hands.input.at_end();
        // A processor that merges waits for partitions that may hold more: ask at once.
        let undecided = self.counts_polls && heard && !self.hands.input.all_at_end();
        let due = self.asked_ends.elapsed() >= if undecided { CONFIRM_AT_MOST } else { every };
        if self.hands.input.is_assigned() && (undecided || !heard) && due && self.ask_ends() {
            (at_end, heard) = self.hands.input.at_end();
        }
        let clock = clock(self.started);
        if heard { Event::Drained { at_end, clock } } else { Event::Quiet { clock } }
    }

    #[expect(clippy::disallowed_methods, reason = "the shell's clock")]
    fn ask_ends(&mut self) -> bool {
        let answer = self.hands.input.confirm();
        self.asked_ends = Instant::now();
        match answer {
            Ok(lags) => {
                for (partition, offsets) in lags {
                    measure::lag(&self.hands.service, &partition, offsets);
                }
                true
            }
            Err(error) => {
                tracing::warn!(service = self.hands.service, %error, "the broker does not answer (retry)");
                false
            }
        }
    }

    /// Whoever takes a transactional id joins the group under the same name: the next heartbeat tells. Where
    /// none has, a transaction was open for too long.
    pub(super) fn still_in_its_place(&mut self) -> Result<(), WorkerError> {
        let until = in_the_future(HEARTBEAT);
        while !is_past(until) && !self.seat.stop.is_set() {
            // What comes is read again by whoever is built in this one's place.
            if let Err(error) = self.hands.input.poll(1, IDLE)
                && let Err(error @ WorkerError::Loop { source: CoreError::Replaced { .. }, .. }) =
                    self.unreadable(&error)
            {
                return Err(error);
            }
        }
        Ok(())
    }

    fn unreadable(&self, error: &KafkaError) -> Result<Event, WorkerError> {
        let fatal = self.hands.consumer.client().fatal_error();
        let what = format!("{error} ({}, group {})", self.hands.id, self.hands.group);
        let source = match fatal.map(|(code, _)| super::errors::of_fatal(code)) {
            Some(Failure::Replaced) => CoreError::Replaced { what },
            Some(Failure::Fenced) => CoreError::Fenced { what },
            _ => CoreError::Client { what },
        };
        Err(WorkerError::Loop { service: self.seat.service.clone(), source })
    }
}

#[expect(clippy::disallowed_methods, reason = "the shell's clock")]
pub(super) fn clock(started: Instant) -> Clock {
    let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    Clock {
        wall_ms: wall.map_or(0, |since| since.as_millis() as i64),
        steady_ms: started.elapsed().as_millis() as u64,
    }
}

#[expect(clippy::disallowed_methods, reason = "the shell's clock")]
pub(super) fn is_past(time: Instant) -> bool {
    Instant::now() >= time
}

#[expect(clippy::disallowed_methods, reason = "the shell's clock")]
pub(super) fn in_the_future(after: Duration) -> Instant {
    Instant::now() + after
}
