//! What stands in the `events` log: canonical events and control records.
//!
//! Only ingest writes events here; control records come from ingest, from the merge stage and, where declarations change, from
//! whoever changes them. Whatever changes an output downstream and is not a customer's
//! event is a [`Control`] record, so that all after ingest is a pure function of this log.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use crate::{EntityVersion, Place};

/// What a consumer did.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, prost::Enumeration,
)]
#[serde(rename_all = "snake_case")]
#[repr(i32)]
pub enum Kind {
    /// Never written; what an absent field decodes to.
    Unknown = 0,
    /// An impression: an item was shown. Makes a feature vector.
    View = 1,
    /// A click on an impression.
    Click = 2,
    /// An item was put in the cart: counts as a click, under its own name.
    Cart = 3,
    /// One line of an order.
    Purchase = 4,
    /// One line of an order taken back.
    Refund = 5,
}

impl Kind {
    /// The name in raw events, tables and predictions.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::View => "view",
            Self::Click => "click",
            Self::Cart => "cart",
            Self::Purchase => "purchase",
            Self::Refund => "refund",
        }
    }

    /// The kind of that name.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::View, Self::Click, Self::Cart, Self::Purchase, Self::Refund]
            .into_iter()
            .find(|kind| kind.as_str() == name)
    }

    /// Whether it answers an impression as a click does (clicks and carts).
    pub const fn is_click(self) -> bool {
        matches!(self, Self::Click | Self::Cart)
    }
}

/// The raw record that an event came from. An order of several lines becomes several events of
/// one origin, told apart by `line`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, prost::Message)]
pub struct Origin {
    /// Raw topic, as it is named on the cluster.
    #[prost(string, tag = "1")]
    pub topic: String,
    /// Partition of that topic.
    #[prost(int32, tag = "2")]
    pub partition: i32,
    /// Offset in that partition.
    #[prost(int64, tag = "3")]
    pub offset: i64,
    /// Which of the record's events this is, from 0.
    #[prost(uint32, tag = "4")]
    pub line: u32,
    /// How many events the record became; at least 1.
    #[prost(uint32, tag = "5")]
    pub lines: u32,
}

impl Origin {
    /// `topic:partition:offset:line`: the id of predictions and examples. Stable over retries, so
    /// that a consumer of at-least-once output can drop repeats by it.
    pub fn id(&self) -> String {
        let mut id = String::new();
        self.write_id(&mut id);
        id
    }

    /// Appends it.
    pub fn write_id(&self, to: &mut String) {
        // Writing to a text does not fail.
        let _ = write!(to, "{}:{}:{}:{}", self.topic, self.partition, self.offset, self.line);
    }
}

/// A canonical event: validated, normalised, pseudonymised, joined with the catalogue.
/// Empty strings mean "not given".
#[derive(Clone, PartialEq, Serialize, Deserialize, prost::Message)]
pub struct Event {
    /// The raw record it came from.
    #[prost(message, required, tag = "1")]
    pub origin: Origin,
    /// What happened.
    #[prost(enumeration = "Kind", tag = "2")]
    pub kind: i32,
    /// The customer's id of the event; empty if none was given (it can then not be deduplicated
    /// by id).
    #[prost(string, tag = "3")]
    pub event_id: String,
    /// When it happened, ms since 1970 UTC.
    #[prost(int64, tag = "4")]
    pub event_time_ms: i64,
    /// Pseudonym of the consumer: `KEYID-` and 32 hex digits (HMAC-SHA-256, cut to 128 bits).
    #[prost(string, tag = "5")]
    pub user: String,
    /// The item shown, clicked or bought.
    #[prost(string, tag = "6")]
    pub item: String,
    /// The campaign it was shown for.
    #[prost(string, tag = "7")]
    pub campaign: String,
    /// Category of the item.
    #[prost(string, tag = "8")]
    pub category: String,
    /// Brand of the item.
    #[prost(string, tag = "9")]
    pub brand: String,
    /// Slot on the page or screen.
    #[prost(string, tag = "10")]
    pub placement: String,
    /// Device class of the consumer.
    #[prost(string, tag = "11")]
    pub device: String,
    /// Channel (web, app, mail, ...).
    #[prost(string, tag = "12")]
    pub channel: String,
    /// For a click: `event_id` of the view that it answers, where the customer knows it.
    #[prost(string, tag = "13")]
    pub view_id: String,
    /// The customer's request id, passed through.
    #[prost(string, tag = "14")]
    pub request_id: String,
    /// Opaque to Salience, at most 256 bytes, passed through to the prediction.
    #[prost(string, tag = "15")]
    pub context: String,
    /// View: the item's price. Purchase and refund: price times quantity. Else 0.
    #[prost(double, tag = "16")]
    pub value: f64,
    /// ISO 4217 code of `value`.
    #[prost(string, tag = "17")]
    pub currency: String,
    /// Pieces in this line; 1 where it has no meaning.
    #[prost(uint32, tag = "18")]
    pub quantity: u32,
    /// Extra numbers that the config names (`ingest.numbers`), in that order; NaN where missing.
    #[prost(float, repeated, tag = "19")]
    pub numbers: Vec<f32>,
    /// The item's content embedding from the catalogue; empty where there is none.
    #[prost(float, repeated, tag = "20")]
    pub embedding: Vec<f32>,
    /// Kafka timestamp of the raw record (wall clock of whoever wrote it), ms: where latency is
    /// measured from.
    #[prost(int64, tag = "21")]
    pub received_ms: i64,
}

/// One partition of one raw topic, as ingest sees it.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, prost::Message)]
pub struct Source {
    /// Raw topic, as it is named on the cluster.
    #[prost(string, tag = "1")]
    pub topic: String,
    /// Partition of it.
    #[prost(int32, tag = "2")]
    pub partition: i32,
}

/// All sources there are. Each partition of `events` begins with one; a later one replaces it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, prost::Message)]
pub struct SourceSet {
    /// Sorted, without repeats.
    #[prost(message, repeated, tag = "1")]
    pub sources: Vec<Source>,
}

/// The state of one source.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, prost::Message)]
pub struct Tick {
    /// Which source.
    #[prost(message, required, tag = "1")]
    pub source: Source,
    /// Its watermark: largest event time seen less the allowed lateness, ms.
    #[prost(int64, tag = "2")]
    pub watermark_ms: i64,
    /// Whether it is at its end and has been for a while; then it holds no clock back.
    #[prost(bool, tag = "3")]
    pub idle: bool,
}

/// The sources whose state has changed since the last record of this kind by the same ingest.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, prost::Message)]
pub struct Ticks {
    /// At least one.
    #[prost(message, repeated, tag = "1")]
    pub ticks: Vec<Tick>,
}

/// Other declarations of features are in force from here on: vectors of views behind it are made by them.
/// Every partition of `events` gets the same, in one transaction.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, prost::Message)]
pub struct Declaration {
    /// XXH3 of the text: the declarations' name.
    #[prost(fixed64, tag = "1")]
    pub fingerprint: u64,
    /// The declarations as JSON. They stand in the log, so that what it makes depends on nothing else.
    #[prost(string, tag = "2")]
    pub text: String,
}

impl Declaration {
    /// The name of declarations that are written so.
    pub fn fingerprint_of(text: &str) -> u64 {
        xxhash_rust::xxh3::xxh3_64(text.as_bytes())
    }
}

/// A record in `events` that is not a customer's event.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, prost::Oneof)]
#[serde(rename_all = "snake_case")]
pub enum Control {
    /// Watermarks moved.
    #[prost(message, tag = "2")]
    Ticks(Ticks),
    /// The set of sources.
    #[prost(message, tag = "3")]
    Sources(SourceSet),
    /// Tiles of shared entities have closed in all partitions. (Tag 4 was their windows.)
    #[prost(message, tag = "5")]
    Entities(EntityVersion),
    /// Other declarations are in force.
    #[prost(message, tag = "6")]
    Declared(Declaration),
}

/// One record of the `events` log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Entry {
    /// A customer's event.
    Event(Box<Event>),
    /// Anything else.
    Control(Control),
}

/// An event behind its source's watermark: kept whole, in `late-events`.
#[derive(Clone, PartialEq, Serialize, Deserialize, prost::Message)]
pub struct LateEvent {
    /// The event as it would have stood in `events`.
    #[prost(message, required, tag = "1")]
    pub event: Event,
    /// The watermark of its source when it came, ms.
    #[prost(int64, tag = "2")]
    pub watermark_ms: i64,
    /// How far behind it the event was, ms; positive.
    #[prost(int64, tag = "3")]
    pub late_by_ms: i64,
}

impl Event {
    /// Its kind, [`Kind::Unknown`] where a newer writer used one that this reader lacks.
    pub fn kind_or_unknown(&self) -> Kind {
        Kind::try_from(self.kind).unwrap_or(Kind::Unknown)
    }
}

/// An event with its place: what the cores after ingest fold.
#[derive(Debug, Clone, PartialEq)]
pub struct PlacedEvent {
    /// Where it stands in `events`.
    pub place: Place,
    /// The event.
    pub event: Event,
}
