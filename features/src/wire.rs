//! Bytes of snapshots and of vectors: little-endian, varints as Protobuf has them.
//!
//! Knows nothing of what is written but that numbers are handed out and times are near enough to be added.

use crate::history::NEVER;
use crate::uses::Uses;

/// No time of a snapshot is farther from 1970, ms: sums and differences of such times and of windows fit.
const FARTHEST_MS: u64 = 1 << 60;

/// A snapshot that cannot be restored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// Not a snapshot of the feature core, or of another format.
    #[error("not a snapshot of format {known} (fatal for this snapshot: use an older one or replay the log)")]
    Format {
        /// The format that this build reads.
        known: u8,
    },
    /// Made under other declarations.
    #[error(
        "snapshot of declarations {found:016x}, these are {wanted:016x} (fatal for this snapshot: replay the log)"
    )]
    Declarations {
        /// Fingerprint in the snapshot.
        found: u64,
        /// Fingerprint of the plan.
        wanted: u64,
    },
    /// Made for another partition.
    #[error("snapshot of partition {found}, wanted {wanted} (fatal for this snapshot)")]
    Partition {
        /// Partition in the snapshot.
        found: i32,
        /// Partition of the core.
        wanted: i32,
    },
    /// A chunk of the state is in none of the images, or not as it can be.
    #[error("snapshot without a sound chunk {number} of part {part} (fatal for this snapshot)")]
    Missing {
        /// Of which part of the state.
        part: u8,
        /// Its number there.
        number: u64,
    },
    /// Damaged.
    #[error("snapshot ends early or holds nonsense at byte {at} of {len} (fatal for this snapshot)")]
    Damaged {
        /// Where.
        at: usize,
        /// Its length.
        len: usize,
    },
}

/// Appends to a buffer.
pub(crate) struct Writer(pub(crate) Vec<u8>);

impl Writer {
    pub(crate) fn byte(&mut self, value: u8) {
        self.0.push(value);
    }

    pub(crate) fn bool(&mut self, value: bool) {
        self.0.push(u8::from(value));
    }

    pub(crate) fn uint(&mut self, value: u64) {
        varint(value, &mut self.0);
    }

    pub(crate) fn len(&mut self, value: usize) {
        varint(value as u64, &mut self.0);
    }

    pub(crate) fn int(&mut self, value: i64) {
        varint(((value << 1) ^ (value >> 63)) as u64, &mut self.0);
    }

    /// A number that rarely needs more than 64 bits.
    pub(crate) fn wide(&mut self, value: i128) {
        let mut value = ((value << 1) ^ (value >> 127)) as u128;
        while value >= 0x80 {
            self.byte(value as u8 | 0x80);
            value >>= 7;
        }
        self.byte(value as u8);
    }

    pub(crate) fn fixed(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn f64(&mut self, value: f64) {
        self.fixed(value.to_bits());
    }

    pub(crate) fn u32(&mut self, value: u32) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn f32(&mut self, value: f32) {
        self.u32(value.to_bits());
    }

    pub(crate) fn text(&mut self, value: &str) {
        self.bytes(value.as_bytes());
    }

    /// Numbers, their count before them.
    pub(crate) fn ids(&mut self, ids: &[u32]) {
        self.len(ids.len());
        for id in ids {
            self.uint(u64::from(*id));
        }
    }

    pub(crate) fn bytes(&mut self, value: &[u8]) {
        self.len(value.len());
        self.0.extend_from_slice(value);
    }
}

/// Whether these are the free ones of so many numbers: all that are free, and each once.
pub(crate) fn are_all_free(free: &[u32], count: usize, is_free: impl FnMut(u32) -> bool) -> bool {
    let mut left: Vec<bool> = (0..count as u32).map(is_free).collect();
    let mut take = |number: &u32| left.get_mut(*number as usize).is_some_and(std::mem::take);
    free.iter().all(&mut take) && !left.contains(&true)
}

/// Appends a varint.
pub(crate) fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Reads what [`Writer`] wrote.
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    pub(crate) fn damaged(&self) -> SnapshotError {
        SnapshotError::Damaged { at: self.at, len: self.bytes.len() }
    }

    /// Checks that all has been read.
    pub(crate) fn end(&self) -> Result<(), SnapshotError> {
        if self.at_end() { Ok(()) } else { Err(self.damaged()) }
    }

    /// How many bytes have been read.
    pub(crate) fn at(&self) -> usize {
        self.at
    }

    pub(crate) fn at_end(&self) -> bool {
        self.at == self.bytes.len()
    }

    pub(crate) fn take(&mut self, count: usize) -> Result<&'a [u8], SnapshotError> {
        let end = self.at.checked_add(count).filter(|end| *end <= self.bytes.len());
        let end = end.ok_or_else(|| self.damaged())?;
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    pub(crate) fn byte(&mut self) -> Result<u8, SnapshotError> {
        Ok(self.take(1)?[0])
    }

    pub(crate) fn bool(&mut self) -> Result<bool, SnapshotError> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(self.damaged()),
        }
    }

    pub(crate) fn uint(&mut self) -> Result<u64, SnapshotError> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(self.damaged())
    }

    /// A count of things that take at least a byte each: a damaged one cannot ask for memory.
    pub(crate) fn len(&mut self) -> Result<usize, SnapshotError> {
        let value = self.uint()? as usize;
        if value > self.bytes.len() - self.at { Err(self.damaged()) } else { Ok(value) }
    }

    pub(crate) fn id(&mut self) -> Result<u32, SnapshotError> {
        u32::try_from(self.uint()?).map_err(|_| self.damaged())
    }

    /// Numbers below `count`, counted before them.
    pub(crate) fn ids_below(&mut self, count: usize) -> Result<Vec<u32>, SnapshotError> {
        (0..self.len()?).map(|_| self.id_below(count)).collect()
    }

    /// A number of something of which there are so many.
    pub(crate) fn id_below(&mut self, count: usize) -> Result<u32, SnapshotError> {
        let id = self.id()?;
        if (id as usize) < count { Ok(id) } else { Err(self.damaged()) }
    }

    /// A number with one use more.
    pub(crate) fn used(&mut self, uses: &mut Uses) -> Result<u32, SnapshotError> {
        let number = self.id()?;
        uses.count(number).ok_or_else(|| self.damaged())?;
        Ok(number)
    }

    /// The free ones of so many numbers, in their order: all that are free, and each once.
    pub(crate) fn free(
        &mut self,
        count: usize,
        is_free: impl FnMut(u32) -> bool,
    ) -> Result<Vec<u32>, SnapshotError> {
        let free = self.ids_below(count)?;
        if are_all_free(&free, count, is_free) { Ok(free) } else { Err(self.damaged()) }
    }

    /// A time, ms.
    pub(crate) fn time(&mut self) -> Result<i64, SnapshotError> {
        self.time_from(0)
    }

    /// A time that is so far behind another, ms.
    pub(crate) fn time_from(&mut self, other_ms: i64) -> Result<i64, SnapshotError> {
        let time_ms = other_ms.wrapping_add(self.int()?);
        if time_ms.unsigned_abs() < FARTHEST_MS { Ok(time_ms) } else { Err(self.damaged()) }
    }

    /// A time, ms, or [`NEVER`].
    pub(crate) fn time_or_never(&mut self) -> Result<i64, SnapshotError> {
        let time_ms = self.int()?;
        let is_time = time_ms == NEVER || time_ms.unsigned_abs() < FARTHEST_MS;
        if is_time { Ok(time_ms) } else { Err(self.damaged()) }
    }

    pub(crate) fn int(&mut self) -> Result<i64, SnapshotError> {
        let value = self.uint()?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    pub(crate) fn wide(&mut self) -> Result<i128, SnapshotError> {
        let mut value = 0_u128;
        for shift in (0..128).step_by(7) {
            let byte = self.byte()?;
            value |= u128::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok((value >> 1) as i128 ^ -((value & 1) as i128));
            }
        }
        Err(self.damaged())
    }

    pub(crate) fn fixed(&mut self) -> Result<u64, SnapshotError> {
        let mut raw = [0; 8];
        raw.copy_from_slice(self.take(8)?);
        Ok(u64::from_le_bytes(raw))
    }

    pub(crate) fn f64(&mut self) -> Result<f64, SnapshotError> {
        Ok(f64::from_bits(self.fixed()?))
    }

    pub(crate) fn u32(&mut self) -> Result<u32, SnapshotError> {
        let mut raw = [0; 4];
        raw.copy_from_slice(self.take(4)?);
        Ok(u32::from_le_bytes(raw))
    }

    pub(crate) fn f32(&mut self) -> Result<f32, SnapshotError> {
        Ok(f32::from_bits(self.u32()?))
    }

    pub(crate) fn text(&mut self) -> Result<&'a str, SnapshotError> {
        std::str::from_utf8(self.bytes()?).map_err(|_| self.damaged())
    }

    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], SnapshotError> {
        let len = self.len()?;
        self.take(len)
    }
}
