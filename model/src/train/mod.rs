//! Training: from encoded examples to a model, bit for bit the same for the same examples, config,
//! seed and parent, whatever the number of threads.
//!
//! Knows no clock: progress is told in steps, and whoever watches may end it.

mod activation;
#[cfg(test)]
mod agreement;
mod batch;
mod forward;
mod loss;
mod operation;
mod optimizer;
mod run;
pub(crate) mod stock;

use std::ops::ControlFlow;

use schemas::FeatureVector;
use serde::{Deserialize, Serialize};

use crate::artefact::{Artefact, ArtefactError};
use crate::config::{Config, ConfigError};
use crate::encode::Examples;
use crate::metrics::Metrics;
use crate::predict::Model;

pub use optimizer::{Optimizer, Settings, State};

/// Why there is no model.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// A config that no model can be built with.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Nothing to learn from, or nothing to stop by.
    #[error("no {which} examples")]
    Empty {
        /// `training` or `validation`.
        which: &'static str,
    },
    /// Training and validation examples were encoded differently.
    #[error("training and validation examples were made by different encoders")]
    Encoders,
    /// The loss or a gradient is no number: nothing that was learned can be trusted.
    #[error("{what} is not finite in batch {step} of epoch {epoch} (first example: {first})")]
    NotFinite {
        /// What: `loss`, `gradient`, or `validation loss`.
        what: &'static str,
        /// Epoch, from 0.
        epoch: usize,
        /// Batch of the epoch, from 0.
        step: usize,
        /// Position in its set of the batch's first example.
        first: u32,
    },
    /// What the tensor engine says.
    #[error("tensors: {0}")]
    Tensor(#[from] candle_core::Error),
    /// This build can't compute on CUDA.
    #[error("model.training.device = \"cuda\" needs a build with --features cuda and a GPU: {0}")]
    Cuda(candle_core::Error),
    /// No threads could be started.
    #[error("cannot start {threads} training threads: {what}")]
    Threads {
        /// How many.
        threads: usize,
        /// Why.
        what: String,
    },
    /// Whoever watched said stop, before there was anything to keep.
    #[error("stopped before the first validation")]
    Stopped,
}

/// Told after every step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Progress {
    /// Epoch, from 0.
    pub epoch: usize,
    /// Epochs at most.
    pub epochs: usize,
    /// Step of the epoch, from 0.
    pub step: usize,
    /// Steps of an epoch.
    pub steps: usize,
    /// Training loss of this step's batch.
    pub loss: f64,
    /// The latest validation, where this step was followed by one.
    pub validation_loss: Option<f64>,
}

/// One validation.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Validation {
    /// Epoch, from 0.
    pub epoch: usize,
    /// Steps taken so far.
    pub steps: u64,
    /// Mean training loss since the validation before.
    pub training_loss: f64,
    /// Loss on the validation examples, without dropout.
    pub validation_loss: f64,
}

/// How training went.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct History {
    /// Every validation, in order.
    pub validations: Vec<Validation>,
    /// Which of them had the weights that were kept.
    pub best: usize,
    /// Steps taken.
    pub steps: u64,
    /// Training examples.
    pub examples: u64,
    /// Whether it ended before `max_epochs` because it no longer got better.
    pub stopped_early: bool,
    /// Seed.
    pub seed: u64,
    /// Weights checksum of the parent, hex, for a warm start.
    pub parent: Option<String>,
}

/// A model and how it came about.
#[derive(Debug, Clone)]
pub struct Trained {
    /// The model, with the weights of the best validation.
    pub model: Model,
    /// How training went.
    pub history: History,
    /// How good it is on the validation examples.
    pub validation: Metrics,
    /// Vectors for the artefact's golden batch; nothing in them is of a person.
    pub golden: Vec<FeatureVector>,
}

impl Trained {
    /// The model as files, with a card (any JSON).
    ///
    /// # Errors
    /// None in practice: only if what was just trained could not be written down.
    pub fn artefact(&self, card: &serde_json::Value) -> Result<Artefact, ArtefactError> {
        Artefact::build(&self.model, &self.golden, card)
    }
}

/// Trains a model on `training`, keeping the weights that do best on `validation`.
///
/// The order of the examples is part of the input. `parent` gives initial weights and the
/// statistics for a warm start; it is passed over where its encoder or network differs.
/// `progress` is told after each step and may end training; the best weights so far are kept.
///
/// # Errors
/// No examples, a config that no model can be built with, a loss that is not finite.
pub fn train(
    training: &Examples<'_>,
    validation: &Examples<'_>,
    config: &Config,
    seed: u64,
    parent: Option<&Model>,
    progress: &mut (dyn FnMut(Progress) -> ControlFlow<()> + Send),
) -> Result<Trained, TrainError> {
    run::train(training, validation, config, seed, parent, progress)
}
