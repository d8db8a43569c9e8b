//! The rows of a block: a key and what was counted of it, one after the other.
//!
//! A row is the key's length as a varint, its bytes, and its sums: a byte with a bit per number that
//! is not 0, then these numbers as varints, values zigzagged. Equal rows are equal bytes.

use serde::{Deserialize, Serialize};

/// How many numbers are counts; the rest are values.
const COUNTS: usize = 5;
const VALUES: usize = 3;

/// What was counted of one key. Sums of values wrap at 9.2e14 units, so that adding stays the same
/// in any order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EntitySums {
    /// Views, clicks that are no carts, carts, purchase lines, refund lines.
    pub counts: [u64; COUNTS],
    /// Prices shown, value of purchases, value of refunds, in parts ([`super::VALUE_PARTS`]).
    pub values: [i64; VALUES],
}

impl EntitySums {
    /// How many numbers there are: counts, then values.
    pub const NUMBERS: usize = COUNTS + VALUES;

    /// Counts, then values as the bits of a signed number.
    pub fn numbers(&self) -> [u64; Self::NUMBERS] {
        let [views, clicks, carts, purchases, refunds] = self.counts;
        let [view_value, purchase_value, refund_value] = self.values.map(|value| value as u64);
        [views, clicks, carts, purchases, refunds, view_value, purchase_value, refund_value]
    }

    /// Adds to the number of this place among [`Self::numbers`].
    #[inline]
    pub fn add(&mut self, at: usize, more: u64) {
        match at.checked_sub(COUNTS) {
            None => self.counts[at] = self.counts[at].wrapping_add(more),
            Some(at) => self.values[at] = self.values[at].wrapping_add(more as i64),
        }
    }

    /// Adds another's.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.counts.iter_mut().zip(other.counts) {
            *mine = mine.wrapping_add(theirs);
        }
        for (mine, theirs) in self.values.iter_mut().zip(other.values) {
            *mine = mine.wrapping_add(theirs);
        }
    }

    /// Appends its bytes.
    pub fn write(&self, out: &mut Vec<u8>) {
        let mask_at = out.len();
        out.push(0);
        let mut mask = 0;
        for (at, count) in self.counts.iter().enumerate().filter(|(_, count)| **count != 0) {
            mask |= 1 << at;
            prost::encoding::encode_varint(*count, out);
        }
        for (at, value) in self.values.iter().enumerate().filter(|(_, value)| **value != 0) {
            mask |= 1 << (COUNTS + at);
            prost::encoding::encode_varint(((value << 1) ^ (value >> 63)) as u64, out);
        }
        out[mask_at] = mask;
    }

    /// Reads what [`Self::write`] wrote off the front; `None` for anything else.
    pub fn read(bytes: &mut &[u8]) -> Option<Self> {
        let mut sums = Self::default();
        Self::each(bytes, |at, number| match at.checked_sub(COUNTS) {
            None => sums.counts[at] = number,
            Some(at) => sums.values[at] = number as i64,
        })?;
        Some(sums)
    }

    /// As [`Self::read`], but gives the numbers that are not 0 one by one, each with its place among
    /// [`Self::numbers`].
    #[inline]
    pub fn each(bytes: &mut &[u8], mut take: impl FnMut(usize, u64)) -> Option<()> {
        let mut mask = *bytes.split_off_first()?;
        while mask != 0 {
            let at = mask.trailing_zeros() as usize;
            mask &= mask - 1;
            let number = varint(bytes).filter(|number| *number != 0)?;
            let is_count = at < COUNTS;
            take(at, if is_count { number } else { (number >> 1) ^ (number & 1).wrapping_neg() });
        }
        Some(())
    }
}

/// A varint of as few bytes as its number needs.
#[inline]
pub(super) fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    if let Some((byte @ ..0x80, rest)) = bytes.split_first() {
        *bytes = rest;
        return Some(u64::from(*byte));
    }
    for shift in (0..64).step_by(7) {
        let byte = *bytes.split_off_first()?;
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return (byte > 0 && (shift < 63 || byte == 1)).then_some(number);
        }
    }
    None
}

/// One key of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row<'a> {
    /// The key.
    pub key: &'a str,
    /// What was counted of it, as [`EntitySums::write`] writes it.
    pub bytes: &'a [u8],
}

impl Row<'_> {
    /// What was counted of the key.
    pub fn sums(&self) -> EntitySums {
        EntitySums::read(&mut &*self.bytes).unwrap_or_default()
    }
}

/// The rows of a block, read in place. It ends where bytes are no row: a record that the codec has
/// taken has none such.
#[derive(Debug, Clone)]
pub struct Rows<'a>(&'a [u8]);

impl<'a> Rows<'a> {
    /// Over a block's bytes.
    pub fn new(block: &'a [u8]) -> Self {
        Self(block)
    }

    /// Appends a row to a block's bytes.
    pub fn push(block: &mut Vec<u8>, key: &str, sums: &EntitySums) {
        Self::push_bytes(block, key.as_bytes(), sums);
    }

    /// The same of the key's bytes, which are UTF-8.
    pub fn push_bytes(block: &mut Vec<u8>, key: &[u8], sums: &EntitySums) {
        prost::encoding::encode_varint(key.len() as u64, block);
        block.extend_from_slice(key);
        sums.write(block);
    }

    /// Whether there is a row, and nothing else than rows, in ascending order of keys.
    pub fn are_whole(mut self) -> bool {
        let mut last = None;
        for row in self.by_ref() {
            if last.is_some_and(|last| last >= row.key) {
                return false;
            }
            last = Some(row.key);
        }
        last.is_some() && self.0.is_empty()
    }
}

impl<'a> Iterator for Rows<'a> {
    type Item = Row<'a>;

    fn next(&mut self) -> Option<Row<'a>> {
        let mut rest = self.0;
        let len = usize::try_from(varint(&mut rest)?).ok()?;
        let key = std::str::from_utf8(rest.split_off(..len)?).ok()?;
        let before = rest;
        EntitySums::each(&mut rest, |_, _| {})?;
        let bytes = &before[..before.len() - rest.len()];
        self.0 = rest;
        Some(Row { key, bytes })
    }
}

/// A row as a record of its own, for JSON and tables.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct EntityRow {
    /// Which of the entity.
    pub key: String,
    /// Views.
    #[serde(skip_serializing_if = "is_zero")]
    pub views: u64,
    /// Clicks that are no carts.
    #[serde(skip_serializing_if = "is_zero")]
    pub clicks: u64,
    /// Carts.
    #[serde(skip_serializing_if = "is_zero")]
    pub carts: u64,
    /// Purchase lines.
    #[serde(skip_serializing_if = "is_zero")]
    pub purchases: u64,
    /// Refund lines.
    #[serde(skip_serializing_if = "is_zero")]
    pub refunds: u64,
    /// Prices shown, in parts.
    #[serde(skip_serializing_if = "is_zero")]
    pub view_value: i64,
    /// Value of purchases, in parts.
    #[serde(skip_serializing_if = "is_zero")]
    pub purchase_value: i64,
    /// Value of refunds, in parts.
    #[serde(skip_serializing_if = "is_zero")]
    pub refund_value: i64,
}

fn is_zero<T: Default + PartialEq>(number: &T) -> bool {
    *number == T::default()
}

impl From<Row<'_>> for EntityRow {
    fn from(row: Row<'_>) -> Self {
        let EntitySums { counts, values } = row.sums();
        let [views, clicks, carts, purchases, refunds] = counts;
        let [view_value, purchase_value, refund_value] = values;
        let key = row.key.to_owned();
        Self { key, views, clicks, carts, purchases, refunds, view_value, purchase_value, refund_value }
    }
}

impl EntityRow {
    /// What was counted.
    pub fn sums(&self) -> EntitySums {
        EntitySums {
            counts: [self.views, self.clicks, self.carts, self.purchases, self.refunds],
            values: [self.view_value, self.purchase_value, self.refund_value],
        }
    }
}

/// A block's rows as a list of records.
pub(super) mod readable {
    use bytes::Bytes;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::{EntityRow, Rows};

    pub(crate) fn serialize<S: Serializer>(rows: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
        Rows::new(rows).map(EntityRow::from).collect::<Vec<_>>().serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
        let mut block = Vec::new();
        for row in Vec::<EntityRow>::deserialize(deserializer)? {
            Rows::push(&mut block, &row.key, &row.sums());
        }
        Ok(block.into())
    }
}
