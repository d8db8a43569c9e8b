//! Images of a large state: written chunk by chunk while the fold goes on, whole or only what has changed
//! since the last whole one was begun.
//!
//! An image is of the moment in which it was begun: a chunk that it lacks is written, as it is, before it
//! changes. Chunks come in any order, each with its number; of two with one number the later counts, so that
//! an image and the changes since, one after the other, are an image.

use std::ops::Range;

use crate::wire::{Reader, SnapshotError, Writer};

/// What a chunk is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// All that is not in chunks: begins an image.
    Head,
    Texts,
    Subjects,
    Users,
    Views,
    Outcomes,
    /// Keys of shared entities: their windows.
    Keys,
    /// The same keys: what else is declared of them.
    Summed,
    /// What has been counted by the hour and not been sent.
    Hours,
    /// Tiles of shared entities that have not closed.
    Tiles,
    /// Hourly sums of all partitions.
    Sums,
}

const PARTS: usize = 11;
/// Bits of a word.
const WORD: u64 = u64::BITS as u64;

/// What is to be known of each chunk of a part. Not part of the state.
#[derive(Debug, Clone, Default)]
pub(crate) struct Marks {
    /// Number of the first chunk that has a bit.
    base: u64,
    /// Nothing is to be done before the chunk changes: the image under way does not lack it, and that it
    /// changes is known.
    settled: Vec<u64>,
    /// It has changed since the last whole image was begun.
    changed: Vec<u64>,
    /// The image under way lacks it.
    lacking: Vec<u64>,
    /// Words of `lacking` before this are 0.
    from: usize,
    /// What was written because it was about to change.
    written: Vec<u8>,
}

impl Marks {
    /// Of chunks whose first has this number.
    pub(crate) fn starting_at(base: u64) -> Self {
        Self { base, ..Self::default() }
    }

    fn is_settled(&self, number: u64) -> bool {
        // What there was before has no bit, and none is asked for.
        let at = number.saturating_sub(self.base);
        self.settled.get((at / WORD) as usize).is_some_and(|word| word >> (at % WORD) & 1 > 0)
    }

    /// The chunk is about to change: whether it must be written first.
    fn settle(&mut self, number: u64) -> bool {
        let at = number.saturating_sub(self.base);
        let (word, bit) = ((at / WORD) as usize, 1 << (at % WORD));
        if self.settled.len() <= word {
            self.settled.resize(word + 1, 0);
            self.changed.resize(word + 1, 0);
        }
        self.settled[word] |= bit;
        self.changed[word] |= bit;
        let Some(lacking) = self.lacking.get_mut(word) else { return false };
        let is_lacking = *lacking & bit > 0;
        *lacking &= !bit;
        is_lacking
    }

    /// What was written because it was about to change: it belongs into the image under way.
    pub(crate) fn written_mut(&mut self) -> &mut Vec<u8> {
        &mut self.written
    }

    /// An image of these chunks begins.
    fn begin(&mut self, whole: bool, range: Range<u64>) {
        if whole {
            self.base = range.start;
            let count = range.end - range.start;
            self.lacking = vec![u64::MAX; count.div_ceil(WORD) as usize];
            if let Some(last) = self.lacking.last_mut().filter(|_| !count.is_multiple_of(WORD)) {
                *last = (1 << (count % WORD)) - 1;
            }
            self.changed.clear();
        } else {
            self.lacking.clone_from(&self.changed);
        }
        self.changed.resize(self.lacking.len(), 0);
        self.settled.clear();
        self.settled.resize(self.lacking.len(), 0);
        self.from = 0;
        self.written.clear();
    }

    /// The next chunk that the image lacks: it is written now.
    fn next(&mut self) -> Option<u64> {
        let behind = self.lacking.get(self.from..)?.iter().position(|word| *word > 0);
        let Some(behind) = behind else {
            self.from = self.lacking.len();
            return None;
        };
        self.from += behind;
        let word = &mut self.lacking[self.from];
        let bit = u64::from(word.trailing_zeros());
        *word &= *word - 1;
        Some(self.base + self.from as u64 * WORD + bit)
    }
}

/// A part of the state, in chunks.
pub(crate) trait Chunks {
    const PART: Part;

    fn marks(&self) -> &Marks;

    fn marks_mut(&mut self) -> &mut Marks;

    /// Numbers of the chunks that there are.
    fn range(&self) -> Range<u64>;

    fn write_chunk(&self, number: u64, out: &mut Writer);

    /// To be called before a chunk changes.
    #[inline]
    fn touch(&mut self, number: u64) {
        if !self.marks().is_settled(number) {
            self.settle(number);
        }
    }

    #[cold]
    fn settle(&mut self, number: u64) {
        if self.marks_mut().settle(number) {
            let mut out = Writer(std::mem::take(&mut self.marks_mut().written));
            self.write_record(number, &mut out);
            self.marks_mut().written = out.0;
        }
    }

    /// An image begins.
    fn begin(&mut self, whole: bool) {
        let range = self.range();
        self.marks_mut().begin(whole, range);
    }

    /// Writes chunks that the image lacks, up to about so many bytes in all.
    fn write_on(&mut self, bytes: usize, out: &mut Writer) {
        out.0.append(&mut self.marks_mut().written);
        while out.0.len() < bytes
            && let Some(number) = self.marks_mut().next()
        {
            // It may have been forgotten since it changed.
            if self.range().contains(&number) {
                self.write_record(number, out);
            }
        }
    }

    /// All chunks are about to go.
    fn touch_all(&mut self) {
        self.range().for_each(|number| self.touch(number));
    }

    /// Writes all chunks.
    fn write_all(&self, out: &mut Writer) {
        self.range().for_each(|number| self.write_record(number, out));
    }

    fn write_record(&self, number: u64, out: &mut Writer) {
        record(Self::PART, number, out, |out| self.write_chunk(number, out));
    }
}

/// Appends a chunk.
pub(crate) fn record(part: Part, number: u64, out: &mut Writer, write: impl FnOnce(&mut Writer)) {
    out.byte(part as u8);
    out.uint(number);
    let at = out.0.len();
    out.u32(0);
    write(out);
    let length = (out.0.len() - at - 4) as u32;
    out.0[at..at + 4].copy_from_slice(&length.to_le_bytes());
}

/// The chunks of an image, and of the changes after it.
pub(crate) struct Image<'a> {
    parts: [Vec<(u64, &'a [u8])>; PARTS],
}

impl<'a> Image<'a> {
    /// Finds the chunks of `bytes`. `check` is given each head and says whether its image is a whole one, which
    /// stands in place of all before it; the first must be one.
    pub(crate) fn read(
        bytes: &'a [u8],
        mut check: impl FnMut(&'a [u8]) -> Result<bool, SnapshotError>,
    ) -> Result<Self, SnapshotError> {
        let mut input = Reader::new(bytes);
        let mut image = Self { parts: Default::default() };
        while !input.at_end() {
            let part = usize::from(input.byte()?);
            let number = input.uint()?;
            let length = input.u32()? as usize;
            let chunk = input.take(length)?;
            if part == Part::Head as usize && check(chunk)? {
                image = Self { parts: Default::default() };
            } else if image.parts[0].is_empty() {
                return Err(input.damaged());
            }
            image.parts.get_mut(part).ok_or_else(|| input.damaged())?.push((number, chunk));
        }
        for chunks in &mut image.parts {
            // Stable: of one number the last is the last.
            chunks.sort_by_key(|(number, _)| *number);
        }
        Ok(image)
    }

    /// The head of the last image.
    pub(crate) fn head(&self) -> Option<&'a [u8]> {
        self.parts[Part::Head as usize].last().map(|(_, head)| *head)
    }

    /// The chunks of these numbers, each once, with its number.
    pub(crate) fn chunks(
        &self,
        part: Part,
        numbers: Range<u64>,
    ) -> impl Iterator<Item = Result<(u64, Reader<'a>), SnapshotError>> {
        let chunks = &self.parts[part as usize];
        let mut at = chunks.partition_point(|(number, _)| *number < numbers.start);
        numbers.map(move |number| {
            let mut found = None;
            while let Some((_, chunk)) = chunks.get(at).filter(|(other, _)| *other == number) {
                found = Some(*chunk);
                at += 1;
            }
            let missing = SnapshotError::Missing { part: part as u8, number };
            Ok((number, Reader::new(found.ok_or(missing)?)))
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Numbers, some to a chunk.
    #[derive(Debug, Clone, Default)]
    struct Numbers {
        all: Vec<u8>,
        marks: Marks,
    }

    const EACH: usize = 3;

    impl Chunks for Numbers {
        const PART: Part = Part::Texts;

        fn marks(&self) -> &Marks {
            &self.marks
        }

        fn marks_mut(&mut self) -> &mut Marks {
            &mut self.marks
        }

        fn range(&self) -> Range<u64> {
            0..self.all.len().div_ceil(EACH) as u64
        }

        fn write_chunk(&self, number: u64, out: &mut Writer) {
            self.all.chunks(EACH).nth(number as usize).into_iter().for_each(|chunk| out.0.extend(chunk));
        }
    }

    fn read(bytes: &[u8]) -> Vec<u8> {
        let image = Image::read(bytes, |head| Ok(head[0] > 0)).unwrap_or_else(|error| panic!("{error}"));
        let count = image.head().map_or(0, |head| u64::from(head[1]) << 8 | u64::from(head[2]));
        let mut all = Vec::new();
        for chunk in image.chunks(Part::Texts, 0..count.div_ceil(EACH as u64)) {
            let (_, mut input) = chunk.unwrap_or_else(|error| panic!("{error}"));
            while !input.at_end() {
                all.push(input.byte().unwrap_or(0));
            }
        }
        all
    }

    proptest! {
        /// Images begun, written on and finished at any time, against copies of the list.
        #[test]
        fn an_image_is_of_the_moment_in_which_it_was_begun(
            moves in proptest::collection::vec((0..9_u8, any::<u8>(), any::<prop::sample::Index>()), 1..400),
        ) {
            let mut numbers = Numbers::default();
            let mut whole: Vec<u8> = Vec::new();
            let mut under_way: Option<(bool, Vec<u8>, Writer)> = None;
            for (what, value, at) in moves {
                match what {
                    0..4 if !numbers.all.is_empty() => {
                        let at = at.index(numbers.all.len());
                        numbers.touch((at / EACH) as u64);
                        numbers.all[at] = value;
                    }
                    0..6 => {
                        numbers.touch((numbers.all.len() / EACH) as u64);
                        numbers.all.push(value);
                    }
                    6 if under_way.is_none() => {
                        let is_whole = whole.is_empty() || value % 4 == 0;
                        numbers.begin(is_whole);
                        let mut out = Writer(Vec::new());
                        let count = numbers.all.len() as u16;
                        record(Part::Head, 0, &mut out, |out| {
                            out.bool(is_whole);
                            out.0.extend(count.to_be_bytes());
                        });
                        under_way = Some((is_whole, numbers.all.clone(), out));
                    }
                    _ => {
                        let Some((is_whole, want, out)) = &mut under_way else { continue };
                        let before = out.0.len();
                        let mut part = Writer(Vec::new());
                        numbers.write_on(8, &mut part);
                        out.0.extend(&part.0);
                        if out.0.len() > before {
                            continue;
                        }
                        let bytes = if *is_whole { out.0.clone() } else { [whole.as_slice(), &out.0].concat() };
                        prop_assert_eq!(&read(&bytes), want);
                        if *is_whole {
                            whole.clone_from(&out.0);
                        }
                        under_way = None;
                    }
                }
            }
        }
    }

    #[test]
    fn a_missing_chunk_and_one_before_any_head_are_refused() {
        let mut out = Writer(Vec::new());
        record(Part::Texts, 0, &mut out, |_| {});
        assert!(Image::read(&out.0, |_| Ok(true)).is_err());
        let mut out = Writer(Vec::new());
        record(Part::Head, 0, &mut out, |_| {});
        record(Part::Texts, 1, &mut out, |_| {});
        assert!(Image::read(&out.0, |_| Ok(false)).is_err(), "changes of nothing");
        let image = Image::read(&out.0, |_| Ok(true)).unwrap_or_else(|error| panic!("{error}"));
        let found: Vec<bool> = image.chunks(Part::Texts, 0..3).map(|chunk| chunk.is_ok()).collect();
        assert_eq!(found, [false, true, false]);
    }
}
