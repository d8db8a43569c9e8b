//! Entities that users share: one case each, by name.

use std::collections::{BTreeMap, BTreeSet};

use features::{Config, Core, EntityConfig, FilterConfig, Merge, Plan};
use schemas::duration::Millis;
use schemas::entity::Rows;
use schemas::{Control, EntityVersion, Entry, Kind, SharedEntity};

use crate::cluster::*;
use crate::common::*;
use crate::shared::all_of_it;

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
pub(crate) fn zipf(exponent: f64, count: usize, draws: usize) -> Vec<usize> {
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
fn a_key_that_takes_half_of_the_traffic_costs_one_row_a_tile() {
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
    let mut of_item: BTreeMap<(i64, i32, String), u64> = BTreeMap::new();
    for tiles in &cluster.tiles {
        for block in tiles.blocks.iter().filter(|block| block.entity == SharedEntity::Item as i32) {
            for row in Rows::new(&block.rows) {
                *of_item.entry((block.tile_ms, tiles.partition, row.key.to_owned())).or_default() += 1;
            }
        }
    }
    assert!(of_item.values().all(|rows| *rows == 1), "a row a tile, key and partition");
    assert_eq!(of_item.len(), distinct.len());
    let hot = of_item.keys().filter(|(.., key)| *key == "hot").count();
    // 20,000 events of 60 ms are 20 minutes.
    assert_eq!(hot, 20 * PARTITIONS, "10,000 events of the hot key");
    let counted: u64 = cluster.cores.iter().map(|core| core.counts().tiles).sum();
    assert_eq!(counted as usize, cluster.tiles.len());
    assert!(cluster.tiles.len() <= 22 * PARTITIONS, "{} records", cluster.tiles.len());
    let rows = cluster.versions.iter().flat_map(|version| &version.blocks).flat_map(|b| Rows::new(&b.rows));
    let views: u64 = rows.filter(|row| row.key == "hot").map(|row| row.sums().counts[0]).sum();
    assert_eq!(views, 10_000);
}

/// Of so many texts and values that lists become registers and buckets, and counters are cut.
#[test]
fn what_is_sketched_is_within_its_bound_and_does_not_depend_on_the_partitions_order() {
    let strings = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
    let mut config = shared_config();
    let item = config.entities.get_mut("item").unwrap();
    (item.distinct, item.top) = (strings(&["view.user", "view.device"]), strings(&["view.campaign"]));
    (item.quantile, item.quantile_levels, item.top_k) = (strings(&["view"]), vec![0.1, 0.5, 0.99], 4);
    let mut cluster = Cluster::new(&config);
    cluster.write(&sources());
    let start = START.div_euclid(86_400_000) * 86_400_000 + 60_000;
    let campaigns = zipf(1.3, 300, 12_000);
    let mut events = Vec::new();
    for (index, rank) in campaigns.iter().enumerate() {
        let at = start + index as i64 * 200;
        let mut view = event(Kind::View, &format!("v{index}"), at, "", "hot", &format!("c{rank}"));
        (view.user, view.device) = (format!("u{}", index * 7_919 % 3_001), format!("d{}", index % 90));
        view.value = 1.0 + (index * 104_729 % 99_991) as f64 / 100.0;
        events.push(view.clone());
        cluster.write(&entry(view));
        if index % 50 == 49 {
            cluster.write(&tick(at));
            cluster.take_all();
        }
    }
    let end = start + 12_000 * 200;
    cluster.write(&tick(end));
    cluster.take_all();
    let mut last = event(Kind::View, "last", end, "new", "hot", "c2");
    last.value = 1.0;
    cluster.write(&entry(last));
    let vector = cluster.vectors.last().unwrap().0.clone();
    let number = |name: &str| f64::from(cluster.number(&vector, name));
    let (all, version) = (events.len() as f64, vector.entity_version as i64);
    let counted = events.iter().filter(|e| e.event_time_ms < version).collect::<Vec<_>>();
    assert!(all - (counted.len() as f64) < 100.0, "all but what is in the open tile");
    let users = counted.iter().map(|e| &e.user).collect::<BTreeSet<_>>().len() as f64;
    assert!((number("item_view_distinct_user_1h") / users - 1.0).abs() < 4.0 * 0.033, "{users} users");
    assert_eq!(number("item_view_distinct_device_1d").to_bits(), 90_f64.to_bits());
    let mut values: Vec<f64> = counted.iter().map(|e| e.value).collect();
    values.sort_by(f64::total_cmp);
    for (level, percent) in [(0.1, "10"), (0.5, "50"), (0.99, "99")] {
        let want = values[(level * values.len() as f64).ceil() as usize - 1];
        let got = number(&format!("item_view_p{percent}_value_1d"));
        assert!((got - want).abs() < want / 128.0, "{percent} %: {got} for {want}");
    }
    let mut counts: BTreeMap<&str, u32> = BTreeMap::new();
    for e in &counted {
        *counts.entry(&e.campaign).or_default() += 1;
    }
    let mut sorted: Vec<f64> =
        counts.values().map(|count| f64::from(*count) / counted.len() as f64).collect();
    sorted.sort_by(|a, b| b.total_cmp(a));
    for (at, want) in sorted.iter().take(4).enumerate() {
        let got = number(&format!("item_view_top{}_campaign_share_1d", at + 1));
        assert!(got <= want + 1e-6 && want - got <= 1.0 / 65.0 + 1e-6, "number {at}: {got} for {want}");
    }
    assert_eq!(number("item_view_top_campaign_rank_1d").to_bits(), 3_f64.to_bits(), "c2 is third");

    let of = |partition: usize| cluster.tiles.iter().filter(move |t| t.partition == partition as i32);
    let published = |order: [usize; PARTITIONS]| {
        let mut merge = Merge::new(cluster.plan.clone(), PARTITIONS);
        order.into_iter().flat_map(of).flat_map(|tiles| merge.step(tiles)).collect::<Vec<_>>()
    };
    let one = published([0, 1, 2]);
    assert!(one == published([2, 0, 1]) && one == published([1, 2, 0]));
    assert!(one.iter().flat_map(|version| &version.blocks).any(|block| !block.summaries.is_empty()));
    // Of the others nothing more is declared: their blocks are as they were.
    let others = cluster.versions.iter().flat_map(|version| &version.blocks);
    let mut others = others.filter(|block| block.entity != SharedEntity::Item as i32);
    assert!(others.all(|block| block.summaries.is_empty()));
}

#[test]
fn what_is_declared_of_a_summary_is_part_of_the_layout_and_windows_are_not() {
    let layout = |change: &dyn Fn(&mut EntityConfig, &mut FilterConfig)| {
        let mut config = all_of_it();
        let (mut item, mut dear) = (config.entities["item"].clone(), config.filters["dear"].clone());
        change(&mut item, &mut dear);
        config.entities.insert("item".into(), item);
        config.filters.insert("dear".into(), dear);
        plan(&config).shared_layout()
    };
    let same = layout(&|_, _| {});
    assert_eq!(same, layout(&|item, _| item.windows.truncate(5)));
    assert_eq!(same, layout(&|item, _| item.quantile_levels = vec![0.25]));
    assert_eq!(same, layout(&|item, _| item.top_k = 5));
    assert_ne!(same, layout(&|item, _| item.variance.clear()));
    assert_ne!(same, layout(&|item, _| item.half_lives = vec![Millis(11_000)]));
    assert_ne!(same, layout(&|item, _| drop(item.distinct.pop())));
    assert_ne!(same, layout(&|_, dear| dear.min = Some(4.5)));
    // Of plans without summaries it is what it was before there were any.
    let before = b"10000 [true, true, true, false, false] item_placement campaign_placement";
    assert_eq!(plan(&shared_config()).shared_layout(), xxhash_rust::xxh3::xxh3_64(before));
}

#[test]
fn a_version_of_many_rows_is_in_force_with_its_last_record() {
    let mut cluster = Cluster::new(&shared_config());
    cluster.write(&sources());
    let tile = START.div_euclid(TILE) * TILE;
    // Long names: what fits one record is bounded by bytes.
    let item = |index: usize| format!("{index:04}{}", "x".repeat(1_000));
    for index in 0..1_200 {
        cluster.write(&view(&format!("v{index}"), tile + 1, &format!("u{index}"), &item(index)));
    }
    cluster.write(&tick(tile + TILE));
    let sent: Vec<_> = cluster.sent.iter().flatten().cloned().collect();
    assert!(sent.len() > PARTITIONS, "a partition's tiles take several records, too");
    let mut records = Vec::new();
    for (at, tiles) in sent.iter().enumerate() {
        records.extend(cluster.merge.step(tiles));
        // At least once: what had come of the partition comes again.
        let mine = sent[..=at].iter().filter(|before| before.partition == tiles.partition && !tiles.last);
        assert!(mine.flat_map(|again| cluster.merge.step(again)).next().is_none());
        let bytes = cluster.merge.snapshot();
        cluster.merge = Merge::restore(cluster.plan.clone(), PARTITIONS, &bytes).unwrap();
        assert!(cluster.merge.snapshot() == bytes);
    }
    let count = records.len();
    assert!(count > 3, "{count}");
    let parts: Vec<_> = records.iter().map(|record| (record.part as usize, record.last)).collect();
    assert_eq!(parts, (0..count).map(|part| (part, part + 1 == count)).collect::<Vec<_>>());
    let plan = cluster.plan.clone();
    for (at, record) in records.iter().enumerate() {
        cluster.step(0, &Entry::Control(Control::Entities(record.clone())));
        // A restart between them loses nothing of what has come, nor does a repeat add to it.
        cluster.cores[0] = Core::restore(plan.clone(), 0, &cluster.cores[0].snapshot()).unwrap();
        for again in records[..=at].iter().filter(|_| at % 2 == 0) {
            cluster.step(0, &Entry::Control(Control::Entities(again.clone())));
        }
        cluster.step(0, &view(&format!("between{at}"), tile + TILE + 1, "u", &item(7)));
        let (vector, _) = cluster.vectors.last().unwrap();
        assert_eq!(vector.entity_version, if at + 1 == count { (tile + TILE) as u64 } else { 0 });
    }
    let (vector, _) = cluster.vectors.last().unwrap();
    assert_eq!(cluster.number(vector, "item_views_1h").to_bits(), 1_f32.to_bits());
    assert_eq!(cluster.cores[0].shared_keys(), 1_200 + 1, "items and a campaign");
}

#[test]
fn versions_of_other_tiles_or_entities_are_passed_over_and_a_reader_may_begin_in_the_middle() {
    let mut cluster = Cluster::new(&shared_config());
    cluster.write(&sources());
    for minute in 0..3 {
        cluster.write(&view(&format!("v{minute}"), START + minute * 60_000, "u", "i"));
        cluster.write(&tick(START + minute * 60_000));
        cluster.take_all();
    }
    let all: Vec<&EntityVersion> = cluster.versions.iter().collect();
    assert_eq!(all.len(), 3);
    let read = |records: &[&EntityVersion], config: &Config| {
        let mut core = Core::new(plan(config), 0);
        let controls = records.iter().map(|record| Entry::Control(Control::Entities((*record).clone())));
        let entries: Vec<Entry> = controls.chain([view("v", START + 120_000, "u", "i")]).collect();
        let outputs = run(&mut core, &entries);
        let at = core.plan().vector_schema().position("item_views_1h");
        let views = at.and_then(|at| vectors(&outputs)[0].numbers().nth(at));
        (core.counts().versions, views.filter(|views| !views.is_nan()).map(|views| views as u64))
    };
    assert_eq!(read(&all, &shared_config()), (3, Some(2)));
    assert_eq!(read(&all[1..], &shared_config()), (2, Some(2)), "the first is empty");
    assert_eq!(read(&all[2..], &shared_config()), (1, Some(1)), "from the middle");
    let repeated = [all[0], all[1], all[0], all[1], all[2], all[2]];
    assert_eq!(read(&repeated, &shared_config()), (3, Some(2)), "repeats");
    // Windows are the reader's own affair; what is counted, and how, is not.
    let mut other = shared_config();
    other.entities.get_mut("item").unwrap().windows.remove(0);
    assert_eq!(read(&all, &other), (3, Some(2)));
    other.entities.remove("category");
    assert_eq!(read(&all, &other), (0, None));
    let other = Config { shared_tile: Millis(30_000), ..shared_config() };
    assert_eq!(read(&all, &other), (0, None));
    let mut merge = Merge::new(plan(&other), PARTITIONS);
    assert!(cluster.tiles.iter().all(|tiles| merge.step(tiles).is_empty()));
    assert_eq!(merge.counts().passed_over as usize, cluster.tiles.len());
}

#[test]
fn keys_of_which_nothing_is_left_are_forgotten() {
    let mut cluster = Cluster::new(&shared_config());
    cluster.write(&sources());
    for hour in 0..60 {
        let now = START + hour * 3_600_000;
        for index in 0..20 {
            let id = format!("v{hour}-{index}");
            let mut view = event(Kind::View, &id, now, "u", &format!("i{hour}-{index}"), "c");
            view.category = format!("k{}", hour * 20 + index);
            cluster.write(&entry(view));
        }
        for minute in 1..60 {
            cluster.write(&tick(now + minute * 60_000));
            cluster.take_all();
        }
    }
    let keys = cluster.cores[0].shared_keys();
    // A day's items and categories of 20 an hour, and the half hour of the tail.
    assert!((24 * 40..26 * 40).contains(&keys), "{keys}");
    let texts = cluster.cores[0].texts();
    assert!(texts < keys + 60 * 20 + 100, "{texts} texts for {keys} keys");
}

/// What a parent counts for its children's rates is kept, whatever its own columns are.
#[test]
fn a_rate_is_drawn_towards_a_parent_that_shows_none() {
    let mut config = shared_config();
    let campaign = config.entities.get_mut("campaign").unwrap();
    (campaign.count, campaign.sum, campaign.seconds_since) = (vec!["purchase".into()], vec![], vec![]);
    let with_rate = config.clone();
    config.entities.get_mut("campaign").unwrap().rate = false;
    let rates = [config, with_rate].map(|config| {
        let mut cluster = Cluster::new(&config);
        cluster.write(&sources());
        for index in 0..40 {
            cluster.write(&view(&format!("v{index}"), START, &format!("u{index}"), "other"));
            let click = event(Kind::Click, &format!("c{index}"), START, "u", "other", "c");
            cluster.write(&entry(click));
        }
        cluster.write(&tick(START + 60_000));
        cluster.take_all();
        cluster.write(&view("new", START + 60_000, "u", "new"));
        cluster.number(&cluster.vectors.last().unwrap().0, "item_ctr_1h")
    });
    assert_eq!(rates[0].to_bits(), rates[1].to_bits());
    assert!(rates[0] > 0.5, "as most of the campaign's views: {}", rates[0]);
}

#[test]
fn an_entity_of_which_nothing_has_come_changes_nothing_of_the_others() {
    let mut config = shared_config();
    let windows = |all: &[i64]| all.iter().map(|window| Millis(*window).into()).collect();
    config.entities.get_mut("item").unwrap().windows = windows(&[60_000]);
    config.entities.get_mut("campaign").unwrap().windows = windows(&[600_000, 3_600_000, 86_400_000]);
    let mut cluster = Cluster::new(&config);
    cluster.write(&sources());
    let view = |at: i64, campaign: &str| entry(event(Kind::View, campaign, at, "u", "", campaign));
    for campaign in ["a", "b", "c", "d", "e"] {
        cluster.write(&view(START, campaign));
    }
    // Far beyond the item's window, and in the campaign's longest.
    for minute in 1..120 {
        cluster.write(&tick(START + minute * 60_000));
        cluster.take_all();
    }
    for campaign in ["a", "b", "c", "d", "e"] {
        cluster.write(&view(START + 120 * 60_000, campaign));
        let (vector, _) = cluster.vectors.last().unwrap();
        assert_eq!(cluster.number(vector, "campaign_views_1h").to_bits(), 0_f32.to_bits());
        assert_eq!(cluster.number(vector, "campaign_views_1d").to_bits(), 1_f32.to_bits());
        assert!(cluster.number(vector, "item_views_1m").is_nan());
    }
}

#[test]
fn what_cannot_be_meant_is_refused() {
    let refused = |config: &Config| Plan::compile(config).unwrap_err().to_string();
    let mut config = shared_config();
    config.entities.get_mut("item").unwrap().windows = vec![Millis(5_000).into()];
    assert!(
        refused(&config).contains("features.entities.item.windows: 5s is shorter than features.shared_tile")
    );
    let config = Config { shared_tile: Millis(7_000), ..shared_config() };
    assert!(refused(&config).contains("features.shared_tile: 7s is no width of tiles"));
}
