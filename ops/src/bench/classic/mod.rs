//! `bench classic`: the classic network of neuromarketing (`presets/neuromarketing.toml`) on 50
//! numbers of simulated viewings, with attention over its inputs and without.

mod fitted;
mod page;
pub mod viewings;

use anyhow::Result;
use model::HeadMetrics;
use model::config::NetworkKind;
use model::explain;
use model::metrics::{Bootstrap, Differences, Interval, Judged, MetricsLess};
use serde::Serialize;

use self::fitted::{Fitted, fit};
use super::quality::judge::{self, Judge};
use crate::config::Config;

/// The benchmark's settings, under the user's.
pub const PRESET: &str = include_str!("../../../presets/neuromarketing.toml");

/// Share of the viewings that early stopping watches, and share that is judged on.
const SHARE: f64 = 0.15;
/// Resamples of intervals, and the share of them that an interval holds.
const RESAMPLES: usize = 500;
const CONFIDENCE: f64 = 0.95;

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
    /// The true probabilities' own metrics.
    pub truth: HeadMetrics,
    /// The network as the preset has it.
    pub with_attention: Network,
    /// The same layers on the same tokens, side by side.
    pub without_attention: Network,
    /// Figures with attention less those without, on the same resamples.
    pub less: Differences,
}

/// One network.
#[derive(Debug, Clone, Serialize)]
pub struct Network {
    /// (base - network) / (base - truth) of the log losses.
    pub information_gain_share: judge::Interval,
    /// All metrics of the clicks of the test viewings, with intervals.
    pub metrics: HeadMetrics,
    /// The pass whose weights were kept, from 1.
    pub best_epoch: usize,
    /// Training, seconds.
    pub seconds: f64,
}

/// Trains and judges both on `count` viewings; what was measured, and the same as a page (HTML).
///
/// # Errors
/// What training says.
pub fn run(config: &Config, count: usize, seed: u64) -> Result<(Report, String)> {
    let viewings = viewings::make(count, seed);
    let held = (count as f64 * SHARE) as usize;
    anyhow::ensure!(held > 0, "--viewings must be at least 7");
    let bootstrap = Bootstrap { resamples: RESAMPLES, confidence: CONFIDENCE, seed };
    let chosen = config.trainer.explanation;
    let explanation = explain::Options {
        rows: chosen.rows,
        max_passes: chosen.max_passes,
        resamples: RESAMPLES,
        seed: config.model.training.seed,
    };
    let network = |kind: NetworkKind| {
        let mut config = config.model.clone();
        config.network.kind = kind;
        fit(&viewings, held, &config, explanation, &bootstrap)
    };
    let (with, without) = (network(NetworkKind::AttentionMlp)?, network(NetworkKind::Mlp)?);

    let tests = &viewings[count - held..];
    let clicked: Vec<bool> = tests.iter().map(|viewing| viewing.clicked).collect();
    let told: Vec<f32> = tests.iter().map(|viewing| viewing.truth as f32).collect();
    let rate = clicked.iter().filter(|clicked| **clicked).count() as f32 / held as f32;
    let judge = Judge::new(&clicked, seed);
    let (base, truth) = (judge.measure(&vec![rate; held]), judge.measure(&told));
    let of = |fitted: &Fitted| Network {
        information_gain_share: judge.measure(&fitted.predictions()).gain_share(&base, &truth),
        metrics: fitted.metrics.click.clone(),
        best_epoch: fitted.best_epoch(),
        seconds: fitted.seconds,
    };
    let judged: Vec<Judged> = told
        .iter()
        .zip(&clicked)
        .map(|(&probability, &positive)| Judged { probability, positive, weight: 1.0 })
        .collect();
    let less = MetricsLess::of(&with.heads, &without.heads, &bootstrap);
    let report = Report {
        inputs: viewings::INPUTS,
        train: count - 2 * held,
        validation: held,
        test: held,
        truth: HeadMetrics::measure_with_intervals(&judged, &bootstrap),
        with_attention: of(&with),
        without_attention: of(&without),
        less: less.click,
    };
    let page = page::html(&report, [&with, &without], &less, &config.model, seed);
    Ok((report, page))
}

/// A figure with its interval.
fn shown(value: Option<f64>, interval: Option<Interval>) -> String {
    let value = value.unwrap_or(f64::NAN);
    interval.map_or_else(|| format!("{value:.5}"), |i| format!("{value:.5} [{:.5}, {:.5}]", i.low, i.high))
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(
            f,
            "{} inputs; {} training, {} validation, {} test viewings; base rate's log loss {}",
            self.inputs,
            self.train,
            self.validation,
            self.test,
            shown(self.truth.base_log_loss, None)
        )?;
        let line = |f: &mut std::fmt::Formatter<'_>, name: &str, metrics: &HeadMetrics| {
            let intervals = metrics.intervals.as_deref().copied().unwrap_or_default();
            write!(
                f,
                "  {name:17} log loss {}, AUC {}, ECE {}",
                shown(metrics.log_loss, intervals.log_loss),
                shown(metrics.auc, intervals.auc),
                shown(metrics.calibration_error_equal_mass, intervals.calibration_error_equal_mass)
            )
        };
        line(f, "truth", &self.truth)?;
        writeln!(f)?;
        for (name, network) in
            [("with attention", &self.with_attention), ("without attention", &self.without_attention)]
        {
            line(f, name, &network.metrics)?;
            let share = network.information_gain_share;
            writeln!(
                f,
                ", {:.1} % [{:.1}, {:.1}] of the information, accuracy {:.4}, best after epoch {}, {:.0} s",
                share.value * 100.0,
                share.low * 100.0,
                share.high * 100.0,
                network.metrics.accuracy.unwrap_or(f64::NAN),
                network.best_epoch,
                network.seconds
            )?;
        }
        let less = |difference: Option<model::metrics::Difference>| {
            difference.map_or_else(String::new, |d| format!("{:+.5} [{:+.5}, {:+.5}]", d.mean, d.low, d.high))
        };
        writeln!(
            f,
            "with less without attention: log loss {}, AUC {}, ECE {}",
            less(self.less.log_loss),
            less(self.less.auc),
            less(self.less.calibration_error_equal_mass)
        )
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use model::HeadKind;
    use model::config::{Calibrate, OptimizerKind, ScheduleKind, StopMetric};

    use super::*;
    use crate::config::Sources;

    fn preset() -> Config {
        Sources { preset: Some(PRESET), ..Sources::default() }.load().unwrap()
    }

    #[test]
    fn the_preset_is_the_classic_network() {
        let config = preset().model;
        let network = &config.network;
        assert_eq!(
            (&network.mlp[..], network.dropout, network.head),
            (&[256, 128][..], 0.5, HeadKind::Binary)
        );
        assert_eq!((network.kind, network.cross_layers), (NetworkKind::AttentionMlp, 0));
        let training = &config.training;
        assert_eq!((training.batch_size, training.max_epochs, training.learning_rate), (32, 10, 0.001));
        assert_eq!((training.optimizer, training.schedule), (OptimizerKind::RmsProp, ScheduleKind::Constant));
        assert_eq!((training.averaging, training.weight_decay, training.clip_norm), (0.0, 0.0, 0.0));
        assert_eq!((training.stop_metric, config.calibration.method), (StopMetric::Loss, Calibrate::None));
        let encoder = model::Encoder::new(&viewings::schema(), &config.encoder);
        assert_eq!((encoder.number_names().len(), encoder.groups().len()), (50, 50), "an input a token");
        assert!(encoder.tables().iter().all(|table| table.name != "user"));
    }

    /// Whatever the defaults become, the network stays what it is.
    #[test]
    fn the_preset_leaves_nothing_to_the_defaults_that_changes_the_network() {
        let keys = |text: &str, section: &str| -> Vec<String> {
            let file: toml::Table = text.parse().unwrap();
            file["model"][section].as_table().unwrap().keys().cloned().collect()
        };
        for section in ["network", "encoder", "training", "calibration"] {
            let named = keys(PRESET, section);
            // Where and with what luck is up to whoever runs it.
            let left = ["seed", "threads", "device"];
            let missing: Vec<String> = keys(model::DEFAULTS, section)
                .into_iter()
                .filter(|key| !named.contains(key) && !left.contains(&key.as_str()))
                .collect();
            assert!(missing.is_empty(), "[model.{section}] of neuromarketing.toml lacks {missing:?}");
        }
    }

    #[test]
    fn both_networks_learn_and_are_shown_side_by_side() {
        let mut config = preset();
        config.model.training.max_epochs = 3;
        config.trainer.explanation.rows = 20;
        let (report, page) = run(&config, 6_000, 1).unwrap();
        assert_eq!((report.train, report.validation, report.test), (4_200, 900, 900));
        let truth = report.truth.log_loss.unwrap();
        for network in [&report.with_attention, &report.without_attention] {
            let metrics = &network.metrics;
            assert!(metrics.intervals.as_ref().unwrap().auc.unwrap().low > 0.6, "{report}");
            assert!(
                metrics.log_loss < metrics.base_log_loss && metrics.log_loss.unwrap() > truth,
                "{report}"
            );
            assert!(page.contains(&format!("{:.5}", metrics.log_loss.unwrap())), "{report}");
        }
        let less = report.less.log_loss.unwrap();
        let both = [&report.with_attention, &report.without_attention].map(|n| n.metrics.log_loss.unwrap());
        assert!((less.mean - (both[0] - both[1])).abs() < 1e-12);
        for plot in ["Loss by step, without attention", "ROC, clicks", "Attention by field token", "Deletion"]
        {
            assert!(page.contains(plot), "{plot}");
        }
    }
}
