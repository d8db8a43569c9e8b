//! What a training is made from, and how it is watched.

use std::io::{self, Write};
use std::ops::ControlFlow;

use super::checkpoint::Checkpoint;
use super::source::Source;
use super::{Progress, Validation, state::State};
use crate::config::Config;
use crate::encode::Examples;
use crate::network::KernelClass;
use crate::predict::{Model, Probabilities};

/// All that a model follows from.
pub struct Job<'a> {
    /// What is learned from.
    pub source: &'a dyn Source,
    /// What early stopping watches.
    pub validation: &'a Examples<'a>,
    /// Network, encoder, training.
    pub config: &'a Config,
    /// Seed of initial weights, dropout, shuffling and augmentation.
    pub seed: u64,
    /// Gives initial weights and the statistics for a warm start; passed over where its encoder or
    /// network differs.
    pub parent: Option<&'a Model>,
    /// Where to go on; the same job gives the same weights as if it had never been stopped.
    pub resume: Option<Checkpoint>,
    /// Kernels that compute it; the bits of a training are those of its class.
    pub class: KernelClass,
}

impl<'a> Job<'a> {
    /// A job with the config's seed, from nothing.
    pub fn new(source: &'a dyn Source, validation: &'a Examples<'a>, config: &'a Config) -> Self {
        Self {
            source,
            validation,
            config,
            seed: config.training.seed,
            parent: None,
            resume: None,
            class: KernelClass::detect(),
        }
    }

    /// The same with another seed.
    #[must_use]
    pub const fn with_seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// The same, starting from the weights of `parent`.
    #[must_use]
    pub const fn with_parent(mut self, parent: Option<&'a Model>) -> Self {
        self.parent = parent;
        self
    }

    /// The same by kernels of `class`; by the best that the machine has, where it lacks that class.
    #[must_use]
    pub fn with_kernel_class(mut self, class: KernelClass) -> Self {
        self.class = class.or_best();
        self
    }

    /// The same, going on where `checkpoint` was taken.
    #[must_use]
    pub fn with_resume(mut self, checkpoint: Option<Checkpoint>) -> Self {
        self.resume = checkpoint;
        self
    }
}

/// Watches a training. Closures that take a [`Progress`] are observers too.
pub trait Observer: Send {
    /// Told after every step. Breaking ends training: the best weights so far are kept.
    fn step(&mut self, progress: &Progress, state: &Snapshot<'_>) -> ControlFlow<()>;

    /// Told after every validation, before [`Self::step`] of the same step.
    fn validated(&mut self, _validated: &Validated<'_>, _state: &Snapshot<'_>) {}
}

impl<F: FnMut(&Progress) -> ControlFlow<()> + Send> Observer for F {
    fn step(&mut self, progress: &Progress, _state: &Snapshot<'_>) -> ControlFlow<()> {
        self(progress)
    }
}

/// Watches nothing.
impl Observer for () {
    fn step(&mut self, _progress: &Progress, _state: &Snapshot<'_>) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}

/// A validation with what it rests on.
#[derive(Debug, Clone, Copy)]
pub struct Validated<'a> {
    /// Its losses.
    pub validation: &'a Validation,
    /// What the weights now say of the validation examples, in their order.
    pub predictions: &'a [Probabilities],
    /// The validation examples.
    pub examples: &'a Examples<'a>,
    /// Whether these are the best weights so far.
    pub is_best: bool,
}

/// The state of a training after a step. Costs nothing until it is asked.
pub struct Snapshot<'a> {
    pub(super) state: &'a State<'a>,
}

impl Snapshot<'_> {
    /// Name, shape and values of all weights. Names are those of the artefact; the heads may have
    /// columns beside the artefact's that only training reads.
    pub fn weights(&self) -> Vec<(String, Vec<usize>, &[f32])> {
        self.state.named()
    }

    /// Writes a checkpoint, a [`Job`]'s `resume`. Rows of tables are in it only as far as training
    /// has touched them.
    ///
    /// # Errors
    /// What `out` says.
    pub fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        self.state.write(out)
    }

    /// The same in memory.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        // Writing to memory does not fail, and the header is plain data: nothing to report.
        let written = self.write(&mut bytes);
        debug_assert!(written.is_ok());
        bytes
    }
}
