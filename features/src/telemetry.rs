//! What the feature service counts and measures. Labels are bounded: a partition at most.

use crate::out::Counts;

/// Adds up what the fold of a partition has done since it was last told.
pub(crate) fn folded(partition: i32, before: Counts, after: Counts) {
    let partition = partition.to_string();
    for (name, before, after) in [
        ("salience_features_events_total", before.events, after.events),
        ("salience_features_vectors_total", before.vectors, after.vectors),
        ("salience_features_labels_total", before.labels, after.labels),
        ("salience_features_duplicates_total", before.duplicates, after.duplicates),
        ("salience_features_aggregates_total", before.aggregates, after.aggregates),
        ("salience_features_events_behind_clock_total", before.behind_clock, after.behind_clock),
        ("salience_features_events_uncorrected_total", before.uncorrected, after.uncorrected),
        ("salience_features_events_unknown_kind_total", before.unknown_kind, after.unknown_kind),
    ] {
        if after > before {
            metrics::counter!(name, "partition" => partition.clone()).increment(after - before);
        }
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

/// A snapshot was taken.
pub(crate) fn snapshot_taken(partition: i32, users: usize, snapshot_bytes: usize, state_bytes: usize) {
    let label = partition.to_string();
    metrics::gauge!("salience_features_state_bytes", "partition" => label.clone()).set(state_bytes as f64);
    metrics::gauge!("salience_features_snapshot_bytes", "partition" => label).set(snapshot_bytes as f64);
    tracing::debug!(partition, users, snapshot_bytes, state_bytes, "state written as a snapshot");
}
