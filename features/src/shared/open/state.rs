//! Open tiles in the chunks of a snapshot: each tile's cells, some to a chunk.

use std::ops::Range;

use super::{OpenTile, OpenTiles};
use crate::image::{Chunks, Image, Marks, Part, record};
use crate::plan::{Plan, SHARED_ENTITIES};
use crate::summary::packed::{merge, unpack};
use crate::uses::Uses;
use crate::wire::{Reader, SnapshotError, Writer};

/// Cells in a chunk.
const CHUNK: usize = 64;
/// More chunks than any tile has.
const MOST_CHUNKS: u64 = 1 << 26;
/// More tiles than are opened in any time.
const MOST_OPENED: u64 = 1 << 37;

/// Number of the first chunk of the tile before which so many were opened.
pub(super) fn first(serial: u64) -> u64 {
    serial * MOST_CHUNKS
}

/// A tile with the plan that its summaries are written by.
pub(super) struct InChunks<'a> {
    pub(super) tile: &'a mut OpenTile,
    pub(super) plan: &'a Plan,
}

impl InChunks<'_> {
    /// The cell at a place is about to change.
    #[inline]
    pub(super) fn touch_cell(&mut self, place: usize) {
        self.touch(first(self.tile.serial) + (place / CHUNK) as u64);
    }
}

impl OpenTile {
    fn range(&self) -> Range<u64> {
        let first = first(self.serial);
        first..first + self.cells.len().div_ceil(CHUNK) as u64
    }

    fn write_chunk(&self, number: u64, plan: &Plan, out: &mut Writer) {
        let mut packed = Vec::new();
        let from = (number - first(self.serial)) as usize * CHUNK;
        for (place, cell) in self.cells.iter().enumerate().skip(from).take(CHUNK) {
            out.uint(u64::from(cell.entity));
            out.uint(u64::from(cell.text));
            cell.sums.counts.iter().for_each(|count| out.uint(*count));
            cell.sums.values.iter().for_each(|value| out.int(*value));
            if let Some(summary) = self.summary(place, plan, &mut packed) {
                out.bytes(summary);
            }
        }
    }

    fn read_cell(
        &mut self,
        input: &mut Reader<'_>,
        texts: &mut Uses,
        plan: &Plan,
    ) -> Result<(), SnapshotError> {
        let (entity, text) = (input.id_below(SHARED_ENTITIES)?, input.used(texts)?);
        let (slot, place) = self.find(entity, text);
        if place < self.cells.len() {
            return Err(input.damaged());
        }
        self.push(slot, entity, text);
        let sums = &mut self.cells[place].sums;
        for count in &mut sums.counts {
            *count = input.uint()?;
        }
        for value in &mut sums.values {
            *value = input.int()?;
        }
        let cells = plan.cells.of(entity as usize);
        if !cells.is_empty() {
            let parts = unpack(&cells.packed, self.tile_ms, input.bytes()?);
            let parts = parts.ok_or_else(|| input.damaged())?;
            merge(self.parts(place, plan), &parts);
        }
        Ok(())
    }
}

impl Chunks for InChunks<'_> {
    const PART: Part = Part::Tiles;

    fn marks(&self) -> &Marks {
        &self.tile.marks
    }

    fn marks_mut(&mut self) -> &mut Marks {
        &mut self.tile.marks
    }

    fn range(&self) -> Range<u64> {
        self.tile.range()
    }

    fn write_chunk(&self, number: u64, out: &mut Writer) {
        self.tile.write_chunk(number, self.plan, out);
    }
}

/// Snapshots.
impl OpenTiles {
    /// Begins an image.
    pub(crate) fn begin(&mut self, whole: bool, plan: &Plan) {
        self.written.clear();
        self.tiles.iter_mut().for_each(|tile| InChunks { tile, plan }.begin(whole));
    }

    /// Writes chunks that the image lacks, up to about so many bytes in all.
    pub(crate) fn write_on(&mut self, bytes: usize, plan: &Plan, out: &mut Writer) {
        out.0.append(&mut self.written);
        self.tiles.iter_mut().for_each(|tile| InChunks { tile, plan }.write_on(bytes, out));
    }

    /// Writes all chunks.
    pub(crate) fn write_all(&self, plan: &Plan, out: &mut Writer) {
        for tile in &self.tiles {
            for number in tile.range() {
                record(Part::Tiles, number, out, |out| tile.write_chunk(number, plan, out));
            }
        }
    }

    /// Writes what is not in chunks.
    pub(crate) fn write_head(&self, out: &mut Writer) {
        out.int(self.closed_ms);
        out.uint(self.opened);
        out.len(self.tiles.len());
        for tile in &self.tiles {
            out.int(tile.tile_ms);
            out.uint(tile.serial);
            out.len(tile.cells.len());
        }
    }

    /// `head` is what [`Self::write_head`] wrote.
    pub(crate) fn read_from(
        head: &mut Reader<'_>,
        image: &Image<'_>,
        texts: &mut Uses,
        plan: &Plan,
    ) -> Result<Self, SnapshotError> {
        let (closed_ms, opened) = (head.time_or_never()?, head.uint()?);
        let mut tiles = Self { closed_ms, opened, ..Self::default() };
        for _ in 0..head.len()? {
            let (tile_ms, serial, count) = (head.time()?, head.uint()?, head.uint()?);
            let is_sound = serial < opened
                && opened < MOST_OPENED
                && count < MOST_CHUNKS
                && tiles.tiles.last().is_none_or(|before| before.tile_ms < tile_ms);
            if !is_sound {
                return Err(head.damaged());
            }
            let marks = Marks::starting_at(first(serial));
            let mut tile = OpenTile { tile_ms, serial, marks, ..OpenTile::default() };
            let numbers = first(serial)..first(serial) + count.div_ceil(CHUNK as u64);
            for chunk in image.chunks(Part::Tiles, numbers) {
                let (_, mut input) = chunk?;
                for _ in 0..(count as usize - tile.cells.len()).min(CHUNK) {
                    tile.read_cell(&mut input, texts, plan)?;
                }
                input.end()?;
            }
            tiles.tiles.push(tile);
        }
        let mut serials: Vec<u64> = tiles.tiles.iter().map(|tile| tile.serial).collect();
        serials.sort_unstable();
        if serials.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(head.damaged());
        }
        Ok(tiles)
    }
}
