//! The declared space of settings, and drawing from it.

use serde::Deserialize;
use toml::{Table, Value};

use crate::random::SplitMix;

/// Why a space makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("tune.{key}: {what} (fatal: mend the file)")]
pub struct SpaceError {
    /// The key.
    pub key: String,
    /// What is wrong and what is allowed.
    pub what: String,
}

/// What a setting is given more of from round to round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Budget {
    /// Passes over the training examples.
    Epochs,
    /// Training examples, the latest.
    Rows,
}

/// `[tune]`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tune {
    /// Settings drawn.
    pub trials: usize,
    /// Share kept is one of so many.
    pub eta: usize,
    /// What is budgeted.
    pub budget: Budget,
    /// Of the first round.
    pub min: u64,
    /// Of the last round.
    pub max: u64,
    /// Seed of the draws.
    pub seed: u64,
    /// Choices by key of `[model]`.
    pub space: Table,
}

/// A range.
#[derive(Debug, Clone, Copy)]
struct Range {
    log: bool,
    whole: bool,
    from: f64,
    to: f64,
}

impl Tune {
    /// Reads a file with `[tune]`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, SpaceError> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct File {
            tune: Tune,
        }
        let wrong = |key: &str, what: String| SpaceError { key: key.to_owned(), what };
        let file: File = toml::from_str(text).map_err(|error| wrong("", error.message().to_owned()))?;
        let tune = file.tune;
        for (key, good, what) in [
            ("trials", tune.trials >= 1, "must be at least 1"),
            ("eta", tune.eta >= 2, "must be at least 2"),
            ("min", tune.min >= 1, "must be at least 1"),
            ("max", tune.max >= tune.min, "must not be less than tune.min"),
            ("space", !tune.space.is_empty(), "needs at least one key"),
        ] {
            if !good {
                return Err(wrong(key, what.to_owned()));
            }
        }
        for (key, choices) in &tune.space {
            if !key.starts_with("network.") && !key.starts_with("training.") {
                let what = "only keys of network. and training. are tried: the examples are encoded once";
                return Err(wrong(&format!("space.{key}"), what.to_owned()));
            }
            draw(key, choices, &mut SplitMix::new(0))?;
        }
        Ok(tune)
    }

    /// The settings of the first round; equal seeds give equal ones.
    ///
    /// # Errors
    /// A value that `[model]` does not take.
    pub fn draw(&self, base: &model::Config) -> Result<Vec<(Table, model::Config)>, SpaceError> {
        let mut random = SplitMix::new(self.seed);
        (0..self.trials)
            .map(|_| {
                let mut drawn = Table::new();
                for (key, choices) in &self.space {
                    drawn.insert(key.clone(), draw(key, choices, &mut random)?);
                }
                let config = apply(base, &drawn)?;
                Ok((drawn, config))
            })
            .collect()
    }
}

/// `base` with some keys changed.
fn apply(base: &model::Config, changed: &Table) -> Result<model::Config, SpaceError> {
    let wrong = |key: &str, what: String| SpaceError { key: format!("space.{key}"), what };
    let mut table = Table::try_from(base).map_err(|error| wrong("", error.to_string()))?;
    for (key, value) in changed {
        let (section, name) = key.split_once('.').unwrap_or((key, ""));
        let known = table.get_mut(section).and_then(Value::as_table_mut);
        let Some(slot) = known.and_then(|section| section.get_mut(name)) else {
            return Err(wrong(key, "is no key of [model]".to_owned()));
        };
        *slot = value.clone();
    }
    let all = || changed.keys().cloned().collect::<Vec<_>>().join(", ");
    let config: model::Config =
        table.try_into().map_err(|error: toml::de::Error| wrong(&all(), error.message().to_owned()))?;
    config.validate().map_err(|error| wrong(&all(), error.to_string()))?;
    Ok(config)
}

/// One value of a key's choices.
fn draw(key: &str, choices: &Value, random: &mut SplitMix) -> Result<Value, SpaceError> {
    let wrong = |what: &str| SpaceError { key: format!("space.{key}"), what: what.to_owned() };
    match choices {
        Value::Array(choices) if !choices.is_empty() => Ok(choices[random.below(choices.len())].clone()),
        Value::Table(range) => {
            let range = Range::of(range).map_err(wrong)?;
            // 53 random bits: every double in [0, 1) of that grid.
            let share = (random.next() >> 11) as f64 / (1_u64 << 53) as f64;
            Ok(range.at(share))
        }
        _ => Err(wrong("must be a list of values, { linear = [FROM, TO] } or { log = [FROM, TO] }")),
    }
}

impl Range {
    fn of(table: &Table) -> Result<Self, &'static str> {
        let (log, ends) = match (table.get("linear"), table.get("log"), table.len()) {
            (Some(ends), None, 1) => (false, ends),
            (None, Some(ends), 1) => (true, ends),
            _ => return Err("must have one of linear and log"),
        };
        let Some([from, to]) = ends.as_array().map(Vec::as_slice) else {
            return Err("must have two ends, as in [0.1, 0.5]");
        };
        let number = |value: &Value| value.as_float().or_else(|| value.as_integer().map(|n| n as f64));
        let (Some(a), Some(b)) = (number(from), number(to)) else { return Err("the ends must be numbers") };
        if !(a <= b && a.is_finite() && b.is_finite()) {
            return Err("the first end must not be above the second");
        }
        if log && a <= 0.0 {
            return Err("the ends of log must be above 0");
        }
        Ok(Self { log, whole: from.is_integer() && to.is_integer(), from: a, to: b })
    }

    /// The value at a share (0 to less than 1) of the range.
    fn at(self, share: f64) -> Value {
        let between = |from: f64, to: f64| from + (to - from) * share;
        // Whole numbers: each has an equal part of the range that reaches half beyond the ends.
        let (from, to) = if self.whole { (self.from - 0.5, self.to + 0.5) } else { (self.from, self.to) };
        let value = if self.log { between(from.ln(), to.ln()).exp() } else { between(from, to) };
        if self.whole {
            Value::Integer(value.round().clamp(self.from, self.to) as i64)
        } else {
            Value::Float(value.clamp(self.from, self.to))
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn base() -> model::Config {
        #[derive(Deserialize)]
        struct File {
            model: model::Config,
        }
        toml::from_str::<File>(model::DEFAULTS).unwrap().model
    }

    #[test]
    fn the_example_is_good_and_its_draws_are_in_range() {
        let tune = Tune { trials: 200, ..Tune::parse(super::super::EXAMPLE).unwrap() };
        let drawn = tune.draw(&base()).unwrap();
        assert_eq!(drawn, tune.draw(&base()).unwrap());
        let mut layers = std::collections::BTreeSet::new();
        let mut small = 0;
        for (_, config) in &drawn {
            assert!((0.0003..=0.01).contains(&config.training.learning_rate));
            assert!((0.0..=0.5).contains(&config.network.dropout));
            layers.insert(config.network.layers);
            // Uniform in its logarithm: half lies below the geometric mean.
            small += usize::from(config.training.learning_rate < 0.001_732);
        }
        assert_eq!(layers.into_iter().collect::<Vec<_>>(), [1, 2]);
        assert!((70..130).contains(&small), "{small}");
        let other = Tune { seed: 2, ..tune }.draw(&base()).unwrap();
        assert_ne!(other[0].0, drawn[0].0);
    }

    #[test]
    fn nonsense_is_named() {
        for (from, to, key) in [
            ("trials = 9", "trials = 0", "tune.trials"),
            ("eta = 3", "eta = 1", "tune.eta"),
            ("max = 9", "max = 0", "tune.max"),
            ("\"network.dropout\" =", "\"encoder.item_buckets\" =", "tune.space.encoder.item_buckets"),
            ("linear = [0.0, 0.5]", "linear = [0.5, 0.0]", "tune.space.network.dropout"),
            ("log = [0.0003, 0.01]", "log = [0.0, 0.01]", "tune.space.training.learning_rate"),
        ] {
            let text = super::super::EXAMPLE.replacen(from, to, 1);
            let error = Tune::parse(&text).unwrap_err().to_string();
            assert!(error.starts_with(&format!("{key}:")), "{error}");
        }
        let unknown = super::super::EXAMPLE.replace("network.dropout", "network.dropuot");
        let error = Tune::parse(&unknown).unwrap().draw(&base()).unwrap_err().to_string();
        assert!(error.contains("network.dropuot"), "{error}");
    }
}
