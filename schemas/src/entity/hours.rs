//! What was counted in an hour, by campaign, category, item and currency together.
//!
//! A row is these four texts, each its length as a varint and its bytes, and then the sums as rows of
//! entities have them. Rows stand in the order in which they were first counted: nothing sorts them.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::EntitySums;
use super::rows::varint;

/// What was counted in one hour.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, prost::Message)]
pub struct HourBlock {
    /// Start of the hour, ms since 1970 UTC.
    #[prost(int64, tag = "1")]
    pub hour_ms: i64,
    /// The keys with what was counted of each, as [`HourRows`] reads them.
    #[prost(bytes = "bytes", tag = "2")]
    #[serde(with = "readable")]
    pub rows: Bytes,
}

/// What hourly sums are kept by. An event without one of the texts counts under the empty one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HourKey<'a> {
    /// The campaign.
    pub campaign: &'a str,
    /// The item's category.
    pub category: &'a str,
    /// The item.
    pub item: &'a str,
    /// ISO 4217 code of the events' values.
    pub currency: &'a str,
}

/// The rows of a block, read in place. It ends where bytes are no row: a record that the codec has
/// taken has none such.
#[derive(Debug, Clone)]
pub struct HourRows<'a>(&'a [u8]);

impl<'a> HourRows<'a> {
    /// Over a block's bytes.
    pub fn new(block: &'a [u8]) -> Self {
        Self(block)
    }

    /// Appends a row to a block's bytes.
    pub fn push(block: &mut Vec<u8>, key: &HourKey<'_>, sums: &EntitySums) {
        let HourKey { campaign, category, item, currency } = *key;
        Self::push_bytes(block, [campaign, category, item, currency].map(str::as_bytes), sums);
    }

    /// The same of the bytes of campaign, category, item and currency, which are UTF-8.
    pub fn push_bytes(block: &mut Vec<u8>, key: [&[u8]; 4], sums: &EntitySums) {
        for text in key {
            prost::encoding::encode_varint(text.len() as u64, block);
            block.extend_from_slice(text);
        }
        sums.write(block);
    }

    /// Whether there is a row, and nothing else than rows.
    pub(super) fn are_whole(mut self) -> bool {
        let any = !self.0.is_empty();
        self.by_ref().for_each(drop);
        any && self.0.is_empty()
    }
}

impl<'a> Iterator for HourRows<'a> {
    type Item = (HourKey<'a>, EntitySums);

    fn next(&mut self) -> Option<Self::Item> {
        let (mut rest, mut places) = (self.0, [0..0, 0..0, 0..0, 0..0]);
        for place in &mut places {
            let len = usize::try_from(varint(&mut rest)?).ok()?;
            let begin = self.0.len() - rest.len();
            rest.split_off(..len)?;
            *place = begin..begin + len;
        }
        // Lengths below 128 are ASCII: so the four texts are nearly always checked as one.
        let whole = std::str::from_utf8(&self.0[..self.0.len() - rest.len()]).ok();
        let text = |place: std::ops::Range<usize>| match whole {
            Some(whole) => whole.get(place),
            None => std::str::from_utf8(&self.0[place]).ok(),
        };
        let [campaign, category, item, currency] = places.map(text);
        let key = HourKey { campaign: campaign?, category: category?, item: item?, currency: currency? };
        let sums = EntitySums::read(&mut rest)?;
        self.0 = rest;
        Some((key, sums))
    }
}

/// A row as a record of its own, for JSON and tables.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct HourRow {
    /// The campaign.
    pub campaign: String,
    /// The item's category.
    pub category: String,
    /// The item.
    pub item: String,
    /// ISO 4217 code of the values.
    pub currency: String,
    /// Views.
    pub views: u64,
    /// Clicks that are no carts.
    pub clicks: u64,
    /// Carts.
    pub carts: u64,
    /// Purchase lines.
    pub purchases: u64,
    /// Refund lines.
    pub refunds: u64,
    /// Value of purchases, in parts.
    pub purchase_value: i64,
    /// Value of refunds, in parts.
    pub refund_value: i64,
}

impl From<(HourKey<'_>, EntitySums)> for HourRow {
    fn from((key, sums): (HourKey<'_>, EntitySums)) -> Self {
        let [views, clicks, carts, purchases, refunds] = sums.counts;
        let [_, purchase_value, refund_value] = sums.values;
        let HourKey { campaign, category, item, currency } = key;
        let [campaign, category, item, currency] = [campaign, category, item, currency].map(str::to_owned);
        Self {
            campaign,
            category,
            item,
            currency,
            views,
            clicks,
            carts,
            purchases,
            refunds,
            purchase_value,
            refund_value,
        }
    }
}

impl HourRow {
    /// Appends it to a block's bytes.
    pub fn push_to(&self, block: &mut Vec<u8>) {
        let Self { campaign, category, item, currency, .. } = self;
        let sums = EntitySums {
            counts: [self.views, self.clicks, self.carts, self.purchases, self.refunds],
            values: [0, self.purchase_value, self.refund_value],
        };
        HourRows::push(block, &HourKey { campaign, category, item, currency }, &sums);
    }
}

/// Whether these are blocks as they are written: by hour, none empty, rows whole.
pub(super) fn check(blocks: &[HourBlock]) -> Result<(), &'static str> {
    if !blocks.is_sorted_by(|a, b| a.hour_ms < b.hour_ms) {
        return Err("blocks of hours are out of order; the record is damaged");
    }
    if blocks.iter().all(|block| HourRows::new(&block.rows).are_whole()) {
        Ok(())
    } else {
        Err("rows of an hour end early; the record is damaged")
    }
}

/// A block's rows as a list of records.
mod readable {
    use bytes::Bytes;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::{HourRow, HourRows};

    pub(crate) fn serialize<S: Serializer>(rows: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
        HourRows::new(rows).map(HourRow::from).collect::<Vec<_>>().serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
        let mut block = Vec::new();
        Vec::<HourRow>::deserialize(deserializer)?.iter().for_each(|row| row.push_to(&mut block));
        Ok(block.into())
    }
}
