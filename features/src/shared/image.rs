//! Keys of shared entities in the chunks of an image. A version moves many of them at once, so each has one of its own:
//! what is written before it changes is no more than what changes.

use std::ops::Range;

use super::key::{self, Key};
use super::plan::SharedPlan;
use super::windows::{Of, Table};
use crate::image::{Chunks, Image, Marks, Part, record};
use crate::interner::EMPTY;
use crate::uses::Uses;
use crate::wire::{Reader, SnapshotError, Writer};

/// A table with the plan that its keys are read by.
pub(super) struct InChunks<'a> {
    pub(super) table: &'a mut Table,
    pub(super) plan: &'a SharedPlan,
}

impl Chunks for InChunks<'_> {
    const PART: Part = Part::Keys;

    fn marks(&self) -> &Marks {
        &self.table.marks
    }

    fn marks_mut(&mut self) -> &mut Marks {
        &mut self.table.marks
    }

    fn range(&self) -> Range<u64> {
        0..self.table.strips.len() as u64
    }

    fn write_chunk(&self, number: u64, out: &mut Writer) {
        self.table.write_key(number as usize, self.table.image.version, self.plan, out);
    }

    fn write_record(&self, number: u64, out: &mut Writer) {
        record(Self::PART, self.table.image.first + number, out, |out| self.write_chunk(number, out));
    }
}

/// Snapshots.
impl Table {
    /// Begins an image.
    pub(super) fn begin(&mut self, whole: bool, image: Of, plan: &SharedPlan) {
        self.image = image;
        InChunks { table: self, plan }.begin(whole);
    }

    /// Writes what is in no chunk.
    pub(super) fn write_head(&self, out: &mut Writer) {
        out.len(self.strips.len());
        out.ids(&self.free);
        out.len(self.hand);
    }

    /// Writes all chunks as of a version: equal states are equal bytes, whatever has been read.
    pub(super) fn write_all(&self, Of { first, version }: Of, plan: &SharedPlan, out: &mut Writer) {
        for place in 0..self.strips.len() {
            record(Part::Keys, first + place as u64, out, |out| self.write_key(place, version, plan, out));
        }
    }

    /// Writes the key at a place as of a version, in tiles: it may have been written before it is read back
    /// as of a later one.
    fn write_key(&self, place: usize, version: i64, plan: &SharedPlan, out: &mut Writer) {
        let mut words = self.words(place, plan).to_vec();
        let text = key::text(&words);
        out.uint(u64::from(text));
        if text == EMPTY {
            return;
        }
        out.int(version);
        let mut key = Key::new(&mut words, plan);
        key.lasts.iter().for_each(|last| out.uint(*last));
        let strip = &self.strips[place];
        if key.is_due(version) {
            let mut tiles = strip.clone();
            key.settle(&mut tiles, version, plan, &mut Vec::new());
            out.bytes(&tiles);
        } else {
            out.bytes(strip);
        }
    }

    /// `head` is what [`Self::write_head`] wrote.
    pub(super) fn read_from(
        (head, image): (&mut Reader<'_>, &Image<'_>),
        Of { first, version }: Of,
        texts: &mut Uses,
        plan: &SharedPlan,
    ) -> Result<Self, SnapshotError> {
        let mut table = Self::default();
        let end = first + u64::from(head.id()?);
        for chunk in image.chunks(Part::Keys, first..end) {
            let (_, mut input) = chunk?;
            let text = input.used(texts)?;
            let place = table.grow(plan);
            if text == EMPTY {
                input.end()?;
                continue;
            }
            let written = input.int()?;
            if table.find(text).is_some() || written > version {
                return Err(input.damaged());
            }
            table.occupy(place, text, plan);
            let (mut key, tiles, scratch) = table.key(place, plan);
            for last in &mut *key.lasts {
                *last = input.uint()?;
            }
            *tiles = input.bytes()?.to_vec();
            input.end()?;
            key.count(tiles, written, plan).ok_or_else(|| input.damaged())?;
            if key.is_due(version) {
                key.settle(tiles, version, plan, scratch);
                // Of damaged tiles it may have made what is not in order.
                key.count(tiles, version, plan).ok_or_else(|| input.damaged())?;
            }
        }
        let is_free = |place: u32| key::text(table.words(place as usize, plan)) == EMPTY;
        table.free = head.free(table.strips.len(), is_free)?;
        table.hand = head.uint()? as usize;
        if table.hand >= table.strips.len().max(1) {
            return Err(head.damaged());
        }
        Ok(table)
    }
}
