//! What the feature service counts and measures. Labels are bounded: a partition at most.

use schemas::{Place, Source};

use crate::out::Counts;
use crate::shared::aggregates::{AggregateCounts, Aggregates};
use crate::shared::merge::MergeCounts;

/// So far behind in event time, a version or a partition is named in a warning, ms; again only after
/// it has come within half of that. A replay at an hour a second must not warn of a few seconds.
const FAR_MS: i64 = 6 * 3_600_000;

/// Adds up what the fold of a partition has done since it was last told.
pub(crate) fn folded(partition: i32, before: Counts, after: Counts) {
    let partition = partition.to_string();
    for (name, before, after) in [
        ("salience_features_events_total", before.events, after.events),
        ("salience_features_vectors_total", before.vectors, after.vectors),
        ("salience_features_labels_total", before.labels, after.labels),
        ("salience_features_duplicates_total", before.duplicates, after.duplicates),
        ("salience_features_events_behind_clock_total", before.behind_clock, after.behind_clock),
        ("salience_features_events_uncorrected_total", before.uncorrected, after.uncorrected),
        ("salience_features_events_untiled_total", before.untiled, after.untiled),
        ("salience_features_entity_tiles_total", before.tiles, after.tiles),
        ("salience_features_entity_hours_total", before.hours, after.hours),
        ("salience_features_entity_versions_total", before.versions, after.versions),
        ("salience_features_vectors_without_version_total", before.without_version, after.without_version),
        ("salience_features_events_unknown_kind_total", before.unknown_kind, after.unknown_kind),
        ("salience_features_looked_at_total", before.looked_at, after.looked_at),
    ] {
        if after > before {
            metrics::counter!(name, "partition" => partition.clone()).increment(after - before);
        }
    }
}

/// A record was folded: says so where other declarations are in force behind it.
pub(crate) fn declared(place: Place, before: u64, after: u64) {
    if before != after {
        tracing::info!(
            place = %place,
            before = format!("{before:016x}"),
            after = format!("{after:016x}"),
            "other declarations are in force"
        );
    }
}

/// How large the state of a partition is, and where its clock stands.
pub(crate) fn state(partition: i32, users: usize, timers: usize, clock_ms: Option<i64>) {
    let partition = partition.to_string();
    metrics::gauge!("salience_features_users", "partition" => partition.clone()).set(users as f64);
    metrics::gauge!("salience_features_timers", "partition" => partition.clone()).set(timers as f64);
    if let Some(clock_ms) = clock_ms {
        let seconds = clock_ms as f64 / 1_000.0;
        metrics::gauge!("salience_features_event_clock_seconds", "partition" => partition).set(seconds);
    }
}

/// How many users of a partition are out of memory.
pub(crate) fn cold(partition: i32, users: usize) {
    metrics::gauge!("salience_features_cold_users", "partition" => partition.to_string()).set(users as f64);
}

/// A snapshot was taken.
pub(crate) fn snapshot_taken(partition: i32, users: usize, snapshot_bytes: usize, state_bytes: usize) {
    let label = partition.to_string();
    metrics::gauge!("salience_features_state_bytes", "partition" => label.clone()).set(state_bytes as f64);
    metrics::gauge!("salience_features_snapshot_bytes", "partition" => label).set(snapshot_bytes as f64);
    tracing::debug!(partition, users, snapshot_bytes, state_bytes, "state written as a snapshot");
}

/// How far the version of shared entities lies behind the partition's vectors; `warned` is whether
/// that has been said.
pub(crate) fn version_behind(
    partition: i32,
    behind_ms: i64,
    slowest: Option<(&Source, i64)>,
    warned: &mut bool,
) {
    let seconds = behind_ms as f64 / 1_000.0;
    metrics::gauge!("salience_features_entity_version_behind_seconds", "partition" => partition.to_string())
        .set(seconds);
    if is_news(behind_ms, warned) {
        let source =
            slowest.map_or_else(String::new, |(source, _)| format!("{}[{}]", source.topic, source.partition));
        tracing::warn!(
            partition,
            behind_seconds = seconds,
            slowest_source = source,
            "vectors read shared entities of long ago: the slowest source holds the event clock, or the \
             merge waits for a partition that it names"
        );
    }
}

/// Whether it is far behind and that has not been said.
fn is_news(behind_ms: i64, said: &mut bool) -> bool {
    let news = behind_ms > FAR_MS && !*said;
    *said = news || (*said && behind_ms > FAR_MS / 2);
    news
}

/// What the merge has done since it was last told, and the version that it has come to.
pub(crate) fn merged(before: MergeCounts, after: MergeCounts, version_ms: Option<i64>) {
    for (name, before, after) in [
        ("salience_merge_records_total", before.records, after.records),
        ("salience_merge_passed_over_total", before.passed_over, after.passed_over),
        ("salience_merge_versions_total", before.versions, after.versions),
        ("salience_merge_bytes_total", before.bytes, after.bytes),
    ] {
        if after > before {
            metrics::counter!(name).increment(after - before);
        }
    }
    if let Some(version_ms) = version_ms {
        metrics::gauge!("salience_merge_version_seconds").set(version_ms as f64 / 1_000.0);
    }
}

/// What has been written of hourly sums since it was last told.
pub(crate) fn aggregated(before: AggregateCounts, after: AggregateCounts) {
    for (name, before, after) in [
        ("salience_merge_aggregates_total", before.rows, after.rows),
        ("salience_merge_aggregates_corrected_total", before.corrections, after.corrections),
        ("salience_merge_hours_passed_over_total", before.passed_over, after.passed_over),
        ("salience_merge_events_uncorrected_total", before.uncorrected, after.uncorrected),
    ] {
        if after > before {
            metrics::counter!(name).increment(after - before);
        }
    }
}

/// How far each partition of `events` has closed its tiles, against the one that has come farthest.
/// One that is far behind holds versions back: it is named once, in `named`.
///
/// `first_ms` is the first time that any was seen to have closed: one that has closed nothing yet is
/// behind by what has passed since.
pub(crate) fn closed(closed_ms: &[Option<i64>], first_ms: &mut Option<i64>, named: &mut [bool]) {
    let Some(farthest_ms) = closed_ms.iter().flatten().copied().max() else { return };
    let first_ms = *first_ms.get_or_insert(farthest_ms);
    for (partition, (closed_ms, named)) in closed_ms.iter().zip(named).enumerate() {
        let behind_ms = farthest_ms.saturating_sub(closed_ms.unwrap_or(first_ms));
        let seconds = behind_ms as f64 / 1_000.0;
        metrics::gauge!("salience_merge_partition_behind_seconds", "partition" => partition.to_string())
            .set(seconds);
        if is_news(behind_ms, named) {
            tracing::warn!(
                partition,
                behind_seconds = seconds,
                "a partition of events holds versions of shared entities back: its features worker has \
                 stopped or lags"
            );
        }
    }
}

/// A snapshot of the merge was taken; so many bytes of tiles wait for other partitions.
pub(crate) fn merge_snapshot_taken(pending_bytes: usize, aggregates: &Aggregates, snapshot_bytes: usize) {
    let (rows, bytes) = (aggregates.rows(), aggregates.bytes());
    metrics::gauge!("salience_merge_hourly_rows").set(rows as f64);
    metrics::gauge!("salience_merge_hourly_bytes").set(bytes as f64);
    metrics::gauge!("salience_merge_pending_bytes").set(pending_bytes as f64);
    metrics::gauge!("salience_merge_snapshot_bytes").set(snapshot_bytes as f64);
    tracing::debug!(pending_bytes, rows, bytes, snapshot_bytes, "the merge's state written as a snapshot");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_far_behind_is_said_once_until_it_has_come_nearer() {
        let mut said = false;
        let mut news = |tenths: i64| is_news(tenths * 6 * 60_000, &mut said);
        assert_eq!([59, 61, 70, 59, 61].map(&mut news), [false, true, false, false, false]);
        assert_eq!([29, 61].map(&mut news), [false, true]);
    }
}
