//! The whole configuration: every section, in one file with comments.

use std::path::PathBuf;

use anyhow::{Context, Result};
use serde::Deserialize;
use toml::{Table, Value};

/// Every section.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where the cluster is.
    pub kafka: runtime::config::Kafka,
    /// What `topics create` makes.
    pub topics: runtime::config::Topics,
    /// The loop of every service.
    pub service: runtime::config::Service,
    /// The object store.
    pub storage: runtime::config::Storage,
    /// Logs.
    pub telemetry: runtime::config::Telemetry,
    /// The HTTP listener.
    pub admin: runtime::config::Admin,
    /// Raw records to canonical events.
    pub ingest: ingest::Config,
    /// Declared features, windows, labels.
    pub features: features::Config,
    /// Tables.
    pub lake: lake::Config,
    /// Encoder, network, training.
    pub model: model::Config,
    /// Schedule, split, gate.
    pub trainer: trainer::Config,
    /// Scoring.
    pub scorer: scorer::Config,
    /// The simulated market.
    pub market: market::Config,
    /// How the services run together.
    pub run: Run,
}

/// How the services run together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// Whether features score their vectors themselves, in the same transactions.
    pub chain: bool,
}

/// The commented defaults of the section `run`.
const DEFAULTS: &str = include_str!("default.toml");

/// All defaults, commented: what `salience config show --defaults` prints.
pub fn defaults() -> String {
    [
        runtime::config::DEFAULTS,
        ingest::DEFAULTS,
        features::DEFAULTS,
        lake::DEFAULTS,
        model::DEFAULTS,
        trainer::DEFAULTS,
        scorer::DEFAULTS,
        market::DEFAULTS,
        DEFAULTS,
    ]
    .join("\n")
}

/// Where settings come from, lowest first: defaults, a preset, files, `SALIENCE_` variables, `--set`.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// A command's own settings (a TOML layer), under the user's.
    pub preset: Option<&'static str>,
    /// The user's files.
    pub files: Vec<PathBuf>,
    /// `key=value` from the command line.
    pub overrides: Vec<(String, String)>,
}

impl Sources {
    /// Loads them with the process's environment.
    ///
    /// # Errors
    /// An unknown key (with the nearest known one), a wrong type, a value that makes no sense: each
    /// names the key and where it came from.
    pub fn load(&self) -> Result<Config> {
        let resolved = self.resolve()?;
        let config: Config = resolved.extract()?;
        features::Plan::compile(&config.features)
            .map_err(|error| anyhow::anyhow!("{}: {error}", resolved.source(&error.key)))?;
        check(&config)?;
        Ok(config)
    }

    /// All layers as one, to be shown.
    ///
    /// # Errors
    /// As [`Sources::load`].
    pub fn resolve(&self) -> Result<runtime::config::Resolved> {
        let defaults = match self.preset {
            Some(preset) => layered(&defaults(), preset)?,
            None => defaults(),
        };
        let files = match std::env::var_os("SALIENCE_CONFIG") {
            Some(path) if self.files.is_empty() => vec![PathBuf::from(path)],
            _ => self.files.clone(),
        };
        Ok(runtime::config::resolve(&defaults, &files, std::env::vars(), &self.overrides, &features::keys())?)
    }
}

/// The defaults with a preset's values in place of theirs.
fn layered(defaults: &str, preset: &str) -> Result<String> {
    fn merge(under: &mut Table, over: Table) {
        for (key, value) in over {
            match (under.get_mut(&key), value) {
                (Some(Value::Table(under)), Value::Table(over)) => merge(under, over),
                (_, value) => {
                    under.insert(key, value);
                }
            }
        }
    }
    let mut table: Table = toml::from_str(defaults).context("the defaults")?;
    merge(&mut table, toml::from_str(preset).context("the preset")?);
    Ok(toml::to_string(&table)?)
}

/// What no section can see alone.
fn check(config: &Config) -> Result<()> {
    config.lake.check().map_err(anyhow::Error::msg)?;
    config.trainer.check()?;
    config.trainer.check_gap(config.features.click_window)?;
    config.scorer.check()?;
    anyhow::ensure!(
        config.scorer.model == config.trainer.model,
        "scorer.model is {:?} and trainer.model is {:?}: nobody would train what is served",
        config.scorer.model,
        config.trainer.model
    );
    anyhow::ensure!(
        config.ingest.numbers == config.features.numbers,
        "ingest.numbers and features.numbers must list the same names in the same order"
    );
    features::Plan::compile(&config.features)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed setup is a failed test")]
    use super::*;

    #[test]
    fn defaults_and_every_preset_load() {
        let presets = [
            None,
            Some(crate::demo::PRESET),
            Some(crate::replay::Format::Rees46.preset()),
            Some(crate::replay::Format::OpenBandit.preset()),
            Some(crate::replay::Format::Csv.preset()),
            Some(crate::backfill::PRESET),
            Some(crate::bench::pipeline::PRESET),
            Some(crate::bench::latency::PRESET),
            Some(crate::bench::takeover::PRESET),
            Some(crate::bench::scale::PRESET),
            Some(crate::bench::overload::PRESET),
            Some(crate::bench::quality::PRESET),
            Some(crate::bench::classic::PRESET),
        ];
        for preset in presets {
            let sources = Sources { preset, ..Sources::default() };
            let text = match preset {
                Some(preset) => layered(&defaults(), preset).unwrap(),
                None => defaults(),
            };
            let resolved =
                runtime::config::resolve(&text, &sources.files, std::iter::empty(), &[], &features::keys())
                    .unwrap();
            let config: Config = resolved.extract().unwrap();
            check(&config).unwrap();
        }
    }

    #[test]
    fn a_gap_in_which_labels_could_still_be_decided_is_refused() {
        let overrides = [("features.click_window".to_owned(), "45m".to_owned())];
        let resolved =
            runtime::config::resolve(&defaults(), &[], std::iter::empty(), &overrides, &features::keys())
                .unwrap();
        let mut config: Config = resolved.extract().unwrap();
        let text = check(&config).unwrap_err().to_string();
        assert!(
            text.contains("trainer.split.gap: 30m is shorter than features.click_window (45m)"),
            "{text}"
        );
        config.trainer.split.gap = config.features.click_window;
        check(&config).unwrap();
    }

    #[test]
    fn presets_name_no_key_that_the_defaults_lack() {
        fn known(under: &Table, over: &Table, path: &str) {
            for (key, value) in over {
                let at = format!("{path}{key}");
                assert!(under.contains_key(key), "{at} is no key");
                if let (Value::Table(under), Value::Table(over)) = (&under[key], value)
                    && !under.is_empty()
                {
                    known(under, over, &format!("{at}."));
                }
            }
        }
        let defaults: Table = toml::from_str(&defaults()).unwrap();
        for preset in [
            crate::demo::PRESET,
            crate::replay::Format::Rees46.preset(),
            crate::replay::Format::OpenBandit.preset(),
            crate::replay::Format::Csv.preset(),
            crate::backfill::PRESET,
            crate::bench::pipeline::PRESET,
            crate::bench::latency::PRESET,
            crate::bench::takeover::PRESET,
            crate::bench::scale::PRESET,
            crate::bench::overload::PRESET,
            crate::bench::quality::PRESET,
            crate::bench::classic::PRESET,
        ] {
            known(&defaults, &toml::from_str(preset).unwrap(), "");
        }
    }
}
