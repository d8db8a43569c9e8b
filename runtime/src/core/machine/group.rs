//! What the group gives and takes, and what becomes of the units.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::super::rebuild::is_stateful;
use super::super::unit::Unit;
use super::{Core, Transaction};
use crate::processor::{TopicPartition, UnitId};

impl Core {
    pub(super) fn assigned(&mut self, partitions: &[TopicPartition]) {
        let units: BTreeSet<UnitId> = partitions.iter().map(|p| self.factory.unit(p)).collect();
        self.owned.extend(partitions.iter().cloned());
        let factory = Arc::clone(&self.factory);
        self.rebuild.restart(|standing| units.contains(&factory.unit(&standing.partition)));
        // A unit that gets more partitions begins anew from what is committed of all of them.
        self.drop_units(&units);
        self.rebuild.look_at(self.owned.iter().filter(|p| units.contains(&factory.unit(p))).cloned());
        self.rebuild.consume_anew();
    }

    pub(super) fn revoked(&mut self, partitions: Vec<TopicPartition>) {
        self.rebuild.forget(&partitions);
        self.commit_wanted = true;
        self.releasing.get_or_insert_default().extend(partitions);
    }

    /// Gives up partitions whose commit is done.
    pub(super) fn park(&mut self, partitions: &[TopicPartition]) {
        self.parked.clear();
        let whole: Vec<UnitId> = self
            .units
            .values()
            .filter(|unit| !unit.is_replaying() && unit.partitions().all(|p| partitions.contains(p)))
            .map(Unit::id)
            .collect();
        if is_stateful(self.factory.as_ref()) {
            for id in whole {
                self.parked.extend(self.units.remove(&id).map(|unit| (id, unit)));
            }
        }
        self.lose_partitions(partitions);
    }

    pub(super) fn lose(&mut self, partitions: &[TopicPartition]) {
        self.parked.clear();
        if let Some(releasing) = &mut self.releasing {
            releasing.retain(|partition| !partitions.contains(partition));
            if releasing.is_empty() {
                self.releasing = None;
            }
        }
        self.lose_partitions(partitions);
    }

    /// Drops the units of these partitions; what they keep of others is rebuilt.
    fn lose_partitions(&mut self, partitions: &[TopicPartition]) {
        self.owned.retain(|partition| !partitions.contains(partition));
        self.rebuild.forget(partitions);
        let units: BTreeSet<UnitId> = self
            .units
            .values()
            .filter(|unit| partitions.iter().any(|partition| unit.owns(partition)))
            .map(Unit::id)
            .collect();
        self.drop_units(&units);
    }

    /// Drops the units' folds and pending outputs; their partitions that are still owned are
    /// looked at again.
    pub(super) fn drop_units(&mut self, ids: &BTreeSet<UnitId>) {
        let dropped: Vec<Unit> = ids.iter().filter_map(|id| self.units.remove(id)).collect();
        if dropped.is_empty() {
            return;
        }
        self.counters.dropped += dropped.len() as u64;
        let ids: Vec<UnitId> = dropped.iter().map(Unit::id).collect();
        self.outbox.forget(&ids);
        if self.transaction != Transaction::Closed {
            self.transaction = Transaction::MustAbort;
        }
        for partition in dropped.iter().flat_map(Unit::partitions) {
            if self.owned.contains(partition) {
                self.rebuild.look_at([partition.clone()]);
            }
        }
    }
}
