//! Predictions: what campaign optimizers consume.

use serde::{Deserialize, Serialize};

use crate::{Origin, Place};

/// How a prediction came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// By a trained model.
    Scored,
    /// By smoothed base rates: there was no model yet.
    #[default]
    Fallback,
}

impl Status {
    /// The name in predictions and tables.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Scored => "scored",
            Self::Fallback => "fallback",
        }
    }
}

/// Weight of one input field in the attention that pools the fields; weights of all fields sum
/// to 1, only the largest are listed.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct FieldAttention {
    /// Field name (a column of `features`, or `behaviours`).
    pub field: String,
    /// Share of the attention, 0 to 1.
    pub weight: f32,
}

/// Weight of one past behaviour.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct BehaviourAttention {
    /// Item.
    pub item: String,
    /// What was done (`view`, `click`, ...).
    pub kind: String,
    /// How long before the impression, ms.
    pub age_ms: i64,
    /// Share of the attention over behaviours, 0 to 1.
    pub weight: f32,
}

/// One per impression. The default is one to be written over.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Prediction {
    /// Format of this record.
    pub version: u32,
    /// `topic:partition:offset:line` of the raw view ([`Origin::id`]): drop repeats by it.
    pub prediction_id: String,
    /// The customer's id of the view.
    pub event_id: String,
    /// Pseudonym of the consumer.
    pub user: String,
    /// Item shown.
    pub item: String,
    /// Campaign it was shown for; the record's key.
    pub campaign: String,
    /// Slot it was shown in.
    pub placement: String,
    /// The view's, passed through.
    pub request_id: String,
    /// The view's, passed through.
    pub context: String,
    /// Probability of a click within the click window.
    pub p_click: f32,
    /// Probability of a purchase within the purchase window.
    pub p_purchase: f32,
    /// `p_purchase` times what a purchase is worth: as the model predicts, where it does so in
    /// `currency`; else the price shown.
    pub expected_value: f64,
    /// ISO 4217 code of `expected_value`.
    pub currency: String,
    /// The fields that drew most attention, largest first.
    pub attention: Vec<FieldAttention>,
    /// The past behaviours that drew most attention, largest first.
    pub behaviours: Vec<BehaviourAttention>,
    /// Event time after which it should not be acted on, ms.
    pub valid_until_ms: i64,
    /// How it came about.
    pub status: Status,
    /// Version of the model; `fallback` where there was none.
    pub model_version: String,
    /// Checksum of the model's artefact, hex; of the base rates' settings where there was none.
    pub model_checksum: String,
    /// Kernel class that computed it (`avx512`, `avx2`, `portable`, `cuda`).
    pub kernel: String,
    /// How `attention` and `behaviours` were weighed: `attention`, `rollout`,
    /// `integrated_gradients` or `ablation`; empty where nothing was, and in predictions of earlier
    /// versions.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub explanation_method: String,
    /// Fingerprint of the vector's schema, 16 hex digits.
    pub fingerprint: String,
    /// The raw record of the view.
    pub origin: Origin,
    /// Place of the view in `events`: it names the vector, of which there is one for each.
    pub place: Place,
    /// Offset of the vector in its partition of `feature-vectors` (its partition is `place`'s), in predictions
    /// of version 1 alone: where a prediction is written in the transaction of its vector, nobody knows it yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vector_offset: Option<i64>,
    /// Version of the shared entities that the vector read.
    pub entity_version: u64,
    /// When the view happened, ms.
    pub event_time_ms: i64,
    /// The event clock when the vector was made, ms.
    pub clock_ms: i64,
    /// Kafka timestamp of the raw view, wall clock, ms.
    pub received_ms: i64,
    /// When it was scored, wall clock, ms. The one field that a recomputation does not compare.
    pub scored_ms: i64,
}

impl Prediction {
    /// The version that this code writes.
    pub const VERSION: u32 = 2;
}
