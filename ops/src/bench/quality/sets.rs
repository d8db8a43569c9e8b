//! The data sets: three simulated markets, whose truth is known, and two public logs.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use ingest::Catalogue;
use market::{Drivers, Market, MarketKind};
use schemas::duration::Millis;
use schemas::topic;

use super::rows::{Maker, Rows};
use crate::config::{Config, Sources};
use crate::replay::{self, Format};

/// Topics that raw records come on.
const TOPICS: [&str; 3] = [topic::VIEWS, topic::CLICKS, topic::PURCHASES];
/// Impressions for which the preset's market is meant.
const FULL: f64 = 1_000_000.0;

/// One data set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Set {
    /// A simulated market.
    Market(MarketKind),
    /// A log in the shared folder.
    Log(Format),
}

impl Set {
    /// All of them; logs only where there is data.
    pub fn all(data: bool) -> Vec<Self> {
        let markets =
            [MarketKind::Linear, MarketKind::Crossed, MarketKind::Drifting].into_iter().map(Self::Market);
        let logs = [Format::Rees46, Format::OpenBandit].into_iter().map(Self::Log).filter(|_| data);
        markets.chain(logs).collect()
    }

    /// What it is called.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Market(MarketKind::Default) => "default",
            Self::Market(MarketKind::Linear) => "linear",
            Self::Market(MarketKind::Crossed) => "crossed",
            Self::Market(MarketKind::Drifting) => "drifting",
            Self::Log(Format::Rees46) => "rees46",
            Self::Log(Format::OpenBandit) => "open_bandit",
            Self::Log(Format::Jsonl | Format::Csv) => "log",
        }
    }

    /// The settings that fit it, under the user's own.
    ///
    /// # Errors
    /// Settings that make no sense.
    pub fn config(&self, user: &Sources) -> Result<Config> {
        let preset = match self {
            Self::Market(_) => super::PRESET,
            Self::Log(format) => format.preset(),
        };
        let mut config = Sources { preset: Some(preset), ..user.clone() }.load()?;
        if let Self::Log(_) = self {
            // Small logs are judged, too.
            config.trainer.split.min_train_rows = config.trainer.split.min_train_rows.min(500);
            config.trainer.split.min_test_rows = config.trainer.split.min_test_rows.min(100);
        }
        if *self == Self::Log(Format::Rees46) {
            // Nearly all of it is within forty minutes: windows and gaps of half an hour would leave
            // nothing to train on. Most carts come within three minutes of the view.
            config.features.click_window = Millis(180_000);
            config.trainer.split.gap = Millis(180_000);
        }
        Ok(config)
    }

    /// Its rows: of a market, so many impressions; of a log, all.
    ///
    /// # Errors
    /// A log that is not there or cannot be read.
    pub fn rows(&self, config: &Config, impressions: u64, seed: u64, data: Option<&Path>) -> Result<Rows> {
        match self {
            Self::Market(kind) => market_rows(*kind, config, impressions, seed),
            Self::Log(format) => log_rows(*format, config, data.context("a log needs --data")?),
        }
    }
}

/// The market that gives so many impressions of a kind.
fn open_market(kind: MarketKind, config: &Config, impressions: u64, seed: u64) -> Result<Market> {
    // Fewer impressions: fewer people and things, each with as long a history.
    let share = impressions as f64 / FULL;
    let scaled = |count: u32, least: u32| ((f64::from(count) * share) as u32).clamp(least, count.max(least));
    let settings = market::Config {
        kind,
        users: scaled(config.market.users, 40),
        items: scaled(config.market.items, 40.max(config.market.categories)),
        ..config.market.clone()
    };
    Ok(Market::new(&settings, seed)?)
}

/// What drives the click on each impression of a market, by event time and the bits of its true
/// probability: what the rows of [`Set::rows`] know of it.
///
/// # Errors
/// Settings that make no market.
pub fn drivers(
    kind: MarketKind,
    config: &Config,
    impressions: u64,
    seed: u64,
) -> Result<HashMap<(i64, u64), Drivers>> {
    let emissions = open_market(kind, config, impressions, seed)?;
    let told = emissions.filter_map(|record| {
        let truth = record.truth?;
        Some(((record.event_time_ms, truth.p_click.to_bits()), truth.drivers))
    });
    Ok(told.take(impressions as usize).collect())
}

fn market_rows(kind: MarketKind, config: &Config, impressions: u64, seed: u64) -> Result<Rows> {
    let mut market = open_market(kind, config, impressions, seed)?;
    let mut maker = Maker::new(&config.features, &config.ingest, Catalogue::new(&config.ingest), &TOPICS)?;
    let mut seen = 0;
    while seen < impressions {
        let record = market.next().context("the market ended")?;
        seen += u64::from(record.truth.is_some());
        maker.push(record.topic, &record.value, record.truth.as_ref().map(Into::into))?;
    }
    market.close();
    for record in market {
        // What comes of the last impressions; late views would be impressions more.
        if record.kind != schemas::Kind::View {
            maker.push(record.topic, &record.value, None)?;
        }
    }
    Ok(maker.finish())
}

fn log_rows(format: Format, config: &Config, data: &Path) -> Result<Rows> {
    let mut maker = Maker::new(&config.features, &config.ingest, Catalogue::new(&config.ingest), &TOPICS)?;
    let mut records = Vec::new();
    for path in files(format, data)? {
        for row in replay::open(&path, format, None)?.rows {
            records.push(row?);
        }
    }
    // Several files of one time are one log.
    records.sort_by_key(|record| record.at_ms);
    for record in &records {
        maker.push(record.topic, &record.value, None)?;
    }
    Ok(maker.finish())
}

/// The logs of that format in the shared folder.
fn files(format: Format, data: &Path) -> Result<Vec<PathBuf>> {
    let folder = data.join(if format == Format::Rees46 { "rees46" } else { "open-bandit" });
    let listed = std::fs::read_dir(&folder).with_context(|| folder.display().to_string())?;
    let mut paths: Vec<PathBuf> = listed.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    paths.retain(|path| path.to_string_lossy().ends_with(".csv.gz"));
    paths.sort();
    ensure!(!paths.is_empty(), "no *.csv.gz in {}", folder.display());
    Ok(paths)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed setup is a failed test")]
    use model::{EncodedSet, Encoder};

    use super::*;

    #[test]
    fn a_market_becomes_rows_in_order_with_outcomes_and_truths() {
        let set = Set::Market(MarketKind::Crossed);
        let config = set.config(&Sources::default()).unwrap();
        let rows = set.rows(&config, 6_000, 3, None).unwrap();
        let count = rows.impressions.len() as f64;
        assert_eq!(rows.impressions.len(), 6_000);
        assert!(rows.impressions.is_sorted_by_key(|row| row.at_ms));
        let clicked = rows.impressions.iter().filter(|row| row.label.clicked).count() as f64 / count;
        let said = rows.impressions.iter().map(|row| row.truth.unwrap().p_click).sum::<f64>() / count;
        assert!((clicked - said).abs() < 0.02, "{clicked} clicked, {said} said");
        // They are vectors that the model reads, with histories.
        let mut encoded = EncodedSet::new(&Encoder::new(&rows.schema, &config.model.encoder));
        for row in &rows.impressions {
            encoded.push(&rows.vector(row), &row.label, 1.0).unwrap();
        }
        let late = &rows.impressions[5_999];
        assert_eq!(rows.past(late).len(), config.features.last_n);
        assert_eq!(encoded.row(5_999).behaviours.len(), config.features.last_n);
        // A share of the impressions has a share of the people.
        let mut users: Vec<u32> = rows.impressions.iter().map(|row| row.ids[0]).collect();
        users.sort_unstable();
        users.dedup();
        assert!(users.len() <= 40, "{} consumers", users.len());
    }
}
