//! Records on their way into the raw topics: what a market or a replayed log gives the feeder.

/// One raw record.
#[derive(Debug, Clone, PartialEq)]
pub struct FeedRecord {
    /// Raw topic without prefix (`schemas::topic::VIEWS`, ...).
    pub topic: &'static str,
    /// Key of the record.
    pub key: String,
    /// Value, as a customer would send it.
    pub value: Vec<u8>,
    /// When it arrives, on the feed's own clock, ms: paces a feed that is not at full speed.
    pub at_ms: i64,
}

/// The raw topic that takes events of this kind; unknown kinds go to `views`, where ingest refuses
/// them with the reason.
pub fn topic_of(kind: &str) -> &'static str {
    match kind {
        "click" | "cart" => schemas::topic::CLICKS,
        "purchase" | "refund" => schemas::topic::PURCHASES,
        _ => schemas::topic::VIEWS,
    }
}
