//! Mean and spread of each number, fitted on training examples only.

use serde::{Deserialize, Serialize};

use super::Examples;

/// Standardised numbers beyond this are cut to it: one absurd value must not own a batch.
const LIMIT: f32 = 8.0;

/// Mean and inverse standard deviation of each number, over the examples that have it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Statistics {
    /// Mean, 0 for a number that no example had.
    pub mean: Vec<f32>,
    /// 1 / standard deviation; 0 for a number that never varied.
    pub inverse_deviation: Vec<f32>,
    /// Examples seen.
    pub examples: u64,
}

impl Statistics {
    /// Fits to `examples` in one pass (Welford, in double precision, in their order).
    pub fn fit(examples: &Examples<'_>) -> Self {
        let width = examples.set().encoder().number_names().len();
        let mut count = vec![0_u64; width];
        let mut mean = vec![0_f64; width];
        let mut square = vec![0_f64; width];
        for row in examples.rows() {
            for (column, &value) in row.numbers.iter().enumerate() {
                if value.is_nan() {
                    continue;
                }
                let value = f64::from(value);
                count[column] += 1;
                let off = value - mean[column];
                mean[column] += off / count[column] as f64;
                square[column] += off * (value - mean[column]);
            }
        }
        let inverse_deviation = square
            .iter()
            .zip(&count)
            .map(|(&square, &count)| {
                let deviation = (square / count.max(1) as f64).sqrt();
                if deviation > 1e-6 { (1.0 / deviation) as f32 } else { 0.0 }
            })
            .collect();
        Self {
            mean: mean.iter().map(|&mean| mean as f32).collect(),
            inverse_deviation,
            examples: examples.len() as u64,
        }
    }

    /// The number of column `column`, standardised; `None` where missing.
    #[inline]
    pub fn standardise(&self, column: usize, value: f32) -> Option<f32> {
        if value.is_nan() {
            return None;
        }
        Some(((value - self.mean[column]) * self.inverse_deviation[column]).clamp(-LIMIT, LIMIT))
    }
}
