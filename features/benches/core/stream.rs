//! An endless stream like that of `salience bench features`, made by a seed, in arrival order.
//!
//! Users follow Zipf's law with exponent 0.8, items with 1.1; an item has one campaign and one category.
//! 80 % are views, 17 % clicks, 3 % purchases; 2 % come up to a minute late.

use std::fmt::Write as _;

use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution as _, Exp, LogNormal, Zipf};
use schemas::{Control, Entry, Event, Kind, Origin, Source, SourceSet, Tick, Ticks};

/// When the first event arrives, ms.
const START_MS: i64 = 1_760_000_000_000;
/// Nothing comes later than this, ms.
const LATENESS_MS: i64 = 60_000;
/// From one arrival to the next on average, ms: half a million events in seven days.
const GAP_MS: f64 = 1_209.6;
const ITEMS: u32 = 20_000;
const CAMPAIGNS: u32 = 200;
const CATEGORIES: u32 = 40;
/// Events between two ticks of the clock.
const TICK_EVERY: usize = 100;

/// Where the stream stands.
pub(crate) struct Stream {
    random: ChaCha8Rng,
    user: Zipf<f64>,
    item: Zipf<f64>,
    gap: Exp<f64>,
    late: Exp<f64>,
    value: LogNormal<f64>,
    now_ms: f64,
    made: usize,
}

impl Stream {
    /// The stream of so many users.
    pub(crate) fn new(users: u32) -> Self {
        let right = "parameters are constants in range";
        Self {
            random: ChaCha8Rng::seed_from_u64(42),
            user: Zipf::new(f64::from(users), 0.8).expect(right),
            item: Zipf::new(f64::from(ITEMS), 1.1).expect(right),
            gap: Exp::new(1.0 / GAP_MS).expect(right),
            late: Exp::new(1.0 / 15_000.0).expect(right),
            value: LogNormal::new(3.0, 1.0).expect(right),
            now_ms: START_MS as f64,
            made: 0,
        }
    }

    /// The control record that a log begins with.
    pub(crate) fn sources() -> Entry {
        Entry::Control(Control::Sources(SourceSet { sources: vec![source()] }))
    }

    /// So many events more, a tick before every hundredth.
    pub(crate) fn next(&mut self, events: usize) -> Vec<Entry> {
        let mut entries = Vec::with_capacity(events + events / TICK_EVERY + 1);
        for _ in 0..events {
            self.now_ms += self.gap.sample(&mut self.random);
            if self.made.is_multiple_of(TICK_EVERY) {
                let watermark_ms = self.now_ms as i64 - LATENESS_MS;
                let tick = Tick { source: source(), watermark_ms, idle: false };
                entries.push(Entry::Control(Control::Ticks(Ticks { ticks: vec![tick] })));
            }
            entries.push(Entry::Event(Box::new(self.event())));
            self.made += 1;
        }
        entries
    }

    fn event(&mut self) -> Event {
        let random = &mut self.random;
        let kind = match random.random::<f64>() {
            share if share < 0.80 => Kind::View,
            share if share < 0.97 => Kind::Click,
            _ => Kind::Purchase,
        };
        let is_late = random.random::<f64>() < 0.02;
        let late_ms = if is_late { (self.late.sample(random) as i64).min(LATENESS_MS) } else { 0 };
        let (number, item) = (self.user.sample(random) as u32, self.item.sample(random) as u32);
        // What ingest makes of a user's name: a key's id and 128 bits in hex.
        let mut user = String::with_capacity(35);
        let spread = u128::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835) ^ 7;
        write!(user, "k1-{spread:032x}").expect("writing to a string does not fail");
        Event {
            origin: Origin {
                topic: "views".to_owned(),
                partition: 0,
                offset: self.made as i64,
                line: 0,
                lines: 1,
            },
            kind: kind as i32,
            event_time_ms: self.now_ms as i64 - late_ms,
            user,
            item: format!("item-{item}"),
            campaign: format!("campaign-{}", item % CAMPAIGNS),
            category: format!("category-{}", item % CATEGORIES),
            value: if kind == Kind::Click { 0.0 } else { self.value.sample(random) },
            ..Event::default()
        }
    }
}

fn source() -> Source {
    Source { topic: "views".to_owned(), partition: 0 }
}
