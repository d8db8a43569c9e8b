//! Sums after a year of adding and of leaving, against sums that are made afresh.

use std::sync::Arc;

use features::{Config, Core, EntityConfig, Made, Out, Plan, Window};
use schemas::duration::Millis;
use schemas::entity::VALUE_PARTS;
use schemas::{Event, Kind};

use crate::cluster::*;
use crate::common::*;
use crate::windows::{begin, label};

const MINUTE: i64 = 60_000;
const DAY: i64 = 1_440 * MINUTE;
const DAYS: i64 = 365;
const WINDOWS: [&str; 5] = ["1d", "7d", "30d", "tumbling:1d", "hopping:7d/1d"];

fn a_years_config(entity: &str) -> Config {
    let purchase = vec!["purchase".to_owned()];
    let declared = EntityConfig {
        count: purchase.clone(),
        sum: purchase.clone(),
        decayed: if entity == "user" { purchase } else { Vec::new() },
        half_lives: vec![Millis(7 * DAY)],
        windows: WINDOWS.map(|window| Window::parse(window).unwrap()).to_vec(),
        ..EntityConfig::default()
    };
    Config {
        entities: [(entity.to_owned(), declared)].into(),
        exact_events: 64,
        last_n: 4,
        shared_tile: Millis(60 * MINUTE),
        ..config()
    }
}

/// A year of purchases with views between them, up to 20 s out of order. In the first ten months some are
/// worth as much as `dear`; then all are small change, which what is left of a large sum would drown.
fn a_year(dear: f64) -> Vec<Event> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move |below: i64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as i64 % below
    };
    let (mut events, mut now) = (Vec::new(), START);
    while now < START + DAYS * DAY {
        now += random(60 * MINUTE);
        let is_view = random(20) == 0;
        let late = random(3) / 2 * random(LATENESS);
        let kind = if is_view { Kind::View } else { Kind::Purchase };
        let mut new = event(kind, &format!("e{}", events.len()), now - late, "u", "i", "c");
        let is_dear = now < START + 300 * DAY && random(50) == 0;
        new.value = if is_dear { dear / (1 + random(9)) as f64 } else { (1 + random(99_999)) as f64 / 100.0 };
        events.push(new);
    }
    events.push(event(Kind::View, "last", now + 1, "u", "i", "c"));
    events
}

/// The width of a window's tiles at its tail, ms; 0 where it begins with one.
fn tail(plan: &Plan, name: &str) -> i64 {
    let column = plan.columns().into_iter().find(|column| column.field.name == name);
    match column.unwrap_or_else(|| panic!("no column {name}")).made {
        Made::Window { tile, rounded: true, .. } => tile.0,
        _ => 0,
    }
}

/// How far a number of a vector may be off: one is a 24 bit float, made of values of which each is one.
fn close(got: f32, want: f64) -> bool {
    (f64::from(got) - want).abs() <= want.abs() / f64::from(1 << 23)
}

/// Folds the events into a core and gives, for each view, its place among the events and its numbers.
fn vectors_of(plan: &Arc<Plan>, events: &[Event]) -> Vec<(usize, Vec<f32>)> {
    let mut core = Core::new(Arc::clone(plan), 3);
    let mut out = Out::default();
    core.step(&sources(), place(0), &mut out);
    let mut all = Vec::new();
    for (at, event) in events.iter().enumerate() {
        out.records.clear();
        core.step(&entry(event.clone()), place(2 * at + 1), &mut out);
        all.extend(vectors(&out.records).into_iter().map(|vector| (at, vector.numbers().collect())));
        core.step(&tick(event.event_time_ms - LATENESS), place(2 * at + 2), &mut out);
    }
    all
}

#[test]
fn a_users_sums_do_not_drift_in_a_year() {
    let plan = plan(&a_years_config("user"));
    let schema = plan.vector_schema();
    let events = a_year(1e12);
    let all = vectors_of(&plan, &events);
    assert!(all.len() > 600, "{} vectors", all.len());
    // Values are held as 24 bit floats.
    let value = |event: &Event| f64::from(event.value as f32);
    let mut checked = 0;
    for (at, numbers) in &all {
        let now = events[*at].event_time_ms;
        let past =
            || events[..*at].iter().filter(|e| e.kind == Kind::Purchase as i32 && e.event_time_ms <= now);
        for window in WINDOWS.map(|window| Window::parse(window).unwrap()) {
            let name = format!("user_purchase_value_{}", label(window));
            let got = numbers[schema.position(&name).unwrap()];
            let sum = |from: i64| past().filter(|e| e.event_time_ms >= from).map(value).sum::<f64>();
            let first = begin(window, now);
            let (least, most) = (sum(first), sum(first - tail(&plan, &name)));
            let is_between = least <= f64::from(got) && f64::from(got) <= most;
            assert!(
                is_between || close(got, least) || close(got, most),
                "{name}: {least} <= {got} <= {most}"
            );
            checked += usize::from(now > START + 340 * DAY);
        }
        let weight = |e: &Event| (-((now - e.event_time_ms) as f64) / (7 * DAY) as f64).exp2();
        let weights = |from: i64| past().filter(|e| e.event_time_ms > from).map(weight).sum::<f64>();
        let got = numbers[schema.position("user_purchases_decayed_7d").unwrap()];
        let (least, most) = (weights(now - 30 * DAY), weights(now - 31 * DAY));
        let is_between = least <= f64::from(got) && f64::from(got) <= most;
        assert!(is_between || close(got, least) || close(got, most), "decayed: {least} <= {got} <= {most}");
    }
    assert!(checked > 100, "some when all was small change: {checked}");
    // A core that knows nothing but what the longest window can hold says the same.
    let (last, year) = all.last().unwrap();
    let from = events[*last].event_time_ms - 32 * DAY;
    let lately: Vec<Event> = events.iter().filter(|e| e.event_time_ms > from).cloned().collect();
    let fresh = vectors_of(&plan, &lately);
    let (_, fresh) = fresh.last().unwrap();
    for (field, (year, fresh)) in schema.fields.iter().zip(year.iter().zip(fresh)) {
        // A day's events are partly held one by one, and how many depends on how many came.
        if ["user_purchases_1d", "user_purchase_value_1d"].contains(&field.name.as_str()) {
            continue;
        }
        let is_same = crate::windows::same(*year, *fresh) || close(*year, f64::from(*fresh));
        assert!(is_same, "{}: {year} after a year, {fresh} afresh", field.name);
    }
}

#[test]
fn what_users_share_is_the_same_to_the_bit_after_a_year() {
    let mut cluster = Cluster::new(&a_years_config("item"));
    // A sum of ten-thousandths has room for 9.2e14.
    let mut events = a_year(1e9);
    for (at, event) in events.iter_mut().enumerate() {
        event.user = format!("u{}", at % 7);
    }
    cluster.write(&sources());
    let mut checked = 0;
    for (at, event) in events.iter().enumerate() {
        cluster.vectors.clear();
        cluster.write(&entry(event.clone()));
        if let Some((vector, _)) = cluster.vectors.first().cloned() {
            let version = vector.entity_version as i64;
            let past = || {
                events[..at].iter().filter(|e| e.kind == Kind::Purchase as i32 && e.event_time_ms < version)
            };
            for window in WINDOWS.map(|window| Window::parse(window).unwrap()) {
                let name = format!("item_purchase_value_{}", label(window));
                let from = match (window, tail(&cluster.plan, &name)) {
                    (Window::Trailing(span), tail) => (version - span.0).div_euclid(tail) * tail,
                    _ => begin(window, version),
                };
                let parts = |e: &Event| (e.value * VALUE_PARTS).round() as i64;
                let sum: i64 = past().filter(|e| e.event_time_ms >= from).map(parts).sum();
                let want = if version == 0 { f32::NAN } else { (sum as f64 / VALUE_PARTS) as f32 };
                let got = cluster.number(&vector, &name);
                assert_eq!(got.to_bits(), want.to_bits(), "{name} at {version}: {got} for {want}");
                checked += usize::from(version > START + 340 * DAY);
            }
        }
        cluster.write(&tick(event.event_time_ms - LATENESS));
        cluster.take_all();
        // Logs of a year are not asked for.
        cluster.logs.iter_mut().for_each(Vec::clear);
        cluster.tiles.clear();
        cluster.versions.clear();
        cluster.hours.clear();
    }
    assert!(checked > 100, "some when all was small change: {checked}");
}
