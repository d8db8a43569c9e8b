//! What is kept of one shared entity: windows in tiles, and which numbers of a tile anything reads.

use schemas::entity::EntitySums;

use crate::plan::{CART, CLICK, Counted, Field, KINDS, VIEW, levels_of};
use crate::totals::value_slot;
use crate::window::{ANCHOR_MS, Window};

/// What is kept of one shared entity, in windows that nest: at any version an event has left each before it
/// leaves the next. Times are in tiles of `tile_ms`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SharedPlan {
    /// Width of the tiles that it is counted in, ms.
    pub(crate) tile_ms: i64,
    /// Its windows.
    pub(crate) declared: Vec<Window>,
    /// How long each holds a tile after the end of the tile at its tail that it is in.
    pub(crate) windows: Vec<i64>,
    /// Per window: the width of the tiles at its tail; each is a multiple of the one before.
    pub(crate) sizes: Vec<i64>,
    /// Where a tile of any width begins.
    pub(crate) anchor: i64,
    /// How many sums are kept per window.
    pub(crate) sums: usize,
    /// Per number of [`EntitySums::numbers`]: which sum it adds to, if any.
    pub(crate) sum_of: [Option<u8>; EntitySums::NUMBERS],
    /// How many times of last events are kept.
    pub(crate) lasts: usize,
    /// Per kind: which of them it moves, if any.
    pub(crate) last_of: [Option<u8>; KINDS],
}

/// How long a window holds a tile after the end of the tile at its tail, and the width of the latter, ms.
/// One whose beginning moves by hops rounds to them; of others the width is of `levels_of`.
fn held(window: Window, tail_ms: i64) -> (i64, i64) {
    match window.fixed() {
        Some((size, hop)) => (size - hop, hop),
        None => (window.span_ms().unwrap_or(0), tail_ms),
    }
}

/// The windows in lists that nest, trailing ones first: what is held longer has tiles at its tail that
/// are made of the other's.
pub(crate) fn chains(windows: &[Window]) -> Vec<Vec<Window>> {
    let is_trailing = |window: &&Window| window.fixed().is_none();
    let mut chains = vec![windows.iter().filter(is_trailing).copied().collect::<Vec<_>>()];
    let mut others: Vec<Window> = windows.iter().filter(|window| !is_trailing(window)).copied().collect();
    others.sort_unstable_by_key(|window| held(*window, 0));
    for window in others {
        let (holds, size) = held(window, 0);
        let nests = |chain: &&mut Vec<Window>| {
            let last = chain.last().map(|last| held(*last, 0));
            last.is_some_and(|(held, of)| held <= holds && size % of == 0)
        };
        match chains[1..].iter_mut().find(nests) {
            Some(chain) => chain.push(window),
            None => chains.push(vec![window]),
        }
    }
    chains.retain(|chain| !chain.is_empty());
    chains
}

impl SharedPlan {
    /// For the fields of the entity, whose windows are as [`chains`] has them; `rated` is whether any rate
    /// reads it, of a child's fields too.
    pub(crate) fn all(fields: &[Field], rated: bool, windows: &[Window], tile_ms: i64) -> Vec<Self> {
        let chains = chains(windows);
        // Ages are known for as long as the longest window.
        let span = |chain: &Vec<Window>| chain.iter().filter_map(|window| window.span_ms()).max();
        let aged = (0..chains.len()).rev().max_by_key(|at| span(&chains[*at]));
        let plan = |(at, chain): (usize, &Vec<Window>)| {
            let mut plan = Self::new(fields, rated, chain, tile_ms);
            if aged != Some(at) {
                (plan.lasts, plan.last_of) = (0, [None; KINDS]);
            }
            plan
        };
        chains.iter().enumerate().map(plan).collect()
    }

    fn new(fields: &[Field], rated: bool, declared: &[Window], tile_ms: i64) -> Self {
        let spans: Vec<i64> = declared.iter().filter_map(|window| window.span_ms()).collect();
        let (levels, level_of) = levels_of(&spans, tile_ms);
        let mut numbers = [false; EntitySums::NUMBERS];
        for kind in [VIEW, CLICK, CART] {
            numbers[kind] = rated;
        }
        let mut kinds = [false; KINDS];
        // Carts are kept apart from other clicks only where somebody asks for them alone.
        let mut carts = [false; 2];
        for field in fields {
            let (counted, summed, last): (&[usize], &[usize], &[usize]) = match field {
                Field::Count { kinds, .. } | Field::Trend { short: Counted::Kinds(kinds, _), .. } => {
                    (kinds.indices(), &[], &[])
                }
                Field::Sum { kinds, .. } => (&[], kinds.indices(), &[]),
                Field::Mean { kinds, .. } => (kinds.indices(), kinds.indices(), &[]),
                Field::Since { kinds, .. } => (&[], &[], kinds.indices()),
                Field::Rate { .. }
                | Field::Trend { .. }
                | Field::Summary { .. }
                | Field::Context(_)
                | Field::Number(_) => (&[], &[], &[]),
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
        let held =
            declared.iter().zip(&level_of).map(|(window, level)| held(*window, levels[*level].size_ms));
        let (windows, sizes) = held.map(|(holds, size)| (in_tiles(holds), in_tiles(size))).unzip();
        Self {
            tile_ms,
            declared: declared.to_vec(),
            windows,
            sizes,
            anchor: ANCHOR_MS / tile_ms,
            sums,
            sum_of,
            lasts,
            last_of,
        }
    }
}

impl SharedPlan {
    /// Where the tile of that width begins that this one is in.
    pub(crate) fn wide(&self, start: i64, width: i64) -> i64 {
        wide(self.anchor, start, width)
    }

    /// The version at which the tile with this start has left a window.
    pub(crate) fn leaves(&self, start: i64, window: usize) -> i64 {
        let size = self.sizes[window];
        self.wide(start, size).saturating_add(size + self.windows[window])
    }

    /// The version at which the age of a last event is forgotten that happened in the tile before this end.
    pub(crate) fn forgets(&self, end: i64) -> i64 {
        match (self.declared.last(), self.windows.last()) {
            (Some(Window::Trailing(_)), Some(longest)) => end.saturating_add(*longest),
            _ => self.leaves(end.saturating_sub(1), self.windows.len() - 1),
        }
    }
}

/// Where the tile of that width begins that this one is in, where one begins at `anchor`.
pub(crate) fn wide(anchor: i64, start: i64, width: i64) -> i64 {
    start.saturating_sub(start.saturating_sub(anchor).rem_euclid(width))
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
