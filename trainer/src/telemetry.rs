//! What the trainer tells the operator: one function per occurrence, log line and metric together.

use metrics::{counter, gauge, histogram};

use crate::gate::Decision;
use crate::run::Run;

pub(crate) fn run_started(trigger: &str, labels: u64) {
    tracing::info!(trigger, labels, "training run started");
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

pub(crate) fn cold_start(parent: &str, reason: &str) {
    tracing::info!(parent, reason, "training starts from the seed, not from the champion");
}
