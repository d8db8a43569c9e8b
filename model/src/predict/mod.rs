//! A model that predicts: vectors in, probabilities and what drew the attention out.
//!
//! A row's bits depend on the row and the weights alone.

use std::sync::Arc;

use rayon::prelude::*;
use schemas::{FeatureVector, VectorSchema};

use crate::artefact::Manifest;
use crate::calibrate::Calibration;
use crate::config::Config;
use crate::encode::{EncodeError, Encoder, Examples, Row, RowBuffer, Statistics};
use crate::explain::Method;
use crate::metrics::Metrics;
use crate::network::serve::{Engine, ROWS};
use crate::network::{HEADS, KernelClass, Layout, Weights, WeightsError};
use crate::train::Smoothing;
use crate::values::Values;

mod attended;
mod infer;

pub(crate) use attended::largest;
pub use attended::{BehaviourWeight, Explain, FieldWeight};
use infer::SPREAD;
pub(crate) use infer::logits;

pub(crate) use crate::said::Outputs;
pub use crate::said::Probabilities;

/// Calls `$body` with the const `$D` set to the width, which the config has checked.
macro_rules! with_width {
    ($width:expr, $D:ident => $body:expr) => {
        match $width {
            8 => {
                const $D: usize = 8;
                $body
            }
            16 => {
                const $D: usize = 16;
                $body
            }
            32 => {
                const $D: usize = 32;
                $body
            }
            _ => {
                const $D: usize = 64;
                $body
            }
        }
    };
}
pub(crate) use with_width;

/// A vector's prediction.
#[derive(Debug, Clone, PartialEq)]
pub struct Scored {
    /// The probabilities.
    pub probabilities: Probabilities,
    /// The fields that drew most attention, largest first.
    pub fields: Vec<FieldWeight>,
    /// The behaviours that drew most attention, largest first; empty where the network reads none.
    pub behaviours: Vec<BehaviourWeight>,
    /// How fields and behaviours were weighed.
    pub method: Method,
}

/// Why a model can't judge examples.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PredictError {
    /// A vector that the model's encoder can't read.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// The examples were encoded for another model.
    #[error(
        "the examples were encoded for schema {found:016x} or other buckets than the model's, {expected:016x}; encode them with the model's encoder"
    )]
    Encoder {
        /// Fingerprint of the examples' schema.
        found: u64,
        /// Fingerprint of the model's.
        expected: u64,
    },
}

/// A trained network with its encoder, ready to predict. Shared between threads as it is.
#[derive(Debug, Clone)]
pub struct Model {
    pub(crate) encoder: Encoder,
    pub(crate) config: Config,
    pub(crate) statistics: Statistics,
    pub(crate) weights: Weights,
    pub(crate) layout: Layout,
    engine: Arc<Engine>,
    pub(crate) class: KernelClass,
    pub(crate) names: Vec<Arc<str>>,
    pub(crate) token_names: Vec<Arc<str>>,
    number_norms: Vec<[f32; 2]>,
    pub(crate) explanation: Method,
    pub(crate) smoothing: Smoothing,
    pub(crate) calibration: Calibration,
    pub(crate) values: Option<Values>,
    pub(crate) manifest: Option<Manifest>,
    pub(crate) card: serde_json::Value,
}

impl Model {
    pub(crate) fn new(encoder: Encoder, config: Config, statistics: Statistics, weights: Weights) -> Self {
        let layout = Layout::new(&encoder, &config);
        let engine = Arc::new(Engine::new(&layout, &weights.front, &weights.layers));
        let width = layout.width;
        let norm = |row: usize| {
            let row = &weights.front[row * width..(row + 1) * width];
            row.iter().map(|value| value * value).sum::<f32>().sqrt()
        };
        let number_norms = (0..layout.token_of_number.len())
            .map(|column| [norm(layout.number_value + column), norm(layout.number_missing + column)])
            .collect();
        let names = encoder.number_names().iter().map(|name| Arc::from(name.as_str())).collect();
        let token_names = layout.tokens.iter().map(|name| Arc::from(name.as_str())).collect();
        Self {
            smoothing: Smoothing::of(&config),
            encoder,
            config,
            statistics,
            weights,
            layout,
            engine,
            class: KernelClass::detect(),
            names,
            token_names,
            number_norms,
            explanation: Method::default(),
            calibration: Calibration::default(),
            values: None,
            manifest: None,
            card: serde_json::Value::Null,
        }
    }

    /// What turns vectors into its rows.
    pub const fn encoder(&self) -> &Encoder {
        &self.encoder
    }

    /// The schema of the vectors that it reads.
    pub const fn schema(&self) -> &VectorSchema {
        self.encoder.schema()
    }

    /// Fingerprint of that schema.
    pub const fn schema_fingerprint(&self) -> u64 {
        self.encoder.schema_fingerprint()
    }

    /// The config that it was trained with.
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// Means and deviations of its numbers.
    pub const fn statistics(&self) -> &Statistics {
        &self.statistics
    }

    /// Its weights.
    pub const fn weights(&self) -> &Weights {
        &self.weights
    }

    /// Names of its field tokens.
    pub fn tokens(&self) -> &[String] {
        &self.layout.tokens
    }

    /// Which kernels compute its predictions here.
    pub const fn kernel_class(&self) -> KernelClass {
        self.class
    }

    /// The same model computed by kernels of `class`; the best that the machine has, where it
    /// lacks that class.
    #[must_use]
    pub fn with_kernel_class(mut self, class: KernelClass) -> Self {
        self.class = class.or_best();
        self
    }

    /// What makes probabilities of its heads' logits.
    pub const fn calibration(&self) -> &Calibration {
        &self.calibration
    }

    /// The values of purchases that it has learned from; none where it predicts none.
    pub const fn values(&self) -> Option<&Values> {
        self.values.as_ref()
    }

    /// Fits the calibration that its config names on examples that it did not learn from.
    pub(crate) fn calibrate(&mut self, logits: &[[f32; HEADS]], validation: &Examples<'_>) {
        let method = self.config.calibration.method;
        self.calibration = Calibration::fit(method, logits, validation.outcomes());
    }

    /// Checksum of the artefact that it was loaded from.
    pub fn checksum(&self) -> Option<&str> {
        self.manifest.as_ref().map(|manifest| manifest.checksum.as_str())
    }

    /// The model card; JSON null in a model that was not loaded from an artefact.
    pub const fn card(&self) -> &serde_json::Value {
        &self.card
    }

    /// Predicts vectors, each explained by the model's method.
    ///
    /// # Errors
    /// The first vector that the encoder can't read: all of them or none.
    pub fn predict(&self, vectors: &[FeatureVector], explain: Explain) -> Result<Vec<Scored>, EncodeError> {
        self.predict_with(vectors, explain, self.explanation)
    }

    /// Predicts vectors, each explained by `method`.
    ///
    /// # Errors
    /// As [`Self::predict`].
    pub fn predict_with(
        &self,
        vectors: &[FeatureVector],
        explain: Explain,
        method: Method,
    ) -> Result<Vec<Scored>, EncodeError> {
        let score = |vectors: &[FeatureVector]| -> Result<Vec<Scored>, EncodeError> {
            let mut buffers = vec![RowBuffer::default(); vectors.len()];
            for (vector, buffer) in vectors.iter().zip(&mut buffers) {
                self.encoder.encode(vector, buffer)?;
            }
            let rows: Vec<Row<'_>> = buffers.iter().map(RowBuffer::row).collect();
            Ok(self.score_rows(&rows, explain, method))
        };
        if vectors.len() < SPREAD {
            return score(vectors);
        }
        let share = vectors.len().div_ceil(2).min(ROWS);
        let parts: Vec<Vec<Scored>> = vectors.par_chunks(share).map(score).collect::<Result<_, _>>()?;
        Ok(parts.into_iter().flatten().collect())
    }

    /// Predicts encoded examples, in their order.
    ///
    /// # Errors
    /// Examples that another encoder made.
    pub fn predict_examples(&self, examples: &Examples<'_>) -> Result<Vec<Probabilities>, PredictError> {
        self.check(examples)?;
        let logits = self.logits(examples);
        Ok(self.outputs(&logits).map(|outputs| self.said(outputs)).collect())
    }

    /// Refuses examples that another encoder made.
    pub(crate) fn check(&self, examples: &Examples<'_>) -> Result<(), PredictError> {
        if *examples.set().encoder() == self.encoder {
            return Ok(());
        }
        Err(PredictError::Encoder {
            found: examples.set().encoder().schema_fingerprint(),
            expected: self.schema_fingerprint(),
        })
    }

    /// The weights as they stand in an artefact.
    ///
    /// # Errors
    /// None in practice: a model's weights fit its network.
    pub fn to_safetensors(&self) -> Result<Vec<u8>, WeightsError> {
        self.weights.to_safetensors(&self.layout, &self.encoder)
    }

    /// Reads rows of the network's outputs.
    pub(crate) fn outputs<'a>(&self, logits: &'a [f32]) -> impl Iterator<Item = Outputs> + use<'a> {
        let (head, values) = (self.config.network.head, self.config.predicts_values());
        let smoothing = self.smoothing;
        logits.chunks_exact(self.engine.outputs()).map(move |row| Outputs::read(head, smoothing, values, row))
    }

    /// What it says, calibrated.
    pub(crate) fn said(&self, outputs: Outputs) -> Probabilities {
        outputs.with_value(self.calibration.probabilities(outputs.heads), self.values.as_ref())
    }

    fn score_rows(&self, rows: &[Row<'_>], explain: Explain, method: Method) -> Vec<Scored> {
        let wanted = explain.fields > 0 || explain.behaviours > 0;
        if method == Method::Attention || !wanted {
            return with_width!(self.layout.width, D => self.score_rows_of::<D>(rows, explain));
        }
        let none = Explain { fields: 0, behaviours: 0 };
        let mut scored = with_width!(self.layout.width, D => self.score_rows_of::<D>(rows, none));
        for (scored, (fields, behaviours)) in scored.iter_mut().zip(self.published(rows, method, explain)) {
            *scored = Scored { fields, behaviours, method, ..*scored };
        }
        scored
    }
}

/// Judges a model on examples.
///
/// # Errors
/// Examples that another encoder made.
pub fn evaluate(model: &Model, examples: &Examples<'_>) -> Result<Metrics, PredictError> {
    Ok(Metrics::measure(&model.predict_examples(examples)?, examples.outcomes()))
}
