//! What the market sends.

use schemas::Kind;

use crate::drivers::Drivers;

/// One record on its way to a raw topic.
#[derive(Debug, Clone, PartialEq)]
pub struct Emission {
    /// The market's clock when it is sent, ms since 1970 UTC; never less than the one before.
    pub arrival_ms: i64,
    /// Topic, without prefix (a constant of `schemas::topic`).
    pub topic: &'static str,
    /// Key: the consumer; of a late view, the one that it was sent after. Producers that partition
    /// by it, and keep each partition's order, make exactly the late views late.
    pub key: String,
    /// Value: JSON, unless it is garbage.
    pub value: Vec<u8>,
    /// When it happened, ms; of a bad record, when that would have been.
    pub event_time_ms: i64,
    /// What happened; `Unknown` for a record that ingest must refuse.
    pub kind: Kind,
    /// How many events it becomes: 1, or the lines of an order.
    pub lines: u32,
    /// For the first copy of a view: the truth of that impression.
    pub truth: Option<Truth>,
    /// What is wrong with it, if anything is.
    pub fault: Option<Fault>,
}

/// What is known of an impression to the market alone.
#[derive(Debug, Clone, PartialEq)]
pub struct Truth {
    /// The view's id.
    pub event_id: String,
    /// Probability that it is clicked.
    pub p_click: f64,
    /// Probability that a purchase comes of it, clicked or not.
    pub p_purchase: f64,
    /// What the click depends on, and how much.
    pub drivers: Drivers,
    /// Whether it is (or will be) clicked.
    pub clicked: bool,
    /// Whether a purchase comes (or will come) of it.
    pub purchased: bool,
}

/// What is wrong with a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Fault {
    /// The second copy of a good record: belongs in `duplicates`, once per line.
    Duplicate,
    /// A good view that arrives after the allowed lateness: belongs in `late-events`.
    Late,
    /// A good record behind others, within the allowed lateness: nothing may come of that.
    OutOfOrder,
    /// Its time is far ahead: belongs in `dead-letters`, as do all below.
    Future,
    /// No JSON, or no object.
    Garbage,
    /// A field of the wrong type, absent, or with an unknown name.
    WrongType,
    /// A number or text beyond all limits.
    Huge,
}
