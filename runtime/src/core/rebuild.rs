//! How units come to be: from what is committed, from snapshots, or from parked state.
//!
//! Knows the order of questions to ask; the machine asks them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::standby::Standby;
use super::unit::{Slot, Unit};
use super::{Command, CoreError, Standing};
use crate::processor::{Position, Positions, ProcessorFactory, StepError, TopicPartition, UnitId};
use crate::snapshot::{Bounds, Snapshot, Wanted};

/// What has to be found out and built before all that is owned can be read.
#[derive(Debug, Default)]
pub(super) struct Rebuild {
    /// Partitions whose standing is not known.
    look: BTreeSet<TopicPartition>,
    /// Units whose standing is known, and that wait for a snapshot.
    load: BTreeMap<UnitId, (Vec<Standing>, Option<u64>)>,
    /// Whether what is read must be said anew.
    consume: bool,
}

/// A unit that was built, and the outputs of its beginning are still to come.
pub(super) struct Built {
    pub(super) unit: Unit,
    pub(super) start: Vec<Position>,
}

impl Rebuild {
    /// These must be looked at; whatever was known of their units is void.
    pub(super) fn look_at(&mut self, partitions: impl IntoIterator<Item = TopicPartition>) {
        self.look.extend(partitions);
        self.consume = true;
    }

    /// These are gone. What waited for a snapshot is looked at again without them.
    pub(super) fn forget(&mut self, partitions: &[TopicPartition]) {
        self.consume = true;
        self.restart(|standing| partitions.contains(&standing.partition));
        self.look.retain(|partition| !partitions.contains(partition));
    }

    /// The units of these partitions are looked at from the start.
    pub(super) fn restart(&mut self, touches: impl Fn(&Standing) -> bool) {
        let again: Vec<UnitId> = self
            .load
            .iter()
            .filter(|(_, (standings, _))| standings.iter().any(&touches))
            .map(|(id, _)| *id)
            .collect();
        for id in again {
            if let Some((standings, _)) = self.load.remove(&id) {
                self.look.extend(standings.into_iter().map(|standing| standing.partition));
            }
        }
    }

    pub(super) fn consume_anew(&mut self) {
        self.consume = true;
    }

    /// Whether partitions wait to be read.
    pub(super) fn is_waiting(&self) -> bool {
        self.consume || !self.look.is_empty() || !self.load.is_empty()
    }

    /// The next question, `None` when only [`Rebuild::take_consume`] is left.
    pub(super) fn ask(&self, fingerprint: Option<u64>) -> Option<Command> {
        if !self.look.is_empty() {
            return Some(Command::Look(self.look.iter().cloned().collect()));
        }
        let (unit, (standings, below)) = self.load.iter().next()?;
        Some(Command::Load(wanted(*unit, standings, *below, fingerprint.unwrap_or_default())))
    }

    pub(super) fn wants_consume(&self) -> bool {
        self.consume
    }

    pub(super) fn consumed(&mut self) {
        self.consume = false;
    }

    /// Takes what was looked up: units that need no snapshot are built, the others wait for one.
    pub(super) fn looked(
        &mut self,
        standings: Vec<Standing>,
        factory: &Arc<dyn ProcessorFactory>,
        parked: &mut BTreeMap<UnitId, Unit>,
        steady_ms: u64,
    ) -> Result<Vec<Built>, CoreError> {
        let mut units: BTreeMap<UnitId, Vec<Standing>> = BTreeMap::new();
        for standing in standings {
            if !self.look.remove(&standing.partition) {
                continue;
            }
            check_range(&standing)?;
            units.entry(factory.unit(&standing.partition)).or_default().push(standing);
        }
        let mut built = Vec::new();
        for (id, standings) in units {
            if let Some(unit) = parked.remove(&id).filter(|unit| stands_where(unit, &standings)) {
                built.push(Built { unit, start: Vec::new() });
            } else if is_stateful(factory.as_ref()) && standings.iter().any(|s| s.committed.is_some()) {
                self.load.insert(id, (standings, None));
            } else {
                let start: Vec<Position> = standings.iter().map(from_committed).collect();
                built.push(build(id, factory, &start, &standings, None, steady_ms)?);
            }
        }
        Ok(built)
    }

    /// Takes a snapshot or the word that there is none.
    pub(super) fn loaded(
        &mut self,
        id: UnitId,
        found: Option<Snapshot>,
        factory: &Arc<dyn ProcessorFactory>,
        steady_ms: u64,
    ) -> Result<Option<Built>, CoreError> {
        let Some((standings, below)) = self.load.remove(&id) else { return Ok(None) };
        match (restore(id, found.as_ref(), &standings, factory, steady_ms), found) {
            (Err(error), Some(snapshot)) => {
                tracing::warn!(unit = id.0, %error, "a snapshot was refused, trying the one before");
                self.load.insert(id, (standings, Some(snapshot.key().min(below.unwrap_or(u64::MAX)))));
                Ok(None)
            }
            (restored, _) => restored.map(Some),
        }
    }

    /// Takes a standby in the place of a snapshot; `None` where it is not one of what is committed: then a
    /// snapshot is asked for after all.
    pub(super) fn taken_over(&mut self, id: UnitId, standby: Standby, steady_ms: u64) -> Option<Built> {
        let (standings, _) = self.load.get(&id)?;
        let unit = standby.resume(id, standings, steady_ms)?;
        self.load.remove(&id);
        Some(Built { unit, start: Vec::new() })
    }
}

/// A unit from a snapshot, or, without one, from the beginning of its log.
pub(super) fn restore(
    id: UnitId,
    found: Option<&Snapshot>,
    standings: &[Standing],
    factory: &Arc<dyn ProcessorFactory>,
    steady_ms: u64,
) -> Result<Built, CoreError> {
    if let Some(snapshot) = found {
        let payload = snapshot.payload();
        return build(id, factory, &snapshot.positions, standings, Some(&payload), steady_ms);
    }
    if let Some(cut) = standings.iter().find(|standing| standing.low > 0) {
        return Err(CoreError::Cut { partition: cut.partition.clone(), low: cut.low });
    }
    let start: Vec<Position> = standings.iter().map(from_beginning).collect();
    build(id, factory, &start, standings, None, steady_ms)
}

/// What a snapshot must be to be restored where partitions stand so.
pub(super) fn wanted(unit: UnitId, standings: &[Standing], below: Option<u64>, fingerprint: u64) -> Wanted {
    let bounds = standings.iter().map(|standing| Bounds {
        partition: standing.partition.clone(),
        low: standing.low,
        committed: standing.settled(),
    });
    Wanted { unit, fingerprint, bounds: bounds.collect(), below }
}

/// Whether units of this factory are rebuilt by replay.
pub(crate) fn is_stateful(factory: &dyn ProcessorFactory) -> bool {
    // A processor that holds records back has state that no committed position describes.
    factory.state_fingerprint().is_some() && factory.positions() == Positions::Implied
}

pub(super) fn check_range(standing: &Standing) -> Result<(), CoreError> {
    match standing.committed {
        Some((committed, _)) if committed < standing.low || committed > standing.high => {
            Err(CoreError::OutOfRange {
                partition: standing.partition.clone(),
                committed,
                low: standing.low,
                high: standing.high,
            })
        }
        _ => Ok(()),
    }
}

/// Whether nobody has committed anything for the unit since it was parked.
fn stands_where(unit: &Unit, standings: &[Standing]) -> bool {
    unit.positions().count() == standings.len()
        && unit.positions().all(|position| {
            standings.iter().any(|standing| {
                standing.partition == position.partition
                    && standing.committed.as_ref().is_some_and(|(offset, metadata)| {
                        *offset == position.offset && *metadata == position.metadata
                    })
            })
        })
}

fn from_committed(standing: &Standing) -> Position {
    let (offset, metadata) = standing.committed.clone().unwrap_or((standing.low, String::new()));
    Position { partition: standing.partition.clone(), offset, metadata }
}

fn from_beginning(standing: &Standing) -> Position {
    Position { partition: standing.partition.clone(), offset: standing.low, metadata: String::new() }
}

fn build(
    id: UnitId,
    factory: &Arc<dyn ProcessorFactory>,
    start: &[Position],
    standings: &[Standing],
    payload: Option<&[u8]>,
    steady_ms: u64,
) -> Result<Built, CoreError> {
    let failed = |source: StepError| CoreError::Step { unit: id, source };
    let processor = factory.create(id, payload).map_err(failed)?;
    let committed = |partition: &TopicPartition| {
        standings.iter().find(|s| s.partition == *partition).and_then(|s| s.committed.as_ref())
    };
    let slots = start.iter().map(|position| Slot::new(position, committed(&position.partition))).collect();
    let mut unit = Unit::new(id, processor, factory.positions(), slots, steady_ms);
    if payload.is_none() && standings.iter().any(|standing| standing.low > 0) {
        unit.save_soon();
    }
    Ok(Built { unit, start: start.to_vec() })
}
