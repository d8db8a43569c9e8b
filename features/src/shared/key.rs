//! One key of a shared entity: its tiles and the sums of its windows.
//!
//! A trailing window of length w at a version B holds the tiles that end after B - w: all of [B - w, B),
//! and less than one tile more at its tail. One that moves by hops is one of tiles as wide as a hop. An event is in one tile of its key: a narrow one while it is in
//! a short window, and when it has left that, a tile of the width that the next longer window has at
//! its tail. A tile is added to all windows when it comes, and taken from one when it has left it, which is
//! looked for when the key is read. Times are in tiles of the narrowest width since 1970.

use schemas::entity::EntitySums;

use super::plan::SharedPlan;
use super::strip;

/// No tile leaves. Reached in 2106 by tiles of a second.
const NEVER: u32 = u32::MAX;

/// How many words a key takes beside its tiles.
pub(crate) fn words(plan: &SharedPlan) -> usize {
    1 + plan.windows.len() * (1 + plan.sums) + plan.lasts
}

/// A key's words, side by side so that they lie in few cache lines.
#[derive(Debug)]
pub(crate) struct Key<'a> {
    /// The number of its text, and above it the first version at which a tile leaves a window, or an
    /// earlier one. Only the text is part of the state.
    head: &'a mut u64,
    /// Per window, where it begins. Not part of the state.
    begins: &'a mut [u64],
    /// Per sum, its windows. Not part of the state: sums are integers, so that adding up anew gives the
    /// same.
    sums: &'a mut [u64],
    /// Ends of the last tiles with an event; 0 for never.
    pub(crate) lasts: &'a mut [u64],
}

/// Where a window begins.
#[derive(Debug, Clone, Copy)]
struct Begin {
    /// The version at which its oldest tile leaves it; [`NEVER`] where it has none that no shorter
    /// window has.
    leaves: u32,
    /// Offset of its oldest tile.
    at: u32,
}

impl Begin {
    fn of(word: u64) -> Self {
        Self { leaves: (word >> 32) as u32, at: word as u32 }
    }

    fn word(self) -> u64 {
        u64::from(self.leaves) << 32 | u64::from(self.at)
    }
}

/// The version at which the tile with this start has left a window.
fn leaves(plan: &SharedPlan, start: i64, window: usize) -> u32 {
    plan.leaves(start, window).clamp(0, i64::from(NEVER) - 1) as u32
}

impl<'a> Key<'a> {
    /// Over [`words`] of them.
    pub(crate) fn new(words: &'a mut [u64], plan: &SharedPlan) -> Self {
        let windows = plan.windows.len();
        let (head, rest) = words.split_at_mut(1);
        let (begins, rest) = rest.split_at_mut(windows);
        let (sums, lasts) = rest.split_at_mut(windows * plan.sums);
        Self { head: &mut head[0], begins, sums, lasts }
    }

    /// Makes it the key of a text, with nothing of it known.
    pub(crate) fn clear(&mut self, text: u32) {
        *self.head = u64::from(text) | u64::from(NEVER) << 32;
        self.begins.fill(Begin { leaves: NEVER, at: 0 }.word());
        self.sums.fill(0);
        self.lasts.fill(0);
    }

    /// Whether some tile may have left a window at this version.
    pub(crate) fn is_due(&self, version: i64) -> bool {
        version >= i64::from((*self.head >> 32) as u32)
    }

    fn set_due(&mut self, version: u32) {
        *self.head = *self.head & 0xffff_ffff | u64::from(version) << 32;
    }

    /// Adds what was counted in the tile with this start, as [`EntitySums::write`] writes it. Tiles come
    /// by time.
    pub(crate) fn add(&mut self, tiles: &mut Vec<u8>, start: i64, counted: &[u8], plan: &SharedPlan) {
        let windows = plan.windows.len();
        let whole = EntitySums::each(&mut &*counted, |number, more| {
            if let Some(sum) = plan.sum_of[number] {
                let sums = &mut self.sums[usize::from(sum) * windows..][..windows];
                for sum in sums {
                    *sum = sum.wrapping_add(more);
                }
            }
            if let Some(last) = plan.last_of.get(number).copied().flatten() {
                let last = &mut self.lasts[usize::from(last)];
                *last = (*last).max((start + 1).max(0) as u64);
            }
        });
        debug_assert!(whole.is_some(), "rows of a block are whole");
        let begin = Begin::of(self.begins[0]);
        let start = plan.wide(start, plan.sizes[0]);
        // The newest tile, unless it has left all windows.
        let newest = strip::before(tiles, tiles.len()).filter(|at| *at >= begin.at as usize);
        let newest = newest.filter(|at| strip::start(tiles, *at).is_some_and(|(newest, _)| newest >= start));
        if let Some((at, mut tile)) = newest.and_then(|at| Some((at, strip::tile(tiles, at)?))) {
            tile.sums.merge(&EntitySums::read(&mut &*counted).unwrap_or_default());
            tiles.truncate(at);
            strip::push_sums(tiles, tile.start, &tile.sums);
        } else {
            let leaves = begin.leaves.min(leaves(plan, start, 0));
            self.begins[0] = Begin { leaves, ..begin }.word();
            self.set_due(leaves.min((*self.head >> 32) as u32));
            strip::push(tiles, start, counted);
        }
    }

    /// Moves tiles out of the windows that they have left at this version.
    pub(crate) fn settle(
        &mut self,
        tiles: &mut Vec<u8>,
        version: i64,
        plan: &SharedPlan,
        scratch: &mut Vec<u8>,
    ) {
        let windows = plan.windows.len();
        let mut due = NEVER;
        let mut end = tiles.len();
        for window in 0..windows {
            // Those from `at` to `end` are in this window and in no shorter one.
            let Begin { leaves: mut next, at } = Begin::of(self.begins[window]);
            let mut at = at as usize;
            while i64::from(next) <= version && next != NEVER {
                let Some((start, mut behind)) = self.take(tiles, at, window, plan) else { break };
                if let Some(longer) = self.begins.get_mut(window + 1) {
                    let from = Begin::of(*longer).at;
                    if from as usize == at {
                        *longer = Begin { leaves: leaves(plan, start, window + 1), at: from }.word();
                    }
                    if plan.sizes[window + 1] > plan.sizes[window] {
                        let (len, wide) = (tiles.len(), plan.wide(start, plan.sizes[window + 1]));
                        behind = strip::widen(tiles, at, behind, from as usize, wide, scratch);
                        // What is newer has moved.
                        let moved = tiles.len().wrapping_sub(len);
                        end = end.wrapping_add(moved);
                        for shorter in &mut self.begins[..window] {
                            let begin = Begin::of(*shorter);
                            *shorter = Begin { at: begin.at.wrapping_add(moved as u32), ..begin }.word();
                        }
                    }
                }
                at = behind;
                let start = if at < end { strip::start(tiles, at) } else { None };
                next = start.map_or(NEVER, |(start, _)| leaves(plan, start, window));
            }
            self.begins[window] = Begin { leaves: next, at: at as u32 }.word();
            due = due.min(next);
            end = at;
        }
        // What is left has left the longest window.
        if end > 0 {
            tiles.drain(..end);
            for begin in &mut *self.begins {
                *begin -= end as u64;
            }
        }
        self.set_due(due);
    }

    /// Takes the tile at an offset from a window's sums; its start, and the offset behind it.
    fn take(&mut self, tiles: &[u8], at: usize, window: usize, plan: &SharedPlan) -> Option<(i64, usize)> {
        let windows = plan.windows.len();
        let (start, sums) = strip::start(tiles, at)?;
        let behind = strip::each(tiles, sums, |number, less| {
            if let Some(sum) = plan.sum_of[number] {
                let sum = &mut self.sums[usize::from(sum) * windows + window];
                *sum = sum.wrapping_sub(less);
            }
        })?;
        Some((start, behind))
    }

    /// Adds the tiles up anew, as of a version; `None` if they are damaged.
    pub(crate) fn count(&mut self, tiles: &[u8], version: i64, plan: &SharedPlan) -> Option<()> {
        let windows = plan.windows.len();
        self.begins.fill(Begin { leaves: NEVER, at: tiles.len() as u32 }.word());
        self.sums.fill(0);
        let (mut at, mut before) = (0, i64::MIN);
        while at < tiles.len() {
            // A wide tile may begin where a narrower one behind it does.
            let tile = strip::tile(tiles, at).filter(|tile| tile.start >= before)?;
            before = tile.start;
            let numbers = tile.sums.numbers();
            for window in 0..windows {
                let leaves_this = leaves(plan, tile.start, window);
                if i64::from(leaves_this) <= version {
                    continue;
                }
                for (number, sum) in numbers.iter().zip(plan.sum_of) {
                    if let Some(sum) = sum {
                        let sum = &mut self.sums[usize::from(sum) * windows + window];
                        *sum = sum.wrapping_add(*number);
                    }
                }
                let mut begin = Begin::of(self.begins[window]);
                begin.at = begin.at.min(at as u32);
                // Only the shortest window that has it waits for it.
                if window == 0 || i64::from(leaves(plan, tile.start, window - 1)) <= version {
                    begin.leaves = begin.leaves.min(leaves_this);
                }
                self.begins[window] = begin.word();
            }
            at += tile.len;
        }
        let due = self.begins.iter().map(|begin| Begin::of(*begin).leaves).min();
        self.set_due(due.unwrap_or(NEVER));
        Some(())
    }

    /// The sums, each with its windows.
    pub(crate) fn sums(&self) -> &[u64] {
        self.sums
    }
}

/// The sums of a key with these words, each with its windows, and anything behind them.
pub(crate) fn sums<'a>(words: &'a [u64], plan: &SharedPlan) -> &'a [u64] {
    &words[1 + plan.windows.len()..]
}

/// Ends of the last tiles with an event of a key with these words; 0 for never.
pub(crate) fn lasts<'a>(words: &'a [u64], plan: &SharedPlan) -> &'a [u64] {
    &words[1 + plan.windows.len() * (1 + plan.sums)..]
}

/// The number of the text of a key with these words.
pub(crate) fn text(words: &[u64]) -> u32 {
    words[0] as u32
}

/// Where the key's windows begin in its tiles.
pub(crate) fn begins<'a>(words: &'a [u64], plan: &SharedPlan) -> impl Iterator<Item = usize> + 'a {
    words[1..=plan.windows.len()].iter().map(|word| Begin::of(*word).at as usize)
}
