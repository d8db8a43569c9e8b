//! What ingest tells of itself: one function per occurrence, labels from closed or bounded lists.

use runtime::processor::TopicPartition;
use schemas::{Reason, Source};

use crate::catalogue::ItemError;

/// Sources that get a gauge of their own; with more, the others are not told apart.
pub(crate) const MAX_LABELLED_SOURCES: usize = 256;

/// Counts of one step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Counts {
    pub(crate) events: u64,
    pub(crate) late: u64,
    pub(crate) ticks: u64,
}

/// A step is done. `waits` is whether what is held waits for sources of other workers or instances.
pub(crate) fn stepped(counts: Counts, held: usize, held_bytes: usize, waits: bool) {
    metrics::gauge!("salience_ingest_waits_for_others").set(f64::from(u8::from(waits)));
    metrics::counter!("salience_ingest_events_total").increment(counts.events);
    metrics::counter!("salience_ingest_late_events_total").increment(counts.late);
    metrics::counter!("salience_ingest_ticks_total").increment(counts.ticks);
    metrics::gauge!("salience_ingest_held_records").set(held as f64);
    metrics::gauge!("salience_ingest_held_bytes").set(held_bytes as f64);
}

/// A record went to `dead-letters`. Logged at debug only: a garbage stream must not flood the log.
pub(crate) fn refused(place: &TopicPartition, offset: i64, reason: Reason, message: &str) {
    metrics::counter!("salience_ingest_dead_letters_total", "reason" => reason.as_str()).increment(1);
    tracing::debug!(source = %place, offset, reason = reason.as_str(), message, "record refused");
}

/// A source ticked. `label` is false past [`MAX_LABELLED_SOURCES`].
pub(crate) fn ticked(source: &TopicPartition, watermark_ms: i64, idle: bool, label: bool) {
    if label {
        let labels = [("topic", source.topic.to_string()), ("partition", source.partition.to_string())];
        metrics::gauge!("salience_ingest_watermark_ms", &labels).set(watermark_ms as f64);
        metrics::gauge!("salience_ingest_source_idle", &labels).set(f64::from(u8::from(idle)));
    }
}

/// What is at hand is too far ahead of a source of another worker or instance.
pub(crate) fn waits(source: &Source, watermark_ms: i64) {
    tracing::debug!(
        topic = source.topic,
        partition = source.partition,
        watermark_ms,
        "ingest waits for a source that others read"
    );
}

/// Ticks cannot be listened to: nobody is waited for.
pub(crate) fn deaf(error: &dyn std::fmt::Display) {
    metrics::counter!("salience_ingest_listen_failures_total").increment(1);
    tracing::warn!(%error, "ticks of other ingests are not heard, none is waited for until they are");
}

/// The unit has its partitions.
pub(crate) fn assigned(sources: usize, all: usize) {
    tracing::info!(sources, of = all, "ingest reads its sources");
}

/// A catalogue record was left out.
pub(crate) fn item_left_out(offset: i64, partition: i32, error: ItemError) {
    metrics::counter!("salience_ingest_items_left_out_total").increment(1);
    tracing::debug!(partition, offset, %error, "catalogue record left out");
}

/// The catalogue was read or refreshed.
pub(crate) fn catalogue_size(items: usize) {
    metrics::gauge!("salience_ingest_catalogue_items").set(items as f64);
}

/// The catalogue, which ingest begins with, cannot be read yet.
pub(crate) fn catalogue_waits(error: &dyn std::fmt::Display) {
    tracing::warn!(%error, "the catalogue cannot be read yet, and ingest begins with it (retry)");
}

/// The catalogue could not be refreshed; the one at hand serves on.
pub(crate) fn catalogue_stale(error: &dyn std::fmt::Display) {
    metrics::counter!("salience_ingest_catalogue_refresh_failures_total").increment(1);
    tracing::warn!(%error, "catalogue not refreshed, the one at hand is used on");
}
