//! What one partition has counted by the hour since it last sent it: its own sums by campaign, category,
//! item and currency.
//!
//! Knows no other partition, and not what was sent before: the merge adds up. So an event of an hour
//! that has passed is counted as any other, and a key takes memory for a minute.

use std::ops::Range;

use schemas::entity::{EntitySums, HourBlock, HourRows};
use schemas::{EntityTiles, Event};

use super::parts::RECORD_BYTES;
use crate::history::{Ids, NEVER};
use crate::image::{Chunks, Image, Marks, Part};
use crate::out::Sink;
use crate::plan::VIEW;
use crate::table::Table;
use crate::uses::Used;
use crate::wire::{Reader, SnapshotError, Writer};

/// Width of an hour.
pub(crate) const HOUR_MS: i64 = 3_600_000;
/// Sums are sent when the clock has passed so much: often enough that no hour comes in one piece. Not
/// declared: what is sent and what is not must not depend on other declarations than were in force.
const SENT_MS: i64 = 60_000;
/// Cells in a chunk of a snapshot.
const CHUNK: usize = 64;

/// The hour of a time.
fn hour_of(at_ms: i64) -> i64 {
    at_ms.div_euclid(HOUR_MS) * HOUR_MS
}

/// Whether an hour can no longer be corrected at this time.
pub(crate) fn is_past(hour_ms: i64, at_ms: i64, horizon_ms: i64) -> bool {
    hour_ms.saturating_add(HOUR_MS).saturating_add(horizon_ms) <= at_ms
}

/// What was counted of one key. It has a use of the subject and of the currency.
#[derive(Debug, Clone, Copy)]
struct Cell {
    hour_ms: i64,
    /// Campaign, category and item.
    subject: u32,
    currency: u32,
    sums: EntitySums,
}

/// What has been counted and not been sent.
#[derive(Debug, Clone)]
pub(crate) struct OpenHours {
    /// In the order in which keys came.
    cells: Vec<Cell>,
    /// Places of cells, counted from 1.
    table: Table,
    /// The clock had passed this time when it was last sent; [`NEVER`] before that.
    closed_ms: i64,
    marks: Marks,
}

impl Default for OpenHours {
    fn default() -> Self {
        Self { cells: Vec::new(), table: Table::with_room(0), closed_ms: NEVER, marks: Marks::default() }
    }
}

/// Texts have few numbers and hours fewer: mixed so that all bits count.
fn hash(hour_ms: i64, subject: u32, currency: u32) -> u32 {
    let ids = u64::from(subject) << 32 | u64::from(currency);
    let mixed =
        ids.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (hour_ms as u64).wrapping_mul(0xff51_afd7_ed55_8ccd);
    (mixed ^ mixed >> 32) as u32
}

impl OpenHours {
    /// Adds an event up; `false` if its hour can no longer be corrected.
    pub(crate) fn add(
        &mut self,
        event: &Event,
        kind: usize,
        subject: u32,
        clock_ms: i64,
        horizon_ms: i64,
        ids: &mut Ids<'_>,
    ) -> bool {
        let hour_ms = hour_of(event.event_time_ms);
        if is_past(hour_ms, clock_ms, horizon_ms) {
            return false;
        }
        let currency = ids.texts.intern(&event.currency);
        let found = self.find(hour_ms, subject, currency);
        let place = found.unwrap_or(self.cells.len());
        self.touch((place / CHUNK) as u64);
        if let Err(hash) = found {
            self.push(Cell { hour_ms, subject, currency, sums: EntitySums::default() }, hash);
            ids.subjects.retain(subject);
        } else {
            ids.texts.release(currency);
        }
        // What was shown is no revenue.
        super::add(&mut self.cells[place].sums, kind, if kind == VIEW { 0.0 } else { event.value });
        true
    }

    /// The place of a key's cell; of one that there is not yet, the hash.
    fn find(&self, hour_ms: i64, subject: u32, currency: u32) -> Result<usize, u32> {
        let hash = hash(hour_ms, subject, currency);
        let found = self.table.find(hash, |place| {
            let cell = &self.cells[place as usize - 1];
            (cell.hour_ms, cell.subject, cell.currency) == (hour_ms, subject, currency)
        });
        found.map(|place| place as usize - 1).ok_or(hash)
    }

    /// Adds a key's cell, which there is not yet.
    fn push(&mut self, cell: Cell, hash: u32) {
        self.cells.push(cell);
        self.table.insert(hash, self.cells.len() as u32);
    }

    /// The clock has moved: puts out what was counted, if a minute has passed. How many records.
    pub(crate) fn close<S: Sink>(
        &mut self,
        clock_ms: i64,
        partition: i32,
        ids: &mut Ids<'_>,
        out: &mut S,
    ) -> u64 {
        let closed_ms = clock_ms.div_euclid(SENT_MS) * SENT_MS;
        if closed_ms <= self.closed_ms {
            return 0;
        }
        let passed_an_hour = self.closed_ms < hour_of(closed_ms);
        self.closed_ms = closed_ms;
        if self.cells.is_empty() && !passed_an_hour {
            return 0;
        }
        self.touch_all();
        // Stable: keys of an hour stay in the order in which they came. So are they given back, whoever looks.
        if !self.cells.is_sorted_by_key(|cell| cell.hour_ms) {
            self.cells.sort_by_key(|cell| cell.hour_ms);
        }
        let records = if S::DROPS { Vec::new() } else { records(&self.cells, ids) };
        for cell in self.cells.drain(..) {
            ids.subjects.release(cell.subject, ids.texts);
            ids.texts.release(cell.currency);
        }
        self.table.clear();
        let count = records.len();
        for (part, hours) in (0..).zip(records) {
            let last = part as usize + 1 == count;
            let (layout, blocks) = (EntityTiles::HOURS, Vec::new());
            out.hours(EntityTiles { partition, closed_ms, layout, part, last, blocks, hours });
        }
        count as u64
    }

    pub(crate) fn bytes(&self) -> usize {
        self.cells.capacity() * size_of::<Cell>() + self.table.bytes()
    }

    /// Writes what is not in chunks.
    pub(crate) fn write_head(&self, out: &mut Writer) {
        out.int(self.closed_ms);
        out.len(self.cells.len());
    }

    /// `head` is what [`Self::write_head`] wrote.
    pub(crate) fn read_from(
        head: &mut Reader<'_>,
        image: &Image<'_>,
        used: &mut Used,
    ) -> Result<Self, SnapshotError> {
        let mut hours = Self { closed_ms: head.time_or_never()?, ..Self::default() };
        let count = head.uint()?;
        for chunk in image.chunks(Part::Hours, 0..count.div_ceil(CHUNK as u64)) {
            let (_, mut input) = chunk?;
            for _ in 0..(count as usize - hours.cells.len()).min(CHUNK) {
                hours.read_cell(&mut input, used)?;
            }
            input.end()?;
        }
        Ok(hours)
    }

    fn read_cell(&mut self, input: &mut Reader<'_>, used: &mut Used) -> Result<(), SnapshotError> {
        let hour_ms = input.time()?;
        let (subject, currency) = (input.used(&mut used.subjects)?, input.used(&mut used.texts)?);
        let Err(hash) = self.find(hour_ms, subject, currency) else { return Err(input.damaged()) };
        let mut sums = EntitySums::default();
        for count in &mut sums.counts {
            *count = input.uint()?;
        }
        for value in &mut sums.values {
            *value = input.int()?;
        }
        self.push(Cell { hour_ms, subject, currency, sums }, hash);
        Ok(())
    }
}

impl Chunks for OpenHours {
    const PART: Part = Part::Hours;

    fn marks(&self) -> &Marks {
        &self.marks
    }

    fn marks_mut(&mut self) -> &mut Marks {
        &mut self.marks
    }

    fn range(&self) -> Range<u64> {
        0..self.cells.len().div_ceil(CHUNK) as u64
    }

    fn write_chunk(&self, number: u64, out: &mut Writer) {
        let Some(cells) = self.cells.chunks(CHUNK).nth(number as usize) else { return };
        for cell in cells {
            out.int(cell.hour_ms);
            out.uint(u64::from(cell.subject));
            out.uint(u64::from(cell.currency));
            cell.sums.counts.iter().for_each(|count| out.uint(*count));
            cell.sums.values.iter().for_each(|value| out.int(*value));
        }
    }
}

/// Blocks of each record, of which there is at least one; cells are in the order of their hours.
fn records(cells: &[Cell], ids: &Ids<'_>) -> Vec<Vec<HourBlock>> {
    let (mut records, mut blocks, mut bytes) = (Vec::new(), Vec::new(), 0);
    for cells in cells.chunk_by(|a, b| a.hour_ms == b.hour_ms) {
        let mut rows = Vec::new();
        let close = |rows: &mut Vec<u8>, blocks: &mut Vec<HourBlock>| {
            blocks.push(HourBlock { hour_ms: cells[0].hour_ms, rows: std::mem::take(rows).into() });
        };
        for cell in cells {
            let subject = ids.subjects.get(cell.subject);
            let key = [subject.campaign, subject.category, subject.item, cell.currency];
            HourRows::push_bytes(&mut rows, key.map(|id| ids.texts.bytes_of(id)), &cell.sums);
            if bytes + rows.len() >= RECORD_BYTES {
                close(&mut rows, &mut blocks);
                records.push(std::mem::take(&mut blocks));
                bytes = 0;
            }
        }
        if !rows.is_empty() {
            bytes += rows.len();
            close(&mut rows, &mut blocks);
        }
    }
    if !blocks.is_empty() || records.is_empty() {
        records.push(blocks);
    }
    records
}
