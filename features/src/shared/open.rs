//! The tiles that one partition's clock has not passed: its own sums of each key, until they close.
//!
//! Knows no other partition.

use std::collections::BTreeMap;

use schemas::{EntityTile, Event, SharedEntity};

use super::Sums;
use crate::history::NEVER;
use crate::interner::{EMPTY, Interner};
use crate::out::Sink;
use crate::plan::{Plan, SHARED_ENTITIES};
use crate::wire::{Reader, SnapshotError, Writer};

/// Start of the tile, index of the shared entity, number of its text.
type Cell = (i64, usize, u32);

/// The open tiles of a partition.
#[derive(Debug, Clone)]
pub(crate) struct OpenTiles {
    cells: BTreeMap<Cell, Sums>,
    /// Every tile that ends at this time or before is closed; [`NEVER`] before the first has.
    closed_ms: i64,
}

impl Default for OpenTiles {
    fn default() -> Self {
        Self { cells: BTreeMap::new(), closed_ms: NEVER }
    }
}

impl OpenTiles {
    /// Adds an event up; `false` if its tile is closed and nothing was changed.
    pub(crate) fn add(&mut self, event: &Event, kind: usize, plan: &Plan, texts: &mut Interner) -> bool {
        let width_ms = plan.shared_tile_ms();
        let tile_ms = event.event_time_ms.div_euclid(width_ms) * width_ms;
        if tile_ms < self.closed_ms {
            return false;
        }
        for (entity, _) in plan.shared.iter().enumerate().filter(|(_, kept)| kept.is_some()) {
            let text = texts.intern(key_of(event, entity));
            if text == EMPTY {
                continue;
            }
            let cell = (tile_ms, entity, text);
            // A cell holds one use of its text.
            if self.cells.contains_key(&cell) {
                texts.release(text);
            }
            self.cells.entry(cell).or_default().add(kind, event.value);
        }
        true
    }

    /// The clock has moved: puts out what it has passed, by tile, entity and key, then the mark.
    pub(crate) fn close(
        &mut self,
        clock_ms: i64,
        partition: i32,
        plan: &Plan,
        texts: &mut Interner,
        out: &mut impl Sink,
    ) -> u64 {
        let width_ms = plan.shared_tile_ms();
        let closed_ms = clock_ms.div_euclid(width_ms) * width_ms;
        if closed_ms <= self.closed_ms {
            return 0;
        }
        self.closed_ms = closed_ms;
        let open = self.cells.split_off(&(closed_ms, 0, 0));
        let mut closed: Vec<(Cell, Sums)> = std::mem::replace(&mut self.cells, open).into_iter().collect();
        // Numbers of texts depend on what was forgotten before; the order of the records need not.
        closed.sort_by(|((tile, entity, a), _), ((other, of, b), _)| {
            (tile, entity, texts.text(*a)).cmp(&(other, of, texts.text(*b)))
        });
        for ((tile_ms, entity, text), sums) in &closed {
            out.tile(sums.into_tile(
                partition,
                *tile_ms,
                SharedEntity::ALL[*entity] as i32,
                texts.text(*text),
            ));
            texts.release(*text);
        }
        out.tile(EntityTile { partition, tile_ms: closed_ms, ..EntityTile::default() });
        closed.len() as u64 + 1
    }

    pub(crate) fn bytes(&self) -> usize {
        self.cells.len() * (size_of::<Cell>() + size_of::<Sums>())
    }

    pub(crate) fn write(&self, out: &mut Writer) {
        out.int(self.closed_ms);
        out.len(self.cells.len());
        for ((tile_ms, entity, text), sums) in &self.cells {
            out.int(*tile_ms);
            out.len(*entity);
            out.uint(u64::from(*text));
            sums.write(out);
        }
    }

    pub(crate) fn read_from(input: &mut Reader<'_>, texts: usize) -> Result<Self, SnapshotError> {
        let mut tiles = Self { cells: BTreeMap::new(), closed_ms: input.int()? };
        for _ in 0..input.len()? {
            let cell = (input.int()?, input.uint()? as usize, input.id()?);
            if cell.1 >= SHARED_ENTITIES || cell.2 as usize >= texts {
                return Err(input.damaged());
            }
            tiles.cells.insert(cell, Sums::read_from(input)?);
        }
        Ok(tiles)
    }
}

/// Which of the shared entity's keys an event belongs to; empty for none.
pub(crate) fn key_of(event: &Event, entity: usize) -> &str {
    match SharedEntity::ALL[entity] {
        SharedEntity::Item => &event.item,
        SharedEntity::Campaign => &event.campaign,
        SharedEntity::Category => &event.category,
        SharedEntity::Brand => &event.brand,
        SharedEntity::Placement => &event.placement,
        SharedEntity::None => "",
    }
}
