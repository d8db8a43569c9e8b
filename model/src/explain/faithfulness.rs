//! How faithful explanations are: what happens to the logit when what they name first is taken away,
//! and when it alone is left, against a random order; and how far methods agree.
//!
//! The areas are those of J. `DeYoung` et al., "ERASER: a benchmark to evaluate rationalized NLP
//! models" (2020, comprehensiveness and sufficiency), of the size of the change, since a column may
//! speak for a click or against it.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::removal::{Columns, without_behaviours};
use super::{Explanation, Method, PUBLISHED_STEPS, kendall, spearman};
use crate::encode::{Examples, Row, RowBuffer};
use crate::metrics::bootstrap_difference;
use crate::predict::{Model, PredictError};
use crate::random::Random;

/// Shares of what is there at which the change is measured; at least one column each.
const SHARES: [f64; 5] = [0.01, 0.05, 0.1, 0.2, 0.5];
/// Random orders that a row's are compared with.
const RANDOM_ORDERS: usize = 3;
/// Confidence of intervals.
const CONFIDENCE: f64 = 0.95;
/// Below this share of the best method's score, attention gives way to it.
const POOR: f64 = 0.9;

/// What to measure.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Options {
    /// Most rows, spread evenly over the examples.
    pub rows: usize,
    /// Most forward passes that a published explanation may cost.
    pub max_passes: f64,
    /// Resamples of the intervals.
    pub resamples: usize,
    /// Of random orders and resamples.
    pub seed: u64,
}

/// A mean and where it lies in 95 of 100 resamples of the rows.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Interval {
    /// Mean.
    pub mean: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// One method, measured. Changes are those of the click's logit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MethodFaithfulness {
    /// Which.
    pub method: Method,
    /// About how many forward passes an explanation costs.
    pub passes: f64,
    /// Mean change when the first columns are taken away, at each of `shares`: more is better.
    pub deletion: Vec<f64>,
    /// Mean change when only the first columns are left, at each of `shares`: less is better.
    pub insertion: Vec<f64>,
    /// How much more than a random order's the mean of `deletion` is.
    pub deletion_gain: Interval,
    /// How much less than a random order's the mean of `insertion` is.
    pub insertion_gain: Interval,
    /// Both gains together, by which methods are compared.
    pub score: Interval,
    /// As `deletion_gain`, of past behaviours; none where rows have too few.
    pub behaviour_gain: Option<Interval>,
}

/// How far two methods agree on the order of a row's columns, in the mean over rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Agreement {
    /// The methods.
    pub methods: [Method; 2],
    /// Spearman's rank correlation.
    pub spearman: f64,
    /// Kendall's tau-b.
    pub kendall: f64,
}

/// The faithfulness of a model's explanations.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Faithfulness {
    /// Rows measured on.
    pub rows: usize,
    /// Shares of the columns at which changes were measured.
    pub shares: Vec<f64>,
    /// The same changes by random order: deletion, then insertion.
    pub random: [Vec<f64>; 2],
    /// The methods.
    pub methods: Vec<MethodFaithfulness>,
    /// Each pair of them.
    pub agreement: Vec<Agreement>,
    /// What is published.
    pub published: Method,
}

impl Faithfulness {
    /// A method's figures.
    pub fn of(&self, method: Method) -> Option<&MethodFaithfulness> {
        self.methods.iter().find(|measured| measured.method == method)
    }

    /// How far the attention of this model may be trusted, in a sentence or two.
    pub fn in_words(&self) -> String {
        let best = self.methods.iter().max_by(|a, b| a.score.mean.total_cmp(&b.score.mean));
        let (Some(attention), Some(best)) = (self.of(Method::Attention), best) else {
            return "Nothing was measured.".to_owned();
        };
        let published = self.published.as_str().replace('_', " ");
        let share = attention.score.mean / best.score.mean;
        let agreement = self
            .agreement
            .iter()
            .find(|pair| pair.methods.contains(&Method::Attention) && pair.methods.contains(&best.method));
        let ranks = agreement.map_or(String::new(), |pair| {
            format!(" (rank agreement with it: Spearman {:.2})", pair.spearman)
        });
        let trust = if attention.score.low <= 0.0 {
            "Attention orders the columns no better than chance: do not read it as the reason.".to_owned()
        } else if best.method == Method::Attention {
            "Attention is the most faithful of the methods measured: it may be read as the reason.".to_owned()
        } else {
            let name = best.method.as_str().replace('_', " ");
            let verdict = if share >= POOR {
                "it may be read as the reason"
            } else if share >= 0.5 {
                "read it as a hint, not as the reason"
            } else {
                "do not read it as the reason"
            };
            format!(
                "Attention tells {:.0} % of what the best method, {name}, tells beyond a random order{ranks}: {verdict}.",
                100.0 * share
            )
        };
        format!("{trust} Predictions are explained by {published}.")
    }
}

/// Changes of a row's logit at each of [`SHARES`].
type Changes = [f64; SHARES.len()];

/// What one row gives.
struct Measured {
    /// By method, then random: deletion, insertion.
    columns: Vec<[Changes; 2]>,
    /// By method, then random; none with too few behaviours.
    behaviours: Option<Vec<f64>>,
    /// Sizes of parts, by method.
    weights: Vec<Vec<f64>>,
    passes: f64,
}

/// Measures all methods on some of the examples, and decides which is published: attention, unless
/// another of the allowed cost is clearly better.
///
/// # Errors
/// Examples that another encoder made.
pub fn measure(
    model: &Model,
    examples: &Examples<'_>,
    options: Options,
) -> Result<Faithfulness, PredictError> {
    model.check(examples)?;
    let rows = options.rows.min(examples.len());
    let chosen: Vec<Row<'_>> = (0..rows).map(|at| examples.row(at * examples.len() / rows.max(1))).collect();
    let columns = Columns::new(model);
    let measured: Vec<Measured> = chosen
        .par_iter()
        .enumerate()
        .map(|(at, row)| measure_row(model, &columns, row, options.seed.wrapping_add(at as u64)))
        .collect();
    let passes = measured.iter().map(|row| row.passes).sum::<f64>() / rows.max(1) as f64;
    let steps = 3.0 * PUBLISHED_STEPS as f64;
    let random = Method::ALL.len();
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len().max(1) as f64;
    let curve = |method: usize, which: usize| -> Vec<f64> {
        (0..SHARES.len())
            .map(|share| {
                mean(&measured.iter().map(|row| row.columns[method][which][share]).collect::<Vec<_>>())
            })
            .collect()
    };
    let interval = |values: &[f64]| -> Interval {
        let zero = vec![0.0; values.len()];
        bootstrap_difference(values, &zero, options.resamples, CONFIDENCE, options.seed)
            .map_or_else(Interval::default, |d| Interval { mean: d.mean, low: d.low, high: d.high })
    };
    let gains = |method: usize, which: usize| -> Vec<f64> {
        let sign = [1.0, -1.0][which];
        measured
            .iter()
            .map(|row| sign * (mean(&row.columns[method][which]) - mean(&row.columns[random][which])))
            .collect()
    };
    let scores: Vec<Vec<f64>> = (0..random)
        .map(|method| gains(method, 0).iter().zip(gains(method, 1)).map(|(a, b)| a + b).collect())
        .collect();
    let methods: Vec<MethodFaithfulness> = Method::ALL
        .into_iter()
        .enumerate()
        .map(|(number, method)| {
            let behaviours: Vec<f64> = measured
                .iter()
                .filter_map(|row| row.behaviours.as_ref().map(|changes| changes[number] - changes[random]))
                .collect();
            MethodFaithfulness {
                method,
                passes: match method {
                    Method::Attention => 0.0,
                    Method::Rollout => 1.0,
                    Method::IntegratedGradients => steps,
                    Method::Ablation => passes,
                },
                deletion: curve(number, 0),
                insertion: curve(number, 1),
                deletion_gain: interval(&gains(number, 0)),
                insertion_gain: interval(&gains(number, 1)),
                score: interval(&scores[number]),
                behaviour_gain: (!behaviours.is_empty()).then(|| interval(&behaviours)),
            }
        })
        .collect();
    let mut agreement = Vec::new();
    for a in 0..random {
        for b in a + 1..random {
            let of = |measure: fn(&[f64], &[f64]) -> Option<f64>| {
                let all: Vec<f64> =
                    measured.iter().filter_map(|row| measure(&row.weights[a], &row.weights[b])).collect();
                mean(&all)
            };
            agreement.push(Agreement {
                methods: [Method::ALL[a], Method::ALL[b]],
                spearman: of(spearman),
                kendall: of(kendall),
            });
        }
    }
    let published = publish(&methods, &scores, options);
    Ok(Faithfulness {
        rows,
        shares: SHARES.to_vec(),
        random: [curve(random, 0), curve(random, 1)],
        methods,
        agreement,
        published,
    })
}

/// The cheapest method that is not poor beside the best of those that cost no more than allowed.
fn publish(methods: &[MethodFaithfulness], scores: &[Vec<f64>], options: Options) -> Method {
    let allowed: Vec<usize> =
        (0..methods.len()).filter(|&at| methods[at].passes <= options.max_passes).collect();
    let best = allowed.iter().copied().max_by(|&a, &b| {
        // Of equal ones the first, which is the cheaper.
        methods[a].score.mean.total_cmp(&methods[b].score.mean).then(b.cmp(&a))
    });
    let Some(best) = best else { return Method::Attention };
    let good_enough = |at: usize| {
        let beyond_noise =
            bootstrap_difference(&scores[best], &scores[at], options.resamples, CONFIDENCE, options.seed)
                .is_some_and(|difference| difference.low > 0.0);
        !beyond_noise || methods[at].score.mean >= POOR * methods[best].score.mean
    };
    allowed.into_iter().find(|&at| good_enough(at)).map_or(Method::Attention, |at| methods[at].method)
}

fn by_size(weights: &[f32]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..weights.len()).collect();
    order.sort_by(|&a, &b| weights[b].total_cmp(&weights[a]).then(a.cmp(&b)));
    order
}

/// How many of `count` make a share: at least one.
fn first_of(share: f64, count: usize) -> usize {
    ((share * count as f64).round() as usize).clamp(1, count.max(1))
}

fn measure_row(model: &Model, columns: &Columns, row: &Row<'_>, seed: u64) -> Measured {
    let explanations: Vec<Explanation> = Method::ALL
        .into_iter()
        .filter_map(|method| model.explain_rows(std::slice::from_ref(row), method, PUBLISHED_STEPS).pop())
        .collect();
    let present = columns.present(row);
    let mut random = Random::new(seed, "explain.faithfulness");
    let weights: Vec<Vec<f32>> = explanations.iter().map(Explanation::column_weights).collect();
    let mut orders: Vec<Vec<usize>> = weights.iter().map(|weights| by_size(weights)).collect();
    orders.extend((0..RANDOM_ORDERS).map(|_| {
        let mut order = present.clone();
        random.shuffle(&mut order);
        order
    }));
    let mut changed = vec![RowBuffer::of(row)];
    for order in &orders {
        for share in SHARES {
            let first = &order[..first_of(share, present.len()).min(order.len())];
            changed.push(columns.without(row, first));
            changed.push(columns.only(row, first));
        }
    }
    let logits = model.click_logits(&changed);
    let change = |at: usize| f64::from((logits[at] - logits[0]).abs());
    let mut by_order: Vec<[Changes; 2]> = (0..orders.len())
        .map(|order| {
            let at = |share: usize, which: usize| change(1 + 2 * (order * SHARES.len() + share) + which);
            [0, 1].map(|which| std::array::from_fn(|share| at(share, which)))
        })
        .collect();
    let all_random = by_order.split_off(explanations.len());
    by_order.push([0, 1].map(|which| {
        std::array::from_fn(|share| {
            all_random.iter().map(|order| order[which][share]).sum::<f64>() / RANDOM_ORDERS as f64
        })
    }));
    Measured {
        behaviours: behaviours(model, row, &explanations, &mut random),
        columns: by_order,
        weights: weights
            .iter()
            .map(|weights| present.iter().map(|&column| f64::from(weights[column])).collect())
            .collect(),
        passes: (present.len() + row.behaviours.len()) as f64,
    }
}

/// The mean change when the first behaviours are taken away, by method and at random.
fn behaviours(
    model: &Model,
    row: &Row<'_>,
    explanations: &[Explanation],
    random: &mut Random,
) -> Option<Vec<f64>> {
    let count = row.behaviours.len();
    if model.layout.behaviour_token.is_none() || count < 3 {
        return None;
    }
    let mut orders: Vec<Vec<usize>> =
        explanations.iter().map(|explanation| by_size(&explanation.behaviour_weights())).collect();
    orders.extend((0..RANDOM_ORDERS).map(|_| {
        let mut order: Vec<usize> = (0..count).collect();
        random.shuffle(&mut order);
        order
    }));
    let mut changed = vec![RowBuffer::of(row)];
    for order in &orders {
        for share in SHARES {
            changed.push(without_behaviours(row, &order[..first_of(share, count)]));
        }
    }
    let logits = model.click_logits(&changed);
    let mut changes: Vec<f64> = logits[1..]
        .chunks_exact(SHARES.len())
        .map(|logits_of| {
            logits_of.iter().map(|logit| f64::from((logit - logits[0]).abs())).sum::<f64>()
                / SHARES.len() as f64
        })
        .collect();
    let by_chance = changes.split_off(explanations.len());
    changes.push(by_chance.iter().sum::<f64>() / RANDOM_ORDERS as f64);
    Some(changes)
}
