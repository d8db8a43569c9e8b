//! Why a prediction: what each column and each past behaviour had to do with the logit of a click,
//! by attention or by methods that ask the network itself; and how faithful each is.
//!
//! What is not there is what an empty vector has: ids that are not given, missing numbers, no
//! behaviours, no content. A row's explanation depends on the row and the weights alone.

mod attention;
mod cross;
mod faithfulness;
mod gradient;
mod importance;
mod rank;
mod removal;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use rayon::prelude::*;
use schemas::FeatureVector;
use serde::{Deserialize, Serialize};

use crate::encode::{Examples, Row, RowBuffer};
use crate::predict::{BehaviourWeight, Explain, FieldWeight, Model, PredictError, largest, with_width};

pub use faithfulness::{Agreement, Faithfulness, Interval, MethodFaithfulness, Options, measure};
pub use importance::{ColumnImportance, Importance, importance};
pub use rank::{kendall, spearman};

/// Points on the path from nothing to the row at which a published explanation takes gradients.
pub const PUBLISHED_STEPS: usize = 4;

/// How an explanation is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// The weights by which attention pools the field tokens, and those of the behaviours.
    #[default]
    Attention,
    /// Attention through all layers with their residuals (S. Abnar, W. Zuidema, "Quantifying
    /// attention flow in transformers", 2020), then pooled.
    Rollout,
    /// Gradients along the way from nothing to the row (M. Sundararajan, A. Taly, Q. Yan,
    /// "Axiomatic attribution for deep networks", 2017).
    IntegratedGradients,
    /// What the logit loses when one thing is taken away.
    Ablation,
}

impl Method {
    /// All of them, the cheapest first.
    pub const ALL: [Self; 4] = [Self::Attention, Self::Rollout, Self::IntegratedGradients, Self::Ablation];

    /// The method of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|method| method.as_str() == name)
    }

    /// Its name in predictions.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Attention => "attention",
            Self::Rollout => "rollout",
            Self::IntegratedGradients => "integrated_gradients",
            Self::Ablation => "ablation",
        }
    }
}

/// What had to do with the click's logit of one row.
#[derive(Debug, Clone, PartialEq)]
pub struct Explanation {
    /// One per column ([`Model::columns`]). Attention and rollout: shares of 1. Integrated
    /// gradients and ablation: logits, signed.
    pub columns: Vec<f32>,
    /// One per behaviour that the network reads, the newest first; in the same units.
    pub behaviours: Vec<f32>,
}

/// Sizes as shares of 1; all alike where there is nothing to tell them apart.
fn shares(values: &[f32]) -> Vec<f32> {
    let total: f32 = values.iter().map(|value| value.abs()).sum();
    if total > 0.0 && total.is_finite() {
        values.iter().map(|value| value.abs() / total).collect()
    } else {
        vec![1.0 / values.len().max(1) as f32; values.len()]
    }
}

impl Explanation {
    /// Sizes of the columns' parts, as shares of 1.
    pub fn column_weights(&self) -> Vec<f32> {
        shares(&self.columns)
    }

    /// Sizes of the behaviours' parts, as shares of 1.
    pub fn behaviour_weights(&self) -> Vec<f32> {
        shares(&self.behaviours)
    }
}

impl Model {
    /// What an explanation speaks of: numbers, then categorical fields, then `behaviours` and
    /// `embedding` where they are read.
    pub fn columns(&self) -> Vec<Arc<str>> {
        let tokens = removal::tokens_of_columns(&self.layout);
        self.names.iter().cloned().chain(tokens.map(|token| Arc::clone(&self.token_names[token]))).collect()
    }

    /// How its predictions are explained unless somebody asks for another method.
    pub const fn explanation(&self) -> Method {
        self.explanation
    }

    /// Has its predictions explained by `method` from now on.
    pub const fn explain_by(&mut self, method: Method) {
        self.explanation = method;
    }

    /// The row of a vector in which everything is missing.
    pub(crate) fn nothing(&self) -> RowBuffer {
        let numbers = self.encoder.schema().fields.len();
        let vector = FeatureVector {
            fingerprint: self.encoder.schema_fingerprint(),
            values: f32::NAN.to_le_bytes().repeat(numbers).into(),
            ..FeatureVector::default()
        };
        let mut buffer = RowBuffer::default();
        // A vector of its own schema with as many numbers as that has is one that it reads.
        let encoded = self.encoder.encode(&vector, &mut buffer);
        debug_assert!(encoded.is_ok());
        buffer
    }

    /// Explains encoded examples, in their order. `steps` is for integrated gradients alone: their
    /// error falls as steps rise ([`PUBLISHED_STEPS`] give the ranks, 64 the sum within 1 %).
    ///
    /// # Errors
    /// Examples that another encoder made.
    pub fn explain_examples(
        &self,
        examples: &Examples<'_>,
        method: Method,
        steps: usize,
    ) -> Result<Vec<Explanation>, PredictError> {
        self.check(examples)?;
        let rows: Vec<Row<'_>> = examples.rows().collect();
        let parts: Vec<Vec<Explanation>> =
            rows.par_chunks(16).map(|rows| self.explain_rows(rows, method, steps)).collect();
        Ok(parts.into_iter().flatten().collect())
    }

    /// Explains rows on this thread.
    pub(crate) fn explain_rows(&self, rows: &[Row<'_>], method: Method, steps: usize) -> Vec<Explanation> {
        match method {
            Method::Ablation => removal::ablate(self, rows),
            Method::Attention => {
                with_width!(self.layout.width, D => attention::weigh::<D>(self, rows, false))
            }
            Method::Rollout => with_width!(self.layout.width, D => attention::weigh::<D>(self, rows, true)),
            Method::IntegratedGradients => {
                with_width!(self.layout.width, D => gradient::integrate::<D>(self, rows, steps))
            }
        }
    }

    /// The largest parts of each row's explanation, as predictions name them.
    pub(crate) fn published(
        &self,
        rows: &[Row<'_>],
        method: Method,
        explain: Explain,
    ) -> Vec<(Vec<FieldWeight>, Vec<BehaviourWeight>)> {
        let columns = self.columns();
        let top = |weights: &[f32], most: usize| -> Vec<(f32, usize)> {
            let mut weights: Vec<(f32, usize)> =
                weights.iter().enumerate().map(|(at, &weight)| (weight, at)).collect();
            largest(&mut weights, most);
            weights
        };
        self.explain_rows(rows, method, PUBLISHED_STEPS)
            .into_iter()
            .map(|explanation| {
                let fields = top(&explanation.column_weights(), explain.fields)
                    .into_iter()
                    .map(|(weight, at)| FieldWeight { field: Arc::clone(&columns[at]), weight })
                    .collect();
                let behaviours = top(&explanation.behaviour_weights(), explain.behaviours)
                    .into_iter()
                    .map(|(weight, index)| BehaviourWeight { index, weight })
                    .collect();
                (fields, behaviours)
            })
            .collect()
    }
}
