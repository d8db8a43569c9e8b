//! The batches of an epoch: blocks in shuffled order, examples shuffled among a window of blocks,
//! negatives thinned out, rows augmented. All of it follows from the seed, the epoch and the step,
//! so that a resumed training only has to know where it was.

use std::sync::Arc;
use std::sync::mpsc::Receiver;

use super::ahead::Window;
use super::augment::Augmentation;
use super::batch::{Batch, Gatherer};
use super::source::SourceError;
use crate::encode::Outcome;
use crate::random::Random;

/// Whether an example is learned from: all with a click, and a share of `rate` of the others, by a
/// hash of where it is.
pub(super) fn kept(outcome: Outcome, seed: u64, block: u32, position: u32, rate: f32) -> bool {
    if outcome.clicked || rate >= 1.0 {
        return true;
    }
    let mut bytes = *b"negative\0\0\0\0\0\0\0\0";
    bytes[8..12].copy_from_slice(&block.to_le_bytes());
    bytes[12..].copy_from_slice(&position.to_le_bytes());
    let hash = xxhash_rust::xxh3::xxh3_64_with_seed(&bytes, seed);
    ((hash >> 40) as f32) < rate * 16_777_216.0
}

/// A batch with what came of its examples.
pub(super) struct Filled {
    pub(super) batch: Arc<Batch>,
    pub(super) examples: Vec<(Outcome, f32)>,
    /// Where each example is: block, position in it.
    pub(super) places: Vec<(u32, u32)>,
    /// Epoch that it is of.
    pub(super) epoch: usize,
}

/// Draws batches.
pub(super) struct Sampler<'a> {
    windows: Receiver<Result<Window<'a>, SourceError>>,
    window: Option<Window<'a>>,
    /// Examples of the window still to be drawn: block of the window, position; last first.
    order: Vec<(u32, u32)>,
    gatherer: Gatherer,
    augmentation: Arc<Augmentation>,
    batch_size: usize,
    negative_rate: f32,
    seed: u64,
    /// Examples to leave out: those before the step that a training goes on from.
    skip: u64,
}

impl<'a> Sampler<'a> {
    pub(super) fn new(
        windows: Receiver<Result<Window<'a>, SourceError>>,
        gatherer: Gatherer,
        augmentation: Augmentation,
        (batch_size, negative_rate, seed): (usize, f32, u64),
        skip: u64,
    ) -> Self {
        Self {
            windows,
            window: None,
            order: Vec::new(),
            gatherer,
            augmentation: Arc::new(augmentation),
            batch_size,
            negative_rate,
            seed,
            skip,
        }
    }

    /// The next batch, which is that of step `step` of the training; `None` after the last.
    pub(super) fn next(&mut self, step: u64) -> Result<Option<Filled>, SourceError> {
        let mut batch = self.gatherer.start();
        let mut augment = self.augmentation.of_step(self.seed, step);
        let (mut examples, mut places) = (Vec::new(), Vec::new());
        loop {
            while let Some(window) = &self.window
                && examples.len() < self.batch_size
                && let Some((block, position)) = self.order.pop()
            {
                let (number, block) = &window.blocks[block as usize];
                let row = augment.row(block.row(position as usize));
                self.gatherer.add(&mut batch, &row);
                examples.push(block.outcome(position as usize));
                places.push((*number, position));
            }
            let ended = self.order.is_empty() && self.window.as_ref().is_some_and(|window| window.last);
            if examples.len() == self.batch_size || (ended && !examples.is_empty()) {
                let epoch = self.window.as_ref().map_or(0, |window| window.epoch);
                return Ok(Some(Filled { batch: Arc::new(batch), examples, places, epoch }));
            }
            // Forgotten before the next is taken, so that no more than two are in memory.
            self.window = None;
            match self.windows.recv() {
                Ok(window) => self.open(window?),
                Err(_) => return Ok(None),
            }
        }
    }

    fn open(&mut self, window: Window<'a>) {
        self.order.clear();
        for (at, (number, block)) in window.blocks.iter().enumerate() {
            for position in 0..block.len() as u32 {
                let (outcome, _) = block.outcome(position as usize);
                if kept(outcome, self.seed, *number, position, self.negative_rate) {
                    self.order.push((at as u32, position));
                }
            }
        }
        let purpose = format!("shuffle.{}.{}", window.epoch, window.number);
        Random::new(self.seed, &purpose).shuffle(&mut self.order);
        let skipped = self.skip.min(self.order.len() as u64);
        self.order.truncate(self.order.len() - skipped as usize);
        self.skip -= skipped;
        self.window = Some(window);
    }
}
