//! The market at work: a queue of what happens next, in order of its own clock.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use schemas::{Kind, RawEvent, topic};

use crate::calibrate;
use crate::catalogue::CatalogueItem;
use crate::config::{Config, ConfigError};
use crate::counts::Counts;
use crate::dice::Dice;
use crate::emission::{Emission, Fault, Truth};
use crate::fault;
use crate::habit::Habits;
use crate::record::{self, Basket, Piece, Visit};
use crate::scene;
use crate::truth::{self, Impression, Levels, Outcome};
use crate::world::World;

const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;
const DAY_MS: i64 = 24 * HOUR_MS;
/// A purchase comes at most this long after its impression.
const PURCHASE_MS: i64 = 18 * HOUR_MS;
/// A click comes at most this long after its impression.
const CLICK_MS: i64 = 29 * MINUTE_MS;
/// After closing, the market ends when nothing happens for this long: a reader that takes no jump of
/// its clock beyond 6 h would refuse what follows (a few refunds, days later).
const QUIET_MS: i64 = 5 * HOUR_MS;
/// A late view is late by at least this much.
const LATE_MS: i64 = 10 * MINUTE_MS;

/// Independent streams of a seed: the world, what happens in it, how it travels, the trial for
/// calibration, what a kind of market draws of its own.
const WORLD_STREAM: u64 = 0;
const LIFE_STREAM: u64 = 1;
const POST_STREAM: u64 = 2;
const TRIAL_STREAM: u64 = 3;
const KIND_STREAM: u64 = 4;

/// Something that will happen.
#[derive(Debug)]
enum Next {
    /// A visit may begin.
    Visit,
    /// The visit's next impression.
    Impression(Visit),
    /// A record is sent.
    Send(Box<Emission>),
}

/// In the queue: by time, then in order of being put there.
#[derive(Debug)]
struct Queued {
    at_ms: i64,
    order: u64,
    next: Next,
}

impl PartialEq for Queued {
    fn eq(&self, other: &Self) -> bool {
        self.order == other.order
    }
}
impl Eq for Queued {}
impl PartialOrd for Queued {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Queued {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at_ms, self.order).cmp(&(other.at_ms, other.order))
    }
}

/// A simulated market: an endless iterator over records in order of their arrival, until
/// [`Market::close`].
#[derive(Debug)]
pub struct Market {
    config: Config,
    world: World,
    levels: Levels,
    habits: Habits,
    /// Decides what happens; never touched by faults, so that these change no event.
    life: Dice,
    /// Decides how records travel and what else is sent.
    post: Dice,
    queue: BinaryHeap<Reverse<Queued>>,
    /// Late views whose time to come has come, until a view comes that makes them late.
    held: Vec<Emission>,
    /// Late views to be sent now.
    ready: VecDeque<Emission>,
    order: u64,
    ids: u64,
    visits: u64,
    now_ms: i64,
    /// The greatest event time sent, bad records left out.
    newest_ms: i64,
    closed: bool,
    counts: Counts,
}

impl Market {
    /// The market of that seed, at its opening.
    ///
    /// # Errors
    /// A setting out of its range.
    pub fn new(config: &Config, seed: u64) -> Result<Self, ConfigError> {
        config.check()?;
        let world = World::new(config, &mut Dice::new(seed, WORLD_STREAM), &mut Dice::new(seed, KIND_STREAM));
        let levels = trial(config, &world, &mut Dice::new(seed, TRIAL_STREAM));
        let habits = Habits::new(world.users.len(), config.categories as usize, world.campaigns.len());
        let mut market = Self {
            config: config.clone(),
            world,
            levels,
            habits,
            life: Dice::new(seed, LIFE_STREAM),
            post: Dice::new(seed, POST_STREAM),
            queue: BinaryHeap::new(),
            held: Vec::new(),
            ready: VecDeque::new(),
            order: 0,
            ids: 0,
            visits: 0,
            now_ms: config.start_ms,
            newest_ms: config.start_ms,
            closed: false,
            counts: Counts::default(),
        };
        market.plan(config.start_ms, Next::Visit);
        Ok(market)
    }

    /// The catalogue, for the `items` topic.
    pub fn catalogue(&self) -> Vec<CatalogueItem> {
        (0..self.world.items.len())
            .map(|item| record::catalogue_item(&self.world, &self.config, item))
            .collect()
    }

    /// The market's clock: arrival of the last record, ms; the opening before the first.
    pub const fn now_ms(&self) -> i64 {
        self.now_ms
    }

    /// What has been emitted so far.
    pub const fn counts(&self) -> Counts {
        self.counts
    }

    /// Lets nobody in any more: what is under way (clicks, purchases, copies) still comes, then,
    /// after 5 hours without anything, the iterator ends. Late views that no view follows are not
    /// sent: they would not be late.
    pub fn close(&mut self) {
        self.closed = true;
    }

    fn plan(&mut self, at_ms: i64, next: Next) {
        self.queue.push(Reverse(Queued { at_ms, order: self.order, next }));
        self.order += 1;
    }

    fn id(&mut self, prefix: char) -> String {
        self.ids += 1;
        format!("{prefix}-{:010}", self.ids)
    }

    /// A candidate visit, thinned to the day's rhythm; and the next candidate.
    fn visit(&mut self, at_ms: i64) {
        let config = &self.config;
        let per_ms = f64::from(config.users) * config.views_per_user_day / scene::VISIT_VIEWS / DAY_MS as f64;
        let most = 1.0 + config.day_rhythm;
        let keep = (1.0 + config.day_rhythm * truth::evening(at_ms)) / most;
        let gap = self.life.exponential(1.0 / (per_ms * most));
        if self.life.chance(keep) {
            self.visits += 1;
            let visit = scene::visit(&self.world, self.world.users.len(), self.visits, &mut self.life);
            self.plan(at_ms, Next::Impression(visit));
        }
        // Times are whole ms: the fraction is settled by a throw, so that no rate is too high for it.
        let whole = gap as i64;
        let more = i64::from(self.life.chance(gap - whole as f64));
        self.plan(at_ms + whole + more, Next::Visit);
    }

    /// One impression: its truth, what comes of it, and how the visit goes on.
    fn impression(&mut self, visit: Visit, at_ms: i64) {
        let seen = scene::impression(&self.world, &self.habits, &visit, at_ms, &mut self.life);
        let (logits, drivers) = truth::logits(&self.world, &self.habits, self.config.drift, &seen);
        let outcome = truth::outcome(logits, &self.levels);
        let clicked = self.life.chance(outcome.click);
        let purchased = self.life.chance(if clicked { outcome.conversion } else { outcome.view_through });
        let category = self.world.items[seen.item].category;
        self.habits.note(&seen, category, clicked);

        let event_id = self.id('v');
        let view = record::view(&self.world, &self.config, &visit, &seen, event_id.clone());
        let truth = Truth {
            event_id,
            p_click: outcome.click,
            p_purchase: outcome.purchase(),
            drivers,
            clicked,
            purchased,
        };
        self.send(topic::VIEWS, Kind::View, &view, Some(truth));
        let click_ms = clicked.then(|| self.click(&view, at_ms));
        if purchased {
            self.purchase(&view, &seen, click_ms);
        }
        if scene::goes_on(&mut self.life) {
            let next_ms = at_ms + scene::pause_ms(&mut self.life);
            self.plan(next_ms, Next::Impression(Visit { shown: visit.shown + 1, ..visit }));
        }
    }

    /// A click on the view; its time, ms.
    fn click(&mut self, view: &RawEvent, at_ms: i64) -> i64 {
        let delay = (self.life.lognormal(9_000.0, 1.0) as i64).clamp(500, CLICK_MS);
        let id = self.id('c');
        let click = record::answer(view, "click", id, at_ms + delay);
        self.send(topic::CLICKS, Kind::Click, &click, None);
        at_ms + delay
    }

    /// A purchase of the item seen: perhaps a cart before it, other items with it, a refund after.
    fn purchase(&mut self, view: &RawEvent, seen: &Impression, click_ms: Option<i64>) {
        let (median, sigma, from_ms) = match click_ms {
            Some(click_ms) => (40.0 * MINUTE_MS as f64, 1.2, click_ms),
            None => (180.0 * MINUTE_MS as f64, 0.8, seen.at_ms),
        };
        let latest = seen.at_ms + PURCHASE_MS;
        let delay = self.life.lognormal(median, sigma).clamp(0.0, PURCHASE_MS as f64) as i64;
        let at_ms = (from_ms + 2 * MINUTE_MS + delay).min(latest);
        if let Some(click_ms) = click_ms
            && self.life.chance(0.5)
        {
            let cart_ms = click_ms + self.life.between_ms(10_000, 90_000);
            let id = self.id('k');
            let cart = record::answer(view, "cart", id, cart_ms);
            self.send(topic::CLICKS, Kind::Cart, &cart, None);
        }
        let quantity = if self.life.chance(0.1) { 2 } else { 1 };
        let mut pieces = vec![Piece { item: seen.item, quantity }];
        // Something that was not advertised to them, so that no other impression can claim it.
        let other = self.life.below(self.world.items.len());
        if self.life.chance(0.2) && other != seen.item && !self.habits.seen(seen.user, other, at_ms) {
            pieces.push(Piece { item: other, quantity: 1 });
        }
        let basket = Basket { seen, pieces: &pieces, lines: self.life.chance(0.5) };
        let id = self.id('p');
        let order = record::order(&self.world, &self.config, "purchase", id, at_ms, &basket);
        self.send(topic::PURCHASES, Kind::Purchase, &order, None);
        if self.life.chance(self.config.refund_rate) {
            let back_ms = at_ms + self.life.between_ms(DAY_MS, 4 * DAY_MS);
            let id = self.id('f');
            let refund = record::order(&self.world, &self.config, "refund", id, back_ms, &basket);
            self.send(topic::PURCHASES, Kind::Refund, &refund, None);
        }
    }

    /// Puts a good record in the post, and whatever goes wrong beside it.
    fn send(&mut self, topic: &'static str, kind: Kind, event: &RawEvent, truth: Option<Truth>) {
        let (config, post) = (&self.config, &mut self.post);
        let event_time_ms = event.event_time;
        let latency = post.between_ms(20, 400);
        let late = kind == Kind::View && post.chance(config.late);
        let out_of_order = post.chance(config.out_of_order) && !late;
        let twice = post.chance(config.duplicates) && !late && !out_of_order;
        let delay = match (late, out_of_order) {
            (true, _) => config.allowed_lateness.0 + post.between_ms(LATE_MS, 2 * HOUR_MS),
            (_, true) => post.between_ms(0, config.disorder.0),
            _ => latency,
        };
        let copy_delay = post.between_ms(1, config.disorder.0.max(2));
        let bad = [
            (Fault::Future, config.future),
            (Fault::Garbage, config.garbage),
            (Fault::WrongType, config.wrong_type),
            (Fault::Huge, config.huge),
        ]
        .map(|(fault, rate)| post.chance(rate).then_some(fault));

        let fault = match (late, out_of_order) {
            (true, _) => Some(Fault::Late),
            (_, true) => Some(Fault::OutOfOrder),
            _ => None,
        };
        let emission = Emission {
            arrival_ms: event_time_ms + delay,
            topic,
            key: event.user_id.clone(),
            value: record::json(event),
            event_time_ms,
            kind,
            lines: event.lines.len().max(1) as u32,
            truth,
            fault,
        };
        if twice {
            self.post_at(Emission {
                arrival_ms: emission.arrival_ms + copy_delay,
                truth: None,
                fault: Some(Fault::Duplicate),
                ..emission.clone()
            });
        }
        self.post_at(emission);
        // Before anything else has come, a reader cannot know what lies in the future.
        let opening = event_time_ms < self.config.start_ms + HOUR_MS;
        for fault in bad.into_iter().flatten().filter(|fault| !opening || *fault != Fault::Future) {
            self.bad(fault, event_time_ms);
        }
    }

    fn bad(&mut self, fault: Fault, event_time_ms: i64) {
        let user = self.post.below(self.world.users.len());
        self.order += 1;
        let bad = fault::bad(fault, user, self.order, event_time_ms, &mut self.post);
        let arrival_ms = event_time_ms + self.post.between_ms(20, 400);
        self.post_at(Emission {
            arrival_ms,
            topic: bad.topic,
            key: record::user_id(user),
            value: bad.value,
            event_time_ms,
            kind: Kind::Unknown,
            lines: 1,
            truth: None,
            fault: Some(fault),
        });
    }

    fn post_at(&mut self, emission: Emission) {
        self.plan(emission.arrival_ms, Next::Send(Box::new(emission)));
    }

    /// Sends late views after this one, under its key: whatever the number of partitions, their
    /// source has then seen an event that is later by more than the allowed lateness.
    fn release(&mut self, view: &Emission) {
        let passed = view.event_time_ms - self.config.allowed_lateness.0;
        for late in self.held.extract_if(.., |late| late.event_time_ms < passed) {
            self.ready.push_back(Emission { arrival_ms: view.arrival_ms, key: view.key.clone(), ..late });
        }
    }

    fn emit(&mut self, emission: Emission) -> Emission {
        self.now_ms = emission.arrival_ms;
        if emission.kind != Kind::Unknown {
            self.newest_ms = self.newest_ms.max(emission.event_time_ms);
        }
        self.counts.add(&emission);
        emission
    }
}

impl Iterator for Market {
    type Item = Emission;

    fn next(&mut self) -> Option<Emission> {
        if let Some(late) = self.ready.pop_front() {
            return Some(self.emit(late));
        }
        loop {
            let Reverse(queued) = self.queue.pop()?;
            if self.closed && queued.at_ms - self.newest_ms > QUIET_MS {
                self.queue.clear();
                return None;
            }
            match queued.next {
                Next::Send(late) if late.fault == Some(Fault::Late) => self.held.push(*late),
                Next::Send(emission) => {
                    if emission.kind == Kind::View && emission.fault.is_none() {
                        self.release(&emission);
                    }
                    return Some(self.emit(*emission));
                }
                Next::Visit if !self.closed => self.visit(queued.at_ms),
                Next::Impression(visit) if !self.closed => self.impression(visit, queued.at_ms),
                Next::Visit | Next::Impression(_) => {}
            }
        }
    }
}

/// Runs a small market of the same world for a few days to find its levels.
fn trial(config: &Config, world: &World, dice: &mut Dice) -> Levels {
    let users = world.users.len().min(1_500);
    let most = 60_000.0_f64;
    let views = (users as f64 * config.views_per_user_day * 3.0).clamp(5_000.0, most) as usize;
    let step_ms = (DAY_MS as f64 / (users as f64 * config.views_per_user_day)) as i64;
    let mut habits = Habits::new(users, config.categories as usize, world.campaigns.len());
    let mut levels = Levels { click: -2.5, conversion: -1.5, view_through: -6.0 };
    let mut seen: Vec<Outcome> = Vec::with_capacity(views);
    let mut at_ms = config.start_ms;
    while seen.len() < views {
        let visit = scene::visit(world, users, 0, dice);
        loop {
            let impression = scene::impression(world, &habits, &visit, at_ms, dice);
            let (logits, _) = truth::logits(world, &habits, config.drift, &impression);
            let clicked = dice.chance(truth::outcome(logits, &levels).click);
            habits.note(&impression, world.items[impression.item].category, clicked);
            seen.push(logits);
            at_ms += step_ms;
            // The first guess is far off; histories that matter follow from a better one.
            if seen.len() == views / 10 {
                levels = settle(config, &seen);
            }
            if !scene::goes_on(dice) {
                break;
            }
        }
    }
    settle(config, &seen)
}

fn settle(config: &Config, seen: &[Outcome]) -> Levels {
    calibrate::levels(seen, config.click_rate, config.purchase_rate, config.view_through)
}
