//! Snapshots of the hourly sums: exact, the same bytes for the same state; at once, or chunk by chunk while they go on.

use std::ops::Range;

use super::{Aggregates, Cell, FORMAT, Hour, Partition};
use crate::image::{Chunks, Image, Marks, Part, record};
use crate::interner::Interner;
use crate::plan::Plan;
use crate::shared::hours::HOUR_MS;
use crate::subjects::Subjects;
use crate::uses::Used;
use crate::wire::{Reader, SnapshotError, Writer};

/// No row is written more often.
const MOST_WRITTEN: usize = 1 << 31;
/// Cells in a chunk.
const CHUNK: usize = 64;
/// More chunks than any hour has, as bits.
const CHUNK_BITS: u32 = 20;
/// More hours than lie between 1970 and any time.
const MOST_HOURS: i64 = 1 << 42;

/// Number of the first chunk of an hour.
pub(super) fn first(hour_ms: i64) -> u64 {
    ((hour_ms.div_euclid(HOUR_MS) + MOST_HOURS) as u64) << CHUNK_BITS
}

impl Aggregates {
    /// The state as bytes.
    pub fn snapshot(&self) -> Vec<u8> {
        let mut out = Writer(Vec::new());
        record(Part::Head, 0, &mut out, |out| self.write_head(out));
        self.texts.write_all(&mut out);
        self.subjects.write_all(&mut out);
        self.hours.values().for_each(|hour| hour.write_all(&mut out));
        out.0
    }

    /// Begins an image of the state as it is now.
    pub(crate) fn begin(&mut self, whole: bool) {
        self.texts.begin(whole);
        self.subjects.begin(whole);
        self.hours.values_mut().for_each(|hour| hour.begin(whole));
        self.gone.clear();
    }

    /// Writes chunks that the image lacks, up to about so many bytes in all.
    pub(crate) fn write_on(&mut self, bytes: usize, out: &mut Writer) {
        out.0.append(&mut self.gone);
        self.texts.write_on(bytes, out);
        self.subjects.write_on(bytes, out);
        self.hours.values_mut().for_each(|hour| hour.write_on(bytes, out));
    }

    /// Writes what is not in chunks.
    pub(crate) fn write_head(&self, out: &mut Writer) {
        out.byte(FORMAT);
        self.texts.write_head(out);
        self.subjects.write_head(out);
        out.len(self.partitions.len());
        for partition in &self.partitions {
            out.int(partition.closed_ms);
            out.int(partition.last.0);
            out.uint(u64::from(partition.last.1));
        }
        out.int(self.complete_ms);
        out.bool(self.due);
        out.len(self.hours.len());
        for (hour_ms, hour) in &self.hours {
            out.int(*hour_ms);
            hour.write_head(out);
        }
    }

    /// As it was when the snapshot was taken.
    ///
    /// # Errors
    /// Bytes that are no snapshot, damaged, or of another format or count of partitions.
    pub fn restore(plan: &Plan, partitions: usize, bytes: &[u8]) -> Result<Self, SnapshotError> {
        let image = Image::read(bytes, |_| Ok(true))?;
        let mut head = Reader::new(image.head().ok_or(SnapshotError::Format { known: FORMAT })?);
        let aggregates = Self::read_from(&mut head, &image, plan, partitions)?;
        if head.at_end() { Ok(aggregates) } else { Err(head.damaged()) }
    }

    /// `head` is what [`Self::write_head`] wrote.
    pub(crate) fn read_from(
        head: &mut Reader<'_>,
        image: &Image<'_>,
        plan: &Plan,
        partitions: usize,
    ) -> Result<Self, SnapshotError> {
        if head.byte()? != FORMAT {
            return Err(SnapshotError::Format { known: FORMAT });
        }
        let mut aggregates = Self::new(plan, partitions);
        let (texts, subjects) = (Interner::read_head(head)?, Subjects::read_head(head)?);
        aggregates.texts = Interner::read_from(texts, image)?;
        let (subjects, mut used) = Subjects::read_from(subjects, image, false, &aggregates.texts)?;
        aggregates.subjects = subjects;
        if head.len()? != partitions {
            return Err(head.damaged());
        }
        for partition in &mut aggregates.partitions {
            *partition = Partition { closed_ms: head.int()?, last: (head.int()?, head.id()?) };
        }
        aggregates.complete_ms = head.int()?;
        aggregates.due = head.bool()?;
        for _ in 0..head.len()? {
            let hour_ms = head.int()?;
            let is_after = |(before_ms, _): (&i64, &Hour)| *before_ms < hour_ms;
            if hour_ms.rem_euclid(HOUR_MS) != 0 || !aggregates.hours.last_key_value().is_none_or(is_after) {
                return Err(head.damaged());
            }
            let hour = Hour::read_from(hour_ms, head, image, &mut used)?;
            aggregates.hours.insert(hour_ms, hour);
        }
        let is_whole = used.agrees(&aggregates.texts, &aggregates.subjects);
        if is_whole { Ok(aggregates) } else { Err(head.damaged()) }
    }
}

impl Hour {
    /// The cell at a place is about to change.
    #[inline]
    pub(super) fn touch_cell(&mut self, place: usize) {
        self.touch(self.first + (place / CHUNK) as u64);
    }

    fn write_head(&self, out: &mut Writer) {
        out.len(self.cells.len());
        out.len(self.written);
        out.len(self.changed.len());
        self.changed.iter().for_each(|place| out.uint(u64::from(*place)));
    }

    /// `head` is what [`Self::write_head`] wrote.
    fn read_from(
        hour_ms: i64,
        head: &mut Reader<'_>,
        image: &Image<'_>,
        used: &mut Used,
    ) -> Result<Self, SnapshotError> {
        let mut hour = Self::new(hour_ms);
        let (count, written) = (head.uint()?, head.uint()?);
        if written > count || count >= (CHUNK as u64) << CHUNK_BITS {
            return Err(head.damaged());
        }
        for chunk in image.chunks(Part::Sums, hour.first..hour.first + count.div_ceil(CHUNK as u64)) {
            let (_, mut input) = chunk?;
            for _ in 0..(count as usize - hour.cells.len()).min(CHUNK) {
                hour.read_cell(&mut input, used)?;
            }
            input.end()?;
        }
        hour.written = written as usize;
        for _ in 0..head.len()? {
            let place = head.id_below(hour.written)?;
            if std::mem::replace(&mut hour.cells[place as usize].changed, true) {
                return Err(head.damaged());
            }
            hour.changed.push_back(place);
        }
        Ok(hour)
    }

    fn read_cell(&mut self, input: &mut Reader<'_>, used: &mut Used) -> Result<(), SnapshotError> {
        let (subject, currency) = (input.used(&mut used.subjects)?, input.used(&mut used.texts)?);
        let (place, was_there) = self.place(subject, currency);
        if was_there {
            return Err(input.damaged());
        }
        let mut cell = Cell { subject, currency, ..Cell::default() };
        for count in &mut cell.counts {
            *count = input.id()?;
        }
        cell.revenue = input.int()?;
        cell.written = input.id_below(MOST_WRITTEN)?;
        self.cells[place] = cell;
        Ok(())
    }
}

impl Chunks for Hour {
    const PART: Part = Part::Sums;

    fn marks(&self) -> &Marks {
        &self.marks
    }

    fn marks_mut(&mut self) -> &mut Marks {
        &mut self.marks
    }

    fn range(&self) -> Range<u64> {
        self.first..self.first + self.cells.len().div_ceil(CHUNK) as u64
    }

    fn write_chunk(&self, number: u64, out: &mut Writer) {
        let cells = self.cells.chunks(CHUNK).nth((number - self.first) as usize);
        for cell in cells.into_iter().flatten() {
            out.uint(u64::from(cell.subject));
            out.uint(u64::from(cell.currency));
            cell.counts.iter().for_each(|count| out.uint(u64::from(*count)));
            out.int(cell.revenue);
            out.uint(u64::from(cell.written));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::uses::Uses;

    #[test]
    fn hours_have_numbers_in_their_order() {
        assert!(first(i64::MIN) < first(-1) && first(-1) < first(0) && first(0) < first(i64::MAX));
        assert_eq!(first(0) - first(-1), 1 << CHUNK_BITS);
        assert!(first(i64::MAX).checked_add(1 << CHUNK_BITS).is_some());
    }

    #[test]
    fn rows_that_no_sums_have_are_refused() {
        let read = |written: u32, changed: &[u32]| {
            let mut hour = Hour::new(0);
            hour.place(0, 0);
            hour.cells[0].written = written;
            (hour.written, hour.changed) = (1, changed.iter().copied().collect());
            let mut out = Writer(Vec::new());
            record(Part::Head, 0, &mut out, |out| hour.write_head(out));
            hour.write_all(&mut out);
            let mut used = Used { texts: Uses::none_of(1), subjects: Uses::none_of(1) };
            let image = Image::read(&out.0, |_| Ok(true)).unwrap_or_else(|error| panic!("{error}"));
            let mut head = Reader::new(image.head().unwrap_or_default());
            Hour::read_from(0, &mut head, &image, &mut used).is_ok()
        };
        assert!(read(1, &[0]) && read(1, &[]));
        assert!(!read(1, &[0, 0]), "a row would be written twice");
        assert!(!read(u32::MAX, &[0]), "one revision more would overflow");
    }
}
