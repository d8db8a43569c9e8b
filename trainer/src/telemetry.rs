//! What the trainer tells the operator: one function per occurrence, log line and metric together.

use metrics::{counter, gauge, histogram};

use crate::drift::Measured;
use crate::gate::Decision;
use crate::run::Run;
use crate::schedule::Due;

pub(crate) fn run_started(due: &Due, labels: u64) {
    let triggers: Vec<&str> = due.triggers.iter().map(|trigger| trigger.as_str()).collect();
    let drift = due.drift.as_ref().map(|drift| drift.found.join("; "));
    let mode = due.mode.as_str();
    tracing::info!(triggers = triggers.join(" "), mode, drift, labels, "training run started");
    for trigger in triggers {
        counter!("salience_trainer_triggers_total", "trigger" => trigger, "mode" => mode).increment(1);
    }
}

pub(crate) fn not_incremental(why: &str) {
    tracing::info!(why, "the run is full instead of incremental");
}

pub(crate) fn drift_measured(measured: &Measured) {
    let worst = measured.inputs.first();
    tracing::info!(
        champion = measured.champion,
        rows = measured.rows,
        input = worst.map(|shift| shift.name.as_str()),
        input_psi = worst.map(|shift| shift.psi),
        score_psi = measured.scores.psi,
        clicks = measured.clicks.observed,
        expected_clicks = measured.clicks.expected,
        found = measured.found.join("; "),
        "drift measured"
    );
    gauge!("salience_trainer_drift_input_psi").set(worst.map_or(0.0, |shift| shift.psi));
    gauge!("salience_trainer_drift_score_psi").set(measured.scores.psi);
    gauge!("salience_trainer_drift_calibration_error").set(measured.clicks.error());
    counter!("salience_trainer_drift_looks_total", "found" => if measured.found.is_empty() { "no" } else { "yes" })
        .increment(1);
}

pub(crate) fn another_trains(reason: &crate::Error) {
    tracing::debug!(%reason, "another instance has the turn");
}

pub(crate) fn lease_trouble(error: &crate::Error) {
    tracing::warn!(%error, "the training lease could not be kept");
    counter!("salience_trainer_lease_failures_total").increment(1);
}

pub(crate) fn data_read(rows: usize, labels: u64, without_vector: usize, seconds: f64) {
    tracing::info!(rows, labels, without_vector, seconds, "examples read");
    gauge!("salience_trainer_examples").set(rows as f64);
    histogram!("salience_trainer_read_seconds").record(seconds);
}

pub(crate) fn run_ended(run: &Run, seconds: f64) {
    let Decision { publish, reason, challenger_log_loss, rival_log_loss, .. } = &run.gate;
    tracing::info!(
        version = run.model_version,
        published = publish,
        log_loss = challenger_log_loss,
        rival = run.gate.rival,
        rival_log_loss,
        reason,
        seconds,
        "training run ended"
    );
    counter!("salience_trainer_runs_total", "published" => if *publish { "yes" } else { "no" }).increment(1);
    gauge!("salience_trainer_test_log_loss").set(*challenger_log_loss);
    histogram!("salience_trainer_run_seconds").record(seconds);
}

pub(crate) fn run_put_off(reason: &crate::Error) {
    tracing::info!(%reason, "training run put off");
    counter!("salience_trainer_runs_put_off_total").increment(1);
}

pub(crate) fn announced(version: &str, sequence: u64) {
    tracing::info!(version, sequence, "champion announced");
    counter!("salience_trainer_announcements_total").increment(1);
    gauge!("salience_trainer_champion_sequence").set(sequence as f64);
}

pub(crate) fn pruned(versions: &[String]) {
    if !versions.is_empty() {
        tracing::info!(count = versions.len(), "old versions deleted");
    }
}

pub(crate) fn vectors_skipped(count: u64) {
    tracing::warn!(count, "vectors of another schema left out of training");
    counter!("salience_trainer_vectors_skipped_total").increment(count);
}

/// `bound`: the collision rate from which on it is a warning.
pub(crate) fn ids(ids: &model::encode::FieldIds, bound: f64) {
    let model::encode::FieldIds { field, distinct, rows, collision_rate, dictionary, .. } = ids;
    if let Some(rate) = *collision_rate {
        gauge!("salience_trainer_collision_rate", "field" => field.clone()).set(rate);
        if rate > bound {
            tracing::warn!(
                field,
                distinct,
                buckets = rows,
                collision_rate = rate,
                bound,
                "many ids share a hash bucket: raise model.encoder.*_buckets of the field, or name it in model.encoder.dictionaries"
            );
        }
    }
    if let Some(model::encode::Admission { admitted, rare, expired, crowded_out, unknown_share, missed }) =
        *dictionary
    {
        gauge!("salience_trainer_unknown_share", "field" => field.clone()).set(unknown_share);
        tracing::info!(
            field,
            distinct,
            admitted,
            rare,
            expired,
            crowded_out,
            unknown_share,
            missed,
            "dictionary fitted"
        );
    }
}

pub(crate) fn cold_start(parent: &str, reason: &str) {
    tracing::info!(parent, reason, "training starts from the seed, not from the champion");
}

pub(crate) fn checkpoint(bytes: usize) {
    tracing::debug!(bytes, "checkpoint written");
    counter!("salience_trainer_checkpoints_total").increment(1);
}

pub(crate) fn checkpoint_failed(error: &crate::Error) {
    tracing::warn!(%error, "checkpoint could not be written; training goes on");
    counter!("salience_trainer_checkpoint_failures_total").increment(1);
}
