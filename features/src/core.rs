//! The fold: entries of one partition of `events` in, vectors, labels, duplicates and what it counted out.
//!
//! Knows no clock but the one in its input, no I/O but the place that it is given for cold users, and no
//! randomness. Two cores that have folded the same log are the same to the byte, restarts or not; where users
//! go out of memory, what comes out is.

use std::sync::Arc;

use schemas::{Control, Duplicate, Entry, Event, EventClock, Kind, Label, Place, Source};

use crate::block::Logged;
use crate::cold::Cold;
use crate::dedupe::Identity;
use crate::history::{Ids, NEVER};
use crate::image::{Chunks as _, Marks};
use crate::interner::{EMPTY, Interner};
use crate::labels::{Context, Labels};
use crate::names::Names;
use crate::out::{Counts, Sink};
use crate::plan::Plan;
use crate::scan::Build;
use crate::shared::Keys;
use crate::shared::hours::OpenHours;
use crate::shared::open::OpenTiles;
use crate::shared::versions::Versions;
use crate::subjects::Subjects;
use crate::summary::read::Numbers;
use crate::totals::Totals;
use crate::users::Users;
use crate::vector::kind_index;

mod sweep;
mod view;

/// Users looked at for expiry per record, a cache line of heads: a record makes at most one user, so that the
/// sweep outruns the growth, and of all numbers a quarter at most is of users that have expired.
const SWEPT_PER_RECORD: usize = 4;
/// The same where the clock has moved: users leave, too, when nothing but ticks comes.
const SWEPT_PER_TICK: usize = 64;

/// Entries that are looked at before they are folded.
pub const AHEAD: usize = 16;

/// Users and subjects of the entries that were looked at last, as far as their hashes told; [`EMPTY`] where
/// they told nothing. Not part of the state: whoever takes one up compares.
#[derive(Debug, Default)]
struct Ahead {
    users: [u32; AHEAD],
    subjects: [u32; AHEAD],
    next: usize,
}

impl Ahead {
    /// Those of the next entry that is no control record.
    fn next(&mut self) -> (u32, u32) {
        let at = self.next;
        self.next += 1;
        let of = |numbers: &[u32; AHEAD]| numbers.get(at).copied().unwrap_or(EMPTY);
        (of(&self.users), of(&self.subjects))
    }
}

/// The fold of one partition.
#[derive(Debug)]
pub struct Core {
    pub(crate) plan: Arc<Plan>,
    /// The declarations in force as a text, where the log is followed in what it declares.
    pub(crate) declared: Arc<str>,
    pub(crate) partition: i32,
    pub(crate) clock: EventClock,
    /// Items, campaigns, categories, currencies.
    pub(crate) texts: Interner,
    /// Item, campaign and category of an event together.
    pub(crate) subjects: Subjects,
    /// Users' names; a name's number is its place in `users`.
    pub(crate) names: Names,
    pub(crate) users: Users,
    pub(crate) labels: Labels,
    /// What was counted by the hour and not sent.
    pub(crate) hours: OpenHours,
    /// Tiles of shared entities that the clock has not passed.
    pub(crate) tiles: OpenTiles,
    /// What all partitions together counted of shared entities.
    pub(crate) versions: Versions,
    /// Where the sweep stands in `users`.
    pub(crate) hand: usize,
    pub(crate) counts: Counts,
    /// How far the version lay behind the last vector that read one, ms. Not part of the state.
    version_behind_ms: Option<i64>,
    build: Build,
    ahead: Ahead,
    /// Scratch of a read.
    pub(crate) totals: Totals,
    numbers: Numbers,
    shared_numbers: Vec<f64>,
    rates: Vec<f64>,
    pub(crate) values: Vec<f32>,
    pub(crate) logged: Vec<Logged>,
    label: Label,
    /// Of users.
    pub(crate) marks: Marks,
    /// The head of an image of which no part has been given. Not part of the state.
    pub(crate) head: Vec<u8>,
    /// Users out of memory, where there is a place for them.
    pub(crate) cold: Option<Cold>,
}

impl Core {
    /// The fold of nothing.
    pub fn new(plan: Arc<Plan>, partition: i32) -> Self {
        Self {
            declared: Arc::default(),
            partition,
            clock: EventClock::default(),
            texts: Interner::new(),
            subjects: Subjects::new(plan.is_wide()),
            names: Names::new(),
            users: Users::new(),
            labels: Labels::default(),
            hours: OpenHours::default(),
            tiles: OpenTiles::default(),
            versions: Versions::default(),
            hand: 0,
            counts: Counts::default(),
            version_behind_ms: None,
            build: Build::fastest(),
            ahead: Ahead::default(),
            totals: Totals::default(),
            numbers: Numbers::default(),
            shared_numbers: Vec::new(),
            rates: Vec::new(),
            values: Vec::new(),
            logged: Vec::new(),
            label: Label::default(),
            marks: Marks::default(),
            head: Vec::new(),
            cold: None,
            plan,
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

    /// Keys of shared entities that versions have counted and windows still hold.
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
        self.labels.len()
    }

    /// Bytes of state, about. Goes over users with many events: for now and then.
    pub fn state_bytes(&self) -> usize {
        self.users.bytes() + self.bytes_beside_users()
    }

    pub(crate) fn bytes_beside_users(&self) -> usize {
        self.labels.bytes()
            + self.texts.bytes()
            + self.subjects.bytes()
            + self.names.bytes()
            + self.hours.bytes()
            + self.tiles.bytes()
            + self.versions.bytes()
    }

    /// Reads what folding these entries will read first. Changes nothing of the state; but it is larger than
    /// any cache, and so the entries wait for memory together and not one after the other.
    pub fn look_ahead(&mut self, entries: &[Entry; AHEAD]) {
        let event = entries.each_ref().map(|entry| match entry {
            Entry::Event(event) => Some(&**event),
            Entry::Control(_) => None,
        });
        let users = self.names.look_ahead(event.map(|event| event.map_or("", |event| event.user.as_str())));
        self.users.look_ahead(users);
        let mut subjects = [EMPTY; AHEAD];
        let about = event.map(|event| {
            event.map_or([""; 3], |event| [&event.item, &event.campaign, &event.category].map(String::as_str))
        });
        let ids = if self.plan.is_wide {
            let ids = [0, 1, 2].map(|which: usize| self.texts.look_ahead(about.map(|texts| texts[which])));
            std::array::from_fn(|at| ids.map(|ids| ids[at]))
        } else {
            let ids;
            (subjects, ids) = self.subjects.look_ahead(about, &self.texts);
            ids
        };
        self.ahead = Ahead::default();
        let events = (0..AHEAD).filter(|at| event[*at].is_some());
        for (to, at) in events.enumerate() {
            (self.ahead.users[to], self.ahead.subjects[to]) = (users[at], subjects[at]);
        }
        self.versions.look_ahead((entries, ids), &self.plan, &self.texts);
    }

    /// Folds one entry. `place` is where it stands in `events`; places ascend.
    pub fn step(&mut self, entry: &Entry, place: Place, out: &mut impl Sink) {
        let has_moved = match entry {
            Entry::Event(event) => {
                self.event(event, place, out);
                false
            }
            Entry::Control(control) => self.control(control, out),
        };
        self.fire(out);
        self.sweep(if has_moved { SWEPT_PER_TICK } else { SWEPT_PER_RECORD });
    }

    fn now(&self) -> i64 {
        self.clock.now_ms().unwrap_or(NEVER)
    }

    /// Folds a control record; whether the clock has moved.
    fn control(&mut self, control: &Control, out: &mut impl Sink) -> bool {
        if let Control::Entities(version) = control {
            self.counts.versions += u64::from(self.versions.fold(version, &self.plan, &mut self.texts));
        }
        let has_moved = self.clock.fold(control);
        if has_moved {
            let now = self.now();
            let mut ids = Ids { texts: &mut self.texts, subjects: &mut self.subjects };
            self.counts.hours += self.hours.close(now, self.partition, &mut ids, out);
            if self.plan.shares() {
                let (plan, texts) = (&self.plan, &mut self.texts);
                self.counts.tiles += self.tiles.close(now, self.partition, plan, texts, out);
            }
            // Decisions are due when the clock has moved: their users, many together.
            let mut users = self.labels.due_users(now, &self.plan).peekable();
            while users.peek().is_some() {
                let users: [u32; AHEAD] = std::array::from_fn(|_| users.next().unwrap_or(EMPTY));
                self.names.look_at(users);
                self.users.look_ahead(users);
            }
        }
        has_moved
    }

    fn event<S: Sink>(&mut self, event: &Event, place: Place, out: &mut S) {
        let (user, subject) = self.ahead.next();
        let kind = event.kind_or_unknown();
        let Some(index) = kind_index(kind) else {
            self.counts.unknown_kind += 1;
            return;
        };
        let now = self.now();
        let user = self.user(&event.user, user);

        let horizon = self.plan.config.dedupe_horizon.0;
        if let Some(identity) = Identity::of(event, self.plan.config.dedupe_by_content) {
            let hash = identity.hash();
            let seen = &mut self.users.extra_or_new(user).seen;
            seen.purge(now, horizon);
            let looked_at = &mut self.counts.looked_at;
            if let Some(first) = seen.first(hash, event.event_time_ms, horizon, looked_at) {
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
            seen.add(hash, event.event_time_ms, place.offset, self.plan.config.dedupe_events);
        }
        self.counts.events += 1;
        let behind = event.event_time_ms < now;
        self.counts.behind_clock += u64::from(behind);

        let texts = [&event.item, &event.campaign, &event.category].map(String::as_str);
        let also = self.plan.also(event);
        let number = self.subjects.intern_like(subject, texts, also, &mut self.texts);
        let subject = self.subjects.get(number);
        let about = [subject.item, subject.campaign, subject.category];
        let keys = Keys::of(event, about, &self.plan, &mut self.texts);
        if kind == Kind::View && !S::DROPS {
            self.view(event, place, (user, number), &keys, out);
        }
        let mut ids = Ids { texts: &mut self.texts, subjects: &mut self.subjects };
        let corrected_ms = self.plan.config.aggregate_horizon.0;
        if !self.hours.add(event, index, number, now, corrected_ms, &mut ids) {
            self.counts.uncorrected += 1;
        }
        if self.plan.shares() {
            let cells = &self.plan.cells;
            let taken = (!cells.is_empty()).then(|| cells.taken(event, index, self.subjects.filters(number)));
            let one = (event.event_time_ms, index, event.value);
            let is_counted = self.tiles.add(one, taken.as_ref(), keys, &self.plan, &mut self.texts);
            self.counts.untiled += u64::from(!is_counted);
            keys.release(&mut self.texts);
        }
        let decided_to = self.labels.decided_to(now);
        let (users, mut ids) =
            (&mut self.users, Ids { texts: &mut self.texts, subjects: &mut self.subjects });
        if let Some(extra) = users.extra_mut(user) {
            extra.answers.purge(decided_to, self.plan.config.click_window.0, &mut ids);
        }
        self.labels.add(event, place.offset, (user, number), users, &mut ids, &self.plan);
        // The history takes over the use counted above.
        let logged = Logged::new(event.event_time_ms, index, number, event.value as f32, ids.subjects);
        users.log(user, &logged, now, &self.plan, &mut ids);
        // Ids make room for others in order of arrival: the one that is first now may expire before the
        // one that was.
        let ids_until = users.extra(user).map_or(i64::MAX, |extra| extra.seen.quiet_until_ms(horizon));
        // Of a view only the history is forgotten; what else there may be says so where it is made.
        let kept_ms =
            if kind == Kind::View { self.plan.retention_ms() - 1 } else { self.plan.forgets_first_ms };
        let quiet = event.event_time_ms.saturating_add(kept_ms);
        users.keep_quiet_until(user, quiet.min(ids_until));
    }

    /// The number of a user who is about to change, perhaps this one; a new user's is made.
    fn user(&mut self, name: &str, perhaps: u32) -> u32 {
        let found = self.names.find_like(perhaps, name);
        self.touch(u64::from(found.unwrap_or(self.names.next())));
        if let Some(user) = found {
            self.warm(user);
            return user;
        }
        let user = self.names.add(name);
        if user as usize == self.users.len() {
            self.users.push();
        }
        user
    }

    /// Decides what is due, at most so much per record.
    fn fire<S: Sink>(&mut self, out: &mut S) {
        let Some(now) = self.clock.now_ms() else { return };
        let mut left = self.plan.config.timers_per_record;
        while left > 0 {
            // A decision takes clicks and orders from the user.
            let answers = |user: u32| self.users.extra(user).map(|extra| &extra.answers);
            let due = self.labels.due_user(now);
            if let Some(user) = due.filter(|user| answers(*user).is_some_and(|all| !all.is_empty())) {
                self.touch(u64::from(user));
            }
            let context =
                Context { plan: &self.plan, partition: self.partition, clock_ms: now, names: &self.names };
            let mut ids = Ids { texts: &mut self.texts, subjects: &mut self.subjects };
            let fired = self.labels.fire(&context, &mut self.users, &mut ids, &mut self.label);
            let Some(follows) = fired else { break };
            left -= 1;
            if follows && !S::DROPS {
                self.counts.labels += 1;
                out.label(&self.label);
            }
        }
        self.counts.looked_at += std::mem::take(&mut self.labels.looked);
    }
}
