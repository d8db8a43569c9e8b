//! Entities that users share, over several partitions, against a naive count of all events.

use features::{Core, Merge, Window};
use proptest::prelude::*;
use schemas::{EntityTiles, Event, FeatureVector, Kind};

use crate::cluster::*;
use crate::common::*;
use crate::summaries::with_texts;
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
    fn the_order_of_partitions_and_repeats_change_no_version(moves in moves(120), at in any::<prop::sample::Index>()) {
        let mut cluster = Cluster::new(&shared_config());
        for entry in stream(&moves).iter().chain([&tick(START + 400_000_000)]) {
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
    fn a_restored_merge_goes_on_as_if_nothing_had_been(moves in moves(120)) {
        let mut cluster = Cluster::new(&shared_config());
        for entry in stream(&moves).iter().chain([&tick(START + 100_000_000), &tick(START + 300_000_000)]) {
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
    fn a_restored_partition_goes_on_with_its_tiles_and_its_version(moves in moves(80)) {
        let mut cluster = Cluster::new(&shared_config());
        for entry in &stream(&moves) {
            let before = cluster.vectors.len();
            let mut twin = Cluster::new(&shared_config());
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
