//! Snapshots of the merge of shared entities and of hourly sums, and the records that they take.

use std::sync::{Arc, LazyLock};

use features::{Aggregates, Core, Merge, Output, Plan};
use schemas::{Aggregate, EntityTiles, EntityVersion};

use crate::Target;
use crate::dice::Dice;
use crate::stream::{self, PARTITION, PLANS};

pub const TARGET: Target =
    Target { name: "merge_state", run, seeds, times: 2_048, plus: 4 << 20, cases: 800 };

const PARTITIONS: usize = PARTITION as usize + 1;
/// Bytes before the merge's first time: magic, format, layout.
const HEADER: usize = 8 + 1 + 8;

/// The first byte says of which; what follows stands behind a good header.
fn run(data: &[u8]) {
    let Some((&what, bytes)) = data.split_first() else { return };
    let plan = &PLANS[usize::from(what >> 1 & 1)];
    if what & 1 == 0 {
        let header = Merge::new(Arc::clone(plan), PARTITIONS).snapshot();
        let restored = |bytes: &[u8]| Merge::restore(Arc::clone(plan), PARTITIONS, bytes).ok();
        let Some(merge) = restored(&[&header[..HEADER], bytes].concat()) else { return };
        let state = merge.snapshot();
        let again = restored(&state).expect("a snapshot of a restored merge is good");
        assert!(again.snapshot() == state, "a snapshot restores to another");
        assert!(versions(plan, merge) == versions(plan, again), "two merges of one state part");
    } else {
        let restored = |bytes: &[u8]| Aggregates::restore(plan, PARTITIONS, bytes).ok();
        let Some(sums) = restored(bytes) else { return };
        let state = sums.snapshot();
        let again = restored(&state).expect("a snapshot of restored sums is good");
        assert!(again.snapshot() == state, "a snapshot restores to another");
        assert!(rows(plan, sums) == rows(plan, again), "two sums of one state part");
    }
}

/// Records of both partitions, tiles and hours.
fn records(plan: &Arc<Plan>, seed: u64, after_ms: i64) -> Vec<EntityTiles> {
    let mut all = Vec::new();
    for partition in 0..PARTITIONS {
        let mut core = Core::new(Arc::clone(plan), partition as i32);
        let entries = stream::entries(&mut Dice(seed + partition as u64), 60, after_ms);
        let out = stream::fold(&mut core, &mut stream::merge(plan), &entries, 0);
        all.extend(out.records.into_iter().filter_map(|output| match output {
            Output::Tiles(tiles) | Output::Hours(tiles) => Some(tiles),
            _ => None,
        }));
    }
    all.sort_by_key(|tiles| tiles.closed_ms);
    all
}

fn next(plan: &Arc<Plan>) -> &'static [EntityTiles] {
    static NEXT: LazyLock<[Vec<EntityTiles>; 2]> = LazyLock::new(|| {
        let of = |plan| [600_000, 20_000_000, 500_000_000].map(|after_ms| records(plan, 7, after_ms));
        [&PLANS[0], &PLANS[1]].map(|plan| of(plan).into_iter().flatten().collect())
    });
    &NEXT[usize::from(Arc::ptr_eq(plan, &PLANS[1]))]
}

fn versions(plan: &Arc<Plan>, mut merge: Merge) -> (Vec<EntityVersion>, Vec<u8>) {
    let versions = next(plan).iter().flat_map(|tiles| merge.step(tiles)).collect();
    (versions, merge.snapshot())
}

fn rows(plan: &Arc<Plan>, mut sums: Aggregates) -> (Vec<Aggregate>, Vec<u8>) {
    let mut rows = Vec::new();
    for tiles in next(plan) {
        sums.step(tiles, |row| rows.push(row));
    }
    (rows, sums.snapshot())
}

fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for (at, plan) in (0..).zip(&*PLANS) {
        let records = records(plan, 1, 0);
        for count in [0, 3, 9, records.len()] {
            let mut merge = Merge::new(Arc::clone(plan), PARTITIONS);
            let mut sums = Aggregates::new(plan, PARTITIONS);
            for tiles in &records[..count] {
                merge.step(tiles);
                sums.step(tiles, drop);
            }
            seeds.push([&[at << 1][..], &merge.snapshot()[HEADER..]].concat());
            seeds.push([&[at << 1 | 1][..], &sums.snapshot()].concat());
        }
    }
    seeds
}
