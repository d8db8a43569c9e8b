//! The `[lake]` section of the configuration.

use schemas::duration::Millis;
use serde::{Deserialize, Serialize};

/// The section with its defaults, every key explained.
pub const DEFAULTS: &str = include_str!("default.toml");

/// What to do about records that left the topic before the table had them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnGap {
    /// Stop the service with a message.
    Stop,
    /// Say so and go on with what is left.
    Continue,
}

/// The `[lake]` section; `default.toml` says what each key means.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Tables to keep; empty: all.
    pub tables: Vec<String>,
    /// Longest wait of a record before it is committed.
    pub commit_interval: Millis,
    /// Rows that make a commit early.
    pub max_rows: usize,
    /// Bytes of records that make a commit early.
    pub max_bytes: u64,
    /// Longest wait of a position that moved without a row.
    pub idle_commit_interval: Millis,
    /// Size of a compacted file, bytes.
    pub target_file_bytes: u64,
    /// Small files of a date that make it worth compacting.
    pub compact_min_files: usize,
    /// Whether the service compacts while it runs.
    pub auto_compact: bool,
    /// Commits between checkpoints of the log; at least 1.
    pub checkpoint_every: u64,
    /// How long files that no current version needs are kept.
    pub retention: Millis,
    /// Compression level, 1 to 22.
    pub zstd_level: i32,
    /// Records that left the topic too early.
    pub on_gap: OnGap,
}

impl Config {
    /// Checks what types cannot.
    ///
    /// # Errors
    /// The first key whose value makes no sense, and why.
    pub fn check(&self) -> Result<(), String> {
        let rules = [
            (self.commit_interval.0 < 1, "lake.commit_interval must be at least 1ms"),
            (self.max_rows < 1, "lake.max_rows must be at least 1"),
            (self.max_bytes < 1, "lake.max_bytes must be at least 1"),
            (self.target_file_bytes < 1, "lake.target_file_bytes must be at least 1"),
            (self.compact_min_files < 2, "lake.compact_min_files must be at least 2"),
            (self.checkpoint_every < 1, "lake.checkpoint_every must be at least 1"),
            (!(1..=22).contains(&self.zstd_level), "lake.zstd_level must be from 1 to 22"),
        ];
        rules.iter().find(|(broken, _)| *broken).map_or(Ok(()), |(_, why)| Err((*why).to_owned()))
    }
}

impl Default for Config {
    /// As `default.toml` says; a test holds the two together.
    fn default() -> Self {
        Self {
            tables: Vec::new(),
            commit_interval: Millis(10_000),
            max_rows: 500_000,
            max_bytes: 64 << 20,
            idle_commit_interval: Millis(60_000),
            target_file_bytes: 128 << 20,
            compact_min_files: 32,
            auto_compact: true,
            checkpoint_every: 50,
            retention: Millis(7 * 86_400_000),
            zstd_level: 3,
            on_gap: OnGap::Stop,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[derive(Deserialize)]
    struct File {
        lake: Config,
    }

    #[test]
    fn the_default_file_and_the_default_value_agree() {
        let file: File = toml::from_str(DEFAULTS).unwrap();
        assert_eq!(file.lake, Config::default());
        assert_eq!(file.lake.check(), Ok(()));
    }

    #[test]
    fn nonsense_is_named() {
        let config = Config { zstd_level: 0, ..Config::default() };
        assert_eq!(config.check(), Err("lake.zstd_level must be from 1 to 22".to_owned()));
    }
}
