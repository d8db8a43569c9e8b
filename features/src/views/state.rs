//! Open views in the chunks of a snapshot.

use std::ops::Range;

use super::{CHUNK, DECIDED, GONE, Kept, Link, OUTCOME, OpenView, Views};
use crate::image::{Chunks, Marks, Part};
use crate::uses::Uses;
use crate::wire::{Reader, SnapshotError, Writer};

/// What a snapshot says of a view: bits.
const IS_DECIDED: u8 = 1;
const HAS_ID: u8 = 2;
const IS_GONE: u8 = 4;

/// Snapshots.
impl Views {
    /// The chunk of a view's number.
    pub(crate) fn chunk_of(number: u64) -> u64 {
        number / CHUNK
    }

    /// The views of a chunk that something came of: place in the chunk, and number of the outcome.
    pub(crate) fn outcomes(&self, chunk: u64) -> impl Iterator<Item = (u8, u32)> {
        let views = self.chunks.get((chunk - self.first) as usize).into_iter().flat_map(|chunk| &chunk.views);
        let places = views.enumerate().filter(|(_, kept)| kept.state & GONE == 0 && kept.state & OUTCOME > 0);
        places.map(|(at, kept)| (at as u8, kept.state & OUTCOME))
    }

    /// The view at a place of a chunk.
    pub(crate) fn number(chunk: u64, at: u8) -> u64 {
        chunk * CHUNK + u64::from(at)
    }

    /// An empty queue, whose first chunk will have this number.
    pub(crate) fn starting_at(first: u64) -> Self {
        Self { first, marks: Marks::starting_at(first), ..Self::default() }
    }

    /// Begins a chunk with what [`Chunks::write_chunk`] wrote; its views come next, in order, by
    /// [`Self::push`] or, where there is none any more, by [`Self::push_gone`].
    pub(crate) fn read_chunk(
        &mut self,
        input: &mut Reader<'_>,
        users: usize,
        subjects: &mut Uses,
    ) -> Result<Vec<Option<OpenView>>, SnapshotError> {
        let base = (input.time()?, input.int()?);
        self.push_chunk(base);
        let mut before = (0_i64, 0_i64);
        let count = input.len()?;
        if count > CHUNK as usize {
            return Err(input.damaged());
        }
        let mut views = Vec::with_capacity(count);
        for _ in 0..count {
            let flags = input.byte()?;
            if flags == IS_GONE {
                views.push(None);
                continue;
            }
            if flags & !(IS_DECIDED | HAS_ID) > 0 {
                return Err(input.damaged());
            }
            let user = input.id_below(users)?;
            before = (input.time_from(before.0)?, before.1.wrapping_add(input.int()?));
            let (time_ms, offset) = (base.0 + before.0, base.1.wrapping_add(before.1));
            let subject = input.used(subjects)?;
            let id = if flags & HAS_ID > 0 { input.fixed()? } else { 0 };
            let decided = flags & IS_DECIDED > 0;
            views.push(Some(OpenView {
                time_ms,
                offset,
                id,
                subject,
                user,
                decided,
                outcome: 0,
                late: false,
            }));
        }
        input.end()?;
        Ok(views)
    }

    /// The place of a view that there is no more.
    pub(crate) fn push_gone(&mut self) {
        if let Some(chunk) = self.chunks.back_mut() {
            let (time, offset, subject, user) = (0, 0, 0, 0);
            chunk.views.push(Kept { time, offset, subject, state: GONE, user, before: Link::NONE });
        }
    }

    /// How many chunks there are.
    pub(crate) fn chunks(&self) -> usize {
        self.chunks.len()
    }
}

impl Chunks for Views {
    const PART: Part = Part::Views;

    fn marks(&self) -> &Marks {
        &self.marks
    }

    fn marks_mut(&mut self) -> &mut Marks {
        &mut self.marks
    }

    fn range(&self) -> Range<u64> {
        self.first..self.first + self.chunks.len() as u64
    }

    fn write_chunk(&self, number: u64, out: &mut Writer) {
        let Some(chunk) = self.chunks.get((number - self.first) as usize) else { return };
        out.int(chunk.base_ms);
        out.int(chunk.base_offset);
        out.len(chunk.views.len());
        let mut before = (0, 0);
        for (at, kept) in chunk.views.iter().enumerate() {
            if kept.state & GONE > 0 {
                out.byte(IS_GONE);
                continue;
            }
            let id = chunk.ids.get(at).copied().unwrap_or(0);
            let decided = if kept.state & DECIDED > 0 { IS_DECIDED } else { 0 };
            out.byte(decided | if id != 0 { HAS_ID } else { 0 });
            out.uint(u64::from(kept.user));
            out.int(i64::from(kept.time) - before.0);
            out.int(i64::from(kept.offset) - before.1);
            before = (i64::from(kept.time), i64::from(kept.offset));
            out.uint(u64::from(kept.subject));
            if id != 0 {
                out.fixed(id);
            }
        }
    }
}
