//! The fold: entries of one partition of `events` in, vectors, labels, duplicates and sums out.
//!
//! Knows no clock but the one in its input, no I/O and no randomness. Two cores that have folded
//! the same log are the same to the byte, restarts or not.

use std::hint::black_box;
use std::sync::Arc;

use schemas::{Control, Duplicate, Entry, Event, EventClock, Kind, Label, Place, Source};

use crate::dedupe::{Identity, Seen};
use crate::history::{History, Logged, NEVER, Read, Totals};
use crate::hours::Hours;
use crate::interner::{EMPTY, Interner};
use crate::labels::{Context, Pending};
use crate::out::{Counts, Sink};
use crate::plan::{Plan, SHARED, USER, USER_CAMPAIGN, USER_CATEGORY};
use crate::shared::open::{OpenTiles, key_of};
use crate::shared::versions::Versions;
use crate::timers::Timers;
use crate::vector::{VectorView, evaluate, kind_index};

/// Users looked at for expiry per record: more than one, so that the sweep outruns the growth.
const SWEPT_PER_RECORD: usize = 2;

/// Entries that are looked at before they are folded.
pub const AHEAD: usize = 16;

/// One user's state.
#[derive(Debug, Clone, Default)]
pub(crate) struct User {
    pub(crate) history: History,
    pub(crate) seen: Seen,
    pub(crate) pending: Pending,
    /// Up to this time of the clock there is nothing to forget and something is left. Not part of the
    /// state: a look at what is held gives it.
    pub(crate) quiet_until_ms: i64,
}

impl User {
    fn is_empty(&self) -> bool {
        self.history.is_empty() && self.seen.is_empty() && self.pending.is_empty()
    }

    fn quiet_until_ms(&self, plan: &Plan) -> i64 {
        // The last view of a user goes with a timer: only then is a user without a history gone.
        if self.history.is_empty() {
            return NEVER;
        }
        let seen = self.seen.quiet_until_ms(plan.config.dedupe_horizon.0);
        self.history.quiet_until_ms(plan).min(seen).min(self.pending.quiet_until_ms(plan))
    }
}

/// The fold of one partition.
#[derive(Debug, Clone)]
pub struct Core {
    pub(crate) plan: Arc<Plan>,
    pub(crate) partition: i32,
    pub(crate) clock: EventClock,
    /// Items, campaigns, categories, currencies.
    pub(crate) texts: Interner,
    /// Users' names; a name's number is its place in `users`.
    pub(crate) names: Interner,
    pub(crate) users: Vec<User>,
    pub(crate) timers: Timers,
    pub(crate) hours: Hours,
    /// Tiles of shared entities that the clock has not passed.
    pub(crate) tiles: OpenTiles,
    /// What all partitions together counted of shared entities.
    pub(crate) versions: Versions,
    /// Where the sweep stands in `users`.
    pub(crate) hand: usize,
    pub(crate) counts: Counts,
    /// How far the version lay behind the last vector that read one, ms. Not part of the state.
    version_behind_ms: Option<i64>,
    /// Scratch of a read.
    pub(crate) totals: Totals,
    rates: Vec<f64>,
    pub(crate) values: Vec<f32>,
    label: Label,
}

impl Core {
    /// The fold of nothing.
    pub fn new(plan: Arc<Plan>, partition: i32) -> Self {
        Self {
            plan,
            partition,
            clock: EventClock::default(),
            texts: Interner::new(),
            names: Interner::new(),
            users: vec![User::default()],
            timers: Timers::default(),
            hours: Hours::default(),
            tiles: OpenTiles::default(),
            versions: Versions::default(),
            hand: 0,
            counts: Counts::default(),
            version_behind_ms: None,
            totals: Totals::default(),
            rates: Vec::new(),
            values: Vec::new(),
            label: Label::default(),
        }
    }

    /// The plan that it follows.
    pub fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }

    /// Partition of `events` that it folds.
    pub fn partition(&self) -> i32 {
        self.partition
    }

    /// The event clock, ms; `None` before it has started.
    pub fn clock_ms(&self) -> Option<i64> {
        self.clock.now_ms()
    }

    /// What has been done since it was made or restored.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// How far the version of shared entities lay behind the last vector that read one, ms.
    pub fn version_behind_ms(&self) -> Option<i64> {
        self.version_behind_ms
    }

    /// The source that holds the event clock, with its watermark, ms: the last of those not idle.
    pub fn slowest_source(&self) -> Option<(&Source, i64)> {
        let sources = self.clock.parts().0?;
        let awake = sources.into_iter().filter_map(|(source, state)| match state? {
            (watermark_ms, false) => Some((source, watermark_ms)),
            (_, true) => None,
        });
        awake.min_by_key(|(_, watermark_ms)| *watermark_ms)
    }

    /// Keys of shared entities in the version in force.
    pub fn shared_keys(&self) -> usize {
        self.versions.len()
    }

    /// Users held.
    pub fn users(&self) -> usize {
        self.names.len()
    }

    /// Distinct item, campaign, category and currency texts held.
    pub fn texts(&self) -> usize {
        self.texts.len()
    }

    /// Labels and orders that wait for the clock.
    pub fn timers(&self) -> usize {
        self.timers.len()
    }

    /// Bytes of state, about. Goes over all users: for now and then.
    pub fn state_bytes(&self) -> usize {
        let users: usize = self
            .users
            .iter()
            .map(|user| size_of::<User>() + user.history.bytes() + user.seen.bytes() + user.pending.bytes())
            .sum();
        users
            + self.timers.bytes()
            + self.texts.bytes()
            + self.names.bytes()
            + self.hours.len() * 96
            + self.tiles.bytes()
            + self.versions.bytes()
    }

    /// Reads what folding these entries will read first. Changes nothing; but a state is larger than
    /// any cache, and so the entries wait for memory together and not one after the other.
    pub fn look_ahead(&self, entries: &[Entry; AHEAD]) {
        let users = entries.each_ref().map(|entry| match entry {
            Entry::Event(event) => event.user.as_str(),
            Entry::Control(_) => "",
        });
        self.look_at(self.names.look_ahead(users));
    }

    fn look_at(&self, slots: [u32; AHEAD]) {
        // A number that is not there is the empty user's.
        let users = slots.map(|slot| self.users.get(slot as usize).unwrap_or(&self.users[0]));
        black_box(users.map(|user| (user.quiet_until_ms, user.pending.look_ahead())));
        black_box(users.map(|user| user.history.look_ahead()));
    }

    /// Folds one entry. `place` is where it stands in `events`; places ascend.
    pub fn step(&mut self, entry: &Entry, place: Place, out: &mut impl Sink) {
        match entry {
            Entry::Event(event) => self.event(event, place, out),
            Entry::Control(control) => self.control(control, out),
        }
        self.fire(out);
        self.sweep();
    }

    fn now(&self) -> i64 {
        self.clock.now_ms().unwrap_or(NEVER)
    }

    fn control(&mut self, control: &Control, out: &mut impl Sink) {
        if let Control::Entities(version) = control {
            self.counts.versions += u64::from(self.versions.fold(version, &self.plan));
        }
        if self.clock.fold(control) {
            let now = self.now();
            self.hours.advance(now, self.plan.config.aggregate_horizon.0, &mut self.texts);
            if self.plan.shares() {
                let (plan, texts) = (&self.plan, &mut self.texts);
                self.counts.tiles += self.tiles.close(now, self.partition, plan, texts, out);
            }
            // Timers are due when the clock has moved: their users, many together.
            let mut users = self.timers.due_users(now, self.plan.config.timers_per_record).peekable();
            while users.peek().is_some() {
                let slots = std::array::from_fn(|_| users.next().unwrap_or(EMPTY));
                black_box(slots.map(|slot| self.names.text(slot).as_bytes().first()));
                self.look_at(slots);
            }
        }
    }

    fn event(&mut self, event: &Event, place: Place, out: &mut impl Sink) {
        let kind = event.kind_or_unknown();
        let Some(index) = kind_index(kind) else {
            self.counts.unknown_kind += 1;
            return;
        };
        let now = self.now();
        let slot = self.slot(&event.user);
        let user = &mut self.users[slot as usize];

        let horizon = self.plan.config.dedupe_horizon.0;
        user.seen.purge(now, horizon);
        if let Some(identity) = Identity::of(event, self.plan.config.dedupe_by_content) {
            let hash = identity.hash();
            if let Some(first) = user.seen.first(hash, event.event_time_ms, horizon) {
                self.counts.duplicates += 1;
                out.duplicate(Duplicate {
                    place,
                    first: Place { partition: place.partition, offset: first },
                    event_id: match identity {
                        Identity::Id(_) => event.event_id.clone(),
                        Identity::Content(hash) => format!("{hash:016x}"),
                    },
                    user: event.user.clone(),
                    event_time_ms: event.event_time_ms,
                });
                return;
            }
            user.seen.add(hash, event.event_time_ms, place.offset, self.plan.config.dedupe_events);
        }
        self.counts.events += 1;
        let behind = event.event_time_ms < now;
        self.counts.behind_clock += u64::from(behind);

        let ids @ [item, campaign, _] =
            [&event.item, &event.campaign, &event.category].map(|text| self.texts.intern(text));
        if kind == Kind::View {
            let [_, campaign, category] = ids;
            let read = Read { at_ms: event.event_time_ms, clock_ms: now, campaign, category };
            user.history.read(&read, &self.plan, &mut self.totals);
            let version_ms = self.versions.as_of(event.event_time_ms);
            if self.plan.shares() {
                self.counts.without_version += u64::from(version_ms.is_none());
                self.version_behind_ms =
                    version_ms.map(|version| event.event_time_ms - version).or(self.version_behind_ms);
            }
            let shared = self.versions.find(event);
            let known = std::array::from_fn(|entity| match entity {
                USER => true,
                USER_CAMPAIGN => campaign != EMPTY,
                USER_CATEGORY => category != EMPTY,
                _ => version_ms.is_some() && !key_of(event, entity - SHARED).is_empty(),
            });
            evaluate(&self.plan, &self.totals, &shared, event, known, &mut self.rates, &mut self.values);
            self.counts.vectors += 1;
            out.vector(&VectorView {
                place,
                event,
                clock_ms: now,
                fingerprint: self.plan.schema_fingerprint(),
                values: &self.values,
                version_ms,
                behaviours: user.history.recent(&read, &self.plan),
                texts: &self.texts,
            });
        }
        user.pending.purge(self.timers.decided_to(now), &self.plan, &mut self.texts);
        let key = (slot, item, campaign);
        user.pending.add(event, place.offset, key, &self.plan, &mut self.timers, &mut self.texts);
        if !self.hours.add(event, campaign, now, self.plan.config.aggregate_horizon.0, &mut self.texts) {
            self.counts.uncorrected += 1;
        }
        if self.plan.shares() && !self.tiles.add(event, index, &self.plan, &mut self.texts) {
            self.counts.untiled += 1;
        }
        // The history takes over the uses counted above.
        let logged = Logged::new(event.event_time_ms, index, ids, event.value as f32);
        user.history.add(logged, now, &self.plan, &mut self.texts);
        user.quiet_until_ms = NEVER;
    }

    /// The user's place in the slab; a new user's is made.
    fn slot(&mut self, name: &str) -> u32 {
        if let Some(slot) = self.names.find(name) {
            return slot;
        }
        let slot = self.names.intern(name);
        if slot as usize == self.users.len() {
            self.users.push(User::default());
        }
        slot
    }

    /// Decides what is due, at most so much per record.
    fn fire(&mut self, out: &mut impl Sink) {
        let Some(now) = self.clock.now_ms() else { return };
        let mut left = self.plan.config.timers_per_record;
        while left > 0 {
            let Some(timer) = self.timers.pop_due(now) else { break };
            left -= 1;
            let name = self.names.text(timer.user);
            let context = Context { plan: &self.plan, partition: self.partition, clock_ms: now, user: name };
            let pending = &mut self.users[timer.user as usize].pending;
            if pending.fire(timer, &context, &mut self.timers, &mut self.texts, &mut self.label) {
                self.counts.labels += 1;
                out.label(&self.label);
            }
        }
        while left > 0 {
            let Some(aggregate) = self.hours.pop_due(now, self.partition, &self.texts) else { break };
            left -= 1;
            self.counts.aggregates += 1;
            out.aggregate(aggregate);
        }
    }

    /// Forgets what has expired of the next users, and users of whom nothing is left.
    fn sweep(&mut self) {
        let Some(now) = self.clock.now_ms() else { return };
        let decided_to = self.timers.decided_to(now);
        for _ in 0..SWEPT_PER_RECORD.min(self.users.len()) {
            self.hand = if self.hand + 1 < self.users.len() { self.hand + 1 } else { 0 };
            let slot = self.hand as u32;
            let user = &mut self.users[self.hand];
            if now <= user.quiet_until_ms {
                continue;
            }
            user.history.purge(now, &self.plan, &mut self.texts);
            user.seen.purge(now, self.plan.config.dedupe_horizon.0);
            user.pending.purge(decided_to, &self.plan, &mut self.texts);
            if user.is_empty() && slot != EMPTY && !self.names.text(slot).is_empty() {
                self.names.release(slot);
            }
            user.quiet_until_ms = user.quiet_until_ms(&self.plan);
        }
    }
}
