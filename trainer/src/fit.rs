//! From pinned tables to a trained model: the part of a run that I5 promises to repeat bit for bit.
//! No clock, nothing but what the plan names.

use std::ops::ControlFlow;

use model::explain::{Faithfulness, Options};
use model::train::{Observer, Snapshot, Validated};
use model::{Checkpoint, Encoder, Examples, Job, Model, Progress, TrainError, Trained};
use runtime::shutdown::Shutdown;
use schemas::VectorSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::runtime::Handle;

use crate::Error;
use crate::config::{Config, Explanation};
use crate::dataset::{Dataset, Pins, Request};
use crate::run::{Parent, Run};
use crate::schedule::Mode;

/// Resamples of the intervals of explanations.
const RESAMPLES: usize = 300;

/// What a model follows from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Table versions.
    pub tables: Pins,
    /// `[trainer]`.
    pub config: Config,
    /// `[model]`.
    pub network: model::Config,
    /// The vector schema.
    pub schema: VectorSchema,
    /// All examples, or the latest hours.
    pub mode: Mode,
    /// Where the weights start from, if not from the seed.
    pub parent: Option<Parent>,
    /// The test part begins no earlier, ms.
    pub judged_after_ms: Option<i64>,
}

impl From<&Run> for Plan {
    fn from(run: &Run) -> Self {
        Self {
            tables: run.tables.clone(),
            config: run.config.clone(),
            network: run.network.clone(),
            schema: run.schema.clone(),
            mode: run.mode(),
            parent: run.parent.clone(),
            judged_after_ms: run.judged_after_ms,
        }
    }
}

impl Plan {
    /// The examples that it names, in the lake at `root`, encoded by `encoder`.
    pub fn request<'a>(&'a self, root: &'a str, encoder: &'a Encoder) -> Request<'a> {
        let latest = self.mode == Mode::Incremental;
        Request {
            root,
            pins: &self.tables,
            schema: &self.schema,
            encoder,
            fit: !latest,
            window_ms: latest.then_some(self.config.incremental.window.0),
            config: &self.config,
            judged_after_ms: self.judged_after_ms,
            seed: self.network.training.seed,
        }
    }
}

/// A trained model and the examples that it came from.
#[derive(Debug)]
pub struct Fitted {
    /// The examples.
    pub dataset: Dataset,
    /// The model and its history.
    pub trained: Trained,
    /// What the weights started from; none where the parent did not fit.
    pub parent: Option<Parent>,
    /// How faithful its explanations are, if that was measured.
    pub explanation: Option<Faithfulness>,
}

/// Told of the progress of a run.
pub trait Watch: Send {
    /// The examples are read.
    fn read(&mut self, rows: usize);
    /// A step was taken; the last one, if the training is `stopping`.
    fn step(&mut self, progress: &Progress, state: &Snapshot<'_>, stopping: bool);
    /// The weights were judged on the validation examples.
    fn validated(&mut self, validated: &Validated<'_>, state: &Snapshot<'_>);
}

/// Watches nothing.
impl Watch for () {
    fn read(&mut self, _rows: usize) {}
    fn step(&mut self, _progress: &Progress, _state: &Snapshot<'_>, _stopping: bool) {}
    fn validated(&mut self, _validated: &Validated<'_>, _state: &Snapshot<'_>) {}
}

/// Ends a training when it is asked to stop.
struct Stopping<'a> {
    watch: &'a mut dyn Watch,
    stop: &'a Shutdown,
}

impl Observer for Stopping<'_> {
    fn step(&mut self, progress: &Progress, state: &Snapshot<'_>) -> ControlFlow<()> {
        let stopping = self.stop.is_set();
        self.watch.step(progress, state, stopping);
        if stopping { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn validated(&mut self, validated: &Validated<'_>, state: &Snapshot<'_>) {
        self.watch.validated(validated, state);
    }
}

/// Reads and splits.
pub(crate) fn prepare(
    root: &str,
    plan: &Plan,
    parent: Option<&Model>,
    handle: &Handle,
    stop: &Shutdown,
) -> Result<Dataset, Error> {
    // A run that learns on keeps the encoder that it learns on from.
    let encoder = match parent.filter(|_| plan.mode == Mode::Incremental) {
        Some(parent) => parent.encoder().clone(),
        None => Encoder::new(&plan.schema, &plan.network.encoder),
    };
    Dataset::read(&plan.request(root, &encoder), handle, stop)
}

/// Reads, splits, trains; with a checkpoint of the same plan, goes on where it was taken. Blocks its
/// thread: for threads of their own, never a runtime's.
///
/// # Errors
/// Too few examples, what the lake says, what training says, [`Error::Stopped`].
pub fn fit(
    root: &str,
    plan: &Plan,
    parent: Option<&Model>,
    handle: &Handle,
    stop: &Shutdown,
    resume: Option<Checkpoint>,
    watch: &mut dyn Watch,
) -> Result<Fitted, Error> {
    let dataset = prepare(root, plan, parent, handle, stop)?;
    watch.read(dataset.data().rows);
    let (training, validation) = (dataset.training(), dataset.validation().all());
    let job = Job::new(&training, &validation, &plan.network).with_parent(parent).with_resume(resume);
    let trained = model::train(job, &mut Stopping { watch, stop });
    // A stopped training has kept its best weights so far, which nobody could make again.
    if stop.is_set() {
        return Err(Error::Stopped);
    }
    let mut trained = trained.map_err(|error| match error {
        TrainError::Stopped => Error::Stopped,
        other => Error::Model(other.to_string()),
    })?;
    let explanation = explain(plan, &dataset.validation().all(), &mut trained)?;
    let parent = plan.parent.clone().filter(|_| trained.history.parent.is_some());
    Ok(Fitted { dataset, trained, parent, explanation })
}

/// Measures the explanations of a model, and has it explain by the method to be published.
fn explain(
    plan: &Plan,
    validation: &Examples<'_>,
    trained: &mut Trained,
) -> Result<Option<Faithfulness>, Error> {
    let Explanation { rows, max_passes } = plan.config.explanation;
    if rows == 0 {
        return Ok(None);
    }
    let options = Options { rows, max_passes, resamples: RESAMPLES, seed: plan.network.training.seed };
    let measured = model::explain::measure(&trained.model, validation, options)
        .map_err(|error| Error::Model(error.to_string()))?;
    trained.model.explain_by(measured.published);
    Ok(Some(measured))
}

/// The model card inside the artefact: what it is and where it comes from. No wall clock, no
/// measurement that another machine might take otherwise, so that the artefact can be made again.
pub fn card(plan: &Plan, fitted: &Fitted) -> Value {
    let data = fitted.dataset.data();
    let values = fitted.trained.model.values();
    json!({
        "model": plan.config.model,
        "predicts": {
            "p_click": "a click by the consumer within the click window of an impression",
            "p_purchase": "a purchase credited to the impression within the purchase window",
            "value": values.map(|values| format!(
                "mean sum, in {}, of the purchases credited to the impression, given that there is one; refunds not taken off",
                values.currency,
            )),
        },
        "code_version": Run::current_code_version(),
        "tables": plan.tables,
        "vector_schema": format!("{:016x}", plan.schema.fingerprint()),
        "parent": fitted.parent,
        "mode": plan.mode,
        "seed": plan.network.training.seed,
        "examples": {
            "labels": data.labels,
            "rows": data.rows,
            "clicked": data.clicked,
            "matured": data.matured,
            "purchased": data.purchased,
            "train": fitted.dataset.parts().train.len(),
            "validation": fitted.dataset.parts().validation.len(),
            "test": fitted.dataset.parts().test.len(),
        },
        "boundaries": fitted.dataset.boundaries(),
        "explained_by": fitted.trained.model.explanation(),
        "attention": fitted.explanation.as_ref().map(Faithfulness::in_words),
        "limits": [
            "learned from impressions that were shown: it says nothing of what was never shown",
            "purchases are learned only from impressions whose purchase window has closed",
        ],
    })
}
