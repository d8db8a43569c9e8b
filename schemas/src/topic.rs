//! Names of the topics.

use std::sync::Arc;

macro_rules! topics {
    ($($(#[doc = $doc:literal])* $constant:ident, $field:ident => $name:literal;)*) => {
        $($(#[doc = $doc])* pub const $constant: &str = $name;)*

        /// The topics of one deployment, with its prefix.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct Names {
            $($(#[doc = $doc])* pub $field: Arc<str>,)*
        }

        impl Names {
            /// All names with `prefix` in front.
            pub fn new(prefix: &str) -> Self {
                Self { $($field: format!("{prefix}{}", $name).into(),)* }
            }

            /// All of them, raw topics first.
            pub fn all(&self) -> Vec<Arc<str>> {
                vec![$(Arc::clone(&self.$field)),*]
            }
        }
    };
}

topics! {
    /// Raw impressions.
    VIEWS, views => "views";
    /// Raw clicks and carts.
    CLICKS, clicks => "clicks";
    /// Raw orders and refunds.
    PURCHASES, purchases => "purchases";
    /// The catalogue (compacted, optional).
    ITEMS, items => "items";
    /// Canonical events and control records.
    EVENTS, events => "events";
    /// Refused records.
    DEAD_LETTERS, dead_letters => "dead-letters";
    /// Events behind their source's watermark.
    LATE_EVENTS, late_events => "late-events";
    /// One vector per impression.
    FEATURE_VECTORS, feature_vectors => "feature-vectors";
    /// Labels of impressions.
    LABELS, labels => "labels";
    /// Dropped duplicates.
    DUPLICATES, duplicates => "duplicates";
    /// Hourly sums.
    AGGREGATES, aggregates => "aggregates";
    /// Sums of shared entities per tile and partition of `events` (one partition: their order is
    /// the merge's input, and a version needs the marks of all of them).
    ENTITY_TILES, entity_tiles => "entity-tiles";
    /// Champions (compacted).
    MODELS, models => "models";
    /// What the optimizers consume.
    PREDICTIONS, predictions => "predictions";
}
