//! What the lake tells of itself: a log line and the metrics of each occurrence together.

use std::time::Duration;

use metrics::{counter, gauge, histogram};

use crate::append::Appended;
use crate::compact::Compacted;
use crate::status::TableStatus;

pub(crate) fn committed(table: &str, appended: &Appended, took: Duration) {
    let name = table.to_owned();
    tracing::debug!(
        table,
        version = appended.version,
        rows = appended.rows,
        files = appended.files,
        bytes = appended.bytes,
        took_ms = took.as_millis() as u64,
        "committed"
    );
    counter!("salience_lake_commits_total", "table" => name.clone()).increment(1);
    counter!("salience_lake_rows_total", "table" => name.clone()).increment(appended.rows);
    counter!("salience_lake_files_total", "table" => name.clone()).increment(appended.files);
    counter!("salience_lake_bytes_total", "table" => name.clone()).increment(appended.bytes);
    histogram!("salience_lake_commit_seconds", "table" => name).record(took.as_secs_f64());
}

pub(crate) fn compacted(table: &str, done: &Compacted) {
    if done.removed == 0 {
        return;
    }
    tracing::info!(table, removed = done.removed, added = done.added, rows = done.rows, "compacted");
    counter!("salience_lake_compacted_files_total", "table" => table.to_owned()).increment(done.removed);
}

pub(crate) fn standing(table: &str, status: &TableStatus) {
    gauge!("salience_lake_lag_records", "table" => table.to_owned()).set(status.lag() as f64);
    gauge!("salience_lake_table_files", "table" => table.to_owned()).set(status.files as f64);
}

/// The service stops while the store or the cluster is away.
pub(crate) fn left(table: &str, error: &crate::Error) {
    tracing::warn!(table, %error, "stopped before all was committed: the rest is read again");
    counter!("salience_lake_commit_failures_total", "table" => table.to_owned()).increment(1);
}

pub(crate) fn failed(table: &str, what: &str, error: &crate::Error, wait: Duration) {
    tracing::warn!(table, %error, wait_ms = wait.as_millis() as u64, "cannot {what}, trying again");
    counter!("salience_lake_commit_failures_total", "table" => table.to_owned()).increment(1);
}
