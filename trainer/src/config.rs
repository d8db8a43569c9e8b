//! The section `[trainer]` of the configuration. Knows no other section.

use schemas::duration::Millis;
use serde::{Deserialize, Serialize};

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
    /// Versions kept; 0: all.
    pub keep_versions: usize,
    /// Training, validation, test.
    pub split: Split,
    /// The bar for publishing.
    pub gate: Gate,
}

/// `[trainer.split]`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Split {
    /// Share of the examples for early stopping.
    pub validation_share: f64,
    /// Share of the examples, the latest, for judging.
    pub test_share: f64,
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
        crate::schedule::Schedule::new(&self.cron, self.min_new_labels)?;
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
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[derive(Deserialize)]
    struct File {
        trainer: Config,
    }

    #[test]
    fn the_defaults_are_complete_and_good() {
        toml::from_str::<File>(DEFAULTS).unwrap().trainer.check().unwrap();
    }

    #[test]
    fn nonsense_is_named() {
        let good = toml::from_str::<File>(DEFAULTS).unwrap().trainer;
        let split = Split { test_share: 0.9, ..good.split };
        for (bad, key) in [
            (Config { model: "A/B".into(), ..good.clone() }, "trainer.model"),
            (Config { cron: "often".into(), ..good.clone() }, "trainer.cron"),
            (Config { max_rows: 10, ..good.clone() }, "trainer.max_rows"),
            (Config { split, ..good.clone() }, "trainer.split.test_share"),
            (
                Config { gate: Gate { confidence: 0.2, ..good.gate }, ..good.clone() },
                "trainer.gate.confidence",
            ),
        ] {
            let text = bad.check().unwrap_err().to_string();
            assert!(text.starts_with(key), "{text}");
        }
    }
}
