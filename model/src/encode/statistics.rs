//! Mean and spread of each number, fitted on training examples only.

use serde::{Deserialize, Serialize};

use super::{Examples, Row};

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

/// Fits [`Statistics`] in one pass (Welford, in double precision, in the order of the rows).
#[derive(Debug, Clone)]
pub struct Fitting {
    count: Vec<u64>,
    mean: Vec<f64>,
    square: Vec<f64>,
    examples: u64,
}

impl Fitting {
    /// Of rows of `width` numbers; none yet.
    pub fn new(width: usize) -> Self {
        Self { count: vec![0; width], mean: vec![0.0; width], square: vec![0.0; width], examples: 0 }
    }

    /// Takes one row in.
    pub fn push(&mut self, row: &Row<'_>) {
        self.examples += 1;
        for (column, &value) in row.numbers.iter().enumerate() {
            if value.is_nan() {
                continue;
            }
            let value = f64::from(value);
            self.count[column] += 1;
            let off = value - self.mean[column];
            self.mean[column] += off / self.count[column] as f64;
            self.square[column] += off * (value - self.mean[column]);
        }
    }

    /// What they say.
    pub fn finish(&self) -> Statistics {
        let inverse_deviation = self
            .square
            .iter()
            .zip(&self.count)
            .map(|(&square, &count)| {
                let deviation = (square / count.max(1) as f64).sqrt();
                if deviation > 1e-6 { (1.0 / deviation) as f32 } else { 0.0 }
            })
            .collect();
        Statistics {
            mean: self.mean.iter().map(|&mean| mean as f32).collect(),
            inverse_deviation,
            examples: self.examples,
        }
    }
}

impl Statistics {
    /// Fits to `examples`.
    pub fn fit(examples: &Examples<'_>) -> Self {
        let mut fitting = Fitting::new(examples.set().encoder().number_names().len());
        for row in examples.rows() {
            fitting.push(&row);
        }
        fitting.finish()
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
