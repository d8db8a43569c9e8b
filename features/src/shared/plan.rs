//! What is kept of one shared entity: windows in tiles, and which numbers of a tile anything reads.

use schemas::entity::EntitySums;

use crate::plan::{CART, CLICK, Field, KINDS, VIEW, levels_of};
use crate::totals::value_slot;

/// What is kept of one shared entity. Times are in tiles of `tile_ms`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SharedPlan {
    /// Width of the tiles that it is counted in, ms.
    pub(crate) tile_ms: i64,
    /// Its windows, ms, ascending.
    pub(crate) windows_ms: Vec<i64>,
    /// The same, rounded up: a window ends with a tile.
    pub(crate) windows: Vec<i64>,
    /// Per window: the width of the tiles at its tail; each is a multiple of the one before.
    pub(crate) sizes: Vec<i64>,
    /// How many sums are kept per window.
    pub(crate) sums: usize,
    /// Per number of [`EntitySums::numbers`]: which sum it adds to, if any.
    pub(crate) sum_of: [Option<u8>; EntitySums::NUMBERS],
    /// How many times of last events are kept.
    pub(crate) lasts: usize,
    /// Per kind: which of them it moves, if any.
    pub(crate) last_of: [Option<u8>; KINDS],
}

impl SharedPlan {
    /// For the fields of the entity; `rated` is whether any rate reads it, of a child's fields too.
    pub(crate) fn new(fields: &[Field], rated: bool, windows: &[i64], tile_ms: i64) -> Self {
        let (levels, level_of) = levels_of(windows, tile_ms);
        let mut numbers = [false; EntitySums::NUMBERS];
        for kind in [VIEW, CLICK, CART] {
            numbers[kind] = rated;
        }
        let mut kinds = [false; KINDS];
        // Carts are kept apart from other clicks only where somebody asks for them alone.
        let mut carts = [false; 2];
        for field in fields {
            let (counted, summed, last): (&[usize], &[usize], &[usize]) = match field {
                Field::Count { kinds, .. } => (kinds.indices(), &[], &[]),
                Field::Sum { kinds, .. } => (&[], kinds.indices(), &[]),
                Field::Mean { kinds, .. } => (kinds.indices(), kinds.indices(), &[]),
                Field::Since { kinds, .. } => (&[], &[], kinds.indices()),
                Field::Rate { .. } | Field::Context(_) | Field::Number(_) => (&[], &[], &[]),
            };
            for kind in counted {
                numbers[*kind] = true;
            }
            let slots = summed.iter().filter_map(|kind| value_slot(*kind));
            slots.for_each(|slot| numbers[KINDS + slot] = true);
            for kind in last {
                kinds[*kind] = true;
            }
            carts[0] |= *counted == [CART];
            carts[1] |= *last == [CART];
        }
        let (sums, sum_of) = places(numbers, carts[0]);
        let (lasts, last_of) = places(kinds, carts[1]);
        let in_tiles = |ms: i64| ms.div_euclid(tile_ms) + i64::from(ms.rem_euclid(tile_ms) > 0);
        Self {
            tile_ms,
            windows_ms: windows.to_vec(),
            windows: windows.iter().copied().map(in_tiles).collect(),
            sizes: level_of.iter().map(|level| in_tiles(levels[*level].size_ms)).collect(),
            sums,
            sum_of,
            lasts,
            last_of,
        }
    }
}

/// How many places those that are used take, and the place of each; carts take that of clicks unless
/// they are kept alone.
fn places<const N: usize>(used: [bool; N], carts_alone: bool) -> (usize, [Option<u8>; N]) {
    let mut count = 0_u8;
    let mut place_of = [None; N];
    for at in (0..N).filter(|at| used[*at]) {
        if at == CART && used[CLICK] && !carts_alone {
            place_of[CART] = place_of[CLICK];
        } else {
            place_of[at] = Some(count);
            count += 1;
        }
    }
    (usize::from(count), place_of)
}
