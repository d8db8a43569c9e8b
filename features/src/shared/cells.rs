//! What is kept of one shared entity beyond counts and values by kind: the cells of a key's summary in each
//! tile, and which numbers are read of them in which windows.
//!
//! Follows from declarations alone.

use schemas::{Event, SharedEntity};

use super::plan::{SharedPlan, wide};
use crate::filters::{Filters, text_of};
use crate::plan::{KINDS, KindSet, SHARED, SHARED_ENTITIES};
use crate::summary::packed::{self, Packed};
use crate::summary::plan::{Facets, Of, Range, Reading, Summaries, What};
use crate::summary::tiles::hash;
use crate::summary::{One, Order, Part};

/// Numbers that are read of one window.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct OfWindow {
    /// Place of the window's level.
    pub(crate) level: usize,
    /// How long the window holds a tile after its end, in tiles.
    pub(crate) holds: i64,
    /// Cell, place among all numbers, and which number.
    pub(crate) numbers: Vec<(usize, usize, Reading)>,
}

/// Tiles of one width.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Level {
    /// Width in tiles.
    pub(crate) size: i64,
    /// How long any window that reads it holds a tile after its end, in tiles.
    pub(crate) holds: i64,
}

/// What is kept of one shared entity; of one of which nothing else is declared, nothing.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Cells {
    /// What a summary is made of.
    pub(crate) packed: Vec<Packed>,
    /// Of each cell: which events, as a kind's place or, behind those, a filter's.
    sets: Vec<usize>,
    pub(crate) windows: Vec<OfWindow>,
    pub(crate) levels: Vec<Level>,
    /// Width of the tiles that it is counted in, ms.
    pub(crate) tile_ms: i64,
    anchor: i64,
}

/// The same of all shared entities.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct AllCells {
    of: [Cells; SHARED_ENTITIES],
    is_empty: bool,
    /// Per text of an event: whether any cell tells it apart.
    reads: [bool; Of::ALL.len()],
}

impl AllCells {
    /// What these numbers need, in the windows that are kept of each entity.
    pub(crate) fn new(numbers: &Summaries, kept: &[Vec<SharedPlan>; SHARED_ENTITIES]) -> Self {
        Self {
            of: std::array::from_fn(|at| Cells::new(SHARED + at, numbers, &kept[at])),
            is_empty: numbers.is_empty(),
            reads: Of::ALL.map(|(_, of)| numbers.tells_apart(of)),
        }
    }

    /// Whether nothing is kept of any.
    pub(crate) fn is_empty(&self) -> bool {
        self.is_empty
    }

    /// What is kept of a shared entity, by its place.
    pub(crate) fn of(&self, entity: usize) -> &Cells {
        &self.of[entity]
    }

    /// The same by its number in a record; nothing of one that a newer writer knows.
    pub(crate) fn of_number(&self, entity: i32) -> Option<&Cells> {
        let at = SharedEntity::ALL.iter().position(|known| *known as i32 == entity)?;
        Some(&self.of[at]).filter(|cells| !cells.is_empty())
    }

    /// An event as the cells take it; `filters` has a bit for each filter that takes it.
    pub(crate) fn taken(&self, event: &Event, kind: usize, filters: u32) -> Taken {
        Taken {
            sets: KindSet::taking(kind) | filters << KINDS,
            time_ms: event.event_time_ms,
            value: event.value,
            hashes: self.hashes(event),
        }
    }

    /// Per text that any cell tells apart: the event's, hashed; 0 for others.
    pub(crate) fn hashes(&self, event: &Event) -> [u64; Of::ALL.len()] {
        std::array::from_fn(|at| if self.reads[at] { hash(text_of(event, Of::ALL[at].1)) } else { 0 })
    }
}

impl Cells {
    fn new(entity: usize, all: &Summaries, kept: &[SharedPlan]) -> Self {
        let mut cells = Self::default();
        let Some(first) = kept.first() else { return cells };
        (cells.tile_ms, cells.anchor) = (first.tile_ms, first.anchor);
        let windows: Vec<_> = kept
            .iter()
            .flat_map(|plan| plan.declared.iter().zip(&plan.sizes).zip(&plan.windows))
            .map(|((window, size), holds)| (window.span_ms().unwrap_or(0), *size, *holds))
            .collect();
        // All that is remembered is the longest window, the first of these.
        let longest = (0..windows.len()).rev().max_by_key(|at| windows[*at].0).unwrap_or(0);
        let mut of_window = vec![Vec::new(); windows.len()];
        for (local, (at, cell)) in all.of(entity).enumerate() {
            let mut facets = Facets::default();
            for place in &all.numbers_of[at] {
                let number = all.numbers[*place];
                facets = facets.and(Facets::of(number.reading));
                let window = match number.range {
                    Range::Window(window) => window,
                    Range::All => longest,
                };
                of_window[window].push((local, *place, number.reading));
            }
            cells.packed.push(Packed { what: cell.what, facets });
            cells.sets.push(cell.set);
        }
        for (numbers, (_, size, holds)) in of_window.into_iter().zip(windows) {
            if numbers.is_empty() {
                continue;
            }
            let level = cells.levels.iter().position(|level| level.size == size).unwrap_or_else(|| {
                cells.levels.push(Level { size, holds });
                cells.levels.len() - 1
            });
            cells.levels[level].holds = cells.levels[level].holds.max(holds);
            cells.windows.push(OfWindow { level, holds, numbers });
        }
        cells
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.packed.is_empty()
    }

    /// What is in a summary, as a text: two of one text are read alike.
    pub(crate) fn text(&self, filters: &Filters) -> String {
        let cell =
            |(of, set): (&Packed, &usize)| format!("{} {:?} {:?}", filters.asked(*set), of.what, of.facets);
        self.packed.iter().zip(&self.sets).map(cell).collect::<Vec<_>>().join("; ")
    }

    /// Parts of no event, one for each cell, of a tile that ends then.
    pub(crate) fn nothing(&self, end_ms: i64) -> Vec<Part> {
        self.packed.iter().map(|cell| packed::nothing(cell.what, end_ms)).collect()
    }

    /// Where the tile of a level begins that this one is in, in tiles.
    pub(crate) fn wide(&self, start: i64, level: usize) -> i64 {
        wide(self.anchor, start, self.levels[level].size)
    }

    /// The version at which the tile of a level with this start has left a window that holds it so long.
    pub(crate) fn leaves(&self, start: i64, level: usize, holds: i64) -> i64 {
        start.saturating_add(self.levels[level].size).saturating_add(holds)
    }

    /// Adds an event to the parts of a tile.
    pub(crate) fn add(&self, parts: &mut [Part], taken: &Taken) {
        for ((cell, set), part) in self.packed.iter().zip(&self.sets).zip(parts) {
            if taken.sets >> set & 1 == 0 {
                continue;
            }
            let hash = match cell.what {
                What::Distinct(of) | What::Top(of) => taken.hashes[of as usize],
                _ => 0,
            };
            part.add(&One { time_ms: taken.time_ms, value: taken.value, hash }, Order::None);
            part.bound();
        }
    }
}

/// An event, as the cells take it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Taken {
    /// A bit for each kind and filter that takes it.
    sets: u32,
    time_ms: i64,
    value: f64,
    /// Of each text that any cell reads: its hash.
    hashes: [u64; Of::ALL.len()],
}
