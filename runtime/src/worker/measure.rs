//! What a worker tells of itself: each function is one occurrence, its metric and its log line.
//!
//! Labels are service, topic and partition only: bounded by the deployment.

use std::time::Duration;

use metrics::{counter, gauge, histogram};

use crate::core::Counters;
use crate::processor::TopicPartition;

/// What the core has done since `before`.
pub(super) fn progress(service: &str, before: Counters, now: Counters) {
    let service = service.to_owned();
    counter!("salience_loop_records_in_total", "service" => service.clone())
        .increment(now.folded - before.folded);
    counter!("salience_loop_records_replayed_total", "service" => service.clone())
        .increment(now.replayed - before.replayed);
    counter!("salience_loop_commits_total", "service" => service.clone())
        .increment(now.commits - before.commits);
    counter!("salience_loop_aborts_total", "service" => service.clone())
        .increment(now.aborts - before.aborts);
    for (standby, before, now) in
        [("no", before.restored, now.restored), ("yes", before.taken_over, now.taken_over)]
    {
        counter!("salience_loop_takeovers_total", "service" => service.clone(), "standby" => standby)
            .increment(now - before);
    }
    counter!("salience_loop_units_dropped_total", "service" => service)
        .increment(now.dropped - before.dropped);
}

/// So many partitions are followed.
pub(super) fn standbys(service: &str, partitions: usize) {
    gauge!("salience_standby_partitions", "service" => service.to_owned()).set(partitions as f64);
}

/// So many offsets that are committed of a partition a standby has still to fold.
pub(super) fn standby_lag(service: &str, partition: &TopicPartition, offsets: i64) {
    gauge!(
        "salience_standby_lag_offsets",
        "service" => service.to_owned(),
        "topic" => partition.topic.to_string(),
        "partition" => partition.partition.to_string(),
    )
    .set(offsets as f64);
}

/// Records went to the producer.
pub(super) fn produced(service: &str, count: usize) {
    counter!("salience_loop_records_out_total", "service" => service.to_owned()).increment(count as u64);
}

/// A poll gave records.
pub(super) fn batch(service: &str, records: usize) {
    histogram!("salience_loop_batch_records", "service" => service.to_owned()).record(records as f64);
}

/// A commit took so long.
pub(super) fn commit(service: &str, took: Duration) {
    histogram!("salience_loop_commit_seconds", "service" => service.to_owned()).record(took.as_secs_f64());
}

/// So many offsets of a partition are still to be read.
pub(super) fn lag(service: &str, partition: &TopicPartition, offsets: i64) {
    gauge!(
        "salience_loop_lag_offsets",
        "service" => service.to_owned(),
        "topic" => partition.topic.to_string(),
        "partition" => partition.partition.to_string(),
    )
    .set(offsets.max(0) as f64);
}

/// A snapshot was written.
pub(super) fn saved(service: &str, path: &str, bytes: usize) {
    tracing::debug!(service, path, bytes, "saved a snapshot");
    counter!("salience_snapshots_written_total", "service" => service.to_owned()).increment(1);
    counter!("salience_snapshot_bytes_total", "service" => service.to_owned()).increment(bytes as u64);
}

/// A snapshot could not be written: the next restart replays more.
pub(super) fn not_saved(service: &str, path: &str, why: &dyn std::fmt::Display) {
    tracing::warn!(service, path, %why, "could not save a snapshot (retry at the next interval)");
    counter!("salience_snapshots_failed_total", "service" => service.to_owned()).increment(1);
}

/// A snapshot is not restored: the one before is tried.
pub(super) fn refused(service: &str, path: &str, why: &dyn std::fmt::Display) {
    tracing::warn!(service, path, %why, "a snapshot is not restored, trying the one before");
    counter!("salience_snapshots_refused_total", "service" => service.to_owned()).increment(1);
}

/// The group still has a member of the worker's name.
pub(super) fn held(service: &str, worker: &str, why: &dyn std::fmt::Display) {
    tracing::warn!(
        service,
        worker,
        %why,
        "waiting for the session of this worker's predecessor to end (group.consumer.session.timeout.ms of the \
         broker), unless another process runs with the same service.instance (retry)"
    );
}

/// Clients that do not close.
pub(super) fn left_behind(service: &str, worker: &str, after: std::time::Duration) {
    tracing::warn!(service, worker, ?after, "a client does not close, and is left behind");
    counter!("salience_loop_clients_left_total", "service" => service.to_owned()).increment(1);
}

/// The worker is built anew.
pub(super) fn rebuilt(service: &str, worker: &str, why: &dyn std::fmt::Display) {
    tracing::warn!(service, worker, %why, "building the worker anew");
    counter!("salience_loop_rebuilds_total", "service" => service.to_owned()).increment(1);
}
