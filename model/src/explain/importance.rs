//! What a model looks at and what counts, over many rows: the means of single explanations.

use serde::{Deserialize, Serialize};

use super::removal::tokens_of_columns;
use super::{Explanation, Method, PUBLISHED_STEPS};
use crate::encode::{Examples, Row};
use crate::predict::{Model, PredictError};

/// Means over rows of what explains them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Importance {
    /// Rows, spread evenly over the examples.
    pub rows: usize,
    /// Mean share of the attention by which tokens are pooled, by token; none where the network has
    /// no attention.
    pub tokens: Vec<(String, f64)>,
    /// Mean share of the attention among past behaviours, the newest first, with the rows that have
    /// so many; none where they are not read.
    pub behaviours: Vec<(usize, f64)>,
    /// By column.
    pub columns: Vec<ColumnImportance>,
}

/// What one column counts, in logits of a click.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ColumnImportance {
    /// Its name.
    pub column: String,
    /// Mean size of what the logit loses without it.
    pub ablation: f64,
    /// Mean of the same, signed: above 0 it speaks for a click.
    pub ablation_signed: f64,
    /// Mean size of its integrated gradient.
    pub integrated_gradients: f64,
}

/// Explains at most `rows` of the examples by attention, ablation and integrated gradients, and takes
/// the means.
///
/// # Errors
/// Examples that another encoder made.
pub fn importance(model: &Model, examples: &Examples<'_>, rows: usize) -> Result<Importance, PredictError> {
    use rayon::prelude::*;
    model.check(examples)?;
    let rows = rows.min(examples.len());
    let chosen: Vec<Row<'_>> = (0..rows).map(|at| examples.row(at * examples.len() / rows.max(1))).collect();
    let by = |method: Method| -> Vec<Explanation> {
        let parts: Vec<Vec<Explanation>> =
            chosen.par_chunks(16).map(|rows| model.explain_rows(rows, method, PUBLISHED_STEPS)).collect();
        parts.into_iter().flatten().collect()
    };
    let (attention, ablation, gradients) =
        (by(Method::Attention), by(Method::Ablation), by(Method::IntegratedGradients));
    let mean = |of: &[Explanation], column: usize, value: fn(f32) -> f32| {
        of.iter().map(|one| f64::from(value(one.columns[column]))).sum::<f64>() / rows.max(1) as f64
    };
    let columns = model.columns();
    let token_of_column: Vec<usize> =
        model.layout.token_of_number.iter().copied().chain(tokens_of_columns(&model.layout)).collect();
    let mut tokens: Vec<(String, f64)> = Vec::new();
    if model.layout.attention && rows > 0 {
        tokens = model.layout.tokens.iter().map(|name| (name.clone(), 0.0)).collect();
        for (column, &token) in token_of_column.iter().enumerate() {
            tokens[token].1 += mean(&attention, column, |share| share);
        }
    }
    Ok(Importance {
        rows,
        tokens,
        behaviours: by_recency(&attention),
        columns: columns
            .iter()
            .enumerate()
            .map(|(at, column)| ColumnImportance {
                column: column.to_string(),
                ablation: mean(&ablation, at, f32::abs),
                ablation_signed: mean(&ablation, at, |value| value),
                integrated_gradients: mean(&gradients, at, f32::abs),
            })
            .collect(),
    })
}

/// Rows with a behaviour at each position, and its mean weight in them.
fn by_recency(explained: &[Explanation]) -> Vec<(usize, f64)> {
    let mut sums: Vec<(usize, f64)> = Vec::new();
    for one in explained {
        sums.resize(sums.len().max(one.behaviours.len()), (0, 0.0));
        for (sum, &weight) in sums.iter_mut().zip(&one.behaviours) {
            sum.0 += 1;
            sum.1 += f64::from(weight);
        }
    }
    sums.into_iter().map(|(rows, sum)| (rows, sum / rows as f64)).collect()
}
