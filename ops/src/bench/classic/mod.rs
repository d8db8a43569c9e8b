//! `bench classic`: the classic network of neuromarketing (`presets/neuromarketing.toml`) on 50
//! numbers of simulated viewings, with attention over its inputs and without.

pub mod viewings;

use std::time::Instant;

use anyhow::Result;
use model::config::NetworkKind;
use model::encode::Outcome;
use model::{EncodedSet, Encoder, HeadMetrics, Job, Metrics, Progress};
use serde::Serialize;

use super::quality::judge::{Interval, Judge, Measured};
use crate::config::Config;

/// The benchmark's settings, under the user's.
pub const PRESET: &str = include_str!("../../../presets/neuromarketing.toml");

/// Share of the viewings that early stopping watches, and share that is judged on.
const SHARE: f64 = 0.15;

/// All that was measured.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Inputs.
    pub inputs: usize,
    /// Training viewings.
    pub train: usize,
    /// Viewings that chose the best pass.
    pub validation: usize,
    /// Viewings judged on.
    pub test: usize,
    /// Log loss of always saying the test's share of clicks, nats.
    pub base_log_loss: Interval,
    /// The true probabilities' own.
    pub truth: Score,
    /// The network as the preset has it.
    pub with_attention: Network,
    /// The same layers on the same tokens, side by side.
    pub without_attention: Network,
    /// Log loss with attention less that without, on the same resamples: below 0 is better.
    pub log_loss_less: Interval,
    /// The same of the AUC: above 0 is better.
    pub auc_less: Interval,
}

/// How good predictions are.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Score {
    /// Nats per viewing.
    pub log_loss: Interval,
    /// Area under the ROC curve.
    pub auc: Interval,
}

/// One network.
#[derive(Debug, Clone, Serialize)]
pub struct Network {
    /// On the test viewings.
    #[serde(flatten)]
    pub score: Score,
    /// (base - network) / (base - truth) of the log losses.
    pub information_gain_share: Interval,
    /// All metrics of the clicks.
    pub metrics: HeadMetrics,
    /// The pass whose weights were kept, from 1.
    pub best_epoch: usize,
    /// Training, seconds.
    pub seconds: f64,
}

/// Trains and judges both on `count` viewings.
///
/// # Errors
/// What training says.
pub fn run(config: &Config, count: usize, seed: u64) -> Result<Report> {
    let viewings = viewings::make(count, seed);
    let held = (count as f64 * SHARE) as usize;
    anyhow::ensure!(held > 0, "--viewings must be at least 7");
    let tests = &viewings[count - held..];
    let clicked: Vec<bool> = tests.iter().map(|viewing| viewing.clicked).collect();
    let judge = Judge::new(&clicked, seed);
    let rate = clicked.iter().filter(|clicked| **clicked).count() as f32 / held as f32;
    let base = judge.measure(&vec![rate; held]);
    let truth = judge.measure(&tests.iter().map(|viewing| viewing.truth as f32).collect::<Vec<_>>());

    let network = |kind: NetworkKind| -> Result<(Measured, Network)> {
        let mut config = config.model.clone();
        config.network.kind = kind;
        let (predictions, metrics, best_epoch, seconds) = train(&viewings, held, &config)?;
        let measured = judge.measure(&predictions);
        let found = Network {
            score: score(&measured),
            information_gain_share: measured.gain_share(&base, &truth),
            metrics,
            best_epoch,
            seconds,
        };
        Ok((measured, found))
    };
    let (with, with_attention) = network(NetworkKind::AttentionMlp)?;
    let (without, without_attention) = network(NetworkKind::Mlp)?;
    Ok(Report {
        inputs: viewings::INPUTS,
        train: count - 2 * held,
        validation: held,
        test: held,
        base_log_loss: base.log_loss(),
        truth: score(&truth),
        with_attention,
        without_attention,
        log_loss_less: with.log_loss_less(&without),
        auc_less: with.auc_less(&without),
    })
}

fn score(measured: &Measured) -> Score {
    Score { log_loss: measured.log_loss(), auc: measured.auc() }
}

/// Test predictions and their metrics, the best pass, seconds.
#[expect(clippy::disallowed_methods, reason = "a benchmark measures the wall clock")]
fn train(
    viewings: &[viewings::Viewing],
    held: usize,
    config: &model::Config,
) -> Result<(Vec<f32>, HeadMetrics, usize, f64)> {
    let began = Instant::now();
    let schema = viewings::schema();
    let mut set = EncodedSet::new(&Encoder::new(&schema, &config.encoder));
    for viewing in viewings {
        // Only clicks are asked for: no purchase is ever decided.
        let outcome = Outcome { clicked: viewing.clicked, ..Outcome::default() };
        set.push_outcome(&viewing.vector(&schema), outcome, 1.0)?;
    }
    let count = viewings.len();
    let part = |from: usize, to: usize| set.select(from..to);
    let (training, validation) = (part(0, count - 2 * held), part(count - 2 * held, count - held));
    let trained = model::train(Job::new(&training, &validation, config), &mut |progress: &Progress| {
        if let Some(loss) = progress.validation_loss {
            eprintln!("  {:?}, epoch {}: validation loss {loss:.5}", config.network.kind, progress.epoch + 1);
        }
        std::ops::ControlFlow::Continue(())
    })?;
    let test = part(count - held, count);
    let said = trained.model.predict_examples(&test)?;
    let metrics = Metrics::measure(&said, test.outcomes()).click;
    let best = trained.history.validations[trained.history.best].epoch + 1;
    let predictions = said.iter().map(|said| said.p_click).collect();
    Ok((predictions, metrics, best, began.elapsed().as_secs_f64()))
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(
            f,
            "{} inputs; {} training, {} validation, {} test viewings; base rate's log loss {:.5}",
            self.inputs, self.train, self.validation, self.test, self.base_log_loss.value
        )?;
        let line = |f: &mut std::fmt::Formatter<'_>, name: &str, score: &Score| {
            let Score { log_loss: l, auc: a } = score;
            write!(
                f,
                "  {name:17} log loss {:.5} [{:.5}, {:.5}], AUC {:.4} [{:.4}, {:.4}]",
                l.value, l.low, l.high, a.value, a.low, a.high
            )
        };
        line(f, "truth", &self.truth)?;
        writeln!(f)?;
        for (name, network) in
            [("with attention", &self.with_attention), ("without attention", &self.without_attention)]
        {
            line(f, name, &network.score)?;
            let share = network.information_gain_share;
            writeln!(
                f,
                ", {:.1} % [{:.1}, {:.1}] of the information, accuracy {:.4}, calibration error {:.4}, best after epoch {}, {:.0} s",
                share.value * 100.0,
                share.low * 100.0,
                share.high * 100.0,
                network.metrics.accuracy.unwrap_or(f64::NAN),
                network.metrics.calibration_error.unwrap_or(f64::NAN),
                network.best_epoch,
                network.seconds
            )?;
        }
        writeln!(
            f,
            "with less without attention: log loss {:+.5} [{:+.5}, {:+.5}], AUC {:+.4} [{:+.4}, {:+.4}]",
            self.log_loss_less.value,
            self.log_loss_less.low,
            self.log_loss_less.high,
            self.auc_less.value,
            self.auc_less.low,
            self.auc_less.high
        )
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::Sources;

    #[test]
    fn the_preset_is_the_classic_network_and_learns() {
        let mut config = Sources { preset: Some(PRESET), ..Sources::default() }.load().unwrap();
        let network = &config.model.network;
        assert_eq!((&network.mlp[..], network.dropout), (&[256, 128][..], 0.5));
        let training = &config.model.training;
        assert_eq!((training.batch_size, training.max_epochs, training.learning_rate), (32, 10, 0.001));
        let encoder = Encoder::new(&viewings::schema(), &config.model.encoder);
        assert_eq!((encoder.number_names().len(), encoder.groups().len()), (50, 50), "an input a token");
        config.model.training.max_epochs = 3;
        let report = run(&config, 6_000, 1).unwrap();
        assert_eq!((report.train, report.validation, report.test), (4_200, 900, 900));
        for network in [&report.with_attention, &report.without_attention] {
            assert!(network.score.auc.low > 0.6, "{report}");
            assert!(network.score.log_loss.value < report.base_log_loss.value, "{report}");
            assert!(network.score.log_loss.value > report.truth.log_loss.value, "{report}");
        }
    }
}
