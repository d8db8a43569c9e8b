//! What the scorer tells the operator: one function per occurrence, log line and metric together.

use metrics::{counter, gauge, histogram};
use schemas::prediction::Status;

use crate::loaded::Loaded;

pub(crate) fn batch(vectors: usize) {
    histogram!("salience_scorer_batch_vectors").record(vectors as f64);
}

pub(crate) fn predictions(status: Status, count: u64) {
    let status = match status {
        Status::Scored => "scored",
        Status::Fallback => "fallback",
    };
    counter!("salience_scorer_predictions_total", "status" => status).increment(count);
}

pub(crate) fn swapped(before: Option<&Loaded>, now: &Loaded) {
    let before = before.map_or("fallback", |loaded| loaded.version.as_str());
    tracing::info!(version = now.version, checksum = now.checksum, before, "model swapped");
    counter!("salience_scorer_swaps_total").increment(1);
    // One series, whatever the number of versions: the number in `v000012`.
    let number = now.version.trim_start_matches('v').parse::<f64>().unwrap_or(0.0);
    gauge!("salience_scorer_model_version").set(number);
}

pub(crate) fn refused(error: &crate::Error) {
    tracing::warn!(%error, "announced model refused; the last good one keeps serving");
    counter!("salience_scorer_swap_failures_total").increment(1);
}

pub(crate) fn unreadable(error: &schemas::DecodeError) {
    tracing::warn!(%error, "announcement cannot be read; the last good model keeps serving");
    counter!("salience_scorer_swap_failures_total").increment(1);
}

pub(crate) fn watch_failed(error: &crate::Error) {
    tracing::warn!(%error, "cannot read announcements; trying again");
    counter!("salience_scorer_watch_failures_total").increment(1);
}

pub(crate) fn priors_only(fingerprint: u64) {
    tracing::warn!(
        schema = format!("{fingerprint:016x}"),
        "the vectors carry no column of scorer.fallback.views: until there is a model, every impression gets the priors"
    );
}

pub(crate) fn forward_failed(error: &impl std::fmt::Display) {
    tracing::warn!(%error, "the model could not score a batch; base rates serve it");
    counter!("salience_scorer_forward_failures_total").increment(1);
}
