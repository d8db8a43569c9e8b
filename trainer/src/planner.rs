//! Looks at the schedule, and trains when it is time and nobody else does. Knows no Kafka.

use std::fmt;
use std::sync::Arc;

use runtime::shutdown::Shutdown;
use schemas::VectorSchema;

use crate::registry::Registry;
use crate::run::Run;
use crate::schedule::{Marks, Now, Schedule};
use crate::status::Status;
use crate::trainer::{Ended, Trainer, wall_clock_ms};
use crate::turn::Turn;
use crate::{Error, telemetry};

/// Finds the schema of the vectors that are made now. It may block.
pub type InForce = Arc<dyn Fn() -> Result<VectorSchema, String> + Send + Sync>;

/// Decides when a trainer trains; several of one registry take turns.
pub struct Planner {
    trainer: Trainer,
    in_force: InForce,
    registry: Registry,
    schedule: Schedule,
    status: Status,
}

impl Planner {
    /// Plans the runs of `trainer` as its settings say. What it reads are the vectors whose schema is in force
    /// when a run is due: declarations change while a trainer runs.
    ///
    /// # Errors
    /// A cron expression that cannot be read.
    pub fn new(trainer: Trainer, in_force: InForce, status: Status) -> Result<Self, Error> {
        let registry = trainer.registry();
        let schedule = Schedule::new(trainer.config())?;
        Ok(Self { trainer, in_force, registry, schedule, status })
    }

    /// One look; the run, if one was due and no other instance trains.
    ///
    /// # Errors
    /// What the run, the lake or the store says; [`Error::Stopped`] when asked to stop.
    pub async fn look(&self, stop: &Shutdown) -> Result<Option<Ended>, Error> {
        let marks = match self.registry.marks().await? {
            Some(marks) => marks,
            None => self.begin().await?,
        };
        let Some(labels) = self.trainer.labels().await? else { return Ok(None) };
        let at = Now { now_ms: wall_clock_ms(), marks, labels };
        if self.schedule.due(at, None).is_none() && !self.schedule.looks_for_drift(at) {
            return Ok(None);
        }
        let turn = match self.trainer.take_turn(stop).await {
            Ok(turn) => turn,
            // Its run counts for this instance too.
            Err(error @ Error::Busy { .. }) => {
                telemetry::another_trains(&error);
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        // Boxed: the state of a whole run is large.
        let ended = Box::pin(self.run_if_due(&turn, labels)).await;
        turn.end().await;
        ended
    }

    /// The schedule counts from the first look that anyone took; a restart is no reason to train.
    async fn begin(&self) -> Result<Marks, Error> {
        let now_ms = wall_clock_ms();
        let first = Marks { since_ms: now_ms, labels_used: 0, drift_ms: now_ms };
        let last = last_run(&self.registry).await?;
        let first = last.as_ref().map_or(first, |run| Marks { drift_ms: now_ms, ..Marks::of(run) });
        self.registry.mark(&first, true).await?;
        Ok(self.registry.marks().await?.unwrap_or(first))
    }

    /// The run that is due now that nobody else can run one.
    async fn run_if_due(&self, turn: &Turn, labels: u64) -> Result<Option<Ended>, Error> {
        // Read again: another may have trained since, or somebody by hand.
        let mut marks = self.registry.marks().await?.unwrap_or_default();
        if let Some(run) = last_run(&self.registry).await? {
            marks = marks.merge(Marks::of(&run));
        }
        let at = Now { now_ms: wall_clock_ms(), marks, labels };
        let trainer = self.trainer_of_now().await?;
        let mut drift = None;
        if self.schedule.looks_for_drift(at) {
            // Noted first: a look that fails is not repeated at once.
            marks.drift_ms = at.now_ms;
            self.mark(turn, &marks).await?;
            drift = trainer.drift(turn.stop()).await?;
        }
        let Some(due) = self.schedule.due(at, drift.as_ref()) else { return Ok(None) };
        let ended = trainer.train_due(&due, turn, &self.status).await;
        // Whatever comes of it, the next run waits for its own time: a table with too little to
        // learn from is not read at every look. But one that was cut short was no run.
        let used = match &ended {
            Ok(ended) => ended.run.data.labels,
            Err(Error::TooFew(_)) => labels,
            Err(_) => marks.labels_used,
        };
        if !matches!(ended, Err(Error::Stopped | Error::LeaseLost { .. })) {
            self.mark(turn, &Marks { since_ms: at.now_ms, labels_used: used, ..marks }).await?;
        }
        ended.map(Some)
    }

    /// The trainer, reading the vectors that are made now.
    async fn trainer_of_now(&self) -> Result<Trainer, Error> {
        let in_force = Arc::clone(&self.in_force);
        let found = tokio::task::spawn_blocking(move || in_force()).await.map_err(|_| Error::Panicked)?;
        Ok(self.trainer.reading(found.map_err(Error::InForce)?))
    }

    async fn mark(&self, turn: &Turn, marks: &Marks) -> Result<(), Error> {
        turn.check().await?;
        self.registry.mark(marks, false).await
    }
}

impl fmt::Debug for Planner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Planner").field("trainer", &self.trainer).finish_non_exhaustive()
    }
}

/// The record of the last version.
async fn last_run(registry: &Registry) -> Result<Option<Run>, Error> {
    match registry.versions().await?.last() {
        Some(version) => registry.run(version).await.map(Some),
        None => Ok(None),
    }
}
