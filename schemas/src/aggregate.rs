//! Hourly sums for analysts.

use serde::{Deserialize, Serialize};

/// What one partition of `events` saw of one campaign in one hour. The partitions' rows of an
/// hour add up to the campaign's; of several rows of one (partition, campaign, currency, hour) the highest
/// `revision` counts and replaces the others.
#[derive(Clone, PartialEq, Serialize, Deserialize, prost::Message)]
pub struct Aggregate {
    /// Partition of `events` that was summed.
    #[prost(int32, tag = "1")]
    pub partition: i32,
    /// The campaign.
    #[prost(string, tag = "2")]
    pub campaign: String,
    /// Start of the hour, ms since 1970 UTC.
    #[prost(int64, tag = "3")]
    pub hour_ms: i64,
    /// 0 when the clock passed the hour; one more each time events behind the clock changed it.
    #[prost(uint32, tag = "4")]
    pub revision: u32,
    /// Views.
    #[prost(uint64, tag = "5")]
    pub impressions: u64,
    /// Clicks and carts.
    #[prost(uint64, tag = "6")]
    pub clicks: u64,
    /// Purchase lines.
    #[prost(uint64, tag = "7")]
    pub purchases: u64,
    /// Refund lines.
    #[prost(uint64, tag = "8")]
    pub refunds: u64,
    /// Value of purchases less value of refunds.
    #[prost(double, tag = "9")]
    pub revenue: f64,
    /// ISO 4217 code of `revenue`; empty where no event of the hour had one.
    #[prost(string, tag = "10")]
    pub currency: String,
}
