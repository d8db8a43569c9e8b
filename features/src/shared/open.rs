//! The tiles that one partition's clock has not passed: its own sums of each key, until they close.
//!
//! Knows no other partition.

mod state;

use schemas::entity::EntitySums;
use schemas::{EntityTiles, SharedEntity};

use self::state::InChunks;
use super::Keys;
use super::cells::Taken;
use super::parts::Packer;
use crate::history::NEVER;
use crate::image::{Chunks as _, Marks};
use crate::interner::{EMPTY, Interner};
use crate::out::Sink;
use crate::plan::Plan;
use crate::summary::Part;
use crate::summary::packed::pack;

/// What was counted of one key in an open tile. It has a use of the key's text.
#[derive(Debug, Clone, Copy)]
struct Cell {
    /// Index of the shared entity.
    entity: u32,
    text: u32,
    sums: EntitySums,
}

/// One open tile.
#[derive(Debug, Clone, Default)]
struct OpenTile {
    tile_ms: i64,
    /// How many had been opened before.
    serial: u64,
    /// In the order in which keys came.
    cells: Vec<Cell>,
    /// Per cell its summary, up to the last that has one: of entities of which more is declared.
    summaries: Vec<Vec<Part>>,
    /// Open addressing, linear probing: a cell's place counted from 1, 0 for none. Not part of the state.
    table: Vec<u32>,
    marks: Marks,
}

impl OpenTile {
    /// Where the cell's place stands, or would stand.
    fn slot(&self, entity: u32, text: u32) -> usize {
        let mask = self.table.len() - 1;
        let hash = (u64::from(text) << 3 | u64::from(entity)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut slot = (hash >> 32) as usize & mask;
        while let Some(place) = self.table[slot].checked_sub(1) {
            let cell = &self.cells[place as usize];
            if (cell.entity, cell.text) == (entity, text) {
                break;
            }
            slot = (slot + 1) & mask;
        }
        slot
    }

    /// Where a key's cell stands in the table, or would stand, and its place.
    fn find(&mut self, entity: u32, text: u32) -> (usize, usize) {
        if self.cells.len() * 2 >= self.table.len() {
            self.rebuild((self.cells.len() * 4).next_power_of_two().max(64));
        }
        let slot = self.slot(entity, text);
        let place = self.table[slot].checked_sub(1).map_or(self.cells.len(), |place| place as usize);
        (slot, place)
    }

    /// Adds a key's cell, which would stand there in the table.
    fn push(&mut self, slot: usize, entity: u32, text: u32) {
        self.cells.push(Cell { entity, text, sums: EntitySums::default() });
        self.table[slot] = self.cells.len() as u32;
    }

    /// The parts of a cell's summary; those of one that has none yet are made.
    fn parts(&mut self, place: usize, plan: &Plan) -> &mut Vec<Part> {
        if self.summaries.len() <= place {
            self.summaries.resize_with(place + 1, Vec::new);
        }
        let parts = &mut self.summaries[place];
        if parts.is_empty() {
            let cells = plan.cells.of(self.cells[place].entity as usize);
            *parts = cells.nothing(self.tile_ms.saturating_add(plan.shared_tile_ms()));
        }
        parts
    }

    /// The summary of a cell, where its entity has such.
    fn summary<'a>(&self, place: usize, plan: &Plan, packed: &'a mut Vec<u8>) -> Option<&'a [u8]> {
        let cells = plan.cells.of(self.cells[place].entity as usize);
        if cells.is_empty() {
            return None;
        }
        packed.clear();
        if let Some(parts) = self.summaries.get(place).filter(|parts| !parts.is_empty()) {
            pack(&cells.packed, &mut parts.clone(), self.tile_ms, packed);
        }
        Some(packed)
    }

    fn rebuild(&mut self, slots: usize) {
        self.table.clear();
        self.table.resize(slots, 0);
        for place in 0..self.cells.len() {
            let Cell { entity, text, .. } = self.cells[place];
            let slot = self.slot(entity, text);
            self.table[slot] = place as u32 + 1;
        }
    }

    fn clear(&mut self) {
        self.cells.clear();
        self.summaries.clear();
        self.table.fill(0);
        self.marks = Marks::default();
    }
}

/// The open tiles of a partition.
#[derive(Debug, Clone)]
pub(crate) struct OpenTiles {
    /// By time; few, but for a source that has stopped.
    tiles: Vec<OpenTile>,
    /// Every tile that ends at this time or before is closed; [`NEVER`] before the first has.
    closed_ms: i64,
    /// How many have been opened.
    opened: u64,
    /// Chunks of tiles that have closed, for the image under way. Not part of the state.
    written: Vec<u8>,
    /// A tile that has closed, for its memory.
    spare: OpenTile,
}

impl Default for OpenTiles {
    fn default() -> Self {
        let (opened, written, spare) = (0, Vec::new(), OpenTile::default());
        Self { tiles: Vec::new(), closed_ms: NEVER, opened, written, spare }
    }
}

impl OpenTiles {
    /// Adds an event up; `false` if its tile is closed and nothing was changed. `taken` is the same event, where
    /// any entity has summaries.
    pub(crate) fn add(
        &mut self,
        (at_ms, kind, value): (i64, usize, f64),
        taken: Option<&Taken>,
        keys: Keys,
        plan: &Plan,
        texts: &mut Interner,
    ) -> bool {
        let width_ms = plan.shared_tile_ms();
        let tile_ms = at_ms.div_euclid(width_ms) * width_ms;
        if tile_ms < self.closed_ms {
            return false;
        }
        let at = self.tiles.partition_point(|tile| tile.tile_ms < tile_ms);
        if self.tiles.get(at).is_none_or(|tile| tile.tile_ms != tile_ms) {
            let mut tile = std::mem::take(&mut self.spare);
            (tile.tile_ms, tile.serial) = (tile_ms, self.opened);
            tile.marks = Marks::starting_at(state::first(tile.serial));
            self.opened += 1;
            self.tiles.insert(at, tile);
        }
        let tile = &mut self.tiles[at];
        for (entity, text) in (0..).zip(keys.0).filter(|(_, text)| *text != EMPTY) {
            let (slot, place) = tile.find(entity, text);
            InChunks { tile: &mut *tile, plan }.touch_cell(place);
            if place == tile.cells.len() {
                tile.push(slot, entity, text);
                texts.retain(text);
            }
            super::add(&mut tile.cells[place].sums, kind, value);
            if let Some(taken) = taken {
                let cells = plan.cells.of(entity as usize);
                if !cells.is_empty() {
                    cells.add(tile.parts(place, plan), taken);
                }
            }
        }
        true
    }

    /// The clock has moved: puts out what it has passed, by tile, entity and key. How many records.
    pub(crate) fn close<S: Sink>(
        &mut self,
        clock_ms: i64,
        partition: i32,
        plan: &Plan,
        texts: &mut Interner,
        out: &mut S,
    ) -> u64 {
        let width_ms = plan.shared_tile_ms();
        let closed_ms = clock_ms.div_euclid(width_ms) * width_ms;
        if closed_ms <= self.closed_ms {
            return 0;
        }
        self.closed_ms = closed_ms;
        let count = self.tiles.partition_point(|tile| tile.tile_ms < closed_ms);
        let (mut packer, mut packed) = (Packer::default(), Vec::new());
        for mut tile in self.tiles.drain(..count) {
            let rows = if S::DROPS { Vec::new() } else { in_order(&tile.cells, texts) };
            for (entity, text, at) in rows {
                let entity = SharedEntity::ALL[entity as usize] as i32;
                let summary = tile.summary(at, plan, &mut packed);
                packer.row((tile.tile_ms, entity), texts.bytes_of(text), &tile.cells[at].sums, summary);
            }
            for cell in &tile.cells {
                texts.release(cell.text);
            }
            let mut chunks = InChunks { tile: &mut tile, plan };
            chunks.touch_all();
            self.written.append(chunks.marks_mut().written_mut());
            tile.clear();
            self.spare = tile;
        }
        if S::DROPS {
            return 0;
        }
        let layout = plan.shared_layout();
        let mut records = 0;
        for (part, last, blocks) in packer.finish() {
            let hours = Vec::new();
            out.tiles(EntityTiles { partition, closed_ms, layout, part, last, blocks, hours });
            records += 1;
        }
        records
    }

    pub(crate) fn bytes(&self) -> usize {
        let tiles = self.tiles.iter().chain([&self.spare]);
        let parts = |parts: &Vec<Part>| size_of::<Vec<Part>>() + parts.iter().map(Part::bytes).sum::<usize>();
        let of_tile = |tile: &OpenTile| {
            let summaries = tile.summaries.iter().map(parts).sum::<usize>();
            tile.cells.capacity() * size_of::<Cell>() + tile.table.len() * 4 + summaries
        };
        tiles.map(of_tile).sum()
    }
}

/// Entity, text and place of each cell, by entity and key: numbers of texts depend on what was
/// forgotten before, the order of the rows need not.
fn in_order(cells: &[Cell], texts: &Interner) -> Vec<(u32, u32, usize)> {
    let mut cells: Vec<_> = cells.iter().enumerate().map(|(at, cell)| (cell.entity, cell.text, at)).collect();
    cells.sort_unstable_by_key(|(entity, ..)| *entity);
    for keys in cells.chunk_by_mut(|(entity, ..), (other, ..)| entity == other) {
        sort_by_text(keys, texts);
    }
    cells
}

/// Texts of one entity often begin alike: eight bytes behind what all have in common decide most
/// comparisons.
fn sort_by_text(keys: &mut [(u32, u32, usize)], texts: &Interner) {
    let first = texts.bytes_of(keys[0].1);
    let mut common = first.len();
    for (_, text, _) in keys.iter() {
        let alike = first.iter().zip(texts.bytes_of(*text)).take(common);
        common = alike.take_while(|(a, b)| a == b).count();
    }
    let eight = |text: u32| {
        let mut eight = [0; 8];
        let rest = &texts.bytes_of(text)[common..];
        let len = rest.len().min(8);
        eight[..len].copy_from_slice(&rest[..len]);
        u64::from_be_bytes(eight)
    };
    let mut sorted: Vec<_> = keys.iter().map(|key| (eight(key.1), *key)).collect();
    sorted.sort_unstable_by(|(a, key), (b, other)| {
        a.cmp(b).then_with(|| texts.bytes_of(key.1).cmp(texts.bytes_of(other.1)))
    });
    keys.iter_mut().zip(sorted).for_each(|(key, (_, sorted))| *key = sorted);
}
