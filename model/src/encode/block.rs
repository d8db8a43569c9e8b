//! A set of keyed examples as bytes: columns one after the other, little endian, with a checksum.
//! For files that this process alone reads back: the layout may change from version to version.

use super::keyed::KeyedSet;
use super::set::Outcome;

const MAGIC: u64 = u64::from_le_bytes(*b"salblk02");
/// Words before the columns: magic, examples, numbers and ids of each, behaviours, floats of
/// content embeddings.
const HEADER: usize = 6;

/// Bytes that are no block.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BlockError {
    /// Too short, too long, or of another kind.
    #[error("{0} bytes are no block of examples")]
    Shape(usize),
    /// Changed since they were written.
    #[error("the block's checksum is {found:016x}, it says {expected:016x}")]
    Checksum {
        /// Of the bytes.
        found: u64,
        /// What was written.
        expected: u64,
    },
    /// Of examples with other numbers or ids.
    #[error("a block of {found:?} numbers and ids among blocks of {expected:?}")]
    Width {
        /// Numbers and ids of its examples.
        found: (usize, usize),
        /// Of the others.
        expected: (usize, usize),
    },
}

/// A value of fixed size in a column.
trait Word: Copy + Default {
    const BYTES: usize;
    fn put(self, out: &mut Vec<u8>);
    fn take(bytes: &[u8]) -> Self;
}

macro_rules! words {
    ($($kind:ty),*) => {$(
        impl Word for $kind {
            const BYTES: usize = size_of::<$kind>();
            #[inline]
            fn put(self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }
            #[inline]
            fn take(bytes: &[u8]) -> Self {
                bytes.first_chunk().map_or_else(Self::default, |bytes| Self::from_le_bytes(*bytes))
            }
        }
    )*};
}
words!(f32, u64, u32, i64, u8);

fn put<T: Word>(values: &[T], out: &mut Vec<u8>) {
    out.reserve(values.len() * T::BYTES);
    for &value in values {
        value.put(out);
    }
}

/// Reads columns off the front of some bytes.
struct Columns<'a>(&'a [u8]);

impl Columns<'_> {
    /// The next `count` values, put behind `out`. A plain copy where memory is little endian.
    fn take<T: Word>(&mut self, count: usize, out: &mut Vec<T>) -> Option<()> {
        let (column, rest) = self.0.split_at_checked(count.checked_mul(T::BYTES)?)?;
        out.extend(column.chunks_exact(T::BYTES).map(T::take));
        self.0 = rest;
        Some(())
    }

    /// Where what each of `count` examples has of `all` ends: counted from 0 in the column, from `first` in
    /// `out`.
    fn take_ends(&mut self, count: usize, all: usize, first: u32, out: &mut Vec<u32>) -> Option<()> {
        let from = out.len();
        self.take(count, out)?;
        let mut before = 0;
        for end in &mut out[from..] {
            if *end < before {
                return None;
            }
            before = *end;
            *end = first.checked_add(before)?;
        }
        (before as usize == all).then_some(())
    }
}

/// All flags of an outcome.
const FLAGS: u8 = 7;

fn flags(outcome: Outcome) -> u8 {
    u8::from(outcome.clicked) | u8::from(outcome.purchased) << 1 | u8::from(outcome.matured) << 2
}

fn outcome((&flags, &[elapsed_s, delay_s, value]): (&u8, &[f32; 3])) -> Outcome {
    Outcome {
        clicked: flags & 1 > 0,
        purchased: flags & 2 > 0,
        matured: flags & 4 > 0,
        elapsed_s,
        delay_s,
        value,
    }
}

impl KeyedSet {
    /// Puts the examples behind `out`, as [`Self::read_from`] reads them.
    pub fn write_to(&self, out: &mut Vec<u8>) {
        let start = out.len();
        let lengths = [self.len(), self.width, self.fields, self.behaviour_ages.len(), self.embeddings.len()];
        MAGIC.put(out);
        put(&lengths.map(|length| length as u64), out);
        put(&self.keys, out);
        put(&self.behaviour_keys, out);
        put(&self.times, out);
        put(&self.numbers, out);
        put(&self.behaviour_ages, out);
        put(&self.behaviour_ends, out);
        put(&self.embeddings, out);
        put(&self.embedding_ends, out);
        put(&self.weights, out);
        put(&self.behaviour_flags, out);
        for outcome in &self.outcomes {
            put(&[outcome.elapsed_s, outcome.delay_s, outcome.value], out);
        }
        out.extend(self.outcomes.iter().map(|&outcome| flags(outcome)));
        xxhash_rust::xxh3::xxh3_64(&out[start..]).put(out);
    }

    /// Puts the examples of a block behind those of this set.
    ///
    /// # Errors
    /// Bytes that are no block, damaged, or of examples of another width; the set may hold part
    /// of it then.
    pub fn read_from(&mut self, bytes: &[u8]) -> Result<(), BlockError> {
        let shape = || BlockError::Shape(bytes.len());
        let (body, checksum) = bytes.split_last_chunk::<8>().ok_or_else(shape)?;
        let (found, expected) = (xxhash_rust::xxh3::xxh3_64(body), u64::from_le_bytes(*checksum));
        if found != expected {
            return Err(BlockError::Checksum { found, expected });
        }
        let mut columns = Columns(body);
        let mut header = Vec::with_capacity(HEADER);
        columns.take::<u64>(HEADER, &mut header).ok_or_else(shape)?;
        let [magic, rows, width, fields, behaviours, floats] = header[..] else { return Err(shape()) };
        if magic != MAGIC {
            return Err(shape());
        }
        let [rows, width, fields, behaviours, floats] =
            [rows, width, fields, behaviours, floats].map(|length| length as usize);
        if (width, fields) != (self.width, self.fields) {
            return Err(BlockError::Width { found: (width, fields), expected: (self.width, self.fields) });
        }
        let first_behaviour = self.behaviour_ages.len() as u32;
        let first_float = self.embeddings.len() as u32;
        let mut read = || -> Option<()> {
            columns.take(rows.checked_mul(fields)?, &mut self.keys)?;
            columns.take(behaviours.checked_mul(3)?, &mut self.behaviour_keys)?;
            columns.take(rows, &mut self.times)?;
            columns.take(rows.checked_mul(width)?, &mut self.numbers)?;
            columns.take(behaviours, &mut self.behaviour_ages)?;
            columns.take_ends(rows, behaviours, first_behaviour, &mut self.behaviour_ends)?;
            columns.take(floats, &mut self.embeddings)?;
            columns.take_ends(rows, floats, first_float, &mut self.embedding_ends)?;
            columns.take(rows, &mut self.weights)?;
            let flags_from = self.behaviour_flags.len();
            columns.take(behaviours.checked_mul(2)?, &mut self.behaviour_flags)?;
            // A kind and three bits; the network looks things up by them.
            let known =
                |[kind, same]: &[u8; 2]| schemas::Kind::try_from(i32::from(*kind)).is_ok() && *same < 8;
            if !self.behaviour_flags[flags_from..].as_chunks().0.iter().all(known) {
                return None;
            }
            let (mut numbers, mut flags) = (Vec::new(), Vec::new());
            columns.take::<f32>(rows.checked_mul(3)?, &mut numbers)?;
            columns.take::<u8>(rows, &mut flags)?;
            if flags.iter().any(|flags| *flags > FLAGS) {
                return None;
            }
            self.outcomes.extend(flags.iter().zip(numbers.as_chunks::<3>().0).map(outcome));
            columns.0.is_empty().then_some(())
        };
        read().ok_or_else(shape)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_that_go_back_or_beyond_what_there_is_are_refused() {
        let ends = |ends: &[u32], all: usize, first: u32| {
            let mut bytes = Vec::new();
            put(ends, &mut bytes);
            let mut out = Vec::new();
            Columns(&bytes).take_ends(ends.len(), all, first, &mut out).map(|()| out)
        };
        assert_eq!(ends(&[2, 2, 5], 5, 10), Some(vec![12, 12, 15]));
        assert_eq!(ends(&[], 0, 10), Some(vec![]));
        assert_eq!(ends(&[3, 2], 2, 0), None, "it goes back");
        assert_eq!(ends(&[2, 4], 5, 0), None, "what nobody has");
        assert_eq!(ends(&[2, 6], 5, 0), None, "what there is not");
        assert_eq!(ends(&[5], 5, u32::MAX - 3), None, "more than can be counted");
    }
}
