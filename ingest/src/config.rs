//! The `[ingest]` section of the config. Holds no secret and reads nothing.

use std::collections::BTreeMap;

use schemas::duration::Millis;
use serde::{Deserialize, Serialize};

/// The section's defaults: commented TOML with every key.
pub const DEFAULTS: &str = include_str!("default.toml");

/// The most bytes that predictions carry as `context`.
pub const CONTEXT_LIMIT: usize = 256;

/// Whose clock says that an event time lies in the future.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClockSource {
    /// This machine's.
    Wall,
    /// The data's own: the greatest time over all sources.
    Data,
}

/// The `[ingest]` section; `default.toml` says what each key means.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "documented key by key, with units, in default.toml")]
pub struct Config {
    pub clock: ClockSource,
    pub allowed_lateness: Millis,
    pub max_future: Millis,
    pub max_jump: Millis,
    pub tick_every: Millis,
    pub tick_interval: Millis,
    pub idle_polls: u32,
    pub max_record_bytes: usize,
    pub max_text_bytes: usize,
    pub max_context_bytes: usize,
    pub max_lines: usize,
    pub default_campaign: String,
    pub default_currency: String,
    pub numbers: Vec<String>,
    pub embedding_length: usize,
    pub max_items: usize,
    pub catalogue_refresh: Millis,
    pub pseudonym_key_id: String,
    pub pseudonym_key_file: String,
    pub merge_records: usize,
    pub merge_bytes: usize,
    pub merge_wait: Millis,
    pub max_skew: Millis,
    pub skew_wait: Millis,
    pub fields: BTreeMap<String, String>,
}

impl Default for Config {
    /// The same as [`DEFAULTS`].
    fn default() -> Self {
        Self {
            clock: ClockSource::Wall,
            allowed_lateness: Millis(120_000),
            max_future: Millis(300_000),
            max_jump: Millis(21_600_000),
            tick_every: Millis(1_000),
            tick_interval: Millis(100),
            idle_polls: 20,
            max_record_bytes: 1 << 20,
            max_text_bytes: 256,
            max_context_bytes: CONTEXT_LIMIT,
            max_lines: 256,
            default_campaign: String::new(),
            default_currency: "EUR".to_owned(),
            numbers: Vec::new(),
            embedding_length: 0,
            max_items: 2_000_000,
            catalogue_refresh: Millis(1_000),
            pseudonym_key_id: "k1".to_owned(),
            pseudonym_key_file: String::new(),
            merge_records: 4_096,
            merge_bytes: 64 << 20,
            merge_wait: Millis(1_000),
            max_skew: Millis(3_600_000),
            skew_wait: Millis(10_000),
            fields: BTreeMap::new(),
        }
    }
}

/// A section that cannot be used (fatal: mend the config).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A name that is none of ours.
    #[error("ingest.fields: {name:?} is no field of ours; they are {known}")]
    UnknownField {
        /// The name.
        name: String,
        /// All names, for the message.
        known: String,
    },
    /// A path that cannot be followed.
    #[error("ingest.fields: {name} = {path:?}: {what}")]
    Path {
        /// Our name.
        name: String,
        /// The customer's.
        path: String,
        /// What is wrong with it.
        what: &'static str,
    },
    /// Two fields that read the same place.
    #[error("ingest.fields: {name} = {path:?} meets another field's path; give each its own")]
    Collision {
        /// Our name.
        name: String,
        /// The customer's.
        path: String,
    },
    /// A value out of its range.
    #[error("ingest.{key}: {what}")]
    Range {
        /// The key.
        key: &'static str,
        /// What it must be.
        what: &'static str,
    },
}

impl Config {
    /// Checks what the types do not say.
    ///
    /// # Errors
    /// The first value out of its range, or a field that cannot be mapped.
    pub fn check(&self) -> Result<(), ConfigError> {
        let rules: [(bool, &'static str, &'static str); 9] = [
            (self.idle_polls >= 1, "idle_polls", "must be at least 1"),
            (
                (2..=64 << 20).contains(&self.max_record_bytes),
                "max_record_bytes",
                "must be between 2 and 67108864",
            ),
            ((1..=16_384).contains(&self.max_text_bytes), "max_text_bytes", "must be between 1 and 16384"),
            (self.max_context_bytes <= CONTEXT_LIMIT, "max_context_bytes", "must be at most 256"),
            ((1..=65_536).contains(&self.max_lines), "max_lines", "must be between 1 and 65536"),
            (
                self.default_campaign.len() <= self.max_text_bytes,
                "default_campaign",
                "must be no longer than max_text_bytes",
            ),
            (
                is_currency(&self.default_currency),
                "default_currency",
                "must be three capital letters, as in EUR",
            ),
            (self.merge_records >= 2, "merge_records", "must be at least 2"),
            (self.merge_bytes >= 4_096, "merge_bytes", "must be at least 4096"),
        ];
        if let Some((_, key, what)) = rules.into_iter().find(|(holds, ..)| !holds) {
            return Err(ConfigError::Range { key, what });
        }
        crate::decode::Mapping::new(&self.fields, &self.numbers).map(|_| ())
    }
}

/// Whether it has the form of an ISO 4217 code.
fn is_currency(text: &str) -> bool {
    text.len() == 3 && text.bytes().all(|b| b.is_ascii_uppercase())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[derive(Deserialize)]
    struct File {
        ingest: Config,
    }

    #[test]
    fn the_commented_defaults_are_the_defaults() {
        let file: File = toml::from_str(DEFAULTS).unwrap();
        assert_eq!(file.ingest, Config::default());
        assert_eq!(file.ingest.check(), Ok(()));
    }

    #[test]
    fn values_out_of_range_are_named() {
        let bad = Config { default_currency: "euro".into(), ..Config::default() };
        assert!(bad.check().unwrap_err().to_string().starts_with("ingest.default_currency"));
        let bad = Config { max_context_bytes: 257, ..Config::default() };
        assert!(bad.check().is_err());
    }
}
