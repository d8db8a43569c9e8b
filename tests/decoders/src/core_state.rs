//! Snapshots of the features core, and of what a record may make of a restored one.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use features::{Core, Out, Plan};
use runtime::spill::{Spill, SpillError};
use schemas::{Entry, Place};

use crate::Target;
use crate::dice::Dice;
use crate::stream::{self, PARTITION, PLANS};

pub const TARGET: Target = Target { name: "core_state", run, seeds, times: 2_048, plus: 8 << 20, cases: 400 };

/// Bytes of a head before it says whether its image is whole: magic, format, declarations, partition.
const HEADER: usize = 8 + 1 + 8 + 1;
/// Bytes of a chunk's length.
const LENGTH: usize = 4;
/// Stands before each chunk in place of its length: what makes a chunk longer leaves the next ones readable.
const MARK: [u8; 4] = *b"\xfechk";

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

/// The first byte says which plan; then chunks, with good lengths, and heads behind good headers.
fn run(data: &[u8]) {
    let Some((&what, bytes)) = data.split_first() else { return };
    let plan = &PLANS[usize::from(what & 1)];
    let snapshot = with_lengths(plan, bytes);
    let Some(core) = restored(plan, &snapshot) else { return };
    let state = core.snapshot();
    let again = restored(plan, &state).expect("a snapshot of a restored core is good");
    assert!(again.snapshot() == state, "a snapshot restores to another");
    let aside = Some(Box::new(Aside::default()) as Box<dyn Spill>);
    let cold = Core::restore_with(Arc::clone(plan), PARTITION, &snapshot, aside);
    let cold = cold.expect("what is restored is restored out of memory");
    assert!(cold.snapshot() == state, "a user was put out of memory as another");
    // What is not part of the state (where blocks lie, what was summed before) changes nothing.
    let (one, other) = (go_on(core), go_on(again));
    assert!(one == other, "two cores of one state part");
    // Who is out of memory is forgotten of later, but nothing that comes out tells.
    assert!(one.1 == go_on(cold).1, "users out of memory make a difference");
}

fn restored(plan: &Arc<Plan>, bytes: &[u8]) -> Option<Core> {
    Core::restore(Arc::clone(plan), PARTITION, bytes).ok()
}

/// A snapshot as it is, of what has a mark before each chunk.
fn with_lengths(plan: &Arc<Plan>, mut bytes: &[u8]) -> Vec<u8> {
    let header = Core::new(Arc::clone(plan), PARTITION).snapshot();
    let header = &header[2 + LENGTH..][..HEADER];
    let mut out = Vec::new();
    while let Some((place, mut chunk)) = split_place(bytes) {
        bytes = &[];
        if let Some(end) = chunk.windows(MARK.len()).position(|mark| mark == MARK) {
            (chunk, bytes) = (&chunk[..end], &chunk[end + MARK.len()..]);
        }
        let header = if place == [0, 0] { header } else { &[] };
        out.extend_from_slice(place);
        out.extend_from_slice(&((header.len() + chunk.len()) as u32).to_le_bytes());
        out.extend_from_slice(header);
        out.extend_from_slice(chunk);
    }
    out.extend_from_slice(bytes);
    out
}

/// The opposite, of a good snapshot.
fn with_marks(mut bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    while let Some((place, rest)) = split_place(bytes) {
        let (length, rest) = rest.split_first_chunk::<LENGTH>().unwrap();
        let (chunk, rest) = rest.split_at(u32::from_le_bytes(*length) as usize);
        bytes = rest;
        if !out.is_empty() {
            out.extend_from_slice(&MARK);
        }
        out.extend_from_slice(place);
        out.extend_from_slice(if place == [0, 0] { &chunk[HEADER..] } else { chunk });
    }
    out
}

/// The part and the number of the chunk in front, and what is behind them.
fn split_place(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let number = bytes.get(1..)?;
    let end = number.iter().take(10).position(|byte| *byte < 0x80)?;
    Some(bytes.split_at(end + 2))
}

/// Users out of memory as soon as they can be.
#[derive(Debug, Default)]
struct Aside(HashMap<u64, Vec<u8>>);

impl Spill for Aside {
    fn budget(&self) -> usize {
        0
    }

    fn put(&mut self, key: u64, bytes: &[u8]) -> Result<(), SpillError> {
        self.0.insert(key, bytes.to_vec());
        Ok(())
    }

    fn get(&self, key: u64) -> Result<Vec<u8>, SpillError> {
        let missing =
            || SpillError { action: "read", folder: "memory".into(), why: "there is nothing".into() };
        self.0.get(&key).cloned().ok_or_else(missing)
    }
}

fn go_on(mut core: Core) -> (Vec<u8>, String) {
    let mut out = Out::default();
    for (offset, entry) in (1_000..).zip(&*NEXT) {
        core.step(entry, Place { partition: PARTITION, offset }, &mut out);
    }
    assert!(core.take_failure().is_none(), "a user does not come back");
    // As text: not a number is not equal to itself.
    (core.snapshot(), format!("{:?}", blake3::hash(format!("{out:?}").as_bytes())))
}

fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for (at, plan) in (0..).zip(&*PLANS) {
        for (count, seed) in [(0, 1), (6, 2), (20, 3), (60, 4), (400, 5)] {
            let mut core = Core::new(Arc::clone(plan), PARTITION);
            let (mut merge, entries) = (stream::merge(plan), stream::entries(&mut Dice(seed), count, 0));
            let (first, rest) = entries.split_at(count / 2);
            stream::fold(&mut core, &mut merge, first, 0);
            let mut image = image(&mut core, true);
            stream::fold(&mut core, &mut merge, rest, 10_000);
            image.extend(self::image(&mut core, false));
            for snapshot in [core.snapshot(), image] {
                let seed = with_marks(&snapshot);
                assert!(restored(plan, &with_lengths(plan, &seed)).is_some(), "a seed is refused");
                seeds.push([&[at][..], &seed].concat());
            }
        }
    }
    seeds
}

fn image(core: &mut Core, whole: bool) -> Vec<u8> {
    core.begin_image(whole);
    std::iter::from_fn(|| core.next_part(4_096)).flatten().collect()
}
