//! Snapshots of the features core, and of what a record may make of a restored one.

use std::sync::{Arc, LazyLock};

use features::{Core, Out, Plan};
use schemas::{Entry, Place};

use crate::Target;
use crate::dice::Dice;
use crate::stream::{self, PARTITION, PLANS};

pub const TARGET: Target = Target { name: "core_state", run, seeds, times: 2_048, plus: 8 << 20, cases: 400 };

/// Bytes before the clock: magic, format, declarations, partition.
const HEADER: usize = 8 + 1 + 8 + 1;

/// What is folded after a restart: as it goes on, then long after, then on again.
static NEXT: LazyLock<Vec<Entry>> = LazyLock::new(|| {
    let mut dice = Dice(99);
    let mut next = stream::entries(&mut dice, 90, 600_000);
    next.push(stream::tick(stream::START_MS + 9_000_000));
    next.extend(stream::entries(&mut dice, 30, 9_000_000));
    for days in [1, 9, 40] {
        next.push(stream::tick(stream::START_MS + days * 86_400_000));
        next.push(stream::tick(stream::START_MS + days * 86_400_000 + 1));
    }
    next.extend(stream::entries(&mut dice, 8, 40 * 86_400_000));
    next
});

/// The first byte says which plan; what follows stands behind a good header.
fn run(data: &[u8]) {
    let Some((&what, bytes)) = data.split_first() else { return };
    let plan = &PLANS[usize::from(what & 1)];
    let header = Core::new(Arc::clone(plan), PARTITION).snapshot();
    let Some(core) = restored(plan, &[&header[..HEADER], bytes].concat()) else { return };
    let state = core.snapshot();
    let again = restored(plan, &state).expect("a snapshot of a restored core is good");
    assert!(again.snapshot() == state, "a snapshot restores to another");
    // What is not part of the state (where blocks lie, what was summed before) changes nothing.
    let (one, other) = (go_on(core), go_on(again));
    assert!(one == other, "two cores of one state part");
}

fn restored(plan: &Arc<Plan>, bytes: &[u8]) -> Option<Core> {
    Core::restore(Arc::clone(plan), PARTITION, bytes).ok()
}

fn go_on(mut core: Core) -> (Vec<u8>, String) {
    let mut out = Out::default();
    for (offset, entry) in (1_000..).zip(&*NEXT) {
        core.step(entry, Place { partition: PARTITION, offset }, &mut out);
    }
    // As text: not a number is not equal to itself.
    (core.snapshot(), format!("{:?}", blake3::hash(format!("{out:?}").as_bytes())))
}

fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for (at, plan) in (0..).zip(&*PLANS) {
        for (count, seed) in [(0, 1), (6, 2), (20, 3), (60, 4), (400, 5)] {
            let mut core = Core::new(Arc::clone(plan), PARTITION);
            let entries = stream::entries(&mut Dice(seed), count, 0);
            stream::fold(&mut core, &mut stream::merge(plan), &entries[..count], 0);
            seeds.push([&[at][..], &core.snapshot()[HEADER..]].concat());
        }
    }
    seeds
}
