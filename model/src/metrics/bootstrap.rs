//! Bootstrap intervals: rows drawn with replacement, as many as there are (Efron 1979), percentile
//! method. Each resample has a random stream of its own, so threads change nothing.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::random::Random;

/// How an interval is found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bootstrap {
    /// Resamples; 0 gives no intervals.
    pub resamples: usize,
    /// Share of the resamples that the interval holds, 0 to 1.
    pub confidence: f64,
    /// Seed of the draws.
    pub seed: u64,
}

/// A bootstrap interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// A mean difference with its bootstrap interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    /// Mean of `a - b`.
    pub mean: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end of the interval.
    pub high: f64,
}

impl Bootstrap {
    /// `of` for each resample, in their order. It is told how often each of `rows` was drawn.
    pub(crate) fn resample<T: Send>(&self, rows: usize, of: impl Fn(&[u16]) -> T + Sync) -> Vec<T> {
        if rows == 0 {
            return Vec::new();
        }
        // Neighbouring seeds must not share streams.
        let first = Random::new(self.seed, "bootstrap").next_u64();
        (0..self.resamples)
            .into_par_iter()
            .map_init(
                || vec![0_u16; rows],
                |times, number| {
                    times.fill(0);
                    let mut random = Random::new(first.wrapping_add(number as u64), "resample");
                    for _ in 0..rows {
                        let drawn = random.below(rows);
                        times[drawn] = times[drawn].saturating_add(1);
                    }
                    of(times)
                },
            )
            .collect()
    }

    /// The interval that holds `confidence` of the values; `None` without any.
    pub(crate) fn interval(&self, values: impl IntoIterator<Item = f64>) -> Option<Interval> {
        let mut values: Vec<f64> = values.into_iter().collect();
        if values.is_empty() {
            return None;
        }
        values.sort_by(f64::total_cmp);
        let tail = ((1.0 - self.confidence.clamp(0.0, 1.0)) / 2.0 * values.len() as f64) as usize;
        let tail = tail.min((values.len() - 1) / 2);
        Some(Interval { low: values[tail], high: values[values.len() - 1 - tail] })
    }
}

/// Paired bootstrap of the mean of `a - b`, value by value of the same examples: the interval
/// that holds `confidence` (0 to 1) of `resamples` resamples. `None` without examples.
pub fn bootstrap_difference(
    a: &[f64],
    b: &[f64],
    resamples: usize,
    confidence: f64,
    seed: u64,
) -> Option<Difference> {
    let differences: Vec<f64> = a.iter().zip(b).map(|(a, b)| a - b).collect();
    if differences.is_empty() || resamples == 0 {
        return None;
    }
    let count = differences.len();
    let mean = differences.iter().sum::<f64>() / count as f64;
    let mut random = Random::new(seed, "bootstrap");
    let mut means: Vec<f64> = (0..resamples)
        .map(|_| (0..count).map(|_| differences[random.below(count)]).sum::<f64>() / count as f64)
        .collect();
    means.sort_by(f64::total_cmp);
    let tail = ((1.0 - confidence.clamp(0.0, 1.0)) / 2.0 * resamples as f64) as usize;
    let tail = tail.min((resamples - 1) / 2);
    Some(Difference { mean, low: means[tail], high: means[resamples - 1 - tail] })
}
