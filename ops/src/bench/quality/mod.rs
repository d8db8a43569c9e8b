//! `bench quality`: the default network beside `LightGBM`, `AutoInt` and DIN on the same impressions,
//! fields and split; on simulated markets beside the truth as well.

pub mod encoded;
pub mod export;
pub mod judge;
pub mod ours;
pub mod peers;
pub mod rows;
pub mod sets;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::Serialize;
use trainer::split::{self, Parts};

use judge::{Interval, Judge, Measured};
use rows::Rows;
pub use sets::Set;

use crate::config::{Config, Sources};

/// The benchmark's settings on simulated markets, under the user's.
pub const PRESET: &str = include_str!("../../../presets/quality.toml");

/// What the command line says.
#[derive(Debug, Clone)]
pub struct Options {
    /// Impressions of each simulated market.
    pub impressions: u64,
    /// Seed of the markets and of training.
    pub seed: u64,
    /// The folder with `rees46` and `open-bandit`; without it the public logs are left out.
    pub data: Option<PathBuf>,
    /// Names of the sets to judge on; empty: all.
    pub only: Vec<String>,
    /// The Python of the peers; without it there is none beside ours.
    pub python: Option<PathBuf>,
    /// Where the exported rows and predictions stay; else in a temporary folder that is deleted.
    pub keep: Option<PathBuf>,
}

/// All that was measured.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Per data set.
    pub sets: Vec<Judged>,
    /// Why there are no peers, where there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub without_peers: Option<String>,
}

/// One data set.
#[derive(Debug, Clone, Serialize)]
pub struct Judged {
    /// Its name.
    pub name: &'static str,
    /// Training impressions.
    pub train: usize,
    /// Impressions that early stopping watched.
    pub validation: usize,
    /// Impressions judged on.
    pub test: usize,
    /// Share of these that were clicked.
    pub click_rate: f64,
    /// Log loss of always saying that share.
    pub base_log_loss: Interval,
    /// The true probabilities' own; none for real data.
    pub truth: Option<Score>,
    /// Ours, then the peers.
    pub models: Vec<Scored>,
}

/// How good predictions are.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Score {
    /// Nats per impression.
    pub log_loss: Interval,
    /// Area under the ROC curve.
    pub auc: Interval,
}

/// One model on one data set.
#[derive(Debug, Clone, Serialize)]
pub struct Scored {
    /// `salience`, `lightgbm`, `autoint` or `din`.
    pub name: &'static str,
    /// Version of a peer's package.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// How good it is.
    #[serde(flatten)]
    pub score: Score,
    /// (base - model) / (base - truth) of the log losses; none for real data.
    pub information_gain_share: Option<Interval>,
    /// Our log loss less its, on the same resamples: below 0 is better. None for ours.
    pub our_log_loss_less: Option<Interval>,
    /// Our AUC less its: above 0 is better. None for ours.
    pub our_auc_less: Option<Interval>,
    /// Training, seconds.
    pub seconds: f64,
}

/// Runs it.
///
/// # Errors
/// Data that cannot be read, training or a peer that fails.
pub fn run(sources: &Sources, options: &Options) -> Result<Report> {
    let mut sets = Set::all(options.data.is_some());
    if !options.only.is_empty() {
        let known: Vec<_> = sets.iter().map(Set::name).collect();
        for name in &options.only {
            anyhow::ensure!(known.contains(&name.as_str()), "there is no set {name:?}: {}", known.join(", "));
        }
        sets.retain(|set| options.only.iter().any(|name| name == set.name()));
    }
    let without_peers = options
        .python
        .is_none()
        .then(|| "no Python with the peers: see tests/peers/setup and --python".into());
    let sets = sets.iter().map(|set| judge_set(set, sources, options)).collect::<Result<_>>()?;
    Ok(Report { sets, without_peers })
}

fn judge_set(set: &Set, sources: &Sources, options: &Options) -> Result<Judged> {
    let name = set.name();
    let config = set.config(sources)?;
    eprintln!("{name}: making the impressions");
    let rows = set.rows(&config, options.impressions, options.seed, options.data.as_deref())?;
    let times: Vec<i64> = rows.impressions.iter().map(|row| row.at_ms).collect();
    let (_, parts) = split::split(&times, &config.trainer.split, None)?;
    let folder = match &options.keep {
        Some(folder) => folder.join(name),
        None => std::env::temp_dir().join(format!("salience-quality-{}-{name}", std::process::id())),
    };
    std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let judged = compare(set, &rows, &parts, &config, options, &folder);
    if options.keep.is_none() {
        std::fs::remove_dir_all(&folder)?;
    }
    judged
}

fn compare(
    set: &Set,
    rows: &Rows,
    parts: &Parts,
    config: &Config,
    options: &Options,
    folder: &Path,
) -> Result<Judged> {
    let tests = &rows.impressions[parts.test.clone()];
    let clicked: Vec<bool> = tests.iter().map(|row| row.label.clicked).collect();
    let judge = Judge::new(&clicked, options.seed);
    let rate = clicked.iter().filter(|clicked| **clicked).count() as f64 / clicked.len() as f64;
    let base = judge.measure(&vec![rate as f32; clicked.len()]);
    let truths: Option<Vec<f32>> =
        tests.iter().map(|row| row.truth.map(|truth| truth.p_click as f32)).collect();
    let truth = truths.map(|truths| judge.measure(&truths));
    if options.keep.is_some() || options.python.is_some() {
        export::write(rows, parts, folder)?;
    }

    eprintln!("{}: training salience on {} impressions", set.name(), parts.train.len());
    let ours = ours::train(rows, parts, &config.model, config.model.training.seed)?;
    if options.keep.is_some() {
        export::write_predictions(&ours.predictions, "salience", folder)?;
    }
    let mine = judge.measure(&ours.predictions);
    let share = |measured: &Measured| truth.as_ref().map(|truth| measured.gain_share(&base, truth));
    let score = |measured: &Measured| Score { log_loss: measured.log_loss(), auc: measured.auc() };
    let mut models = vec![Scored {
        name: "salience",
        version: None,
        score: score(&mine),
        information_gain_share: share(&mine),
        our_log_loss_less: None,
        our_auc_less: None,
        seconds: ours.seconds,
    }];
    if let Some(python) = &options.python {
        for (name, program) in peers::PEERS {
            eprintln!("{}: training {name}", set.name());
            let peer = peers::run(python, name, program, folder, clicked.len())?;
            let its = judge.measure(&peer.predictions);
            models.push(Scored {
                name,
                version: Some(peer.said.version),
                score: score(&its),
                information_gain_share: share(&its),
                our_log_loss_less: Some(mine.log_loss_less(&its)),
                our_auc_less: Some(mine.auc_less(&its)),
                seconds: peer.said.seconds,
            });
        }
    }
    Ok(Judged {
        name: set.name(),
        train: parts.train.len(),
        validation: parts.validation.len(),
        test: clicked.len(),
        click_rate: rate,
        base_log_loss: base.log_loss(),
        truth: truth.as_ref().map(score),
        models,
    })
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for set in &self.sets {
            writeln!(
                f,
                "{}: {} training, {} validation, {} test impressions, {:.2} % clicked",
                set.name,
                set.train,
                set.validation,
                set.test,
                set.click_rate * 100.0
            )?;
            if let Some(truth) = &set.truth {
                writeln!(
                    f,
                    "  {:9} log loss {:.5}, AUC {:.4} (base rate: {:.5})",
                    "truth", truth.log_loss.value, truth.auc.value, set.base_log_loss.value
                )?;
            }
            for model in &set.models {
                write!(
                    f,
                    "  {:9} log loss {:.5} [{:.5}, {:.5}], AUC {:.4} [{:.4}, {:.4}]",
                    model.name,
                    model.score.log_loss.value,
                    model.score.log_loss.low,
                    model.score.log_loss.high,
                    model.score.auc.value,
                    model.score.auc.low,
                    model.score.auc.high
                )?;
                if let Some(share) = &model.information_gain_share {
                    write!(f, ", {:.1} % of the information", share.value * 100.0)?;
                }
                if let Some(less) = &model.our_log_loss_less {
                    write!(f, "; ours less its {:+.5} [{:+.5}, {:+.5}]", less.value, less.low, less.high)?;
                }
                writeln!(f, ", {:.0} s", model.seconds)?;
            }
        }
        if let Some(why) = &self.without_peers {
            writeln!(f, "without peers: {why}")?;
        }
        Ok(())
    }
}
