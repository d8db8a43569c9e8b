//! Training: from encoded examples to a model, bit for bit the same for the same examples, config,
//! seed and parent, whatever the number of threads.
//!
//! Knows no clock: progress is told in steps, and whoever watches may end it.

#[cfg(test)]
mod agreement;
mod ahead;
mod augment;
mod average;
mod batch;
mod carry;
mod checkpoint;
mod cross;
mod dropout;
mod forward;
mod frozen;
mod job;
mod keep;
mod losses;
mod mixture;
mod mlp;
mod objective;
mod operation;
mod optimizer;
mod plateau;
mod rate;
#[cfg(test)]
mod reference;
mod rule;
mod run;
mod sampler;
mod smoothing;
mod source;
mod state;
pub(crate) mod stock;
mod stock_sequence;
mod stopping;
mod survey;
mod threads;
mod touched;
mod workspace;

use std::fmt;

use schemas::FeatureVector;
use serde::{Deserialize, Serialize};

use crate::artefact::{Artefact, ArtefactError};
use crate::config::ConfigError;
use crate::device::DeviceError;
use crate::metrics::Metrics;
use crate::predict::Model;

pub(crate) use batch::Gatherer;
pub use checkpoint::{Checkpoint, CheckpointError};
pub use job::{Job, Observer, Snapshot, Validated};
pub use optimizer::{Optimizer, Settings, State};
pub(crate) use smoothing::Smoothing;
pub use source::{Block, Source, SourceError};

/// Revision of what training computes. It goes up with every change after which the same examples,
/// config, seed and parent give other bits, in how examples are chosen, encoded, learned from or
/// predicted: models of different revisions are not compared. Tests pin what each revision gives.
pub const TRAINING_REVISION: u32 = 3;

/// Most places that an error lists.
const LISTED: usize = 16;

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
    #[error("{what} is not finite in batch {step} of epoch {epoch}; examples: {places}")]
    NotFinite {
        /// What: `loss`, `gradient`, or `validation loss`.
        what: &'static str,
        /// Epoch, from 0.
        epoch: usize,
        /// Batch of the epoch, from 0.
        step: usize,
        /// The examples that made it so, as far as that can be told, else all of the batch.
        places: Places,
    },
    /// The source could not be read.
    #[error("training examples: {0}")]
    Source(SourceError),
    /// The checkpoint to go on from is damaged or of another training.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A name in `training.frozen` that no weight has.
    #[error("model.training.frozen: no weight is called {name:?}; there are {known:?}")]
    Frozen {
        /// The name.
        name: String,
        /// Names that there are.
        known: Vec<String>,
    },
    /// What the tensor engine says.
    #[error("tensors: {0}")]
    Tensor(#[from] candle_core::Error),
    /// `model.training.device` is not there.
    #[error(transparent)]
    Device(#[from] DeviceError),
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

/// Where examples are: block of the source, position in it. An error lists the first few.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places(pub Vec<(u32, u32)>);

impl fmt::Display for Places {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let listed: Vec<String> =
            self.0.iter().take(LISTED).map(|(block, position)| format!("{block}:{position}")).collect();
        f.write_str(&listed.join(" "))?;
        match self.0.len().saturating_sub(LISTED) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
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
    /// L2 norm of its gradient over everything, before clipping.
    pub gradient_norm: f64,
    /// The latest validation, where this step was followed by one.
    pub validation_loss: Option<f64>,
    /// Steps taken in all epochs.
    pub done: u64,
    /// Steps of all epochs, if nothing ends training early.
    pub total: u64,
    /// Step size of the dense weights in this step.
    pub learning_rate: f32,
    /// Examples seen in all epochs.
    pub examples: u64,
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
    /// What early stopping compared, where that was not the loss.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metric: Option<f64>,
}

/// How training went.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct History {
    /// Every validation, in order.
    pub validations: Vec<Validation>,
    /// Which of them had the weights that were kept.
    pub best: usize,
    /// After which of them training went back to the best weights and on with smaller steps.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub decays: Vec<usize>,
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

/// Trains a model, keeping the weights that do best on the validation examples.
///
/// The order of the examples is part of the input. `observer` is told of every step and may end
/// training; the best weights so far are kept.
///
/// # Errors
/// No examples, a config that no model can be built with, a loss that is not finite, a source that
/// can't be read, a checkpoint of another training.
pub fn train(job: Job<'_>, observer: &mut dyn Observer) -> Result<Trained, TrainError> {
    run::train(job, observer)
}
