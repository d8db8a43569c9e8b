//! `bench explain`: how faithful each way to explain a prediction is, on simulated markets: by what
//! happens when what it names is taken away, and by what truly drives the clicks there.

use std::collections::HashMap;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use market::{Driver, Drivers, MarketKind};
use model::explain::{self, Explanation, Faithfulness, Interval, Method, PUBLISHED_STEPS, spearman};
use model::{Examples, Explain, Job, Model};
use schemas::FeatureVector;
use serde::Serialize;
use trainer::split;

use super::quality::encoded::Encoded;
use super::quality::rows::Rows;
use super::quality::sets::{Set, drivers};
use crate::config::Sources;

/// Test impressions explained and compared with the truth.
const JUDGED: usize = 2_000;
/// Vectors whose explanation is timed.
const TIMED: usize = 512;
/// Vectors of a timed batch.
const BATCH: usize = 64;
/// Resamples of intervals.
const RESAMPLES: usize = 500;

/// What can drive a click, as columns and drivers both can be sorted into.
const GROUPS: [&str; 10] =
    ["user", "item", "campaign", "category", "placement", "device", "channel", "hour", "history", "price"];

/// What the command line says.
#[derive(Debug, Clone)]
pub struct Options {
    /// Impressions of each market.
    pub impressions: u64,
    /// Names of the markets; empty: all three.
    pub only: Vec<String>,
    /// Seed of the markets and of training.
    pub seed: u64,
}

/// All that was measured.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// By market.
    pub markets: Vec<Explained>,
}

/// One market.
#[derive(Debug, Clone, Serialize)]
pub struct Explained {
    /// Its kind.
    pub market: &'static str,
    /// Deletion, insertion, agreement among methods.
    pub faithfulness: Faithfulness,
    /// Each method beside the truth.
    pub methods: Vec<Truthful>,
    /// How far attention may be trusted here.
    pub in_words: String,
}

/// One method beside the truth.
#[derive(Debug, Clone, Serialize)]
pub struct Truthful {
    /// Which.
    pub method: Method,
    /// Spearman's rank correlation with the true drivers' sizes, impression by impression.
    pub per_impression: Interval,
    /// The same of mean sizes over all impressions.
    pub overall: f64,
    /// Time that it adds to a prediction in batches of 64, one thread, microseconds.
    pub microseconds: f64,
}

/// Runs it.
///
/// # Errors
/// A market that there is not, settings that make no sense, training that fails.
pub fn run(sources: &Sources, options: &Options) -> Result<Report> {
    let kinds = [MarketKind::Linear, MarketKind::Crossed, MarketKind::Drifting];
    let known: Vec<&str> = kinds.iter().map(|kind| Set::Market(*kind).name()).collect();
    for name in &options.only {
        ensure!(known.contains(&name.as_str()), "there is no market {name:?}: {}", known.join(", "));
    }
    let wanted = |kind: &MarketKind| {
        options.only.is_empty() || options.only.iter().any(|name| name == Set::Market(*kind).name())
    };
    let markets = kinds
        .into_iter()
        .filter(wanted)
        .map(|kind| explain_market(kind, sources, options))
        .collect::<Result<_>>()?;
    Ok(Report { markets })
}

fn explain_market(kind: MarketKind, sources: &Sources, options: &Options) -> Result<Explained> {
    let set = Set::Market(kind);
    let config = set.config(sources)?;
    eprintln!("{}: making the impressions", set.name());
    let rows = set.rows(&config, options.impressions, options.seed, None)?;
    let told = drivers(kind, &config, options.impressions, options.seed)?;
    let times: Vec<i64> = rows.impressions.iter().map(|row| row.at_ms).collect();
    let (_, parts) = split::split(&times, &config.trainer.split, None)?;
    let Encoded { training, validation, test } = Encoded::new(&rows, &parts, &config.model)?;
    eprintln!("{}: training on {} impressions", set.name(), parts.train.len());
    let (training, validation) = (training.all(), validation.all());
    let trained =
        model::train(Job::new(&training, &validation, &config.model).with_seed(options.seed), &mut ())?;
    let model = trained.model;

    let chosen = config.trainer.explanation;
    let measure = explain::Options {
        rows: chosen.rows,
        max_passes: chosen.max_passes,
        resamples: RESAMPLES,
        seed: options.seed,
    };
    let faithfulness = explain::measure(&model, &validation, measure)?;
    let step = (parts.test.len() / JUDGED).max(1);
    let at: Vec<usize> = parts.test.clone().step_by(step).collect();
    let truth = true_sizes(&rows, &told, &at)?;
    let examples = test.select(at.iter().map(|at| at - parts.test.start));
    let vectors: Vec<FeatureVector> =
        at.iter().take(TIMED).map(|&at| rows.vector(&rows.impressions[at])).collect();
    let methods = Method::ALL
        .into_iter()
        .map(|method| beside_truth(&model, method, &examples, &truth, &vectors))
        .collect::<Result<_>>()?;
    let in_words = faithfulness.in_words();
    Ok(Explained { market: set.name(), faithfulness, methods, in_words })
}

/// By group, how much an impression's true drivers move its logit from that of the mean impression.
fn true_sizes(
    rows: &Rows,
    told: &HashMap<(i64, u64), Drivers>,
    at: &[usize],
) -> Result<Vec<[f64; GROUPS.len()]>> {
    let of: Vec<[f64; GROUPS.len()]> = at
        .iter()
        .map(|&at| {
            let row = &rows.impressions[at];
            let truth = row.truth.context("an impression without a truth")?;
            let drivers =
                told.get(&(row.at_ms, truth.p_click.to_bits())).context("a truth that the market lacks")?;
            let mut sizes = [0.0; GROUPS.len()];
            for (driver, logit) in drivers.iter() {
                for name in groups_of(driver) {
                    sizes[group(name)] += logit / groups_of(driver).len() as f64;
                }
            }
            Ok(sizes)
        })
        .collect::<Result<_>>()?;
    let count = of.len().max(1) as f64;
    let mean: [f64; GROUPS.len()] =
        std::array::from_fn(|group| of.iter().map(|sizes| sizes[group]).sum::<f64>() / count);
    Ok(of.iter().map(|sizes| std::array::from_fn(|group| (sizes[group] - mean[group]).abs())).collect())
}

fn group(name: &str) -> usize {
    GROUPS.iter().position(|group| *group == name).unwrap_or(0)
}

/// The groups that a driver belongs to, in equal parts. What consumers like is told by what they
/// did, and so belongs to their history.
const fn groups_of(driver: Driver) -> &'static [&'static str] {
    match driver {
        Driver::User => &["user"],
        Driver::Taste => &["history", "item"],
        Driver::Liking | Driver::Drift => &["history", "category"],
        Driver::Campaign | Driver::Swing => &["campaign"],
        Driver::Style => &["history", "campaign"],
        Driver::Item => &["item"],
        Driver::Habit | Driver::Fatigue => &["history"],
        Driver::Hour => &["hour"],
        Driver::Placement => &["placement"],
        Driver::Device => &["device"],
        Driver::Channel => &["channel"],
        Driver::Category => &["category"],
        Driver::Price => &["price"],
        Driver::CategoryDevice => &["category", "device"],
        Driver::CampaignHour => &["campaign", "hour"],
    }
}

/// The group that a column tells of.
fn group_of(column: &str) -> usize {
    let starts = [
        ("user_campaign", "history"),
        ("user_category", "history"),
        ("user_item", "history"),
        ("behaviours", "history"),
        ("user", "user"),
        ("item", "item"),
        ("brand", "item"),
        ("embedding", "item"),
        ("campaign", "campaign"),
        ("category", "category"),
        ("placement", "placement"),
        ("device", "device"),
        ("channel", "channel"),
        ("hour", "hour"),
        ("weekday", "hour"),
        ("price", "price"),
    ];
    starts.iter().find(|(start, _)| column.starts_with(start)).map_or(0, |(_, name)| group(name))
}

fn beside_truth(
    model: &Model,
    method: Method,
    examples: &Examples<'_>,
    truth: &[[f64; GROUPS.len()]],
    vectors: &[FeatureVector],
) -> Result<Truthful> {
    let groups: Vec<usize> = model.columns().iter().map(|column| group_of(column)).collect();
    let explained = model.explain_examples(examples, method, PUBLISHED_STEPS)?;
    let sizes: Vec<[f64; GROUPS.len()]> = explained.iter().map(|one| by_group(one, &groups)).collect();
    let agreements: Vec<f64> =
        sizes.iter().zip(truth).filter_map(|(said, truth)| spearman(said, truth)).collect();
    let zeros = vec![0.0; agreements.len()];
    let interval = model::bootstrap_difference(&agreements, &zeros, RESAMPLES, 0.95, 1);
    let mean = |of: &[[f64; GROUPS.len()]]| -> [f64; GROUPS.len()] {
        std::array::from_fn(|group| of.iter().map(|sizes| sizes[group]).sum::<f64>() / of.len().max(1) as f64)
    };
    Ok(Truthful {
        method,
        per_impression: interval.map_or_else(Interval::default, |d| Interval {
            mean: d.mean,
            low: d.low,
            high: d.high,
        }),
        overall: spearman(&mean(&sizes), &mean(truth)).unwrap_or_default(),
        microseconds: microseconds(model, method, vectors)?,
    })
}

/// Parts of columns, added up by group; sizes.
fn by_group(explanation: &Explanation, groups: &[usize]) -> [f64; GROUPS.len()] {
    let mut sizes = [0.0; GROUPS.len()];
    for (&group, &part) in groups.iter().zip(&explanation.columns) {
        sizes[group] += f64::from(part);
    }
    sizes.map(f64::abs)
}

/// What explaining adds to predicting, a vector, on one thread.
#[expect(clippy::disallowed_methods, reason = "a benchmark measures the wall clock")]
fn microseconds(model: &Model, method: Method, vectors: &[FeatureVector]) -> Result<f64> {
    let time = |explain: Explain| -> Result<f64> {
        let mut best = f64::MAX;
        for _ in 0..3 {
            let began = Instant::now();
            // So few that no other thread is asked.
            for batch in vectors.chunks(BATCH) {
                model.predict_with(batch, explain, method)?;
            }
            best = best.min(began.elapsed().as_secs_f64());
        }
        Ok(best)
    };
    let with = time(Explain { fields: 5, behaviours: 5 })?;
    let without = time(Explain { fields: 0, behaviours: 0 })?;
    Ok((with - without).max(0.0) * 1e6 / vectors.len().max(1) as f64)
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for market in &self.markets {
            writeln!(f, "{}: {} rows measured", market.market, market.faithfulness.rows)?;
            writeln!(
                f,
                "  {:21} {:>24} {:>24} {:>7} {:>24} {:>8} {:>8}",
                "method",
                "deletion gain",
                "insertion gain",
                "passes",
                "truth, by impression",
                "overall",
                "us/row"
            )?;
            for (measured, beside) in market.faithfulness.methods.iter().zip(&market.methods) {
                let interval = |i: &Interval| format!("{:.3} [{:.3}, {:.3}]", i.mean, i.low, i.high);
                writeln!(
                    f,
                    "  {:21} {:>24} {:>24} {:>7.0} {:>24} {:>8.2} {:>8.0}",
                    measured.method.as_str(),
                    interval(&measured.deletion_gain),
                    interval(&measured.insertion_gain),
                    measured.passes,
                    interval(&beside.per_impression),
                    beside.overall,
                    beside.microseconds
                )?;
            }
            for pair in &market.faithfulness.agreement {
                let [a, b] = pair.methods.map(Method::as_str);
                writeln!(f, "  {a} and {b}: Spearman {:.2}, Kendall {:.2}", pair.spearman, pair.kendall)?;
            }
            writeln!(f, "  {}", market.in_words)?;
        }
        Ok(())
    }
}
