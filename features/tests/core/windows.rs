//! Windows against a list of all events, gone through anew for every number.

use features::{Config, Core, Output, Window};
use proptest::prelude::*;
use schemas::duration::Millis;
use schemas::{Entry, Event, FeatureVector, Kind};

use crate::common::*;

/// Whether a declared kind takes an event.
pub(crate) fn takes(kind: &str, event: &Event) -> bool {
    let name = event.kind_or_unknown().as_str();
    name == kind || (kind == "click" && name == "cart")
}

/// The longest of these tests' windows, ms.
const LONGEST: i64 = 86_400_000;

/// When the first event may have happened that is in the window.
pub(crate) fn begin(window: Window, at_ms: i64) -> i64 {
    // A Monday.
    let monday = 1_699_833_600_000;
    let step = |hop: Millis| monday + (at_ms - monday).div_euclid(hop.0) * hop.0;
    match window {
        Window::Trailing(span) => at_ms - span.0 + 1,
        Window::Tumbling(span) => step(span),
        Window::Hopping { size, hop } => step(hop) + hop.0 - size.0,
        Window::Session(_) => panic!("depends on the events"),
    }
}

/// As columns name a window.
pub(crate) fn label(window: Window) -> String {
    window.to_string().replace([':', '/'], "_")
}

/// Events of the view's entity that arrived before it and happened at `begin` or later, up to the view.
fn since<'a>(past: &'a [(usize, Event)], view: &Event, entity: &str, begin: i64) -> Vec<&'a Event> {
    let at = view.event_time_ms;
    let mut found: Vec<&Event> = past
        .iter()
        .map(|(_, e)| e)
        .filter(|e| e.user == view.user && e.event_time_ms <= at && e.event_time_ms >= begin)
        .filter(|e| entity != "user_campaign" || e.campaign == view.campaign)
        .filter(|e| entity != "user_category" || e.category == view.category)
        .collect();
    found.sort_by_key(|e| e.event_time_ms);
    found
}

/// Those in a window.
fn within<'a>(past: &'a [(usize, Event)], view: &Event, entity: &str, window: Window) -> Vec<&'a Event> {
    since(past, view, entity, begin(window, view.event_time_ms))
}

/// The smoothed rate, drawn towards that of its parent.
fn rate(config: &Config, past: &[(usize, Event)], view: &Event, entity: &str, window: Window) -> f64 {
    let declared = &config.entities[entity];
    let events = within(past, view, entity, window);
    let count = |kind: &str| events.iter().filter(|e| takes(kind, e)).count() as f64;
    let prior = match declared.rate_parent.as_str() {
        "" => declared.rate_prior,
        parent => rate(config, past, view, parent, window),
    };
    (count("click") + prior * declared.rate_weight) / (count("view") + declared.rate_weight)
}

/// Every declared number by name, computed the slow way.
fn expected(config: &Config, past: &[(usize, Event)], view: &Event) -> Vec<(String, f32)> {
    let mut numbers = Vec::new();
    for (entity, declared) in &config.entities {
        let named = entity != "user_campaign" || !view.campaign.is_empty();
        let mut put = |name: String, value: f64| {
            numbers.push((format!("{entity}_{name}"), if named { value as f32 } else { f32::NAN }));
        };
        for &of in &config.windows {
            let (events, window) = (within(past, view, entity, of), label(of));
            let count = |kind: &str| events.iter().filter(|e| takes(kind, e)).count() as f64;
            let sum = |kind: &str| events.iter().filter(|e| takes(kind, e)).map(|e| e.value).sum::<f64>();
            for kind in &declared.count {
                put(format!("{kind}s_{window}"), count(kind));
            }
            for kind in &declared.sum {
                put(format!("{kind}_value_{window}"), sum(kind));
            }
            for kind in &declared.mean {
                put(format!("{kind}_mean_value_{window}"), sum(kind) / count(kind));
            }
            put(format!("ctr_{window}"), rate(config, past, view, entity, of));
        }
        for kind in &declared.seconds_since {
            let events = since(past, view, entity, view.event_time_ms - LONGEST + 1);
            let last = events.iter().rev().find(|e| takes(kind, e));
            let age = last.map_or(f64::NAN, |e| (view.event_time_ms - e.event_time_ms) as f64 / 1_000.0);
            put(format!("seconds_since_{kind}"), age);
        }
    }
    numbers
}

pub(crate) fn same(a: f32, b: f32) -> bool {
    a == b || (a.is_nan() && b.is_nan())
}

fn check_behaviours(config: &Config, past: &[(usize, Event)], vector: &FeatureVector, view: &Event) {
    let events = since(past, view, "user", view.event_time_ms - LONGEST + 1);
    let want: Vec<_> = events
        .iter()
        .rev()
        .take(config.last_n)
        .map(|e| {
            (
                e.item.clone(),
                e.campaign.clone(),
                e.category.clone(),
                e.kind,
                view.event_time_ms - e.event_time_ms,
            )
        })
        .collect();
    let got: Vec<_> = vector
        .behaviours
        .iter()
        .map(|b| (b.item.clone(), b.campaign.clone(), b.category.clone(), b.kind, b.age_ms))
        .collect();
    assert_eq!(got, want);
}

pub(crate) fn check_exact(config: &Config, entries: &[Entry]) {
    let plan = plan(config);
    let schema = plan.vector_schema();
    let mut core = Core::new(plan, 3);
    let outputs = run(&mut core, entries);
    let (kept, repeats) = without_repeats(entries, config.dedupe_horizon.0);

    let got: Vec<_> =
        duplicates(&outputs).iter().map(|d| (d.place.offset as usize, d.first.offset as usize)).collect();
    assert_eq!(got, repeats);

    let mut vectors = vectors(&outputs).into_iter();
    for (index, (offset, view)) in kept.iter().enumerate() {
        if view.kind != Kind::View as i32 {
            continue;
        }
        let vector = vectors.next().expect("a vector per view");
        assert_eq!(vector.place, place(*offset));
        let values: Vec<f32> = vector.numbers().collect();
        assert_eq!(values.len(), schema.fields.len());
        for (name, want) in expected(config, &kept[..index], view) {
            let got = values[schema.position(&name).expect(&name)];
            assert!(same(got, want), "{name} of {}: got {got}, want {want}", view.event_id);
        }
        check_behaviours(config, &kept[..index], vector, view);
    }
    assert!(vectors.next().is_none(), "no vector without a view");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn windows_are_exact_while_events_are_few(moves in moves(120)) {
        check_exact(&config(), &stream(&moves));
    }

    /// Changes all that a vector must not know: what comes later in the log, and what has come
    /// already but is later in event time.
    #[test]
    fn no_vector_knows_the_future(moves in moves(120), pick in any::<prop::sample::Index>()) {
        let entries = stream(&moves);
        let views: Vec<usize> = entries.iter().enumerate()
            .filter(|(_, e)| matches!(e, Entry::Event(e) if e.kind == Kind::View as i32))
            .map(|(offset, _)| offset).collect();
        prop_assume!(!views.is_empty());
        let at = *pick.get(&views);
        let Entry::Event(view) = entries[at].clone() else { unreachable!() };
        let plan = plan(&config());
        let of_view = |outputs: &[Output]| {
            vectors(outputs).into_iter().find(|v| v.place == place(at)).map(|v| (v.values.clone(), v.behaviours.clone()))
        };
        let whole = of_view(&run(&mut Core::new(plan.clone(), 3), &entries));
        let mut altered = entries[..=at].to_vec();
        for entry in &mut altered {
            if let Entry::Event(event) = entry && event.event_time_ms > view.event_time_ms {
                event.value *= 7.0;
                event.item = "other".into();
                event.kind = Kind::Purchase as i32;
                event.event_id.push('x');
            }
        }
        // A repeat stays one: its first is as old as itself.
        let changed = of_view(&run(&mut Core::new(plan, 3), &altered));
        prop_assert_eq!(whole, changed);
    }
}

proptest! {
    // Each case goes through all events for every number.
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn tiles_round_a_window_by_less_than_one_tile(
        seed in any::<u64>(), count in 200..1_500_usize, gap in 1..400_000_i64,
    ) {
        let mut config = config();
        config.exact_events = 64;
        config.last_n = 16;
        let plan = plan(&config);
        let schema = plan.vector_schema();
        let mut core = Core::new(plan.clone(), 3);
        let mut state = seed | 1;
        let mut random = move |below: i64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 11) as i64 % below
        };
        let mut out = features::Out::default();
        core.step(&sources(), place(0), &mut out);
        let mut now = START;
        let mut past: Vec<(usize, Event)> = Vec::new();
        for offset in 1..count {
            now += random(2 * gap);
            let kind = [Kind::View, Kind::View, Kind::Click, Kind::Purchase][random(4) as usize];
            let late = random(4) / 3 * random(LATENESS);
            let campaign = format!("c{}", random(2));
            let mut new = event(kind, "", now - late, "bot", "i", &campaign);
            new.category = format!("k{}", random(2));
            out.records.clear();
            core.step(&entry(new.clone()), place(2 * offset), &mut out);
            if kind == Kind::View {
                let vector = vectors(&out.records)[0];
                let values: Vec<f32> = vector.numbers().collect();
                for (window, tile, rounds) in plan.tiles() {
                    let first = begin(window, new.event_time_ms);
                    for entity in ["user", "user_campaign", "user_category"] {
                        for kind in ["view", "click", "purchase"] {
                            let name = format!("{entity}_{kind}s_{}", label(window));
                            let got = values[schema.position(&name).unwrap()];
                            let count = |from: i64| since(&past, &new, entity, from).iter().filter(|e| takes(kind, e)).count() as f32;
                            let tail = if rounds { tile.0 } else { 0 };
                            let (least, most) = (count(first), count(first - tail));
                            prop_assert!(least <= got && got <= most, "{name}: {least} <= {got} <= {most}");
                        }
                    }
                }
                check_behaviours(&config, &past, vector, &new);
            }
            past.push((offset, new));
            core.step(&tick(now - LATENESS), place(2 * offset + 1), &mut out);
        }
    }
}

#[test]
fn an_equal_time_that_came_before_counts_and_the_view_itself_does_not() {
    let plan = plan(&config());
    let schema = plan.vector_schema();
    let entries: Vec<Entry> =
        (0..3).map(|n| entry(event(Kind::View, &format!("v{n}"), START, "u", "i", "c"))).collect();
    let outputs = run(&mut Core::new(plan, 3), &entries);
    let at = schema.position("user_views_10s").unwrap();
    let got: Vec<f32> = vectors(&outputs).iter().map(|v| v.numbers().nth(at).unwrap()).collect();
    assert_eq!(got, [0.0, 1.0, 2.0]);
}

#[test]
fn context_follows_the_event_time() {
    let plan = plan(&config());
    let schema = plan.vector_schema();
    // 2023-11-14 was a Tuesday; 22:13:20 UTC.
    let mut view = event(Kind::View, "v", START, "u", "i", "c");
    view.value = 0.0;
    view.numbers = vec![0.25];
    let outputs = run(&mut Core::new(plan, 3), &[entry(view)]);
    let values: Vec<f32> = vectors(&outputs)[0].numbers().collect();
    let of = |name: &str| values[schema.position(name).unwrap()];
    assert_eq!(of("context_hour"), 22.0);
    assert_eq!(of("context_weekday"), 1.0);
    assert!(of("context_price").is_nan());
    assert_eq!(of("number_discount"), 0.25);
    let turn = (22.0 * 3_600.0 + 13.0 * 60.0 + 20.0) / 86_400.0 * std::f64::consts::TAU;
    assert!((f64::from(of("context_hour_sin")) - turn.sin()).abs() < 1e-7);
    assert!((f64::from(of("context_hour_cos")) - turn.cos()).abs() < 1e-7);
}

#[test]
fn a_standing_clock_does_not_hold_memory() {
    let mut config = config();
    config.exact_events = 64;
    config.last_n = 16;
    let mut core = Core::new(plan(&config), 3);
    let mut out = features::Out::default();
    for offset in 0..20_000_usize {
        let time_ms = START + offset as i64 * 1_000;
        core.step(&entry(event(Kind::Click, "", time_ms, "bot", "i", "c")), place(offset), &mut out);
    }
    // Labels keep clicks for their window, the rest is a few tiles.
    let clicks = 20_000 * 64;
    assert!(core.state_bytes() < 2 * clicks, "{}", core.state_bytes());
}
