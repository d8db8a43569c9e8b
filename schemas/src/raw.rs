//! Raw events: what customers send to `views`, `clicks` and `purchases` as JSON.
//!
//! These are the default field names; ingest can map others. Producers in this workspace (the
//! simulated market, replays) write this type; ingest reads JSON field by field, since a
//! customer's record may be wrong in any way.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// One line of an order.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct OrderLine {
    /// Item bought.
    pub item_id: String,
    /// Price of one piece.
    pub price: f64,
    /// Pieces; 1 where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quantity: Option<u32>,
    /// Campaign, where it differs from the order's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub campaign_id: Option<String>,
    /// Category of the item, where there is no catalogue.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub category: Option<String>,
    /// Brand of the item, where there is no catalogue.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub brand: Option<String>,
}

/// A raw event with the default field names. `event_time` is ms since 1970 UTC here; ingest also
/// takes RFC 3339 text.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct RawEvent {
    /// `view`, `click`, `cart`, `purchase` or `refund`; absent: what the topic says.
    pub kind: String,
    /// Unique id of the event.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event_id: Option<String>,
    /// When it happened, ms since 1970 UTC.
    pub event_time: i64,
    /// The consumer; pseudonymised by ingest.
    pub user_id: String,
    /// The item; absent for an order with `lines`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub item_id: Option<String>,
    /// The campaign.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub campaign_id: Option<String>,
    /// Category, where there is no catalogue.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub category: Option<String>,
    /// Brand, where there is no catalogue.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub brand: Option<String>,
    /// Slot on the page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub placement: Option<String>,
    /// Device class.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// Channel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channel: Option<String>,
    /// For a click: the view's `event_id`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub view_id: Option<String>,
    /// Passed through to the prediction.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// Passed through to the prediction, at most 256 bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context: Option<String>,
    /// Price of one piece.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub price: Option<f64>,
    /// Pieces, for a purchase or refund of one item.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quantity: Option<u32>,
    /// ISO 4217 code of the prices.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub currency: Option<String>,
    /// Lines of an order (purchase or refund); then `item_id` and `price` are absent.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub lines: Vec<OrderLine>,
    /// Any other numbers, by name; those that `ingest.numbers` lists are kept.
    #[serde(flatten)]
    pub numbers: BTreeMap<String, f64>,
}
