//! Snapshots of the hourly sums: exact, the same bytes for the same state.

use std::collections::VecDeque;

use super::{Aggregates, Cell, FORMAT, Hour, Partition};
use crate::image::{Chunks as _, Image, Part, record};
use crate::interner::Interner;
use crate::plan::Plan;
use crate::subjects::Subjects;
use crate::uses::Used;
use crate::wire::{Reader, SnapshotError, Writer};

/// No row is written more often.
const MOST_WRITTEN: usize = 1 << 31;

impl Aggregates {
    /// The state as bytes.
    pub fn snapshot(&self) -> Vec<u8> {
        let mut out = Writer(Vec::new());
        out.byte(FORMAT);
        self.texts.write_head(&mut out);
        self.subjects.write_head(&mut out);
        let mut image = Writer(Vec::new());
        record(Part::Head, 0, &mut image, |_| {});
        self.texts.write_all(&mut image);
        self.subjects.write_all(&mut image);
        out.bytes(&image.0);
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
            hour.snapshot(&mut out);
        }
        out.0
    }

    /// As it was when the snapshot was taken.
    ///
    /// # Errors
    /// Bytes that are no snapshot, damaged, or of another format or count of partitions.
    pub fn restore(plan: &Plan, partitions: usize, bytes: &[u8]) -> Result<Self, SnapshotError> {
        let mut input = Reader::new(bytes);
        if bytes.is_empty() || input.byte()? != FORMAT {
            return Err(SnapshotError::Format { known: FORMAT });
        }
        let mut aggregates = Self::new(plan, partitions);
        let (texts, subjects) = (Interner::read_head(&mut input)?, Subjects::read_head(&mut input)?);
        let image = Image::read(input.bytes()?, |_| Ok(true))?;
        aggregates.texts = Interner::read_from(texts, &image)?;
        let (subjects, mut used) = Subjects::read_from(subjects, &image, false, &aggregates.texts)?;
        aggregates.subjects = subjects;
        if input.len()? != partitions {
            return Err(input.damaged());
        }
        for partition in &mut aggregates.partitions {
            *partition = Partition { closed_ms: input.int()?, last: (input.int()?, input.id()?) };
        }
        aggregates.complete_ms = input.int()?;
        aggregates.due = input.bool()?;
        for _ in 0..input.len()? {
            let hour_ms = input.int()?;
            let hour = Hour::read_from(&mut input, &mut used)?;
            aggregates.hours.insert(hour_ms, hour);
        }
        let is_whole = input.at_end() && used.agrees(&aggregates.texts, &aggregates.subjects);
        if is_whole { Ok(aggregates) } else { Err(input.damaged()) }
    }
}

impl Hour {
    fn snapshot(&self, out: &mut Writer) {
        out.len(self.cells.len());
        for cell in &self.cells {
            out.uint(u64::from(cell.subject));
            out.uint(u64::from(cell.currency));
            cell.counts.iter().for_each(|count| out.uint(u64::from(*count)));
            out.int(cell.revenue);
            out.uint(u64::from(cell.written));
        }
        out.len(self.written);
        out.len(self.changed.len());
        self.changed.iter().for_each(|place| out.uint(u64::from(*place)));
    }

    fn read_from(input: &mut Reader<'_>, used: &mut Used) -> Result<Self, SnapshotError> {
        let mut hour = Self::new();
        for _ in 0..input.len()? {
            let (subject, currency) = (input.used(&mut used.subjects)?, input.used(&mut used.texts)?);
            let (place, was_there) = hour.place(subject, currency);
            if was_there {
                return Err(input.damaged());
            }
            let mut cell = Cell { subject, currency, ..Cell::default() };
            for count in &mut cell.counts {
                *count = input.id()?;
            }
            cell.revenue = input.int()?;
            cell.written = input.id_below(MOST_WRITTEN)?;
            hour.cells[place] = cell;
        }
        hour.written = input.uint()? as usize;
        if hour.written > hour.cells.len() {
            return Err(input.damaged());
        }
        let mut changed = VecDeque::new();
        for _ in 0..input.len()? {
            let place = input.id_below(hour.written)?;
            if std::mem::replace(&mut hour.cells[place as usize].changed, true) {
                return Err(input.damaged());
            }
            changed.push_back(place);
        }
        hour.changed = changed;
        Ok(hour)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::uses::Uses;

    #[test]
    fn rows_that_no_sums_have_are_refused() {
        let read = |written: u32, changed: &[u32]| {
            let mut hour = Hour::new();
            hour.place(0, 0);
            hour.cells[0].written = written;
            (hour.written, hour.changed) = (1, changed.iter().copied().collect());
            let mut out = Writer(Vec::new());
            hour.snapshot(&mut out);
            let mut used = Used { texts: Uses::none_of(1), subjects: Uses::none_of(1) };
            Hour::read_from(&mut Reader::new(&out.0), &mut used).is_ok()
        };
        assert!(read(1, &[0]) && read(1, &[]));
        assert!(!read(1, &[0, 0]), "a row would be written twice");
        assert!(!read(u32::MAX, &[0]), "one revision more would overflow");
    }
}
