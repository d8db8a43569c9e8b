//! The training loop.

use std::ops::ControlFlow;
use std::sync::Arc;

use candle_core::Device;

use super::batch::{Batch, Gatherer};
use super::forward::{Gradients, Pass};
use super::loss::{HeadWeights, gradient, total};
use super::optimizer::{Optimizer, Settings};
use super::{History, Progress, TrainError, Trained, Validation};
use crate::config::{Config, DeviceKind};
use crate::encode::{Examples, Statistics};
use crate::metrics::Metrics;
use crate::network::{HEADS, KernelClass, Layout, Weights};
use crate::predict::{Model, Probabilities, logits, pack};
use crate::random::Random;

/// A shorter validation gain than this is none.
const GAIN: f64 = 1e-6;

pub(super) fn train(
    training: &Examples<'_>,
    validation: &Examples<'_>,
    config: &Config,
    seed: u64,
    parent: Option<&Model>,
    progress: &mut (dyn FnMut(Progress) -> ControlFlow<()> + Send),
) -> Result<Trained, TrainError> {
    config.validate()?;
    if training.is_empty() {
        return Err(TrainError::Empty { which: "training" });
    }
    if validation.is_empty() {
        return Err(TrainError::Empty { which: "validation" });
    }
    if training.set().encoder() != validation.set().encoder() {
        return Err(TrainError::Encoders);
    }
    let device = match config.training.device {
        DeviceKind::Cpu => Device::Cpu,
        DeviceKind::Cuda => Device::new_cuda(0).map_err(TrainError::Cuda)?,
    };
    let threads = config.training.threads;
    // Threads of its own: serving shares none with it, and the tensor engine keeps to them.
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .thread_name(|number| format!("train-{number}"))
        .build()
        .map_err(|error| TrainError::Threads { threads, what: error.to_string() })?;
    pool.install(|| Run::new(training, validation, config, seed, parent, device).train(progress))
}

/// One training.
struct Run<'a> {
    training: &'a Examples<'a>,
    validation: &'a Examples<'a>,
    config: &'a Config,
    seed: u64,
    class: KernelClass,
    layout: Arc<Layout>,
    statistics: Arc<Statistics>,
    weights: Weights,
    optimizer: Optimizer,
    gatherer: Gatherer,
    pass: Pass,
    head_weights: HeadWeights,
    history: History,
}

impl<'a> Run<'a> {
    fn new(
        training: &'a Examples<'a>,
        validation: &'a Examples<'a>,
        config: &'a Config,
        seed: u64,
        parent: Option<&Model>,
        device: Device,
    ) -> Self {
        let encoder = training.set().encoder();
        let layout = Layout::new(encoder, config);
        let parent = parent.filter(|parent| {
            let same = parent.encoder == *encoder && parent.config.network == config.network;
            if !same {
                tracing::info!("parent has another encoder or network: training starts from the seed");
            }
            same
        });
        let (statistics, weights) = match parent {
            Some(parent) => (parent.statistics.clone(), parent.weights.clone()),
            None => (
                Statistics::fit(training),
                Weights::initial(&layout, encoder, config, base_logits(training), seed),
            ),
        };
        let (layout, statistics) = (Arc::new(layout), Arc::new(statistics));
        let class = KernelClass::detect();
        Self {
            training,
            validation,
            config,
            seed,
            class,
            pass: Pass {
                device,
                class,
                layout: Arc::clone(&layout),
                statistics: Arc::clone(&statistics),
                dropout: config.network.dropout,
                seed,
                workspace: Arc::default(),
            },
            layout,
            statistics,
            weights,
            optimizer: Optimizer::new(config.training.optimizer),
            gatherer: Gatherer::new(encoder.table_rows()),
            head_weights: HeadWeights {
                conversion: f64::from(config.training.conversion_weight),
                view_through: f64::from(config.training.view_through_weight),
            },
            history: History {
                examples: training.len() as u64,
                seed,
                parent: parent.and_then(|parent| parent.weights_checksum().ok()),
                ..History::default()
            },
        }
    }

    fn train(
        mut self,
        progress: &mut (dyn FnMut(Progress) -> ControlFlow<()> + Send),
    ) -> Result<Trained, TrainError> {
        let training = &self.config.training;
        let steps = self.training.len().div_ceil(training.batch_size);
        let validations = training.validations_per_epoch.min(steps);
        let mut order: Vec<u32> = (0..self.training.len() as u32).collect();
        let mut shuffle = Random::new(self.seed, "shuffle");
        let mut best: Option<(f64, Weights)> = None;
        let mut without_gain = 0;
        let (mut loss_sum, mut loss_count) = (0.0, 0.0);
        'epochs: for epoch in 0..training.max_epochs {
            shuffle.shuffle(&mut order);
            for (step, positions) in order.chunks(training.batch_size).enumerate() {
                let loss = self.step(positions).map_err(|wrong| match wrong {
                    Wrong::Tensor(error) => TrainError::Tensor(error),
                    Wrong::NotFinite(what) => TrainError::NotFinite {
                        what,
                        epoch,
                        step,
                        first: self.training.indices()[positions[0] as usize],
                    },
                })?;
                loss_sum += loss * positions.len() as f64;
                loss_count += positions.len() as f64;
                let due = (step + 1) * validations / steps > step * validations / steps;
                let mut validation_loss = None;
                if due {
                    let loss = self.validate();
                    if !loss.is_finite() {
                        let first = self.validation.indices()[0];
                        return Err(TrainError::NotFinite { what: "validation loss", epoch, step, first });
                    }
                    validation_loss = Some(loss);
                    self.history.validations.push(Validation {
                        epoch,
                        steps: self.history.steps,
                        training_loss: loss_sum / loss_count,
                        validation_loss: loss,
                    });
                    (loss_sum, loss_count) = (0.0, 0.0);
                    if best.as_ref().is_none_or(|(lowest, _)| loss < lowest - GAIN) {
                        best = Some((loss, self.weights.clone()));
                        self.history.best = self.history.validations.len() - 1;
                        without_gain = 0;
                    } else {
                        without_gain += 1;
                    }
                }
                let told = progress(Progress {
                    epoch,
                    epochs: training.max_epochs,
                    step,
                    steps,
                    loss,
                    validation_loss,
                });
                if told.is_break() {
                    break 'epochs;
                }
                if without_gain >= training.patience {
                    self.history.stopped_early = true;
                    break 'epochs;
                }
            }
        }
        let Some((_, weights)) = best else { return Err(TrainError::Stopped) };
        let encoder = self.training.set().encoder().clone();
        let statistics = (*self.statistics).clone();
        let model = Model::new(encoder, self.config.clone(), statistics, weights);
        let predictions: Vec<Probabilities> =
            model.logits(self.validation).into_iter().map(Probabilities::from_logits).collect();
        Ok(Trained {
            validation: Metrics::measure(&predictions, self.validation.outcomes()),
            golden: self.training.set().samples().to_vec(),
            history: self.history,
            model,
        })
    }

    /// Loss on the validation examples, by the same forward pass that serves.
    fn validate(&self) -> f64 {
        let packed = pack(&self.weights.layers);
        let logits =
            logits(&self.layout, &self.statistics, &self.weights, &packed, self.class, self.validation);
        let outcomes = (0..self.validation.len())
            .map(|position| (self.validation.outcome(position), self.validation.weight(position)));
        let (sum, count) = total(&logits, outcomes, self.head_weights);
        if count > 0.0 { sum / count } else { 0.0 }
    }

    /// One batch: forward, backward, update. Gives the batch's loss.
    fn step(&mut self, positions: &[u32]) -> Result<f64, Wrong> {
        let batch = Arc::new(self.gatherer.gather(self.training, positions));
        let outcomes = || {
            positions.iter().map(|&position| {
                (self.training.outcome(position as usize), self.training.weight(position as usize))
            })
        };
        let head_weights = self.head_weights;
        let mut loss = 0.0;
        let judge = |logits: &[f32]| {
            let logits = logits.as_chunks::<HEADS>().0;
            let (sum, count) = total(logits, outcomes(), head_weights);
            if count <= 0.0 {
                return Ok(None);
            }
            loss = sum / count;
            if !loss.is_finite() {
                return Err(Wrong::NotFinite("loss"));
            }
            Ok(Some(gradient(logits, outcomes(), head_weights, count)))
        };
        let Some(mut gradients) = self.pass.run(&self.weights, &batch, self.history.steps, judge)? else {
            return Ok(0.0);
        };
        let norm = gradients.norm();
        if !norm.is_finite() {
            return Err(Wrong::NotFinite("gradient"));
        }
        let most = f64::from(self.config.training.clip_norm);
        if most > 0.0 && norm > most {
            gradients.scale((most / norm) as f32);
        }
        self.update(&batch, &gradients);
        self.history.steps += 1;
        Ok(loss)
    }

    /// Moves the weights.
    fn update(&mut self, batch: &Batch, gradients: &Gradients) {
        let training = &self.config.training;
        let matrix = Settings { learning_rate: training.learning_rate, weight_decay: training.weight_decay };
        let vector = Settings { weight_decay: 0.0, ..matrix };
        let table = Settings {
            learning_rate: training.embedding_learning_rate,
            weight_decay: training.embedding_weight_decay,
        };
        let optimizer = &mut self.optimizer;
        optimizer.next_step();
        let width = self.layout.width;
        for segment in &self.layout.segments {
            let range = segment.first * width..(segment.first + segment.rows) * width;
            let settings = if matches!(segment.start, crate::network::layout::Start::Matrix { .. }) {
                matrix
            } else {
                vector
            };
            let values = &mut self.weights.front[range.clone()];
            optimizer.update(&segment.name, values, &gradients.front[range], settings);
        }
        optimizer.update_rows(
            "tables",
            &mut self.weights.tables,
            width,
            &batch.unique,
            &gradients.rows,
            table,
        );
        for (number, (layer, (weight, bias))) in
            self.weights.layers.iter_mut().zip(&gradients.layers).enumerate()
        {
            optimizer.update(&format!("layer.{number}.weight"), &mut layer.weight, weight, matrix);
            optimizer.update(&format!("layer.{number}.bias"), &mut layer.bias, bias, vector);
        }
    }
}

/// Why a step failed.
enum Wrong {
    Tensor(candle_core::Error),
    NotFinite(&'static str),
}

impl From<candle_core::Error> for Wrong {
    fn from(error: candle_core::Error) -> Self {
        Self::Tensor(error)
    }
}

/// Where the heads start: the logits of the base rates, drawn towards what is usual where there
/// are few examples.
fn base_logits(training: &Examples<'_>) -> [f32; HEADS] {
    // (positives, examples), as if some had been seen before.
    let mut counts = [(0.5, 10.0), (1.0, 20.0), (1.0, 1_000.0)];
    for position in 0..training.len() {
        let outcome = training.outcome(position);
        let weight = f64::from(training.weight(position));
        let mut count = |head: usize, positive: bool| {
            counts[head].0 += weight * f64::from(u8::from(positive));
            counts[head].1 += weight;
        };
        count(0, outcome.clicked);
        if outcome.matured {
            count(if outcome.clicked { 1 } else { 2 }, outcome.purchased);
        }
    }
    counts.map(|(positives, examples)| {
        let rate: f64 = positives / examples;
        libm::log(rate / (1.0 - rate).max(1e-6)) as f32
    })
}
