//! Entities that many users share: what each partition of `events` counted of them, and what all
//! partitions together counted, as it is marked in `events`.
//!
//! Everything that is added up is an integer, so that a sum does not depend on the order.

use serde::{Deserialize, Serialize};

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
}

impl SharedEntity {
    /// All of them but [`SharedEntity::None`], in the order of their numbers.
    pub const ALL: [Self; 5] = [Self::Item, Self::Campaign, Self::Category, Self::Brand, Self::Placement];

    /// The name in the config, in columns and in tables.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Item => "item",
            Self::Campaign => "campaign",
            Self::Category => "category",
            Self::Brand => "brand",
            Self::Placement => "placement",
        }
    }

    /// The entity of that name.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::None].into_iter().chain(Self::ALL).find(|entity| entity.as_str() == name)
    }
}

/// What one partition of `events` counted of one key in one tile, written when its event clock has
/// passed the tile; or, with no entity, the mark that every tile before `tile_ms` is closed.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, prost::Message)]
pub struct EntityTile {
    /// Partition of `events` that was summed.
    #[prost(int32, tag = "1")]
    pub partition: i32,
    /// Start of the tile, ms since 1970 UTC. Of a mark: the time up to which all is closed.
    #[prost(int64, tag = "2")]
    pub tile_ms: i64,
    /// Which entity; [`SharedEntity::None`] for a mark.
    #[prost(enumeration = "SharedEntity", tag = "3")]
    pub entity: i32,
    /// Which of them; empty for a mark.
    #[prost(string, tag = "4")]
    pub key: String,
    /// Views.
    #[prost(uint64, tag = "5")]
    pub views: u64,
    /// Clicks that are no carts.
    #[prost(uint64, tag = "6")]
    pub clicks: u64,
    /// Carts.
    #[prost(uint64, tag = "7")]
    pub carts: u64,
    /// Purchase lines.
    #[prost(uint64, tag = "8")]
    pub purchases: u64,
    /// Refund lines.
    #[prost(uint64, tag = "9")]
    pub refunds: u64,
    /// Prices shown, in parts ([`VALUE_PARTS`]).
    #[prost(sint64, tag = "10")]
    pub view_value: i64,
    /// Value of purchases, in parts.
    #[prost(sint64, tag = "11")]
    pub purchase_value: i64,
    /// Value of refunds, in parts.
    #[prost(sint64, tag = "12")]
    pub refund_value: i64,
}

/// One key's windows at a version.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, prost::Message)]
pub struct EntityRow {
    /// Which entity.
    #[prost(enumeration = "SharedEntity", tag = "1")]
    pub entity: i32,
    /// Which of them.
    #[prost(string, tag = "2")]
    pub key: String,
    /// Per window of the entity, ascending: views, clicks, carts, purchases, refunds. Empty: all
    /// windows are empty, and the key is forgotten.
    #[prost(uint64, repeated, tag = "3")]
    pub counts: Vec<u64>,
    /// Per window: value of views, purchases, refunds, in parts. Empty where no sum is declared.
    #[prost(sint64, repeated, tag = "4")]
    pub values: Vec<i64>,
    /// End of the last tile with a view, click, cart, purchase, refund, ms; 0 for never. Empty
    /// where no age is declared.
    #[prost(int64, repeated, tag = "5")]
    pub last_ms: Vec<i64>,
}

/// The windows of shared entities at a tile boundary: as of `version_ms`, what happened before it
/// in all partitions. Every partition of `events` gets the same, in one transaction. A version of
/// many rows takes several records; it is in force with the last.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, prost::Message)]
pub struct EntityVersion {
    /// The boundary, ms since 1970 UTC: the version's name.
    #[prost(int64, tag = "1")]
    pub version_ms: i64,
    /// Fingerprint of the declarations that say which windows there are.
    #[prost(fixed64, tag = "2")]
    pub layout: u64,
    /// Whether the version holds all keys; else those that have changed since the one before.
    #[prost(bool, tag = "3")]
    pub whole: bool,
    /// Whether this is the version's last record.
    #[prost(bool, tag = "4")]
    pub last: bool,
    /// By entity, then key.
    #[prost(message, repeated, tag = "5")]
    pub rows: Vec<EntityRow>,
}
