//! What a run leaves behind, in the registry and wherever it is copied to:
//!
//! ```text
//! run.json                   what made the version: tables at their versions, config, seed, git
//!                            revision, split, losses, metrics, verdict (see `Run`)
//! config.toml                [trainer] and [model] as they were in force: give it to --config
//! report.html                the report
//! events.out.tfevents.*      TensorBoard: losses, rates, gradients, metrics, weights, PR curves
//! artefact/                  the model: weights, encoder, config, card, golden batch, manifest
//! ```
//!
//! and while it is under way (see [`pending`]):
//!
//! ```text
//! models/{name}/unfinished/run.json    what it is made from, with the table versions
//! models/{name}/unfinished/events      its event file so far
//! models/{name}/unfinished/state       its last checkpoint
//! ```

pub(crate) mod pending;
pub(crate) mod watching;

use crate::Error;
use crate::config::Config;

/// The revision of the code that this was built from: `SALIENCE_GIT_REVISION` of the build's
/// environment, else what git said; none where neither was there.
pub const REVISION: Option<&str> = option_env!("SALIENCE_REVISION");

/// The settings in force as a file that `--config` takes.
pub(crate) fn config_toml(trainer: &Config, model: &model::Config) -> Result<String, Error> {
    #[derive(serde::Serialize)]
    struct File<'a> {
        trainer: &'a Config,
        model: &'a model::Config,
    }
    toml::to_string(&File { trainer, model })
        .map_err(|error| Error::Damaged { path: "config.toml".into(), what: error.to_string() })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_settings_are_read_as_they_were_written() {
        #[derive(serde::Deserialize, PartialEq, Debug)]
        struct File {
            trainer: Config,
            model: model::Config,
        }
        let text = format!("{}\n{}", crate::DEFAULTS, model::DEFAULTS);
        let file: File = toml::from_str(&text).unwrap();
        let again: File = toml::from_str(&config_toml(&file.trainer, &file.model).unwrap()).unwrap();
        assert_eq!(again, file);
    }
}
