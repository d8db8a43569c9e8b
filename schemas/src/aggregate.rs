//! Hourly sums for analysts.

use serde::{Deserialize, Serialize};

/// What all partitions of `events` together saw in one hour of one campaign, category, item and currency.
/// Of several rows of one such key and hour the highest `revision` counts and replaces the others.
///
/// Rates are not in it: those of several rows are no rate of their sum.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, prost::Message)]
pub struct Aggregate {
    /// The campaign; empty where the events had none.
    #[prost(string, tag = "1")]
    pub campaign: String,
    /// The item's category.
    #[prost(string, tag = "2")]
    pub category: String,
    /// The item.
    #[prost(string, tag = "3")]
    pub item: String,
    /// ISO 4217 code of `revenue`.
    #[prost(string, tag = "4")]
    pub currency: String,
    /// Start of the hour, ms since 1970 UTC.
    #[prost(int64, tag = "5")]
    pub hour_ms: i64,
    /// 0 when all partitions had passed the hour; one more each time that later events changed it.
    #[prost(uint32, tag = "6")]
    pub revision: u32,
    /// Views.
    #[prost(uint64, tag = "7")]
    pub impressions: u64,
    /// Clicks, carts too.
    #[prost(uint64, tag = "8")]
    pub clicks: u64,
    /// Of these, carts.
    #[prost(uint64, tag = "9")]
    pub carts: u64,
    /// Purchase lines.
    #[prost(uint64, tag = "10")]
    pub purchases: u64,
    /// Refund lines.
    #[prost(uint64, tag = "11")]
    pub refunds: u64,
    /// Value of purchases less value of refunds, in parts ([`crate::entity::VALUE_PARTS`]).
    #[prost(int64, tag = "12")]
    pub revenue: i64,
}
