//! What is kept and told of a training while it goes on: the status, the event file, checkpoints.

use std::time::Instant;

use model::metrics::Metrics;
use model::train::{Snapshot, Validated};
use model::{HeadMetrics, Progress};
use tokio::runtime::Handle;

use super::pending::Pending;
use crate::fit::Watch;
use crate::status::{Phase, Status};
use crate::telemetry;
use crate::tensorboard::{self, Events, PrCurve};
use crate::trainer::{stopwatch, wall_clock_ms};

/// Points of the training curves, at most.
const POINTS: u64 = 1_000;
/// The tag of the training loss.
const TRAINING_LOSS: &str = "training/loss";

/// The curves of one training, as an event file.
pub(crate) struct Curves {
    pub(crate) events: Events,
}

impl Curves {
    /// From nothing.
    pub(crate) fn new(wall_ms: i64) -> Self {
        Self { events: Events::new(wall_ms) }
    }

    pub(crate) fn step(&mut self, progress: &Progress) {
        if progress.done.is_multiple_of(progress.total.div_ceil(POINTS).max(1)) {
            self.events.scalars(
                wall_clock_ms(),
                progress.done,
                [
                    (TRAINING_LOSS, progress.loss),
                    ("training/learning_rate", f64::from(progress.learning_rate)),
                    ("training/gradient_norm", progress.gradient_norm),
                    ("training/epoch", progress.epoch as f64),
                ],
            );
        }
    }

    pub(crate) fn validated(&mut self, validated: &Validated<'_>, state: &Snapshot<'_>) {
        let now = wall_clock_ms();
        let step = validated.validation.steps;
        let metrics = Metrics::measure(validated.predictions, validated.examples.outcomes());
        let mut found = scalars("validation", &metrics);
        found.push(("validation/loss".to_owned(), validated.validation.validation_loss));
        self.events.scalars(now, step, found.iter().map(|(tag, value)| (tag.as_str(), *value)));
        for (name, _, values) in state.weights() {
            self.events.histogram(now, step, &format!("weights/{name}"), values);
        }
        let judged = validated.predictions.iter().zip(validated.examples.outcomes());
        let clicks = PrCurve::of(judged.map(|(said, (outcome, _))| (said.p_click, outcome.clicked)));
        self.events.pr_curve(now, step, "validation/click", &clicks);
    }

    /// Training losses by step, those from before a resumption too.
    pub(crate) fn training_losses(&self) -> Vec<(i64, f32)> {
        // What is written here is whole; without it a report would lack one curve.
        let mut tags = tensorboard::read(self.events.bytes()).unwrap_or_default();
        tags.remove(TRAINING_LOSS).map(|series| series.scalars).unwrap_or_default()
    }

    /// The judgement on the test examples.
    pub(crate) fn judged(&mut self, step: u64, metrics: &Metrics, clicks: &PrCurve) {
        let now = wall_clock_ms();
        self.events.scalars(now, step, scalars("test", metrics).iter().map(|(tag, v)| (tag.as_str(), *v)));
        self.events.pr_curve(now, step, "test/click", clicks);
    }
}

/// Watches one training.
pub(crate) struct Watching {
    pub(crate) status: Status,
    pub(crate) curves: Curves,
    pending: Pending,
    handle: Handle,
    /// Wall-clock time between two checkpoints, ms.
    every_ms: i64,
    saved: Instant,
}

impl Watching {
    pub(crate) fn new(
        status: Status,
        events: Events,
        pending: Pending,
        handle: &Handle,
        every_ms: i64,
    ) -> Self {
        let (curves, handle) = (Curves { events }, handle.clone());
        Self { status, curves, pending, handle, every_ms, saved: stopwatch() }
    }

    fn save(&mut self, state: &Snapshot<'_>) {
        let (bytes, events) = (state.to_bytes(), self.curves.events.bytes().to_vec());
        let size = bytes.len();
        match self.handle.block_on(self.pending.save(bytes, events)) {
            Ok(()) => telemetry::checkpoint(size),
            // Training is worth more than its checkpoint.
            Err(error) => telemetry::checkpoint_failed(&error),
        }
        self.saved = stopwatch();
    }
}

impl Watch for Watching {
    fn read(&mut self, rows: usize) {
        self.status.update(|s| {
            s.phase = Phase::Training;
            s.rows = rows;
        });
    }

    fn step(&mut self, progress: &Progress, state: &Snapshot<'_>, stopping: bool) {
        self.status.update(|s| {
            s.progress = Some(*progress);
            s.validation_losses.extend(progress.validation_loss);
        });
        self.curves.step(progress);
        if stopping || self.saved.elapsed().as_millis() as i64 >= self.every_ms {
            self.save(state);
        }
    }

    fn validated(&mut self, validated: &Validated<'_>, state: &Snapshot<'_>) {
        self.curves.validated(validated, state);
    }
}

/// Every number of the metrics by its tag.
fn scalars(part: &str, metrics: &Metrics) -> Vec<(String, f64)> {
    let heads: [(&str, &HeadMetrics); 4] = [
        ("click", &metrics.click),
        ("conversion", &metrics.conversion),
        ("view_through", &metrics.view_through),
        ("purchase", &metrics.purchase),
    ];
    let mut found = Vec::new();
    for (head, metrics) in heads {
        let values = [
            ("log_loss", metrics.log_loss),
            ("normalised_entropy", metrics.normalised_entropy),
            ("auc", metrics.auc),
            ("calibration_error", metrics.calibration_error),
            ("accuracy", metrics.accuracy),
        ];
        let named = |(name, value): (&str, Option<f64>)| Some((format!("{part}/{head}/{name}"), value?));
        found.extend(values.into_iter().filter_map(named));
    }
    if let Some(value) = &metrics.value {
        let values = [
            ("mean_absolute_error", value.mean_absolute_error),
            ("base_mean_absolute_error", value.base_mean_absolute_error),
            ("deviance", value.deviance),
            ("base_deviance", value.base_deviance),
        ];
        found.extend(values.map(|(name, value)| (format!("{part}/value/{name}"), value)));
    }
    found
}
