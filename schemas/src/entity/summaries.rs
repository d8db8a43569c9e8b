//! What else is known of the keys of a block, beside its rows: a summary each, as its writer knows to read it.
//!
//! A summary is its length as a varint and its bytes, one for each row of the block and in the rows' order;
//! of no bytes where nothing is known. What the bytes mean is the declarations' affair, and so the layout's
//! fingerprint names it.

use super::rows::varint;

/// The summaries of a block, read in place. It ends where bytes are none: a record that the codec has taken
/// has as many as rows, or none at all.
#[derive(Debug, Clone)]
pub struct RowSummaries<'a>(&'a [u8]);

impl<'a> RowSummaries<'a> {
    /// Over a block's bytes.
    pub fn new(block: &'a [u8]) -> Self {
        Self(block)
    }

    /// Appends a summary to a block's bytes.
    pub fn push(block: &mut Vec<u8>, summary: &[u8]) {
        prost::encoding::encode_varint(summary.len() as u64, block);
        block.extend_from_slice(summary);
    }

    /// Whether there are so many, and nothing else.
    pub fn are(mut self, rows: usize) -> bool {
        self.by_ref().count() == rows && self.0.is_empty()
    }
}

impl<'a> Iterator for RowSummaries<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let mut rest = self.0;
        let len = usize::try_from(varint(&mut rest)?).ok()?;
        let summary = rest.split_off(..len)?;
        self.0 = rest;
        Some(summary)
    }
}

/// A block's summaries as hex digits.
pub(super) mod readable {
    use bytes::Bytes;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(crate) fn serialize<S: Serializer>(summaries: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
        let mut text = String::with_capacity(2 * summaries.len());
        let digits = summaries.iter().flat_map(|byte| [byte >> 4, byte & 15]);
        text.extend(digits.filter_map(|digit| char::from_digit(u32::from(digit), 16)));
        serializer.serialize_str(&text)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
        let text = String::deserialize(deserializer)?;
        let digit = |digit: u8| char::from(digit).to_digit(16);
        let byte = |pair: &[u8]| match *pair {
            [high, low] => Some((digit(high)? << 4 | digit(low)?) as u8),
            _ => None,
        };
        let bytes: Option<Vec<u8>> = text.as_bytes().chunks(2).map(byte).collect();
        bytes.map(Bytes::from).ok_or_else(|| D::Error::custom("summaries are no pairs of hex digits"))
    }
}
