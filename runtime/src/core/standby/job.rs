//! Building a unit, which takes long: away from the state machine, by whoever has the time.

use std::sync::Arc;

use super::Standby;
use crate::core::rebuild::restore;
use crate::core::{Clock, CoreError, Standing};
use crate::processor::{ProcessorFactory, UnitId};
use crate::snapshot::Snapshot;

/// A unit to be built from a snapshot, or from the beginning of its log.
pub struct Job {
    pub(super) number: u64,
    pub(super) unit: UnitId,
    pub(super) standings: Vec<Standing>,
    pub(super) found: Option<Snapshot>,
    pub(super) factory: Arc<dyn ProcessorFactory>,
    pub(super) clock: Clock,
}

/// What came of a job.
pub struct Finished {
    pub(super) number: u64,
    pub(super) unit: UnitId,
    pub(super) standings: Vec<Standing>,
    pub(super) built: Result<Standby, NotBuilt>,
}

/// Why a unit could not be built.
pub(super) enum NotBuilt {
    /// The snapshot with this key cannot be restored: perhaps an older one can.
    Older(u64),
    Hopeless(CoreError),
}

impl Job {
    /// Builds it.
    pub fn run(self) -> Finished {
        let Self { number, unit, standings, found, factory, clock } = self;
        let restored = restore(unit, found.as_ref(), &standings, &factory, clock.steady_ms);
        let begun = restored.and_then(|built| {
            Standby::begin(built, &standings, clock.wall_ms)
                .map_err(|source| CoreError::Step { unit, source })
        });
        let built = begun.map_err(|error| match &found {
            Some(snapshot) => {
                tracing::warn!(unit = unit.0, %error, "a snapshot was refused, trying the one before");
                NotBuilt::Older(snapshot.key())
            }
            None => NotBuilt::Hopeless(error),
        });
        Finished { number, unit, standings, built }
    }
}
