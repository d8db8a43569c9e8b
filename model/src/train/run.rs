//! The training loop.

use std::ops::ControlFlow;
use std::sync::Arc;

use candle_core::Device;
use rayon::ThreadPool;

use super::ahead::windows;
use super::augment::{Augmentation, mixing};
use super::average::Average;
use super::batch::Gatherer;
use super::carry;
use super::checkpoint::{CheckpointError, Identity, Position};
use super::forward::Pass;
use super::frozen::Frozen;
use super::job::{Job, Observer, Snapshot, Validated};
use super::keep::Kept;
use super::objective::Objective;
use super::optimizer::Optimizer;
use super::plateau::Verdict;
use super::rate::Schedule;
use super::sampler::{Filled, Sampler};
use super::smoothing::Smoothing;
use super::state::{State, served, trained};
use super::stopping::score;
use super::survey::Survey;
use super::threads::pool;
use super::touched::Touched;
use super::{History, Places, Progress, TrainError, Trained, Validation};
use crate::config::Config;
use crate::device;
use crate::encode::{Encoder, Examples, Statistics};
use crate::metrics::Metrics;
use crate::network::serve::Engine;
use crate::network::{HEADS, KernelClass, Layout, Weights};
use crate::predict::{Model, Outputs, Probabilities, logits};
use crate::values::Values;

pub(super) fn train(job: Job<'_>, observer: &mut dyn Observer) -> Result<Trained, TrainError> {
    job.config.validate()?;
    if job.validation.is_empty() {
        return Err(TrainError::Empty { which: "validation" });
    }
    if job.source.encoder() != job.validation.set().encoder() {
        return Err(TrainError::Encoders);
    }
    let device = device::open(job.config.training.device)?;
    // Threads of its own: serving shares none with it, and the tensor engine keeps to them. One more
    // waits for the source, which computes little.
    let trainer = pool("train", job.config.training.threads)?;
    let reader = pool("read", 1)?;
    trainer.install(|| Run::new(job, device)?.train(&reader, observer))
}

/// One training.
struct Run<'a> {
    job: Job<'a>,
    statistics: Arc<Statistics>,
    class: KernelClass,
    pass: Pass,
    objective: Objective,
    /// What the model will say of values; none where it learns none.
    values: Option<Values>,
    schedule: Schedule,
    /// Examples of a step, and steps of an epoch.
    batch_size: usize,
    steps: usize,
    state: State<'a>,
}

/// The parent, if the weights can start from it, and its weights laid out for `encoder`.
fn usable<'a>(parent: Option<&'a Model>, encoder: &Encoder, config: &Config) -> Option<(&'a Model, Weights)> {
    let parent = parent?;
    let same = parent.config.network == config.network;
    let Some(tables) = same.then(|| carry::tables(parent, encoder)).flatten() else {
        tracing::info!("parent has another encoder or network: training starts from the seed");
        return None;
    };
    let Weights { front, layers, .. } = &parent.weights;
    Some((parent, Weights { front: front.clone(), tables, layers: layers.clone() }))
}

/// What tells a training from others.
fn identity(job: &Job<'_>, examples: u64, parent: Option<&Model>) -> Result<Identity, CheckpointError> {
    let mut config = job.config.clone();
    config.training.threads = 0;
    let json = |error: serde_json::Error| CheckpointError::Read(error.into());
    let mut encoder = serde_json::to_vec(job.source.encoder()).map_err(json)?;
    for dictionary in job.source.encoder().tables().iter().filter_map(|table| table.dictionary.as_ref()) {
        encoder.extend_from_slice(&dictionary.digest().to_le_bytes());
    }
    Ok(Identity {
        config: serde_json::to_value(&config).map_err(json)?,
        seed: job.seed,
        parent: parent.and_then(|parent| parent.weights_checksum().ok()),
        encoder: blake3::hash(&encoder).to_hex().to_string(),
        examples,
        validation: job.validation.len() as u64,
    })
}

impl<'a> Run<'a> {
    fn new(mut job: Job<'a>, device: Device) -> Result<Self, TrainError> {
        let Job { source, config, seed, .. } = job;
        let training = &config.training;
        let encoder = source.encoder();
        let layout = Arc::new(Layout::new(encoder, config));
        let survey = Survey::take(source, training, seed).map_err(TrainError::Source)?;
        if survey.kept == 0 {
            return Err(TrainError::Empty { which: "training" });
        }
        let objective = Objective::new(config, &survey);
        let (parent, carried) = usable(job.parent, encoder, config).unzip();
        let (values, value_start) = survey.values(config, source.currency().unwrap_or_default(), parent);
        let (statistics, mut weights) = match (parent, carried) {
            (Some(parent), Some(weights)) => (parent.statistics.clone(), weights),
            _ => (
                survey.statistics,
                Weights::initial(&layout, encoder, config, objective.base(survey.base), seed),
            ),
        };
        let outputs = (objective.outputs(), objective.extra());
        trained(&mut weights.layers, objective.served_shift(), outputs, value_start);
        let frozen = Frozen::new(&training.frozen, &layout, encoder, weights.layers.len())?;
        let identity = identity(&job, survey.examples, parent)?;
        let batch_size = training.batch_size_of(survey.kept);
        if batch_size < training.batch_size {
            tracing::info!(batch_size, examples = survey.kept, "few examples: smaller batches");
        }
        let steps = survey.kept.div_ceil(batch_size as u64) as usize;
        let statistics = Arc::new(statistics);
        let class = job.class;
        let mut state = State {
            encoder,
            config: training,
            layout: Arc::clone(&layout),
            frozen,
            history: History {
                examples: survey.examples,
                seed,
                parent: identity.parent.clone(),
                ..History::default()
            },
            identity,
            touched: Touched::new(encoder.table_rows()),
            average: Average::new(&weights, training.averaging),
            weights,
            optimizer: Optimizer::new(training.optimizer, training.momentum),
            kept: Kept::default(),
            position: Position::default(),
        };
        if let Some(checkpoint) = job.resume.take() {
            state.resume(checkpoint)?;
            if !state.position.is_in(&state.history, training, steps) {
                return Err(CheckpointError::Other { what: "position" }.into());
            }
        }
        Ok(Self {
            class,
            pass: Pass {
                device,
                class,
                layout,
                statistics: Arc::clone(&statistics),
                dropout: config.network.dropout,
                seed,
                workspace: Arc::default(),
            },
            statistics,
            objective,
            values,
            schedule: Schedule {
                kind: training.schedule,
                warmup: training.warmup_steps,
                total: (steps * training.max_epochs) as u64,
                last: training.final_rate_share,
            },
            batch_size,
            steps,
            state,
            job,
        })
    }

    fn train(mut self, reader: &ThreadPool, observer: &mut dyn Observer) -> Result<Trained, TrainError> {
        if !self.state.position.ended {
            reader.in_place_scope(|scope| {
                let training = &self.job.config.training;
                let Position { epoch, step, .. } = self.state.position;
                let epochs = epoch..training.max_epochs;
                let windows = windows(scope, self.job.source, self.job.seed, epochs, training.shuffle_blocks);
                let encoder = self.state.encoder;
                let mut sampler = Sampler::new(
                    windows,
                    Gatherer::new(encoder),
                    Augmentation::new(training, encoder, &self.state.layout),
                    (self.batch_size, training.negative_rate, self.job.seed),
                    (step * self.batch_size) as u64,
                );
                // The next batch is drawn on one thread while the others begin the step.
                let mut next = sampler.next(self.state.history.steps);
                while let Some(filled) = next.map_err(TrainError::Source)? {
                    let following = self.state.history.steps + 1;
                    let stepped;
                    (stepped, next) =
                        rayon::join(|| self.step(&filled, observer), || sampler.next(following));
                    if stepped?.is_break() {
                        break;
                    }
                }
                Ok::<(), TrainError>(())
            })?;
        }
        self.finish()
    }

    /// Takes a step, validates where it is due, tells the observer.
    fn step(&mut self, filled: &Filled, observer: &mut dyn Observer) -> Result<ControlFlow<()>, TrainError> {
        let training = &self.job.config.training;
        let (epoch, step, steps) = (filled.epoch, self.state.position.step, self.steps);
        let count = filled.examples.len() as f64;
        let share = self.schedule.share(self.state.history.steps)
            * self.state.position.plateau.share(training.plateau_factor);
        let (loss, gradient_norm) = self.learn(filled, share).map_err(|wrong| match wrong {
            Wrong::Tensor(error) => TrainError::Tensor(error),
            Wrong::NotFinite(what, rows) => {
                let places = rows.into_iter().map(|row| filled.places[row]).collect();
                TrainError::NotFinite { what, epoch, step, places: Places(places) }
            }
        })?;
        let position = &mut self.state.position;
        position.loss_sum += loss * count;
        position.loss_count += count;
        position.seen += filled.examples.len() as u64;
        let validations = training.validations_per_epoch.min(steps);
        let due = (step + 1) * validations / steps > step * validations / steps;
        position.step += 1;
        if position.step == steps {
            (position.epoch, position.step) = (epoch + 1, 0);
        }
        let mut validation_loss = None;
        if due {
            validation_loss = Some(self.validate(epoch, step, observer)?);
        }
        let position = &mut self.state.position;
        let early = position.plateau.without_gain >= training.patience;
        position.ended = early || position.epoch == training.max_epochs;
        if early {
            self.state.history.stopped_early = true;
        }
        let progress = Progress {
            epoch,
            epochs: training.max_epochs,
            step,
            steps,
            loss,
            gradient_norm,
            validation_loss,
            done: self.state.history.steps,
            total: self.schedule.total,
            learning_rate: training.learning_rate * share,
            examples: position.seen,
        };
        let ended = position.ended;
        let told = observer.step(&progress, &Snapshot { state: &self.state });
        Ok(if ended { ControlFlow::Break(()) } else { told })
    }

    /// One batch: forward, backward, update. Gives the batch's loss and its gradient's norm.
    fn learn(&mut self, filled: &Filled, share: f32) -> Result<(f64, f64), Wrong> {
        let batch = &filled.batch;
        let step = self.state.history.steps;
        let slots = self.state.touch(batch);
        let mixing = mixing(self.state.config.mixup, self.job.seed, step, filled.examples.len());
        let mut loss = 0.0;
        let judge = |logits: &[f32]| {
            let judged = self.objective.judge(logits, &filled.examples, mixing.as_ref());
            if judged.count <= 0.0 {
                return Ok(None);
            }
            loss = judged.sum / judged.count;
            if loss.is_finite() {
                return Ok(Some(judged.slopes));
            }
            let rows = logits.chunks_exact(logits.len() / filled.examples.len()).enumerate();
            let wrong = rows.filter(|(_, logits)| !logits.iter().all(|logit| logit.is_finite()));
            Err(Wrong::NotFinite("loss", wrong.map(|(row, _)| row).collect()))
        };
        let gradients = self.pass.run(&self.state.weights, batch, step, mixing.as_ref(), judge)?;
        self.state.history.steps += 1;
        let Some(mut gradients) = gradients else { return Ok((0.0, 0.0)) };
        self.state.frozen.clear(&mut gradients, &batch.unique, &self.state.layout);
        let norm = gradients.norm();
        if !norm.is_finite() {
            return Err(Wrong::NotFinite("gradient", (0..filled.examples.len()).collect()));
        }
        let most = f64::from(self.state.config.clip_norm);
        if most > 0.0 && norm > most {
            gradients.scale((most / norm) as f32);
        }
        self.state.update(batch, &slots, &gradients, share, &self.pass.workspace);
        self.pass.give_back(gradients);
        Ok((loss, norm))
    }

    /// Judges the weights on the validation examples, by the forward pass that serves, and keeps
    /// them if they are the best. Gives the loss.
    fn validate(
        &mut self,
        epoch: usize,
        step: usize,
        observer: &mut dyn Observer,
    ) -> Result<f64, TrainError> {
        let validation: &Examples<'_> = self.job.validation;
        let state = &mut self.state;
        state.swap_average();
        // What only training reads is judged too.
        let outputs = self.objective.outputs() + self.objective.extra();
        let layers = served(&state.weights.layers, self.objective.served_shift(), outputs);
        let engine = Engine::new(&state.layout, &state.weights.front, &layers);
        let mut logits =
            logits(&state.layout, &self.statistics, &state.weights, &engine, self.class, validation);
        // What is judged is what would be served.
        Smoothing::of(self.job.config).take_back_all(&mut logits, outputs);
        let outcomes: Vec<_> = validation.outcomes().collect();
        let judged = self.objective.plain().judge(&logits, &outcomes, None);
        let loss = if judged.count > 0.0 { judged.sum / judged.count } else { 0.0 };
        if !loss.is_finite() {
            let rows = logits.chunks_exact(outputs).enumerate();
            let wrong = rows.filter(|(_, row)| !row.iter().all(|x| x.is_finite()));
            let places = wrong.map(|(row, _)| (0, validation.indices()[row])).collect();
            let what = "validation loss";
            return Err(TrainError::NotFinite { what, epoch, step, places: Places(places) });
        }
        let (head, with_values) = (self.job.config.network.head, self.values.is_some());
        let predictions: Vec<Probabilities> = logits
            .chunks_exact(outputs)
            .map(|row| {
                let outputs = Outputs::read(head, Smoothing::default(), with_values, row);
                outputs.with_value(Probabilities::from_logits(outputs.heads), self.values.as_ref())
            })
            .collect();
        let metric = score(state.config, &predictions, &outcomes);
        let score = metric.map_or(loss, |(score, _)| score);
        let position = &mut state.position;
        let found = Validation {
            epoch,
            steps: state.history.steps,
            training_loss: position.loss_sum / position.loss_count.max(1.0),
            validation_loss: loss,
            metric: metric.map(|(_, metric)| metric),
        };
        state.history.validations.push(found);
        (position.loss_sum, position.loss_count) = (0.0, 0.0);
        let verdict = position.plateau.judge(score, state.config.patience, state.config.plateau_decays);
        let number = state.history.validations.len() - 1;
        let is_best = verdict == Verdict::Best;
        if is_best {
            state.history.best = number;
            state.keep();
        }
        state.swap_average();
        // Before anyone is told, so that whatever checkpoint is taken has it.
        if verdict == Verdict::Decay {
            state.history.decays.push(number);
            state.go_back();
        }
        let validated =
            Validated { validation: &found, predictions: &predictions, examples: validation, is_best };
        observer.validated(&validated, &Snapshot { state });
        Ok(loss)
    }

    /// The model with the best weights.
    fn finish(self) -> Result<Trained, TrainError> {
        let State { mut weights, kept, touched, layout, history, encoder, .. } = self.state;
        if !kept.restore(&mut weights, layout.width, &touched) {
            return Err(TrainError::Stopped);
        }
        weights.layers = served(&weights.layers, self.objective.served_shift(), self.objective.outputs());
        let statistics = (*self.statistics).clone();
        let mut model = Model::new(encoder.clone(), self.job.config.clone(), statistics, weights)
            .with_kernel_class(self.class);
        model.values = self.values;
        let logits = model.logits(self.job.validation);
        let outputs: Vec<Outputs> = model.outputs(&logits).collect();
        let heads: Vec<[f32; HEADS]> = outputs.iter().map(|outputs| outputs.heads).collect();
        model.calibrate(&heads, self.job.validation);
        let predictions: Vec<Probabilities> =
            outputs.into_iter().map(|outputs| model.said(outputs)).collect();
        Ok(Trained {
            validation: Metrics::measure(&predictions, self.job.validation.outcomes()),
            golden: self.job.source.samples().to_vec(),
            history,
            model,
        })
    }
}

/// Why a step failed.
enum Wrong {
    Tensor(candle_core::Error),
    /// What, and the rows of the batch that it is of.
    NotFinite(&'static str, Vec<usize>),
}

impl From<candle_core::Error> for Wrong {
    fn from(error: candle_core::Error) -> Self {
        Self::Tensor(error)
    }
}
