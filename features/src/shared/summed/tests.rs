//! Keys whose tiles leave, and damaged snapshots of them.

use schemas::duration::Millis;

use super::*;
use crate::config::{Config, EntityConfig};
use crate::plan::Plan;
use crate::summary::{One, Order};
use crate::window::Window;

const TILE_MS: i64 = 60_000;

fn plan() -> Plan {
    let strings = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
    let windows = ["1h", "2d", "tumbling:1h"];
    let item = EntityConfig {
        max: strings(&["view"]),
        mean_gap: strings(&["view"]),
        distinct: strings(&["view.user"]),
        top: strings(&["view.user"]),
        quantile: strings(&["view"]),
        decayed: strings(&["view"]),
        windows: windows.iter().filter_map(|window| Window::parse(window).ok()).collect(),
        ..EntityConfig::default()
    };
    let entities = [("item".to_owned(), item)].into();
    let config = Config { entities, shared_tile: Millis(TILE_MS), ..Config::default() };
    Plan::compile(&config).unwrap_or_else(|error| panic!("{error}"))
}

/// 300 minutes of two keys, one of them with many texts and values.
fn table(cells: &Cells, texts: &mut Interner) -> Summed {
    let mut table = Summed::default();
    for minute in 29_000_000..29_000_300_i64 {
        for (key, count) in [("a", 3), ("b", 60)] {
            let base_ms = minute * TILE_MS;
            let mut parts = cells.nothing(base_ms + TILE_MS);
            for n in 0..count {
                let hash = xxhash_rust::xxh3::xxh3_64(&(minute * 7 + n).to_le_bytes());
                let one = One { time_ms: base_ms + n * 900, value: (n % 37) as f64 + 0.5, hash };
                for part in &mut parts {
                    part.add(&one, Order::None);
                    part.bound();
                }
            }
            let mut summary = Vec::new();
            pack(&cells.packed, &mut parts, base_ms, &mut summary);
            table.add(base_ms, (key, &summary), cells, texts);
        }
    }
    table
}

fn read(table: &mut Summed, plan: &Plan, text: u32, version: i64) -> Vec<f64> {
    let mut out = vec![f64::NAN; plan.numbers.numbers.len()];
    let own = [1; Of::ALL.len()];
    table.read((text, version), (version * TILE_MS, &own), plan.cells.of(0), &mut out);
    out
}

#[test]
fn a_window_has_at_most_about_64_tiles_and_keys_of_which_nothing_is_left_are_forgotten() {
    let plan = plan();
    let (cells, mut texts) = (plan.cells.of(0), Interner::new());
    let mut table = table(cells, &mut texts);
    let mut version = 29_000_300;
    table.sweep(version, cells, &mut texts);
    for key in &table.keys {
        let tiles = key.strips.iter().map(|strip| strip.tiles(0).count()).collect::<Vec<_>>();
        assert!(tiles.iter().all(|tiles| *tiles <= 65), "{tiles:?}");
    }
    assert_eq!((table.len(), texts.len()), (2, 2));
    let filled = |table: &mut Summed, version: i64| {
        read(table, &plan, 1, version).iter().filter(|number| **number > 0.0).count()
    };
    let at_first = filled(&mut table, version);
    for _ in 0..60 {
        version += 60;
        table.sweep(version, cells, &mut texts);
        assert!(filled(&mut table, version) <= at_first);
    }
    assert_eq!((table.len(), texts.len(), filled(&mut table, version)), (0, 0, 0));
}

#[test]
fn damaged_bytes_are_refused_or_read() {
    let plan = plan();
    let (cells, mut texts) = (plan.cells.of(0), Interner::new());
    let mut table = table(cells, &mut texts);
    let version = 29_000_300;
    table.sweep(version, cells, &mut texts);
    let written = |table: &Summed| {
        let mut out = Writer(Vec::new());
        record(image::Part::Head, 0, &mut out, |out| table.write_head(out));
        table.write_all_at((7, version), cells, &mut out);
        out.0
    };
    let bytes = written(&table);
    let restored = |bytes: &[u8]| {
        let image = Image::read(bytes, |_| Ok(true))?;
        let mut head = Reader::new(image.head().unwrap_or_default());
        let uses = &mut Uses::none_of(texts.slots());
        Summed::read_from((&mut head, &image), (7, version), uses, cells)
    };
    let mut back = restored(&bytes).unwrap_or_else(|error| panic!("{error}"));
    assert!(written(&back) == bytes, "one state, one snapshot");
    let bits = |numbers: Vec<f64>| numbers.into_iter().map(f64::to_bits).collect::<Vec<_>>();
    for text in 1..texts.slots() as u32 {
        let [mine, theirs] = [&mut table, &mut back].map(|table| bits(read(table, &plan, text, version)));
        assert_eq!(mine, theirs);
    }
    for len in (0..bytes.len()).step_by(31).chain(bytes.len() - 20..bytes.len()) {
        assert!(restored(&bytes[..len]).is_err(), "{len} of {} bytes", bytes.len());
    }
    // A flipped bit may leave another state; it may not stop the process.
    for bit in (0..bytes.len() * 8).step_by(101) {
        let mut bytes = bytes.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        if let Ok(mut back) = restored(&bytes) {
            (0..texts.slots() as u32).for_each(|text| drop(read(&mut back, &plan, text, version + 1)));
            written(&back);
        }
    }
}
