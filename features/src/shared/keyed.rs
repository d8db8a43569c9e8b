//! One key of a shared entity over all partitions: its tiles, coarser for longer windows.
//!
//! A window of length w at a version B holds the tiles that end after B - w: all of [B - w, B), and
//! less than one tile more at its tail.

use std::collections::VecDeque;

use super::Sums;
use crate::plan::{KINDS, SharedPlan};
use crate::wire::{Reader, SnapshotError, Writer};

/// The tiles of a key, one list per level of the entity, each by time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Keyed {
    levels: Vec<VecDeque<(i64, Sums)>>,
    /// Per kind: end of the last tile with one; 0 for never.
    last_ms: [i64; KINDS],
    /// Per window what it held when it was last read, and what was added since. Not part of the state:
    /// sums are integers, so adding up anew gives the same.
    running: Vec<Running>,
}

/// The sum of a window, kept while tiles come and go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Running {
    /// Tiles of its level that are in the sum: the newest.
    tiles: usize,
    total: Sums,
}

/// Windows at a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Windows {
    pub(crate) sums: Vec<Sums>,
    pub(crate) last_ms: [i64; KINDS],
}

impl Keyed {
    pub(crate) fn new(plan: &SharedPlan) -> Self {
        Self {
            levels: vec![VecDeque::new(); plan.levels.len()],
            last_ms: [0; KINDS],
            running: vec![Running::default(); plan.windows.len()],
        }
    }

    /// Adds a closed tile of one partition. `leaves` is told when what was added leaves a window.
    pub(crate) fn add(
        &mut self,
        tile_ms: i64,
        width_ms: i64,
        sums: &Sums,
        plan: &SharedPlan,
        mut leaves: impl FnMut(i64),
    ) {
        for (last, count) in self.last_ms.iter_mut().zip(sums.counts) {
            if count > 0 {
                *last = (*last).max(tile_ms + width_ms);
            }
        }
        for running in &mut self.running {
            running.total.merge(sums);
        }
        for (at, (tiles, level)) in self.levels.iter_mut().zip(&plan.levels).enumerate() {
            let start_ms = tile_ms.div_euclid(level.size_ms) * level.size_ms;
            match tiles.back_mut() {
                // Tiles of one version come by time, and versions ascend.
                Some((newest, total)) if *newest == start_ms => total.merge(sums),
                _ => {
                    tiles.push_back((start_ms, *sums));
                    let windows = plan.windows.iter().zip(&plan.level_of).zip(&mut self.running);
                    for ((window, _), running) in windows.filter(|((_, level), _)| **level == at) {
                        running.tiles += 1;
                        leaves(start_ms + level.size_ms + window);
                    }
                }
            }
        }
    }

    /// Drops what no window reaches at this version; the windows, or none if nothing is left.
    pub(crate) fn windows(&mut self, version_ms: i64, plan: &SharedPlan) -> Option<Windows> {
        let windows = plan.windows.iter().zip(&plan.level_of).zip(&mut self.running);
        for ((&length, &level), running) in windows {
            let (tiles, size_ms) = (&self.levels[level], plan.levels[level].size_ms);
            // The oldest that is in the sum, while it has left the window.
            while let Some((start, sums)) =
                tiles.len().checked_sub(running.tiles).and_then(|at| tiles.get(at))
                && start + size_ms + length <= version_ms
            {
                running.total.take(sums);
                running.tiles -= 1;
            }
        }
        for (tiles, level) in self.levels.iter_mut().zip(&plan.levels) {
            while tiles.front().is_some_and(|(start, _)| start + level.size_ms + level.span_ms <= version_ms)
            {
                tiles.pop_front();
            }
        }
        if self.levels.iter().all(VecDeque::is_empty) {
            return None;
        }
        let sums = self.running.iter().map(|running| running.total).collect();
        let longest_ms = plan.windows.last().copied().unwrap_or(0);
        let last_ms = self.last_ms.map(|last| if last + longest_ms > version_ms { last } else { 0 });
        Some(Windows { sums, last_ms })
    }

    pub(crate) fn tiles(&self) -> usize {
        self.levels.iter().map(VecDeque::len).sum()
    }

    pub(crate) fn write(&self, out: &mut Writer) {
        self.last_ms.iter().for_each(|last| out.int(*last));
        for tiles in &self.levels {
            out.len(tiles.len());
            for (start_ms, sums) in tiles {
                out.int(*start_ms);
                sums.write(out);
            }
        }
    }

    pub(crate) fn read_from(input: &mut Reader<'_>, plan: &SharedPlan) -> Result<Self, SnapshotError> {
        let mut keyed = Self::new(plan);
        for last in &mut keyed.last_ms {
            *last = input.int()?;
        }
        for tiles in &mut keyed.levels {
            for _ in 0..input.len()? {
                tiles.push_back((input.int()?, Sums::read_from(input)?));
            }
        }
        for (running, level) in keyed.running.iter_mut().zip(&plan.level_of) {
            let tiles = &keyed.levels[*level];
            running.tiles = tiles.len();
            for (_, sums) in tiles {
                running.total.merge(sums);
            }
        }
        Ok(keyed)
    }
}
