//! Dead letters: records that ingest refused, kept byte for byte with the reason in headers.
//!
//! Header names are Kafka Connect's (KIP-298), so that its tools understand them.

use serde::{Deserialize, Serialize};

/// Topic the record came from.
pub const HEADER_TOPIC: &str = "__connect.errors.topic";
/// Partition the record came from.
pub const HEADER_PARTITION: &str = "__connect.errors.partition";
/// Offset the record had.
pub const HEADER_OFFSET: &str = "__connect.errors.offset";
/// Where in the pipeline it was refused.
pub const HEADER_STAGE: &str = "__connect.errors.stage";
/// The reason, from the closed list [`Reason`].
pub const HEADER_CLASS: &str = "__connect.errors.exception.class.name";
/// What was wrong, in words: the field and the value (cut), never a person's id.
pub const HEADER_MESSAGE: &str = "__connect.errors.exception.message";

macro_rules! reasons {
    ($($(#[doc = $doc:literal])* $variant:ident => $name:literal),* $(,)?) => {
        /// Why a record was refused: a closed list, so that metrics by reason stay bounded.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum Reason {
            $($(#[doc = $doc])* #[serde(rename = $name)] $variant,)*
        }

        impl Reason {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The name in the header, in metrics and in tables.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name),* }
            }
        }
    };
}

reasons! {
    /// The value is not JSON, or not a JSON object.
    Undecodable => "undecodable",
    /// The record has no value.
    Empty => "empty",
    /// The value is larger than `ingest.max_record_bytes`.
    TooLarge => "too_large",
    /// A required field is absent or empty.
    MissingField => "missing_field",
    /// A field has the wrong type.
    WrongType => "wrong_type",
    /// `kind` is none of those known, or one that the topic does not take.
    UnknownKind => "unknown_kind",
    /// The event time is not a time, or out of the range that Salience can hold.
    InvalidTime => "invalid_time",
    /// The event time is too far ahead of the clock.
    FutureTime => "future_time",
    /// A number is not finite, negative where it must not be, or too large.
    InvalidNumber => "invalid_number",
    /// A text is longer than its limit.
    TooLong => "too_long",
    /// An order has no lines, or too many.
    InvalidLines => "invalid_lines",
}

/// A dead letter as readers see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetter {
    /// Raw topic.
    pub topic: String,
    /// Its partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
    /// Where it was refused (`ingest`).
    pub stage: String,
    /// Why.
    pub reason: Reason,
    /// Why, in words.
    pub message: String,
    /// The key, as it came.
    pub key: Option<Vec<u8>>,
    /// The value, as it came.
    pub value: Option<Vec<u8>>,
}
