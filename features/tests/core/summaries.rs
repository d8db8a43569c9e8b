//! Aggregations, filters, sessions and pairs against a list of all events, gone through anew for every
//! number.

use std::collections::{BTreeMap, BTreeSet};

use features::{Config, Core, EntityConfig, FilterConfig, Window};
use proptest::prelude::*;
use schemas::duration::Millis;
use schemas::{Entry, Event, Kind};

use crate::common::*;
use crate::windows::{begin, label, same, takes};

const LONGEST: i64 = 86_400_000;
const ENTITIES: [&str; 6] =
    ["user", "user_campaign", "user_category", "user_item", "user_brand", "user_placement"];
const WINDOWS: [&str; 6] = ["10s", "1h", "1d", "tumbling:1h", "hopping:1h/10m", "session:2m"];

fn strings(names: &[&str]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

/// One of everything, of every entity of the user.
pub(crate) fn everything() -> Config {
    let takes = ["view", "click", "dear", "branded"];
    let valued = ["view", "purchase", "dear"];
    let texts = ["view.item", "click.category", "branded.placement", "view.device"];
    let entity = EntityConfig {
        count: strings(&takes),
        sum: strings(&valued),
        mean: strings(&valued),
        rate: true,
        seconds_since: strings(&takes),
        min: strings(&valued),
        max: strings(&valued),
        variance: strings(&valued),
        first: strings(&valued),
        last: strings(&valued),
        mean_gap: strings(&takes),
        decayed: strings(&takes),
        half_lives: vec![Millis(10_000), Millis(3_600_000)],
        trend: strings(&takes),
        trend_windows: strings(&["10s/1h", "1h/1d"]),
        distinct: strings(&texts),
        quantile: strings(&valued),
        quantile_levels: vec![0.5, 0.999],
        top: strings(&texts),
        top_k: 2,
        windows: WINDOWS.map(|window| Window::parse(window).unwrap()).to_vec(),
        ..EntityConfig::default()
    };
    let dear = FilterConfig {
        kinds: strings(&["view", "purchase"]),
        min: Some(4.0),
        max: Some(9.0),
        ..FilterConfig::default()
    };
    let branded =
        FilterConfig { brand: strings(&["b0", "b1"]), channel: strings(&["app"]), ..FilterConfig::default() };
    Config {
        entities: ENTITIES.map(|name| (name.to_owned(), entity.clone())).into(),
        filters: [("dear".to_owned(), dear), ("branded".to_owned(), branded)].into(),
        windows: vec![Window::parse("1d").unwrap()],
        ..config()
    }
}

/// The stream with brands, placements, devices and channels.
pub(crate) fn with_texts(mut entries: Vec<Entry>) -> Vec<Entry> {
    for entry in &mut entries {
        if let Entry::Event(event) = entry {
            // By id: a repeat is the same.
            let seed =
                event.event_id.bytes().fold(0_usize, |sum, byte| (sum * 31 + usize::from(byte)) % 100_003);
            event.brand = ["", "b0", "b1", "b2"][seed % 4].into();
            event.placement = ["p0", "p1", ""][seed / 4 % 3].into();
            event.device = ["phone", "tv"][seed / 12 % 2].into();
            event.channel = ["app", "web"][seed / 24 % 2].into();
        }
    }
    entries
}

/// Whether what is declared takes an event.
pub(crate) fn taken(name: &str, event: &Event) -> bool {
    match name {
        "dear" => (takes("view", event) || takes("purchase", event)) && (4.0..=9.0).contains(&event.value),
        "branded" => ["b0", "b1"].contains(&event.brand.as_str()) && event.channel == "app",
        kind => takes(kind, event),
    }
}

fn text<'a>(event: &'a Event, of: &str) -> &'a str {
    match of {
        "user" => &event.user,
        "item" => &event.item,
        "campaign" => &event.campaign,
        "category" => &event.category,
        "brand" => &event.brand,
        "placement" => &event.placement,
        _ => &event.device,
    }
}

/// The user's events that arrived before a view and happened up to it, not longer ago, by time.
fn users<'a>(past: &'a [Placed], view: &Event, longest: i64) -> Vec<&'a Event> {
    let at = view.event_time_ms;
    let of = |e: &&Event| e.user == view.user && (at - longest + 1..=at).contains(&e.event_time_ms);
    let mut events: Vec<&Event> = past.iter().map(|(_, event)| event).filter(of).collect();
    events.sort_by_key(|event| event.event_time_ms);
    events
}

fn begins(window: Window, users: &[&Event], at_ms: i64) -> i64 {
    let Window::Session(gap) = window else { return begin(window, at_ms) };
    let mut edge = at_ms;
    for event in users.iter().rev() {
        if edge - event.event_time_ms > gap.0 {
            break;
        }
        edge = event.event_time_ms;
    }
    edge
}

pub(crate) type Numbers = BTreeMap<String, f64>;

/// The numbers of an entity over a window that begins then; `events` are the user's with the view's.
pub(crate) fn of_window(
    declared: &EntityConfig,
    events: &[&Event],
    view: &Event,
    label: &str,
    from: i64,
) -> Numbers {
    let mut numbers = Numbers::new();
    let mut put = |name: String, value: f64| {
        numbers.insert(format!("{name}_{label}"), value);
    };
    let within = |name: &str| -> Vec<&Event> {
        events.iter().copied().filter(|e| e.event_time_ms >= from && taken(name, e)).collect()
    };
    for name in &declared.count {
        put(format!("{name}s"), within(name).len() as f64);
    }
    for name in &declared.sum {
        let values: Vec<f64> = within(name).iter().map(|e| e.value).filter(|value| *value != 0.0).collect();
        let sum = values.iter().sum::<f64>() + 0.0;
        put(format!("{name}_value"), sum);
        put(format!("{name}_mean_value"), sum / within(name).len() as f64);
        put(format!("{name}_min_value"), values.iter().copied().fold(f64::NAN, f64::min));
        put(format!("{name}_max_value"), values.iter().copied().fold(f64::NAN, f64::max));
        put(format!("{name}_first_value"), values.first().copied().unwrap_or(f64::NAN));
        put(format!("{name}_last_value"), values.last().copied().unwrap_or(f64::NAN));
        let mean = sum / values.len() as f64;
        let squares: f64 = values.iter().map(|value| (value - mean) * (value - mean)).sum();
        put(format!("{name}_variance_value"), squares / values.len() as f64);
        let mut sorted = values.clone();
        sorted.sort_by(f64::total_cmp);
        for (level, percent) in [(0.5, "50"), (0.999, "99_9")] {
            let rank = (level * sorted.len() as f64).ceil() as usize;
            put(format!("{name}_p{percent}_value"), rank.checked_sub(1).map_or(f64::NAN, |at| sorted[at]));
        }
    }
    for name in &declared.mean_gap {
        let times: Vec<i64> = within(name).iter().map(|e| e.event_time_ms).collect();
        let gaps: Vec<f64> = times.windows(2).map(|pair| (pair[1] - pair[0]) as f64 / 1e3).collect();
        put(format!("{name}_mean_gap"), gaps.iter().sum::<f64>() / gaps.len() as f64);
    }
    for entry in &declared.distinct {
        let (name, of) = entry.split_once('.').unwrap();
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for text in within(name).into_iter().map(|e| text(e, of)).filter(|text| !text.is_empty()) {
            *counts.entry(text).or_default() += 1;
        }
        let all: usize = counts.values().sum();
        put(format!("{name}_distinct_{of}"), counts.len() as f64);
        let mut sorted: Vec<usize> = counts.values().copied().collect();
        sorted.sort_unstable_by_key(|count| std::cmp::Reverse(*count));
        for place in 0..declared.top_k {
            let share = sorted.get(place).copied().unwrap_or(0) as f64 / all as f64;
            put(format!("{name}_top{}_{of}_share", place + 1), share);
        }
        let own = counts.get(text(view, of)).copied().unwrap_or(0);
        let rank = 1 + sorted.iter().filter(|count| **count > own).count();
        let is_among = own > 0 && rank <= declared.top_k;
        put(format!("{name}_top_{of}_rank"), if is_among { rank as f64 } else { f64::NAN });
    }
    let count = |name: &str| within(name).len() as f64;
    put("ctr".to_owned(), (count("click") + 0.02 * 20.0) / (count("view") + 20.0));
    numbers
}

/// Those of no window; decayed counts over all that is remembered.
fn of_all(declared: &EntityConfig, events: &[&Event], view: &Event) -> Numbers {
    let mut numbers = Numbers::new();
    let at_ms = view.event_time_ms;
    for name in &declared.seconds_since {
        let all: Vec<&Event> = events.iter().copied().filter(|e| taken(name, e)).collect();
        let last = all.last().map_or(f64::NAN, |e| (at_ms - e.event_time_ms) as f64 / 1e3);
        numbers.insert(format!("seconds_since_{name}"), last);
        for half_life in &declared.half_lives {
            let weight = |e: &&Event| (-((at_ms - e.event_time_ms) as f64) / half_life.0 as f64).exp2();
            let weights: f64 = all.iter().map(weight).sum();
            numbers.insert(format!("{name}s_decayed_{half_life}"), weights);
        }
        for (short, long) in [("10s", "1h"), ("1h", "1d")] {
            let span = |text: &str| Millis::parse(text).unwrap().0;
            let count =
                |text: &str| all.iter().filter(|e| e.event_time_ms > at_ms - span(text)).count() as f64;
            let rate = (count(short) + 1.0) / (count(long) * span(short) as f64 / span(long) as f64 + 1.0);
            numbers.insert(format!("{name}s_trend_{short}_{long}"), rate);
        }
    }
    numbers
}

/// The user's events with the view's text of the entity; none where the view has none.
fn of_entity<'a>(entity: &str, users: &[&'a Event], view: &Event) -> Option<Vec<&'a Event>> {
    let Some(of) = entity.strip_prefix("user_") else { return Some(users.to_vec()) };
    let is_of = |e: &&&Event| text(e, of) == text(view, of);
    (!text(view, of).is_empty()).then(|| users.iter().filter(is_of).copied().collect())
}

/// Every declared number by name, computed the slow way.
fn expected(config: &Config, past: &[Placed], view: &Event) -> Numbers {
    let mut numbers = Numbers::new();
    let users = users(past, view, LONGEST);
    for (entity, declared) in &config.entities {
        let events = of_entity(entity, &users, view);
        let known = events.is_some();
        let events = events.unwrap_or_default();
        let mut put = |of: Numbers| {
            for (name, value) in of {
                numbers.insert(format!("{entity}_{name}"), if known { value } else { f64::NAN });
            }
        };
        for &window in &declared.windows {
            let from = begins(window, &users, view.event_time_ms);
            put(of_window(declared, &events, view, &label(window), from));
        }
        put(of_all(declared, &events, view));
    }
    numbers
}

/// Whether two numbers are the same but for the rounding of their last bits.
pub(crate) fn close(got: f32, want: f64) -> bool {
    same(got, want as f32) || (f64::from(got) - want).abs() <= 2e-6 * want.abs().max(1e-3)
}

fn check(config: &Config, entries: &[Entry]) {
    let plan = plan(config);
    let schema = plan.vector_schema();
    let outputs = run(&mut Core::new(plan, 3), entries);
    let (kept, _) = without_repeats(entries, config.dedupe_horizon.0);
    let mut vectors = vectors(&outputs).into_iter();
    for (index, (_, view)) in kept.iter().enumerate().filter(|(_, (_, e))| e.kind == Kind::View as i32) {
        let vector = vectors.next().expect("a vector per view");
        let values: Vec<f32> = vector.numbers().collect();
        let want = expected(config, &kept[..index], view);
        let named: BTreeSet<&str> = schema.fields.iter().map(|field| field.name.as_str()).collect();
        for name in named.iter().filter(|name| name.starts_with("user")) {
            assert!(want.contains_key(*name), "{name} is not checked");
        }
        for (name, want) in want {
            let got = values[schema.position(&name).unwrap_or_else(|| panic!("no column {name}"))];
            assert!(close(got, want), "{name} of {}: got {got}, want {want}", view.event_id);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn every_aggregation_is_exact_while_events_are_few(moves in moves(90)) {
        check(&everything(), &with_texts(stream(&moves)));
    }

    #[test]
    fn a_restored_core_goes_on_with_its_summaries(moves in moves(160)) {
        let config = Config { exact_events: 64, last_n: 4, ..everything() };
        let plan = plan(&config);
        let mut entries = with_texts(stream(&moves));
        for (index, entry) in entries.iter_mut().enumerate() {
            if let Entry::Event(event) = entry && index % 9 > 0 {
                event.user = "bot".into();
            }
        }
        for late in 0..20 {
            entries.push(tick(START + 500_000_000_000 + late));
        }
        let mut straight = Core::new(plan.clone(), 3);
        let mut restarted = Core::new(plan.clone(), 3);
        for (offset, entry) in entries.iter().enumerate() {
            let (mut a, mut b) = (features::Out::default(), features::Out::default());
            straight.step(entry, place(offset), &mut a);
            restarted.step(entry, place(offset), &mut b);
            prop_assert_eq!(a, b);
            let bytes = restarted.snapshot();
            prop_assert!(bytes == straight.snapshot(), "one state, one snapshot, at {}", offset);
            if offset % 7 == 0 {
                restarted = Core::restore(plan.clone(), 3, &bytes).unwrap();
            }
        }
        for late in 0..600 {
            straight.step(&tick(START + 500_000_000_100 + late), place(entries.len() + late as usize), &mut features::Out::default());
        }
        prop_assert_eq!((straight.users(), straight.texts()), (0, 0), "nothing stays");
    }
}

proptest! {
    // Each case goes through all events for every number and every place where a window may begin.
    #![proptest_config(ProptestConfig::with_cases(10))]

    /// Of a user in tiles: all numbers of an entity and a window are those of one and the same window, which
    /// begins less than a tile before where it should, and just there if it begins with a tile or is a session.
    #[test]
    fn tiles_round_every_aggregation_as_they_do_the_window(
        seed in any::<u64>(), count in 150..500_usize, gap in 1..200_000_i64,
    ) {
        let config = Config { exact_events: 64, last_n: 4, ..everything() };
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
        let (mut now, mut past) = (START, Vec::<Placed>::new());
        for offset in 1..count {
            now += random(2 * gap);
            let kind = [Kind::View, Kind::View, Kind::Click, Kind::Purchase][random(4) as usize];
            let late = random(4) / 3 * random(LATENESS);
            let mut new = event(kind, "", now - late, "bot", &format!("i{}", random(3)), &format!("c{}", random(2)));
            new.category = format!("k{}", random(2));
            new.brand = ["", "b0", "b1", "b2"][random(4) as usize].into();
            new.placement = format!("p{}", random(2));
            new.device = format!("d{}", random(9));
            new.channel = ["app", "web"][random(2) as usize].into();
            if new.value > 0.0 {
                new.value = random(40) as f64 / 4.0;
            }
            out.records.clear();
            core.step(&entry(new.clone()), place(2 * offset), &mut out);
            if kind == Kind::View && (random(8) == 0 || offset + 9 > count) {
                let values: Vec<f32> = vectors(&out.records)[0].numbers().collect();
                check_tiled(&config, &past, &new, &plan.tiles(), &|name| values[schema.position(name).expect(name)]);
            }
            past.push((offset, new));
            core.step(&tick(now - LATENESS), place(2 * offset + 1), &mut out);
        }
    }
}

fn check_tiled(
    config: &Config,
    past: &[Placed],
    view: &Event,
    tiles: &[(Window, Millis, bool)],
    got: &dyn Fn(&str) -> f32,
) {
    let tile = |window: Window| {
        let of = tiles.iter().find(|(of, ..)| *of == window);
        of.filter(|(.., rounds)| *rounds).map_or(0, |(_, tile, _)| tile.0)
    };
    let longest = tiles.iter().map(|(_, tile, _)| tile.0).max().unwrap();
    let (users, older) = (users(past, view, LONGEST), users(past, view, LONGEST + longest));
    for (entity, declared) in &config.entities {
        let Some(events) = of_entity(entity, &older, view) else { continue };
        for &window in &declared.windows {
            let from = begins(window, &users, view.event_time_ms);
            let first = from - tile(window);
            let between =
                events.iter().map(|e| e.event_time_ms).filter(|time| (first + 1..from).contains(time));
            let begins: BTreeSet<i64> = between.chain([from]).collect();
            let wrong = |from: &i64| {
                let want = of_window(declared, &events, view, &label(window), *from);
                want.into_iter().find_map(|(name, want)| {
                    let got = got(&format!("{entity}_{name}"));
                    // More than 32 values of a tile are in buckets.
                    let is_near = name.contains("_p50_") || name.contains("_p99_9_");
                    let is_near = is_near && (f64::from(got) - want).abs() <= want.abs() / 128.0;
                    (!is_near && !close(got, want))
                        .then(|| format!("{entity}_{name}: got {got}, want {want}"))
                })
            };
            let all: Vec<Option<String>> = begins.iter().map(wrong).collect();
            assert!(
                all.iter().any(Option::is_none),
                "no window fits {window}: {all:?} of {}",
                view.event_time_ms
            );
        }
        let events_in = of_entity(entity, &users, view).unwrap_or_default();
        let (least, most) = (of_all(declared, &events_in, view), of_all(declared, &events, view));
        for (name, least) in least.into_iter().filter(|(name, _)| !name.contains("_trend_")) {
            let (got, most) = (f64::from(got(&format!("{entity}_{name}"))), most[&name]);
            let is_age = name.starts_with("seconds");
            let fits = least - 1e-4 <= got && got <= most * (1.0 + 1e-6) + 1e-4;
            assert!(
                if is_age { close(got as f32, least) } else { fits },
                "{name}: {least} <= {got} <= {most}"
            );
        }
    }
}
