//! Entities that users share, over several partitions, against a naive count of all events.

use features::{Config, Core, Merge, Window};
use proptest::prelude::*;
use schemas::duration::Millis;
use schemas::{EntityTiles, Event, FeatureVector, Kind, VectorSchema};

use crate::cluster::*;
use crate::common::*;
use crate::summaries::{Numbers, close, everything, of_window, taken, with_texts};
use crate::windows::{begin, label};

fn key_of(event: &Event, entity: &str) -> String {
    match entity {
        "item" => event.item.clone(),
        "campaign" => event.campaign.clone(),
        "category" => event.category.clone(),
        "item_placement" => pair(&event.item, &event.placement),
        _ => pair(&event.campaign, &event.placement),
    }
}

fn pair(first: &str, placement: &str) -> String {
    if first.is_empty() || placement.is_empty() { String::new() } else { format!("{first} in {placement}") }
}

/// Clicks per view, drawn towards the prior by ten views.
fn smoothed(prior: f64, clicks: f32, views: f32) -> f64 {
    (f64::from(clicks) + prior * 10.0) / (f64::from(views) + 10.0)
}

/// What a vector must hold, counted over all events of all users.
fn check(cluster: &Cluster, vector: &FeatureVector, events: &[Event]) {
    let version = vector.entity_version as i64;
    for entity in ["item", "campaign", "category", "item_placement", "campaign_placement"] {
        let key = &match entity {
            "item" => vector.item.clone(),
            "campaign" => vector.campaign.clone(),
            "category" => vector.category.clone(),
            "item_placement" => pair(&vector.item, &vector.placement),
            _ => pair(&vector.campaign, &vector.placement),
        };
        for (window, tail) in windows() {
            let label = label(window);
            // A trailing window holds all of [version - w, version).
            let from = match window {
                Window::Trailing(span) => (version - span.0).div_euclid(tail) * tail,
                _ => begin(window, version),
            };
            let found = |entity: &str, key: &str, kinds: &[Kind]| {
                let of = |e: &&Event| {
                    kinds.contains(&e.kind_or_unknown())
                        && (from..version).contains(&e.event_time_ms)
                        && key_of(e, entity) == *key
                };
                let found: Vec<&Event> = events.iter().filter(of).collect();
                (found.len() as f32, found.iter().map(|e| e.value).fold(0.0, |sum, value| sum + value) as f32)
            };
            let count = |kinds: &[Kind]| found(entity, key, kinds);
            let missing = version == 0 || key.is_empty();
            let same = |name: &str, want: f32| {
                let got = cluster.number(vector, &format!("{entity}_{name}_{label}"));
                let want = if missing { f32::NAN } else { want };
                assert_eq!(
                    got.to_bits(),
                    want.to_bits(),
                    "{entity}_{name}_{label} of {key}: {got} for {want}"
                );
            };
            let (views, shown) = count(&[Kind::View]);
            let (clicks, _) = count(&[Kind::Click, Kind::Cart]);
            let (purchases, bought) = count(&[Kind::Purchase]);
            same("views", views);
            same("clicks", clicks);
            same("carts", count(&[Kind::Cart]).0);
            same("purchases", purchases);
            same("refunds", count(&[Kind::Refund]).0);
            same("view_value", shown);
            same("purchase_value", bought);
            let prior = match entity {
                // An item's is its campaign's, of which nothing may be known either.
                "item" if !vector.campaign.is_empty() => {
                    let of_all = |kinds: &[Kind]| found("campaign", &vector.campaign, kinds).0;
                    smoothed(0.1, of_all(&[Kind::Click, Kind::Cart]), of_all(&[Kind::View]))
                }
                _ => 0.1,
            };
            let rate = smoothed(prior, clicks, views);
            same("ctr", rate as f32);
        }
        // The age is that of the tile's end, known for as long as the longest window.
        let seen = |e: &&Event| {
            e.kind_or_unknown() == Kind::View && e.event_time_ms < version && key_of(e, entity) == *key
        };
        let last = events.iter().filter(seen).map(|e| e.event_time_ms.div_euclid(TILE) * TILE + TILE).max();
        let last = last.filter(|last| last + 86_400_000 > version && version > 0 && !key.is_empty());
        let want = last.map_or(f32::NAN, |last| ((vector.event_time_ms - last) as f64 / 1_000.0) as f32);
        let got = cluster.number(vector, &format!("{entity}_seconds_since_view"));
        assert_eq!(
            got.to_bits(),
            want.to_bits(),
            "seconds since the last view of {entity} {key}: {got} for {want}"
        );
    }
}

/// One of everything that can be declared of what users share.
pub(crate) fn all_of_it() -> Config {
    let of_user = everything();
    let mut config = Config { filters: of_user.filters, ..shared_config() };
    for (name, entity) in config.entities.iter_mut().filter(|(name, _)| *name != "user") {
        let windows = std::mem::take(&mut entity.windows);
        *entity = of_user.entities["user"].clone();
        entity.windows = windows;
        // Of one there is nothing by kind.
        if name == "category" {
            for list in [
                &mut entity.count,
                &mut entity.sum,
                &mut entity.mean,
                &mut entity.seconds_since,
                &mut entity.trend,
            ] {
                list.retain(|taken| ["dear", "branded"].contains(&taken.as_str()));
            }
            (entity.rate, entity.rate_parent) = (false, String::new());
        }
        entity.distinct.push("dear.user".into());
        entity.top.push("dear.user".into());
        entity.trend_windows = vec!["1m/1h".into(), "1h/1d".into()];
    }
    config
}

/// The first time in a window at a version.
fn from(window: Window, tail: i64, version: i64) -> i64 {
    match window {
        Window::Trailing(span) => (version - span.0).div_euclid(tail) * tail,
        _ => begin(window, version),
    }
}

/// Every number that is declared of what users share, computed over all events of all users.
fn expected(config: &Config, vector: &FeatureVector, events: &[Event]) -> Numbers {
    let (version, at_ms) = (vector.entity_version as i64, vector.event_time_ms);
    let view = events.iter().find(|e| e.event_id == vector.event_id && e.kind == Kind::View as i32).unwrap();
    let mut numbers = Numbers::new();
    for (entity, declared) in config.entities.iter().filter(|(name, _)| *name != "user") {
        let key = key_of(view, entity);
        let mut of_key: Vec<&Event> =
            events.iter().filter(|e| e.event_time_ms < version && key_of(e, entity) == key).collect();
        // Of equal times the value decides: partitions have no order.
        of_key.sort_by(|a, b| (a.event_time_ms, a.value).partial_cmp(&(b.event_time_ms, b.value)).unwrap());
        let mut put = |name: String, value: f64| {
            let is_known = version > 0 && !key.is_empty();
            numbers.insert(format!("{entity}_{name}"), if is_known { value } else { f64::NAN });
        };
        // What is of values is declared of the same.
        let mut of_values = declared.clone();
        of_values.sum.clone_from(&declared.min);
        for (window, tail) in windows() {
            let of = of_window(&of_values, &of_key, view, &label(window), from(window, tail, version));
            for (name, value) in of {
                put(name, value);
            }
        }
        let since = |name: &str, from: i64| -> Vec<&&Event> {
            of_key.iter().filter(|e| e.event_time_ms >= from && taken(name, e)).collect()
        };
        let day = |text: &str| windows().find(|(window, _)| window.to_string() == text).unwrap();
        let in_window =
            |name: &str, text: &str| since(name, from(day(text).0, day(text).1, version)).len() as f64;
        for name in &declared.seconds_since {
            let all = since(name, from(day("1d").0, day("1d").1, version));
            let last = all.last().map(|e| e.event_time_ms);
            let is_kind = ["view", "click"].contains(&name.as_str());
            // A kind's age is that of the tile's end, known for as long as the longest window.
            let end = last.map(|last| last.div_euclid(TILE) * TILE + TILE);
            let last = if is_kind { end.filter(|end| end + 86_400_000 > version) } else { last };
            put(format!("seconds_since_{name}"), last.map_or(f64::NAN, |last| (at_ms - last) as f64 / 1e3));
        }
        for name in &declared.decayed {
            let all = since(name, from(day("1d").0, day("1d").1, version));
            for half_life in &declared.half_lives {
                let weight = |e: &&&Event| (-((at_ms - e.event_time_ms) as f64) / half_life.0 as f64).exp2();
                put(format!("{name}s_decayed_{half_life}"), all.iter().map(weight).sum());
            }
        }
        for name in &declared.trend {
            for (short, long) in [("1m", "1h"), ("1h", "1d")] {
                let span = |text: &str| Millis::parse(text).unwrap().0 as f64;
                let [few, many] = [short, long].map(|text| in_window(name, text));
                put(
                    format!("{name}s_trend_{short}_{long}"),
                    (few + 1.0) / (many * span(short) / span(long) + 1.0),
                );
            }
        }
    }
    numbers
}

/// Every column of a vector is what the oracle says.
fn check_all(schema: &VectorSchema, config: &Config, vector: &FeatureVector, events: &[Event]) {
    let want = expected(config, vector, events);
    for (field, got) in schema.fields.iter().zip(vector.numbers()) {
        let name = &field.name;
        if ["user", "context_", "number_"].iter().any(|of_view| name.starts_with(of_view)) {
            continue;
        }
        let want = *want.get(name).unwrap_or_else(|| panic!("{name} is not checked"));
        // More than 32 values of a window are in buckets.
        let is_near = name.contains("_p50_") || name.contains("_p99_9_");
        let is_near = is_near && (f64::from(got) - want).abs() <= want.abs() / 128.0;
        assert!(is_near || close(got, want), "{name} of {}: got {got}, want {want}", vector.event_id);
    }
}

/// With what is declared of counts by kind, and with everything.
fn either(all: bool) -> Config {
    if all { all_of_it() } else { shared_config() }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(30))]

    /// Whatever the order in which the merge reads the partitions, however late it is, and with restarts in
    /// between.
    #[test]
    fn every_aggregation_counts_all_users_events_before_the_version(
        moves in moves(150), takes in proptest::collection::vec((0..8_usize, 0..12_u8), 150),
    ) {
        let config = all_of_it();
        let mut cluster = Cluster::new(&config);
        let entries = with_texts(stream(&moves));
        for (entry, (take, restart)) in entries.iter().zip(takes.iter().cycle()) {
            cluster.write(entry);
            for _ in 0..*take {
                cluster.take(take % PARTITIONS);
                cluster.take((take + 1) % PARTITIONS);
                cluster.take((take / 2) % PARTITIONS);
            }
            if *restart < PARTITIONS as u8 {
                let core = &mut cluster.cores[usize::from(*restart)];
                *core = Core::restore(cluster.plan.clone(), core.partition(), &core.snapshot()).unwrap();
            } else if *restart == PARTITIONS as u8 {
                let bytes = cluster.merge.snapshot();
                cluster.merge = Merge::restore(cluster.plan.clone(), PARTITIONS, &bytes).unwrap();
            }
        }
        let (kept, _) = without_repeats(&entries, config.dedupe_horizon.0);
        let events: Vec<Event> = kept.into_iter().map(|(_, event)| event).collect();
        for (vector, _) in &cluster.vectors {
            check_all(&cluster.schema, &config, vector, &events);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    /// Whatever the order in which the merge reads the partitions, and however late it is.
    #[test]
    fn a_vector_counts_all_users_events_before_the_version_it_names(
        moves in moves(150), takes in proptest::collection::vec(0..8_usize, 150),
    ) {
        let config = shared_config();
        let mut cluster = Cluster::new(&config);
        let entries = with_texts(stream(&moves));
        for (entry, take) in entries.iter().zip(takes.iter().cycle()) {
            cluster.write(entry);
            // Some of the time the merge gets nothing; some of the time one partition is ahead.
            for _ in 0..*take {
                cluster.take(take % PARTITIONS);
                cluster.take((take + 1) % PARTITIONS);
                cluster.take((take / 2) % PARTITIONS);
            }
        }
        let (kept, _) = without_repeats(&entries, config.dedupe_horizon.0);
        let events: Vec<Event> = kept.into_iter().map(|(_, event)| event).collect();
        for (vector, marked) in &cluster.vectors {
            // The last version marked before it, unless that is of a time after it.
            let readable = if *marked as i64 <= vector.event_time_ms { *marked } else { 0 };
            prop_assert_eq!(vector.entity_version, readable);
            check(&cluster, vector, &events);
        }
    }

    #[test]
    fn the_order_of_partitions_and_repeats_change_no_version(
        moves in moves(120), at in any::<prop::sample::Index>(), all in prop::bool::weighted(0.1),
    ) {
        let mut cluster = Cluster::new(&either(all));
        for entry in with_texts(stream(&moves)).iter().chain([&tick(START + 400_000_000)]) {
            cluster.write(entry);
        }
        let of = |partition: usize| cluster.tiles.iter().filter(move |t| t.partition == partition as i32);
        let published = |order: Vec<&EntityTiles>| {
            let mut merge = Merge::new(cluster.plan.clone(), PARTITIONS);
            order.into_iter().flat_map(|tile| merge.step(tile)).next_back()
        };
        let last = published((0..PARTITIONS).flat_map(of).collect());
        prop_assert_eq!(&last, &published((0..PARTITIONS).rev().flat_map(of).collect()));
        // A partition that begins again from some record, as at-least-once delivery may have it.
        let all: Vec<&EntityTiles> = (0..PARTITIONS).flat_map(of).collect();
        let from = at.index(all.len());
        let partition = all[from].partition;
        let again = all[..from].iter().filter(|tile| tile.partition == partition);
        let repeated: Vec<&EntityTiles> = all[..from].iter().chain(again).chain(&all[from..]).copied().collect();
        prop_assert_eq!(&last, &published(repeated));
    }

    #[test]
    fn a_restored_merge_goes_on_as_if_nothing_had_been(moves in moves(120), all in prop::bool::weighted(0.1)) {
        let mut cluster = Cluster::new(&either(all));
        for entry in with_texts(stream(&moves)).iter().chain([&tick(START + 100_000_000), &tick(START + 300_000_000)]) {
            cluster.write(entry);
        }
        let mut straight = Merge::new(cluster.plan.clone(), PARTITIONS);
        let mut restarted = straight.clone();
        for tile in &cluster.tiles {
            prop_assert_eq!(straight.step(tile), restarted.step(tile));
            let bytes = restarted.snapshot();
            prop_assert!(bytes == straight.snapshot(), "one state, one snapshot");
            restarted = Merge::restore(cluster.plan.clone(), PARTITIONS, &bytes).unwrap();
        }
        let bytes = straight.snapshot();
        prop_assert!(Merge::restore(cluster.plan.clone(), PARTITIONS + 1, &bytes).is_err());
        for length in 0..bytes.len() {
            prop_assert!(Merge::restore(cluster.plan.clone(), PARTITIONS, &bytes[..length]).is_err());
        }
    }

    #[test]
    fn a_restored_partition_goes_on_with_its_tiles_and_its_version(moves in moves(80), all in prop::bool::weighted(0.1)) {
        let config = either(all);
        let mut cluster = Cluster::new(&config);
        for entry in &with_texts(stream(&moves)) {
            let before = cluster.vectors.len();
            let mut twin = Cluster::new(&config);
            for (twin, core) in twin.cores.iter_mut().zip(&cluster.cores) {
                *twin = Core::restore(cluster.plan.clone(), core.partition(), &core.snapshot()).unwrap();
            }
            twin.next.clone_from(&cluster.next);
            twin.write(entry);
            cluster.write(entry);
            let got: Vec<_> = twin.vectors.iter().map(|(vector, _)| vector).collect();
            let want: Vec<_> = cluster.vectors[before..].iter().map(|(vector, _)| vector).collect();
            prop_assert_eq!(format!("{got:?}"), format!("{want:?}"));
            for (twin, core) in twin.cores.iter().zip(&cluster.cores) {
                prop_assert!(twin.snapshot() == core.snapshot());
            }
            cluster.take_all();
        }
    }
}
