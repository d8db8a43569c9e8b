//! Hourly sums over all partitions of `events`, for analysts.
//!
//! A fold of the records of `entity-tiles` that hold hours. A key's row of an hour is written when all
//! partitions have passed the hour, and again, with the next revision, when they have moved on and later
//! events have changed it: until the horizon is over, when the hour is forgotten. Nothing is written
//! anew that has not changed. Sums are integers, so that the partitions' order does not matter.

use std::collections::{BTreeMap, VecDeque};

use schemas::entity::{EntitySums, HourKey, HourRows};
use schemas::{Aggregate, EntityTiles};

use super::hours::{HOUR_MS, is_past};
use crate::core::AHEAD;
use crate::history::NEVER;
use crate::image::{Chunks as _, Marks};
use crate::interner::Interner;
use crate::plan::{CART, CLICK, PURCHASE, Plan, REFUND, VIEW};
use crate::subjects::Subjects;
use crate::table::Table;

mod state;

/// Version of the format, and of what the fold makes of the same log.
pub(crate) const FORMAT: u8 = 3;
/// So many rows are written per record, at most, so that an hour of many keys is no transaction too long;
/// the rest follow with the next records. More than a record may well hold, so that they never fall behind.
const WRITTEN_AT_ONCE: usize = 16_384;

/// What has been done since it was made or restored. Not part of the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AggregateCounts {
    /// Rows written, all revisions.
    pub rows: u64,
    /// Of these, corrections.
    pub corrections: u64,
    /// Records passed over: repeats.
    pub passed_over: u64,
    /// Events of hours that had been forgotten: only where partitions have a longer horizon.
    pub uncorrected: u64,
}

/// What has come of one partition of `events`.
#[derive(Debug, Clone, Copy)]
struct Partition {
    /// The time that it had passed with its last record that was the last of its time; [`NEVER`] before
    /// there was one.
    closed_ms: i64,
    /// Its last record: time and number.
    last: (i64, u32),
}

/// What all partitions counted of one key in one hour. It has a use of the subject and of the currency.
#[derive(Debug, Clone, Copy, Default)]
struct Cell {
    subject: u32,
    currency: u32,
    /// By kind; no hour has more events than 32 bits count.
    counts: [u32; 5],
    /// Times written.
    written: u32,
    revenue: i64,
    /// Whether it has been written and has changed since.
    changed: bool,
}

#[derive(Debug, Clone)]
struct Hour {
    /// In the order in which keys came.
    cells: Vec<Cell>,
    /// Places of cells, counted from 1.
    table: Table,
    /// Cells before this place have been written.
    written: usize,
    /// Of these, places of those that have changed since.
    changed: VecDeque<u32>,
    /// Number of its first chunk.
    first: u64,
    marks: Marks,
}

impl Hour {
    fn new(hour_ms: i64) -> Self {
        let first = state::first(hour_ms);
        Self {
            cells: Vec::new(),
            table: Table::with_room(0),
            written: 0,
            changed: VecDeque::new(),
            first,
            marks: Marks::starting_at(first),
        }
    }

    /// The place of a key's cell, and whether it was there before.
    fn place(&mut self, subject: u32, currency: u32) -> (usize, bool) {
        let ids = u64::from(subject) << 32 | u64::from(currency);
        let hash = (ids.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u32;
        let cells = &self.cells;
        let found = self.table.find(hash, |place| {
            let cell = &cells[place as usize - 1];
            (cell.subject, cell.currency) == (subject, currency)
        });
        if found.is_none() {
            self.touch_cell(self.cells.len());
            self.cells.push(Cell { subject, currency, ..Cell::default() });
            self.table.insert(hash, self.cells.len() as u32);
        }
        (found.map_or(self.cells.len() - 1, |place| place as usize - 1), found.is_some())
    }

    fn add(&mut self, place: usize, sums: &EntitySums) {
        self.touch_cell(place);
        let cell = &mut self.cells[place];
        for (count, more) in cell.counts.iter_mut().zip(sums.counts) {
            *count = count.saturating_add(u32::try_from(more).unwrap_or(u32::MAX));
        }
        let [_, purchases, refunds] = sums.values;
        cell.revenue = cell.revenue.wrapping_add(purchases).wrapping_sub(refunds);
        if place < self.written && !cell.changed {
            cell.changed = true;
            self.changed.push_back(place as u32);
        }
    }

    /// The next row to write, and its revision.
    fn next(&mut self) -> Option<(&Cell, u32)> {
        let place = match self.changed.pop_front() {
            Some(place) => place as usize,
            None if self.written < self.cells.len() => {
                self.written += 1;
                self.written - 1
            }
            None => return None,
        };
        self.touch_cell(place);
        let cell = &mut self.cells[place];
        cell.changed = false;
        cell.written += 1;
        Some((cell, cell.written - 1))
    }

    fn is_written(&self) -> bool {
        self.written == self.cells.len() && self.changed.is_empty()
    }
}

/// The hours that can still change.
#[derive(Debug, Clone)]
pub struct Aggregates {
    horizon_ms: i64,
    partitions: Vec<Partition>,
    texts: Interner,
    subjects: Subjects,
    hours: BTreeMap<i64, Hour>,
    /// All partitions have passed this time; [`NEVER`] before they have any.
    complete_ms: i64,
    /// Whether rows of hours that have passed may be left to write.
    due: bool,
    counts: AggregateCounts,
    /// Chunks of hours that have been forgotten, for the image under way. Not part of the state.
    gone: Vec<u8>,
}

impl Aggregates {
    /// The fold of nothing, over so many partitions of `events`.
    pub fn new(plan: &Plan, partitions: usize) -> Self {
        Self {
            horizon_ms: plan.config.aggregate_horizon.0,
            partitions: vec![Partition { closed_ms: NEVER, last: (NEVER, 0) }; partitions],
            texts: Interner::new(),
            subjects: Subjects::new(false),
            hours: BTreeMap::new(),
            complete_ms: NEVER,
            due: false,
            counts: AggregateCounts::default(),
            gone: Vec::new(),
        }
    }

    /// What has been done.
    pub fn counts(&self) -> AggregateCounts {
        self.counts
    }

    /// Rows held: keys of all hours that can still change.
    pub fn rows(&self) -> usize {
        self.hours.values().map(|hour| hour.cells.len()).sum()
    }

    /// Bytes held, about.
    pub fn bytes(&self) -> usize {
        let hours = self.hours.values().map(|hour| {
            hour.cells.capacity() * size_of::<Cell>() + hour.table.bytes() + hour.changed.capacity() * 4
        });
        hours.sum::<usize>() + self.texts.bytes() + self.subjects.bytes()
    }

    /// Folds one record, which may be one of tiles, and gives the rows that are due, in order.
    pub fn step(&mut self, record: &EntityTiles, mut row: impl FnMut(Aggregate)) {
        if record.layout == EntityTiles::HOURS {
            self.fold(record);
        }
        if self.due {
            self.write(&mut row);
        }
    }

    fn fold(&mut self, record: &EntityTiles) {
        let &EntityTiles { partition, closed_ms, part, last, .. } = record;
        let partition = usize::try_from(partition).ok().and_then(|at| self.partitions.get_mut(at));
        // Delivery is at least once and in order: what does not come after the last has come.
        let Some(partition) = partition.filter(|partition| (closed_ms, part) > partition.last) else {
            self.counts.passed_over += 1;
            return;
        };
        partition.last = (closed_ms, part);
        if last {
            partition.closed_ms = closed_ms;
        }
        // None begins at another time, but in other bytes than a core's.
        for block in record.hours.iter().filter(|block| block.hour_ms.rem_euclid(HOUR_MS) == 0) {
            if is_past(block.hour_ms, self.complete_ms, self.horizon_ms) {
                let events = HourRows::new(&block.rows).flat_map(|(_, sums)| sums.counts);
                self.counts.uncorrected = events.fold(self.counts.uncorrected, u64::wrapping_add);
                continue;
            }
            let hour = self.hours.entry(block.hour_ms).or_insert_with(|| Hour::new(block.hour_ms));
            let mut rows = HourRows::new(&block.rows);
            loop {
                let some: [Option<(HourKey<'_>, EntitySums)>; AHEAD] = std::array::from_fn(|_| rows.next());
                let about =
                    some.map(|row| row.map_or([""; 3], |(key, _)| [key.item, key.campaign, key.category]));
                self.subjects.look_ahead(about, &self.texts);
                for (key, sums) in some.iter().flatten() {
                    let HourKey { campaign, category, item, currency } = *key;
                    let subject = self.subjects.intern([item, campaign, category], None, &mut self.texts);
                    let currency = self.texts.intern(currency);
                    let (place, was_there) = hour.place(subject, currency);
                    hour.add(place, sums);
                    if was_there {
                        self.subjects.release(subject, &mut self.texts);
                        self.texts.release(currency);
                    }
                }
                if some[AHEAD - 1].is_none() {
                    break;
                }
            }
        }
        let complete = self.partitions.iter().map(|partition| partition.closed_ms).min().unwrap_or(NEVER);
        if complete > self.complete_ms {
            self.complete_ms = complete;
            self.due = true;
        }
    }

    /// Writes what is due, and forgets hours that can no longer change.
    fn write(&mut self, row: &mut impl FnMut(Aggregate)) {
        let mut left = WRITTEN_AT_ONCE;
        // The last hour that has passed: times are of this age, and no clock is near the first.
        let last_ms = self.complete_ms.saturating_sub(HOUR_MS);
        for (&hour_ms, hour) in self.hours.range_mut(..=last_ms) {
            while left > 0
                && let Some((cell, revision)) = hour.next()
            {
                left -= 1;
                self.counts.rows += 1;
                self.counts.corrections += u64::from(revision > 0);
                row(aggregate(cell, hour_ms, revision, &self.subjects, &self.texts));
            }
        }
        self.due = left == 0;
        while let Some(hour) = self.hours.first_entry() {
            if !is_past(*hour.key(), self.complete_ms, self.horizon_ms) || !hour.get().is_written() {
                break;
            }
            let mut hour = hour.remove();
            hour.touch_all();
            self.gone.append(hour.marks.written_mut());
            for cell in hour.cells {
                self.subjects.release(cell.subject, &mut self.texts);
                self.texts.release(cell.currency);
            }
        }
    }
}

fn aggregate(cell: &Cell, hour_ms: i64, revision: u32, subjects: &Subjects, texts: &Interner) -> Aggregate {
    let subject = subjects.get(cell.subject);
    let [campaign, category, item, currency] =
        [subject.campaign, subject.category, subject.item, cell.currency].map(|id| texts.text(id).to_owned());
    let count = |kind: usize| u64::from(cell.counts[kind]);
    Aggregate {
        campaign,
        category,
        item,
        currency,
        hour_ms,
        revision,
        impressions: count(VIEW),
        clicks: count(CLICK) + count(CART),
        carts: count(CART),
        purchases: count(PURCHASE),
        refunds: count(REFUND),
        revenue: cell.revenue,
    }
}
