//! Dead letters: records that ingest refused, kept byte for byte with the reason in headers.
//!
//! Header names are Kafka Connect's (KIP-298), so that its tools understand them.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{DecodeError, Record};

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

            /// The reason of that name.
            pub fn parse(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|reason| reason.as_str() == name)
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

/// Headers of a record, in order.
pub type Headers = Vec<(String, Option<Bytes>)>;

impl Record for DeadLetter {
    const NAME: &'static str = "dead letter";
    const VERSION: u8 = 1;
}

impl DeadLetter {
    /// The headers that say where it came from and why it was refused. Key and value of the record
    /// are the refused one's.
    pub fn headers(&self) -> Headers {
        let text =
            |name: &str, value: &str| (name.to_owned(), Some(Bytes::copy_from_slice(value.as_bytes())));
        vec![
            text(HEADER_TOPIC, &self.topic),
            text(HEADER_PARTITION, &self.partition.to_string()),
            text(HEADER_OFFSET, &self.offset.to_string()),
            text(HEADER_STAGE, &self.stage),
            text(HEADER_CLASS, self.reason.as_str()),
            text(HEADER_MESSAGE, &self.message),
        ]
    }

    /// Key, value and headers of the record in `dead-letters`.
    pub fn into_parts(self) -> (Option<Bytes>, Option<Bytes>, Headers) {
        let headers = self.headers();
        (self.key.map(Bytes::from), self.value.map(Bytes::from), headers)
    }

    /// Reads a record of `dead-letters`; headers other than those of [`Self::headers`] are left out.
    ///
    /// # Errors
    /// A header that is absent, or that no ingest wrote.
    pub fn from_parts(
        key: Option<&Bytes>,
        value: Option<&Bytes>,
        headers: &[(String, Option<Bytes>)],
    ) -> Result<Self, DecodeError> {
        let invalid = |what| DecodeError::Invalid { record: Self::NAME, what };
        // The last of a name counts: the raw record may have carried such a header itself.
        let text = |name: &str| {
            let found = headers.iter().rev().find(|(key, _)| key == name);
            let bytes = found.and_then(|(_, value)| value.as_ref()).ok_or(invalid("a header is absent"))?;
            std::str::from_utf8(bytes).map_err(|_| invalid("a header is not UTF-8"))
        };
        Ok(Self {
            topic: text(HEADER_TOPIC)?.to_owned(),
            partition: text(HEADER_PARTITION)?.parse().map_err(|_| invalid("the partition is no number"))?,
            offset: text(HEADER_OFFSET)?.parse().map_err(|_| invalid("the offset is no number"))?,
            stage: text(HEADER_STAGE)?.to_owned(),
            reason: Reason::parse(text(HEADER_CLASS)?)
                .ok_or(invalid("the reason is none of those known; upgrade this build"))?,
            message: text(HEADER_MESSAGE)?.to_owned(),
            key: key.map(|bytes| bytes.to_vec()),
            value: value.map(|bytes| bytes.to_vec()),
        })
    }
}
