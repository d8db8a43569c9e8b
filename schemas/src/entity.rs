//! Entities that many users share: what each partition of `events` counted of them, and what all
//! partitions together counted, as it is marked in `events`.
//!
//! What is counted by the hour goes the same way from the partitions to the merge.
//!
//! Everything that is added up is an integer, so that a sum does not depend on the order.

mod hours;
mod rows;
mod summaries;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

pub use hours::{HourBlock, HourKey, HourRow, HourRows};
pub use rows::{EntityRow, EntitySums, Row, Rows};
pub use summaries::RowSummaries;

/// How many parts of a currency unit a sum of values counts in: a ten-thousandth. A sum is exact up
/// to 9.2e14 units; one event's value is off by at most half a part.
pub const VALUE_PARTS: f64 = 10_000.0;

/// An entity whose events come from many users, and so from all partitions of `events`.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, prost::Enumeration,
)]
#[serde(rename_all = "snake_case")]
#[repr(i32)]
pub enum SharedEntity {
    /// No entity: a closed mark.
    None = 0,
    /// The item.
    Item = 1,
    /// The campaign.
    Campaign = 2,
    /// The item's category.
    Category = 3,
    /// The item's brand.
    Brand = 4,
    /// The slot on the page or screen.
    Placement = 5,
    /// An item in a slot. A pair's key is both keys with U+001F between them.
    ItemPlacement = 6,
    /// A campaign in a slot.
    CampaignPlacement = 7,
}

impl SharedEntity {
    /// All of them but [`SharedEntity::None`], in the order of their numbers.
    pub const ALL: [Self; 7] = [
        Self::Item,
        Self::Campaign,
        Self::Category,
        Self::Brand,
        Self::Placement,
        Self::ItemPlacement,
        Self::CampaignPlacement,
    ];

    /// The name in the config, in columns and in tables.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Item => "item",
            Self::Campaign => "campaign",
            Self::Category => "category",
            Self::Brand => "brand",
            Self::Placement => "placement",
            Self::ItemPlacement => "item_placement",
            Self::CampaignPlacement => "campaign_placement",
        }
    }

    /// The entity of that name.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::None].into_iter().chain(Self::ALL).find(|entity| entity.as_str() == name)
    }
}

/// What was counted of the keys of one entity in one tile.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, prost::Message)]
pub struct TileBlock {
    /// Start of the tile, ms since 1970 UTC.
    #[prost(int64, tag = "1")]
    pub tile_ms: i64,
    /// Which entity; none of [`SharedEntity::ALL`] where a newer writer knows another.
    #[prost(enumeration = "SharedEntity", tag = "2")]
    pub entity: i32,
    /// The keys with what was counted of each, as [`Rows`] reads them: ascending, none twice.
    #[prost(bytes = "bytes", tag = "3")]
    #[serde(with = "rows::readable")]
    pub rows: Bytes,
    /// What else is known of each key, as [`RowSummaries`] reads it; empty where nothing is declared beyond
    /// counts and values by kind.
    #[prost(bytes = "bytes", tag = "4")]
    #[serde(with = "summaries::readable", default, skip_serializing_if = "Bytes::is_empty")]
    pub summaries: Bytes,
}

/// What one partition of `events` counted of shared entities, written when its event clock has
/// passed tiles: all that end at `closed_ms` or before, and later than the time closed before. Many
/// keys take several records; the tiles are closed with the last.
///
/// Or, where the layout is [`EntityTiles::HOURS`], what it counted by the hour since the records of that
/// layout before, whatever the hours; all that end at `closed_ms` or before have passed with the last.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, prost::Message)]
pub struct EntityTiles {
    /// Partition of `events` that was summed.
    #[prost(int32, tag = "1")]
    pub partition: i32,
    /// The time up to which all tiles are closed, ms since 1970 UTC.
    #[prost(int64, tag = "2")]
    pub closed_ms: i64,
    /// Fingerprint of the tiles' width and of which entities are counted.
    #[prost(fixed64, tag = "3")]
    pub layout: u64,
    /// Number of the record among those of this `closed_ms`, from 0.
    #[prost(uint32, tag = "4")]
    pub part: u32,
    /// Whether it is the last of them.
    #[prost(bool, tag = "5")]
    pub last: bool,
    /// By tile, then entity; none is empty.
    #[prost(message, repeated, tag = "6")]
    pub blocks: Vec<TileBlock>,
    /// By hour; none is empty.
    #[prost(message, repeated, tag = "7")]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hours: Vec<HourBlock>,
}

impl EntityTiles {
    /// The layout of records that hold hours and no tiles: it depends on no declaration.
    pub const HOURS: u64 = 0;
}

/// What all partitions together counted of shared entities in the tiles that have closed since the
/// version before: what happened before `version_ms`. Every partition of `events` gets the same, in
/// one transaction. A version of many keys takes several records; it is in force with the last.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, prost::Message)]
pub struct EntityVersion {
    /// The boundary, ms since 1970 UTC: the version's name.
    #[prost(int64, tag = "1")]
    pub version_ms: i64,
    /// Fingerprint of the tiles' width and of which entities are counted.
    #[prost(fixed64, tag = "2")]
    pub layout: u64,
    /// Number of the record among the version's, from 0.
    #[prost(uint32, tag = "3")]
    pub part: u32,
    /// Whether it is the version's last record.
    #[prost(bool, tag = "4")]
    pub last: bool,
    /// By tile, then entity; none is empty.
    #[prost(message, repeated, tag = "5")]
    pub blocks: Vec<TileBlock>,
}

/// Whether these are a record's blocks as they are written.
pub(crate) fn check_tiles(tiles: &EntityTiles) -> Result<(), &'static str> {
    check(&tiles.blocks)?;
    hours::check(&tiles.hours)
}

/// Whether these are blocks as they are written: in order, none empty, rows whole and in order, summaries one
/// for each.
pub(crate) fn check(blocks: &[TileBlock]) -> Result<(), &'static str> {
    let is_before = |a: &TileBlock, b: &TileBlock| (a.tile_ms, a.entity) < (b.tile_ms, b.entity);
    if !blocks.windows(2).all(|pair| is_before(&pair[0], &pair[1])) {
        return Err("blocks of tiles are out of order; the record is damaged");
    }
    if !blocks.iter().all(|block| Rows::new(&block.rows).are_whole()) {
        return Err("rows of a block end early or are out of order; the record is damaged");
    }
    let fit = |TileBlock { rows, summaries, .. }: &TileBlock| {
        summaries.is_empty() || RowSummaries::new(summaries).are(Rows::new(rows).count())
    };
    if blocks.iter().all(fit) {
        Ok(())
    } else {
        Err("summaries of a block end early or are not one for each of its rows; the record is damaged")
    }
}
