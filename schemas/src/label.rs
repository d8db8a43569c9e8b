//! Labels of impressions, and the places of dropped duplicates.

use serde::{Deserialize, Serialize};

use crate::Place;

/// What came of an impression, as far as the event clock has decided it. A later record of the
/// same place replaces an earlier one: learners take the last.
#[derive(Clone, PartialEq, Serialize, Deserialize, prost::Message)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts, each a column of its own")]
pub struct Label {
    /// Place of the view in `events`.
    #[prost(message, required, tag = "1")]
    pub place: Place,
    /// As in the view.
    #[prost(int64, tag = "2")]
    pub event_time_ms: i64,
    /// As in the view.
    #[prost(string, tag = "3")]
    pub user: String,
    /// As in the view.
    #[prost(string, tag = "4")]
    pub item: String,
    /// As in the view.
    #[prost(string, tag = "5")]
    pub campaign: String,
    /// Counts the labels of this place, from 0.
    #[prost(uint32, tag = "6")]
    pub revision: u32,
    /// The event clock at which it was decided, ms.
    #[prost(int64, tag = "7")]
    pub clock_ms: i64,
    /// A click answered it within the click window. Final: no label is written before that
    /// window has passed.
    #[prost(bool, tag = "8")]
    pub clicked: bool,
    /// Event time of the first such click, ms; 0 where none.
    #[prost(int64, tag = "9")]
    pub click_time_ms: i64,
    /// A purchase was credited to it, and it had been clicked.
    #[prost(bool, tag = "10")]
    pub purchased_after_click: bool,
    /// A purchase was credited to it, and it had not been clicked.
    #[prost(bool, tag = "11")]
    pub purchased_after_view: bool,
    /// Event time of the first purchase credited, ms; 0 where none.
    #[prost(int64, tag = "12")]
    pub purchase_time_ms: i64,
    /// Sum of the purchases credited.
    #[prost(double, tag = "13")]
    pub value: f64,
    /// Sum of the refunds of these purchases.
    #[prost(double, tag = "14")]
    pub refunded: f64,
    /// ISO 4217 code of `value`.
    #[prost(string, tag = "15")]
    pub currency: String,
    /// The purchase window has closed: no more purchase can be credited. Says nothing of whether
    /// one was.
    #[prost(bool, tag = "16")]
    pub matured: bool,
}

/// A repeat of an event, dropped.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, prost::Message)]
pub struct Duplicate {
    /// Place of the dropped event in `events`.
    #[prost(message, required, tag = "1")]
    pub place: Place,
    /// Place of the first of its kind.
    #[prost(message, required, tag = "2")]
    pub first: Place,
    /// The id (or content hash) that both share.
    #[prost(string, tag = "3")]
    pub event_id: String,
    /// Pseudonym of the consumer.
    #[prost(string, tag = "4")]
    pub user: String,
    /// Event time of the dropped event, ms.
    #[prost(int64, tag = "5")]
    pub event_time_ms: i64,
}
