//! The rounds, on the examples of pinned tables.

use std::ops::ControlFlow;

use model::train::{Observer, Snapshot};
use model::{Job, Progress, TrainError};
use runtime::shutdown::Shutdown;
use serde::Serialize;
use tokio::runtime::Handle;
use toml::Table;

use super::space::{Budget, Tune};
use super::{Rung, rungs};
use crate::Error;
use crate::fit::{Plan, prepare};
use crate::rundir::watching::Curves;
use crate::trainer::{stopwatch, wall_clock_ms};

/// One training of the search.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Entry {
    /// Which settings, from 0.
    pub trial: usize,
    /// Which round, from 0.
    pub rung: usize,
    /// Epochs or rows.
    pub budget: u64,
    /// The settings.
    pub settings: Table,
    /// Loss on the validation examples, of the best weights; none where training failed.
    pub validation_loss: Option<f64>,
    /// AUC of the clicks there.
    pub auc: Option<f64>,
    /// Passes over the training examples that the best weights had seen.
    pub epochs: usize,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
    /// Wall clock.
    pub seconds: f64,
}

/// What the search came to.
#[derive(Debug, Clone, PartialEq)]
pub struct Best {
    /// The last round's best.
    pub entry: Entry,
    /// All of `[model]` with it.
    pub config: model::Config,
}

/// Told of every training, with its event file.
pub type Log<'a> = dyn FnMut(&Entry, &[u8]) -> Result<(), Error> + 'a;

/// Searches. `log` is told of every training, with its event file. `None` when asked to stop.
/// Blocks its thread: for threads of their own, never a runtime's.
///
/// # Errors
/// Settings that `[model]` does not take, too few examples, what the lake says; that all of the
/// settings failed.
pub fn search(
    root: &str,
    plan: &Plan,
    tune: &Tune,
    handle: &Handle,
    stop: &Shutdown,
    log: &mut Log<'_>,
) -> Result<Option<Best>, Error> {
    let trials = tune
        .draw(&plan.network)
        .map_err(|error| Error::Config { key: format!("tune.{}", error.key), what: error.what })?;
    let dataset = prepare(root, plan, None, handle, stop)?;
    let mut left: Vec<usize> = (0..trials.len()).collect();
    let mut last = None;
    for (number, Rung { trials: count, budget }) in
        rungs(tune.trials, tune.eta, tune.min, tune.max).into_iter().enumerate()
    {
        left.truncate(count);
        let mut scored = Vec::with_capacity(left.len());
        for &trial in &left {
            let (settings, config) = &trials[trial];
            let mut config = config.clone();
            let rows = match tune.budget {
                Budget::Epochs => {
                    config.training.max_epochs = budget as usize;
                    None
                }
                Budget::Rows => Some(budget as usize),
            };
            let mut watch = Trial { curves: Curves::new(wall_clock_ms()), stop };
            let began = stopwatch();
            let training = dataset.training();
            let training = rows.map_or(training, |rows| training.thinned(rows));
            let trained = model::train(Job::new(&training, &dataset.validation().all(), &config), &mut watch);
            if stop.is_set() {
                return Ok(None);
            }
            let mut entry = Entry {
                trial,
                rung: number,
                budget,
                settings: settings.clone(),
                validation_loss: None,
                auc: None,
                epochs: 0,
                failed: None,
                seconds: began.elapsed().as_secs_f64(),
            };
            match trained {
                Ok(trained) => {
                    let best = trained.history.validations[trained.history.best];
                    entry.validation_loss = Some(best.validation_loss);
                    entry.epochs = best.epoch + 1;
                    entry.auc = trained.validation.click.auc;
                }
                // Settings that diverge are bad settings, not an end of the search.
                Err(error @ TrainError::NotFinite { .. }) => entry.failed = Some(error.to_string()),
                Err(error) => return Err(Error::Model(error.to_string())),
            }
            log(&entry, watch.curves.events.bytes())?;
            scored.push(entry);
        }
        let loss = |entry: &Entry| entry.validation_loss.unwrap_or(f64::INFINITY);
        // Equal losses: the earlier draw.
        scored.sort_by(|a, b| loss(a).total_cmp(&loss(b)).then(a.trial.cmp(&b.trial)));
        left = scored.iter().map(|entry| entry.trial).collect();
        last = scored.into_iter().next();
    }
    match last {
        Some(entry) if entry.failed.is_none() => {
            let config = trials[entry.trial].1.clone();
            Ok(Some(Best { entry, config }))
        }
        _ => Err(Error::Model("every setting that was tried diverged; try lower learning rates".into())),
    }
}

struct Trial<'a> {
    curves: Curves,
    stop: &'a Shutdown,
}

impl Observer for Trial<'_> {
    fn step(&mut self, progress: &Progress, _state: &Snapshot<'_>) -> ControlFlow<()> {
        self.curves.step(progress);
        if self.stop.is_set() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn validated(&mut self, validated: &model::Validated<'_>, state: &Snapshot<'_>) {
        self.curves.validated(validated, state);
    }
}
