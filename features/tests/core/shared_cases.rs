//! Entities that users share: one case each, by name.

use std::collections::{BTreeMap, BTreeSet};

use features::{Config, Core, Plan};
use schemas::duration::Millis;
use schemas::{Control, EntityVersion, Entry, Kind, SharedEntity};

use crate::cluster::*;
use crate::common::*;

fn view(id: &str, at: i64, user: &str, item: &str) -> Entry {
    entry(event(Kind::View, id, at, user, item, "c"))
}

#[test]
fn an_event_behind_the_clock_changes_nothing_closed_and_is_counted() {
    let mut cluster = Cluster::new(&shared_config());
    let tile = START.div_euclid(TILE) * TILE;
    cluster.write(&sources());
    cluster.write(&view("v1", tile + 1, "a", "i"));
    cluster.write(&tick(tile + TILE));
    cluster.take_all();
    let before = cluster.versions.clone();
    // Its tile is closed, and its vector must not see a version of a time after it.
    cluster.write(&view("late", tile + 2, "a", "i"));
    let (late, _) = cluster.vectors.last().unwrap().clone();
    assert_eq!(late.entity_version, 0);
    assert!(cluster.number(&late, "item_views_1h").is_nan());
    // Behind the clock, but in a tile that is open.
    cluster.write(&tick(tile + TILE + 5_000));
    cluster.write(&view("open", tile + TILE + 1, "a", "i"));
    cluster.take_all();
    assert_eq!(cluster.versions, before, "nothing was closed");
    let counts = cluster.cores[Cluster::partition(&event(Kind::View, "", 0, "a", "i", "c"))].counts();
    assert_eq!((counts.untiled, counts.without_version), (1, 2));

    cluster.write(&tick(tile + 2 * TILE));
    cluster.take_all();
    cluster.write(&view("v2", tile + 2 * TILE, "b", "i"));
    let (vector, _) = cluster.vectors.last().unwrap();
    assert_eq!(cluster.number(vector, "item_views_1h").to_bits(), 2_f32.to_bits(), "v1 and open, not late");
}

#[test]
fn a_partition_that_has_stopped_holds_versions_back_and_vectors_go_on_with_the_last() {
    let mut cluster = Cluster::new(&shared_config());
    cluster.write(&sources());
    cluster.write(&tick(START));
    cluster.take_all();
    let last = cluster.versions.last().unwrap().version_ms;
    for minute in 1..30 {
        let now = START + minute * 60_000;
        cluster.write(&view(&format!("v{minute}"), now, &format!("u{minute}"), "i"));
        cluster.write(&tick(now));
        // The merge hears nothing of partition 1.
        while cluster.take(0) || cluster.take(2) {}
        assert_eq!(cluster.versions.last().unwrap().version_ms, last);
    }
    assert!(cluster.vectors.iter().all(|(vector, _)| vector.entity_version as i64 == last));
    let closed: Vec<i64> = cluster.merge.closed_ms().into_iter().flatten().collect();
    assert!(closed[1] == last && closed[0] > last && closed[2] > last, "{closed:?}");
    assert!(cluster.cores[0].version_behind_ms().unwrap() > 60_000);
    cluster.take_all();
    let now = START + 30 * 60_000;
    cluster.write(&view("after", now, "u", "i"));
    let (vector, _) = cluster.vectors.last().unwrap();
    assert_eq!(
        cluster.number(vector, "item_views_1h").to_bits(),
        28_f32.to_bits(),
        "the 29th is in an open tile"
    );
}

/// Ranks drawn by Zipf's law.
fn zipf(exponent: f64, count: usize, draws: usize) -> Vec<usize> {
    let weights: Vec<f64> = (1..=count).map(|rank| (rank as f64).powf(-exponent)).collect();
    let total: f64 = weights.iter().sum();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut draw = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let mut left = (state >> 11) as f64 / (1_u64 << 53) as f64 * total;
        weights
            .iter()
            .position(|weight| {
                left -= weight;
                left < 0.0
            })
            .unwrap_or(count - 1)
    };
    (0..draws).map(|_| draw()).collect()
}

#[test]
fn a_key_that_takes_half_of_the_traffic_costs_one_record_a_tile() {
    let config = Config { shared_tile: Millis(60_000), ..Config::default() };
    let mut cluster = Cluster::new(&config);
    cluster.write(&sources());
    let start = START.div_euclid(60_000) * 60_000;
    let items = zipf(1.5, 500, 20_000);
    let mut distinct = BTreeSet::new();
    for (index, rank) in items.iter().enumerate() {
        let at = start + index as i64 * 60;
        // Every other event is on the hot item; the rest by Zipf's law.
        let item = if index % 2 == 0 { "hot".to_owned() } else { format!("i{rank}") };
        let user = format!("u{}", index % 1_000);
        let event = event(Kind::View, &format!("v{index}"), at, &user, &item, "c");
        distinct.insert((at.div_euclid(60_000), Cluster::partition(&event), item.clone()));
        cluster.write(&entry(event));
        if index % 100 == 99 {
            cluster.write(&tick(at));
            cluster.take_all();
        }
    }
    cluster.write(&tick(start + 10_000_000));
    cluster.take_all();
    let mut of_item: BTreeMap<(i64, i32, &str), u64> = BTreeMap::new();
    for tile in cluster.tiles.iter().filter(|tile| tile.entity == SharedEntity::Item as i32) {
        *of_item.entry((tile.tile_ms, tile.partition, &tile.key)).or_default() += 1;
    }
    assert!(of_item.values().all(|records| *records == 1), "a record a tile, key and partition");
    assert_eq!(of_item.len(), distinct.len());
    let hot = of_item.keys().filter(|(_, _, key)| *key == "hot").count();
    // 20,000 events of 60 ms are 20 minutes.
    assert_eq!(hot, 20 * PARTITIONS, "10,000 events of the hot key");
    let marks = cluster.tiles.iter().filter(|tile| tile.entity == SharedEntity::None as i32).count();
    let counted: u64 = cluster.cores.iter().map(|core| core.counts().tiles).sum();
    assert_eq!(counted as usize, cluster.tiles.len());
    assert!(marks <= 22 * PARTITIONS, "{marks} marks");
    let hour = cluster.versions.iter().flat_map(|version| &version.rows).filter(|row| row.key == "hot");
    assert_eq!(hour.map(|row| row.counts[5]).max(), Some(10_000), "all of them within a day");
}

#[test]
fn a_version_of_many_rows_is_in_force_with_its_last_record() {
    let mut cluster = Cluster::new(&shared_config());
    cluster.write(&sources());
    let tile = START.div_euclid(TILE) * TILE;
    for index in 0..2_500 {
        cluster.write(&view(&format!("v{index}"), tile + 1, &format!("u{index}"), &format!("i{index}")));
    }
    cluster.write(&tick(tile + TILE));
    let mut records = Vec::new();
    for tiles in &cluster.sent {
        records.extend(tiles.iter().flat_map(|tile| cluster.merge.step(tile)));
    }
    assert_eq!(records.len(), 3);
    assert!(records.iter().all(|record| record.whole && record.rows.len() <= 1_000));
    assert_eq!(records.iter().map(|record| record.last).collect::<Vec<_>>(), [false, false, true]);
    let plan = cluster.plan.clone();
    for (at, record) in records.iter().enumerate() {
        cluster.step(0, &Entry::Control(Control::Entities(record.clone())));
        // A restart between them loses nothing of what has come.
        cluster.cores[0] = Core::restore(plan.clone(), 0, &cluster.cores[0].snapshot()).unwrap();
        let id = format!("between{at}");
        cluster.step(0, &view(&id, tile + TILE + 1, "u", "i7"));
        let (vector, _) = cluster.vectors.last().unwrap();
        assert_eq!(vector.entity_version, if at == 2 { (tile + TILE) as u64 } else { 0 });
    }
    let (vector, _) = cluster.vectors.last().unwrap();
    assert_eq!(cluster.number(vector, "item_views_1h").to_bits(), 1_f32.to_bits());
    assert_eq!(cluster.cores[0].shared_keys(), 2_500 + 1, "items and a campaign");
}

#[test]
fn changes_mean_nothing_without_a_whole_version_and_other_declarations_are_passed_over() {
    let mut cluster = Cluster::new(&shared_config());
    cluster.write(&sources());
    for minute in 0..3 {
        cluster.write(&view(&format!("v{minute}"), START + minute * 60_000, "u", "i"));
        cluster.write(&tick(START + minute * 60_000));
        cluster.take_all();
    }
    let change = cluster.versions.iter().find(|version| !version.whole).unwrap().clone();
    let whole = cluster.versions[0].clone();
    let in_force = |records: &[&EntityVersion], config: &Config| {
        let mut core = Core::new(plan(config), 0);
        let entries: Vec<Entry> =
            records.iter().map(|r| Entry::Control(Control::Entities((*r).clone()))).collect();
        run(&mut core, &entries);
        core.counts().versions
    };
    assert_eq!(in_force(&[&change], &shared_config()), 0);
    assert_eq!(in_force(&[&whole, &change], &shared_config()), 2);
    assert_eq!(in_force(&[&change, &whole, &change], &shared_config()), 2);
    assert_eq!(in_force(&[&whole, &change, &whole, &change], &shared_config()), 2, "repeats");
    let mut other = shared_config();
    other.entities.get_mut("item").unwrap().windows.pop();
    assert_eq!(in_force(&[&whole, &change], &other), 0);
}

#[test]
fn what_cannot_be_meant_is_refused() {
    let refused = |config: &Config| Plan::compile(config).unwrap_err().to_string();
    let mut config = shared_config();
    config.entities.get_mut("item").unwrap().windows = vec![Millis(5_000)];
    assert!(
        refused(&config).contains("features.entities.item.windows: 5s is shorter than features.shared_tile")
    );
    let config = Config { shared_tile: Millis(7_000), ..shared_config() };
    assert!(refused(&config).contains("features.shared_tile: 7s is no width of tiles"));
}
