//! What windows hold, to the bound that is promised of them, over streams of two sources of which either may
//! fall idle and come back behind the clock: out of order, repeated, with ties, across days, with prices that
//! no float holds.

use features::{Config, EntityConfig, Window};
use proptest::prelude::*;
use schemas::{Control, Entry, Event, FeatureVector, Kind, Source, SourceSet, Tick, Ticks};

use crate::cluster::*;
use crate::common::*;
use crate::windows::{begin, label};

const DAY: i64 = 86_400_000;
/// All of these tests' kinds that have a value.
const VALUED: [&str; 2] = ["view", "purchase"];

fn priced() -> Config {
    let mut config = shared_config();
    let kinds = VALUED.map(String::from).to_vec();
    let entity = EntityConfig {
        count: kinds.clone(),
        sum: kinds,
        windows: windows().map(|w| w.0).collect(),
        ..EntityConfig::default()
    };
    config.entities = [("user".to_owned(), entity.clone()), ("item".to_owned(), entity)].into();
    config
}

/// One event of a source, or that it falls idle.
#[derive(Debug, Clone)]
struct Step {
    source: usize,
    gap: i64,
    late: i64,
    kind: Kind,
    user: u8,
    item: u8,
    price: f64,
    again: bool,
    falls_idle: bool,
    takes: bool,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    // Each source has a time of its own: one may lie days behind the other.
    let gap = prop_oneof![4 => Just(0_i64), 6 => 0..9_000_i64, 3 => 0..400_000_i64, 1 => 0..DAY];
    let price = prop_oneof![(1..100_000_u32).prop_map(|cents| f64::from(cents) / 100.0), 0.0001..1e6_f64];
    let kind = prop_oneof![2 => Just(Kind::View), 1 => Just(Kind::Purchase)];
    let when = (0..2_usize, gap, 0..=LATENESS);
    let flags = (prop::bool::weighted(0.1), prop::bool::weighted(0.1), any::<bool>());
    let one = (when, kind, 0..2_u8, 0..2_u8, price, flags).prop_map(
        |((source, gap, late), kind, user, item, price, (again, falls_idle, takes))| Step {
            source,
            gap,
            late,
            kind,
            user,
            item,
            price,
            again,
            falls_idle,
            takes,
        },
    );
    proptest::collection::vec(one, 1..120)
}

fn source_of(at: usize) -> Source {
    Source { topic: "views".into(), partition: at as i32 }
}

/// The event clock, the slow way.
#[derive(Debug)]
struct Clock {
    states: [(i64, bool); 2],
    now_ms: i64,
}

impl Clock {
    fn tick(&mut self, source: usize, watermark_ms: i64, idle: bool) -> Entry {
        self.states[source] = (watermark_ms, idle);
        let awake = self.states.iter().filter(|(_, idle)| !idle).map(|(mark, _)| *mark).min();
        let reached = awake.or(self.states.iter().map(|(mark, _)| *mark).max()).unwrap();
        self.now_ms = self.now_ms.max(reached);
        let ticks = vec![Tick { source: source_of(source), watermark_ms, idle }];
        Entry::Control(Control::Ticks(Ticks { ticks }))
    }
}

/// An event that has arrived, and whether its tile was open then.
struct Past {
    event: Event,
    is_tiled: bool,
}

/// A sum of these prices as they are, and how far off it may be.
fn sum_of<'a>(events: impl Iterator<Item = &'a Event>, each: impl Fn(f64) -> f64) -> (f64, f64) {
    let (mut sum, mut off) = (0.0, 0.0);
    for event in events {
        sum += event.value;
        off += each(event.value);
    }
    // And the column itself is a 24 bit float.
    (sum, off + sum / f64::from(1 << 24))
}

fn check(cluster: &Cluster, vector: &FeatureVector, past: &[Past], clock_ms: i64) {
    let (at, version) = (vector.event_time_ms, vector.entity_version as i64);
    let is_kind = |event: &Event, kind: &str| event.kind_or_unknown().as_str() == kind;
    for kind in VALUED {
        for (window, tail) in windows() {
            // The user's: what the clock has left behind by the longest window is gone.
            let first = begin(window, at).max(at.max(clock_ms) - DAY + 1);
            let users: Vec<&Event> = past
                .iter()
                .map(|past| &past.event)
                .filter(|e| {
                    e.user == vector.user && is_kind(e, kind) && (first..=at).contains(&e.event_time_ms)
                })
                .collect();
            let of = |what: &str| cluster.number(vector, &format!("user_{kind}{what}_{}", label(window)));
            assert_eq!(of("s").to_bits(), (users.len() as f32).to_bits(), "{kind}s {window} at {at}");
            let (sum, off) = sum_of(users.into_iter(), |value| value / f64::from(1 << 24));
            let got = f64::from(of("_value"));
            assert!(
                (got - sum).abs() <= off * 1.000_001,
                "{kind} {window}: {got} for {sum}, off by at most {off}"
            );

            // The item's: of all users, but for what came when its tile was closed.
            let first = match window {
                Window::Trailing(span) => (version - span.0).div_euclid(tail) * tail,
                _ => begin(window, version),
            };
            let items: Vec<&Event> = past
                .iter()
                .filter(|past| past.is_tiled)
                .map(|past| &past.event)
                .filter(|e| {
                    e.item == vector.item && is_kind(e, kind) && (first..version).contains(&e.event_time_ms)
                })
                .collect();
            let of = |what: &str| cluster.number(vector, &format!("item_{kind}{what}_{}", label(window)));
            if version == 0 {
                assert!(of("s").is_nan() && of("_value").is_nan());
                continue;
            }
            assert_eq!(
                of("s").to_bits(),
                (items.len() as f32).to_bits(),
                "item's {kind}s {window} at {version}"
            );
            let (sum, off) = sum_of(items.into_iter(), |_| 0.00005);
            let got = f64::from(of("_value"));
            assert!(
                (got - sum).abs() <= off * 1.000_001,
                "item's {kind} {window}: {got} for {sum}, off by at most {off}"
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn windows_hold_what_is_promised_whatever_falls_idle(steps in steps()) {
        let config = priced();
        let mut cluster = Cluster::new(&config);
        cluster.write(&Entry::Control(Control::Sources(SourceSet { sources: vec![source_of(0), source_of(1)] })));
        let mut clock = Clock { states: [(START - LATENESS, false); 2], now_ms: START - LATENESS };
        for source in 0..2 {
            cluster.write(&clock.tick(source, START - LATENESS, false));
        }
        let mut now = [START; 2];
        let mut past: Vec<Past> = Vec::new();
        for (index, step) in steps.iter().enumerate() {
            let at = &mut now[step.source];
            *at += step.gap;
            let (id, user, item) = (format!("e{index}"), format!("u{}", step.user), format!("i{}", step.item));
            let mut new = event(step.kind, &id, *at - step.late, &user, &item, "c");
            new.value = step.price;
            cluster.vectors.clear();
            cluster.write(&entry(new.clone()));
            if let Some((vector, _)) = cluster.vectors.first().cloned() {
                check(&cluster, &vector, &past, clock.now_ms);
            }
            let is_tiled = new.event_time_ms.div_euclid(TILE) >= clock.now_ms.div_euclid(TILE);
            // Ids of before the clock less the horizon are forgotten: nothing in time repeats them.
            if step.again && new.event_time_ms >= clock.now_ms - config.dedupe_horizon.0 {
                cluster.write(&entry(new.clone()));
                prop_assert!(cluster.vectors.len() <= 1, "a repeat makes no vector");
            }
            past.push(Past { event: new, is_tiled });
            let watermark_ms = clock.states[step.source].0.max(now[step.source] - LATENESS);
            cluster.write(&clock.tick(step.source, watermark_ms, step.falls_idle));
            if step.takes {
                cluster.take_all();
            }
        }
        let clocks: Vec<Option<i64>> = cluster.cores.iter().map(features::Core::clock_ms).collect();
        prop_assert!(clocks.iter().all(|core| *core == Some(clock.now_ms)), "{clocks:?}");
    }
}
