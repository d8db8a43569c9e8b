//! The section `[trainer]` of the configuration. Knows no other section.

use schemas::duration::Millis;
use serde::{Deserialize, Serialize};

use crate::schedule::{Mode, Modes};

/// The commented defaults of the section.
pub const DEFAULTS: &str = include_str!("default.toml");

/// When to train, on what, and what it takes to be published.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Name of the model.
    pub model: String,
    /// Cron expression, UTC, five fields; empty: none.
    pub cron: String,
    /// Label records since the last run that start one; 0: none.
    pub min_new_labels: u64,
    /// Wall-clock time between two looks at the schedule and the champion.
    pub poll_interval: Millis,
    /// Start from the champion's weights.
    pub warm_start: bool,
    /// Most examples used, the most recent.
    pub max_rows: usize,
    /// Examples of a block: what is held, shuffled and handed on at once.
    #[serde(default = "block_rows")]
    pub block_rows: usize,
    /// Folder of the encoded examples while a run lasts; empty: the system's temporary one.
    #[serde(default)]
    pub spill_folder: String,
    /// Share of a hashed field's ids that may share a bucket before a run warns.
    #[serde(default = "max_collision_rate")]
    pub max_collision_rate: f64,
    /// Versions kept; 0: all.
    pub keep_versions: usize,
    /// Wall-clock time between two checkpoints of a training.
    pub checkpoint_interval: Millis,
    /// Training, validation, test.
    pub split: Split,
    /// The bar for publishing.
    pub gate: Gate,
    /// How long one may train without a sign of life before another may.
    #[serde(default = "default_lease")]
    pub lease: Millis,
    /// What each trigger starts.
    #[serde(default = "default_retrain")]
    pub retrain: Modes,
    /// Runs that learn on from the champion.
    #[serde(default)]
    pub incremental: Incremental,
    /// What counts as drift.
    #[serde(default)]
    pub drift: Drift,
    /// How explanations are measured and chosen.
    #[serde(default)]
    pub explanation: Explanation,
}

// Runs recorded before these keys were there are read with what the keys say by default.
const fn default_lease() -> Millis {
    Millis(120_000)
}

const fn default_retrain() -> Modes {
    Modes { cron: Mode::Full, new_labels: Mode::Full, drift: Mode::Full }
}

/// `[trainer.incremental]`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Incremental {
    /// Event time of the examples, back from the latest.
    pub window: Millis,
    /// Share of `[model.training]`'s learning rates.
    pub learning_rate: f64,
    /// Most passes over the examples.
    pub epochs: usize,
}

impl Default for Incremental {
    fn default() -> Self {
        Self { window: Millis(24 * 3_600_000), learning_rate: 0.3, epochs: 2 }
    }
}

/// `[trainer.explanation]`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Explanation {
    /// Validation examples that methods are measured on; 0: none is, and attention is published.
    pub rows: usize,
    /// Most forward passes that a published explanation may cost.
    pub max_passes: f64,
}

impl Default for Explanation {
    fn default() -> Self {
        Self { rows: 200, max_passes: 16.0 }
    }
}

/// `[trainer.drift]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Drift {
    /// Wall-clock time between two looks; 0: none.
    pub interval: Millis,
    /// Event time of the examples looked at, back from the latest.
    pub window: Millis,
    /// Least examples for a look, and least label records since the last run.
    pub min_rows: usize,
    /// Most examples looked at, the latest.
    pub max_rows: usize,
    /// Bound on an input's population stability index; 0: none.
    pub max_input_psi: f64,
    /// Bound on the scores' population stability index; 0: none.
    pub max_score_psi: f64,
    /// Bound on how far expected clicks are off, as a share of those that came; 0: none.
    pub max_calibration_error: f64,
    /// Inputs that are not looked at.
    pub ignore: Vec<String>,
}

impl Default for Drift {
    fn default() -> Self {
        Self {
            interval: Millis(3_600_000),
            window: Millis(24 * 3_600_000),
            min_rows: 2_000,
            max_rows: 50_000,
            max_input_psi: 0.25,
            max_score_psi: 0.25,
            max_calibration_error: 0.2,
            ignore: ["hour", "hour_sin", "hour_cos", "weekday"].map(str::to_owned).to_vec(),
        }
    }
}

/// `[trainer.split]`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Split {
    /// Share of the examples for early stopping.
    pub validation_share: f64,
    /// Share of the examples, the latest, for judging.
    pub test_share: f64,
    /// Most validation examples: an even sample where there are more.
    #[serde(default = "max_validation_rows")]
    pub max_validation_rows: usize,
    /// Event time left out between two of the three.
    pub gap: Millis,
    /// Least training examples.
    pub min_train_rows: usize,
    /// Least validation examples, and least test examples.
    pub min_test_rows: usize,
}

/// `[trainer.gate]`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gate {
    /// Resamples of the paired bootstrap.
    pub resamples: usize,
    /// Share of the resamples that the challenger must win.
    pub confidence: f64,
    /// Bound on how much worse a campaign's calibration may become.
    pub max_calibration_worsening: f64,
    /// Least clicks of a campaign that is judged by itself.
    pub min_campaign_clicks: u64,
    /// Bound on how much a campaign's expected calibration error may rise.
    #[serde(default = "any_increase")]
    pub max_campaign_ece_increase: f64,
    /// Least impressions of a campaign whose calibration error is compared.
    #[serde(default = "min_campaign_rows")]
    pub min_campaign_rows: usize,
}

// What runs recorded before these keys existed.
const fn block_rows() -> usize {
    16_384
}

const fn max_validation_rows() -> usize {
    200_000
}

const fn any_increase() -> f64 {
    1.0
}

const fn min_campaign_rows() -> usize {
    1_000
}

const fn max_collision_rate() -> f64 {
    0.1
}

impl Config {
    /// Refuses settings that contradict themselves.
    ///
    /// # Errors
    /// What is wrong, naming the key and what is allowed.
    pub fn check(&self) -> Result<(), crate::Error> {
        let bad = |key: &str, what: String| Err(crate::Error::Config { key: format!("trainer.{key}"), what });
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
        if self.model.is_empty() || !self.model.chars().all(plain) {
            return bad("model", format!("{:?}: use lower-case letters, digits, - and _", self.model));
        }
        crate::schedule::Schedule::new(self)?;
        if self.poll_interval.0 == 0 {
            return bad("poll_interval", "must be longer than 0".into());
        }
        let Split { validation_share, test_share, .. } = self.split;
        for (key, share) in [("split.validation_share", validation_share), ("split.test_share", test_share)] {
            if !(share > 0.0 && share < 1.0) {
                return bad(key, format!("{share}: must lie between 0 and 1"));
            }
        }
        if validation_share + test_share >= 1.0 {
            return bad(
                "split.test_share",
                "validation_share and test_share leave nothing to train on".into(),
            );
        }
        if self.max_rows < self.split.min_train_rows + 2 * self.split.min_test_rows {
            return bad("max_rows", "is less than the split's least rows together".into());
        }
        if self.block_rows == 0 || self.block_rows > 1 << 20 {
            return bad("block_rows", format!("{}: must be 1 to 1048576", self.block_rows));
        }
        if self.split.max_validation_rows < self.split.min_test_rows {
            return bad("split.max_validation_rows", "is less than split.min_test_rows".into());
        }
        if !(0.0..=1.0).contains(&self.max_collision_rate) {
            let rate = self.max_collision_rate;
            return bad("max_collision_rate", format!("{rate}: must lie from 0 to 1"));
        }
        if self.gate.resamples == 0 {
            return bad("gate.resamples", "must be at least 1".into());
        }
        if !(0.5..=1.0).contains(&self.gate.confidence) {
            return bad("gate.confidence", format!("{}: must lie from 0.5 to 1", self.gate.confidence));
        }
        let worsening = self.gate.max_calibration_worsening;
        if worsening.is_nan() || worsening < 0.0 {
            return bad("gate.max_calibration_worsening", "must not be negative".into());
        }
        let increase = self.gate.max_campaign_ece_increase;
        if increase.is_nan() || increase < 0.0 {
            return bad("gate.max_campaign_ece_increase", "must not be negative".into());
        }
        let passes = self.explanation.max_passes;
        if passes.is_nan() || passes < 0.0 {
            return bad("explanation.max_passes", "must not be negative".into());
        }
        if self.lease.0 < 1_000 {
            return bad("lease", "must be at least 1s: it is prolonged three times as often".into());
        }
        let Incremental { window, learning_rate, epochs } = self.incremental;
        if window.0 <= 0 {
            return bad("incremental.window", "must be longer than 0".into());
        }
        if !(learning_rate > 0.0 && learning_rate <= 10.0) {
            return bad("incremental.learning_rate", format!("{learning_rate}: must lie between 0 and 10"));
        }
        if epochs == 0 {
            return bad("incremental.epochs", "must be at least 1".into());
        }
        let Drift { interval, window, min_rows, max_rows, .. } = self.drift;
        if interval.0 < 0 || window.0 <= 0 {
            return bad("drift.window", "must be longer than 0, and drift.interval not negative".into());
        }
        if min_rows == 0 || max_rows < min_rows {
            return bad("drift.max_rows", format!("{max_rows}: must be at least drift.min_rows, and that 1"));
        }
        for (key, bound) in [
            ("drift.max_input_psi", self.drift.max_input_psi),
            ("drift.max_score_psi", self.drift.max_score_psi),
            ("drift.max_calibration_error", self.drift.max_calibration_error),
        ] {
            if bound.is_nan() || bound < 0.0 {
                return bad(key, "must not be negative".into());
            }
        }
        Ok(())
    }

    /// Refuses a gap that is shorter than the time within which labels are decided: the last
    /// training labels would be decided by events that the next part is judged on.
    ///
    /// # Errors
    /// Both keys and what they say.
    pub fn check_gap(&self, click_window: Millis) -> Result<(), crate::Error> {
        let gap = self.split.gap;
        if gap >= click_window {
            return Ok(());
        }
        Err(crate::Error::Config {
            key: "trainer.split.gap".into(),
            what: format!(
                "{gap} is shorter than features.click_window ({click_window}): labels of one part would be decided by events of the next; write at least {click_window}"
            ),
        })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[derive(Deserialize)]
    struct File {
        trainer: Config,
    }

    /// The section's defaults.
    pub(crate) fn defaults() -> Config {
        toml::from_str::<File>(DEFAULTS).unwrap().trainer
    }

    #[test]
    fn the_defaults_are_complete_and_good() {
        let good = defaults();
        good.check().unwrap();
        // What the file says is what is taken where it says nothing.
        assert_eq!((good.lease, good.retrain), (default_lease(), default_retrain()));
        assert_eq!((good.incremental, &good.drift), (Incremental::default(), &Drift::default()));
        assert_eq!(good.explanation, Explanation::default());
    }

    #[test]
    fn the_gap_is_as_long_as_labels_take() {
        let good = defaults();
        good.check_gap(good.split.gap).unwrap();
        let text = good.check_gap(Millis(good.split.gap.0 + 1_000)).unwrap_err().to_string();
        assert!(text.starts_with("trainer.split.gap: 30m is shorter than features.click_window"), "{text}");
    }

    #[test]
    fn nonsense_is_named() {
        let good = defaults();
        let split = Split { test_share: 0.9, ..good.split };
        for (bad, key) in [
            (Config { model: "A/B".into(), ..good.clone() }, "trainer.model"),
            (Config { cron: "often".into(), ..good.clone() }, "trainer.cron"),
            (Config { max_rows: 10, ..good.clone() }, "trainer.max_rows"),
            (Config { split, ..good.clone() }, "trainer.split.test_share"),
            (Config { lease: Millis(10), ..good.clone() }, "trainer.lease"),
            (
                Config { drift: Drift { max_rows: 3, ..good.drift.clone() }, ..good.clone() },
                "trainer.drift.max_rows",
            ),
            (
                Config { incremental: Incremental { epochs: 0, ..good.incremental }, ..good.clone() },
                "trainer.incremental.epochs",
            ),
            (Config { block_rows: 0, ..good.clone() }, "trainer.block_rows"),
            (Config { max_collision_rate: 2.0, ..good.clone() }, "trainer.max_collision_rate"),
            (
                Config { split: Split { max_validation_rows: 1, ..good.split }, ..good.clone() },
                "trainer.split.max_validation_rows",
            ),
            (
                Config { gate: Gate { confidence: 0.2, ..good.gate }, ..good.clone() },
                "trainer.gate.confidence",
            ),
            (
                Config { gate: Gate { max_campaign_ece_increase: -0.1, ..good.gate }, ..good.clone() },
                "trainer.gate.max_campaign_ece_increase",
            ),
        ] {
            let text = bad.check().unwrap_err().to_string();
            assert!(text.starts_with(key), "{text}");
        }
    }
}
