//! The published windows that a partition's vectors read: the last version that its log has marked.
//!
//! Knows no merge: a version is a record of the log.

use std::collections::HashMap;

use bytes::Bytes;
use schemas::entity::VALUE_PARTS;
use schemas::{Codec, Control, EntityRow, EntityVersion, Entry, Event, Protobuf, SharedEntity};

use super::open::key_of;
use crate::history::NEVER;
use crate::plan::{KINDS, Plan, SHARED_ENTITIES};
use crate::totals::Total;
use crate::wire::{Reader, SnapshotError, Writer};

/// One key's windows.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SharedRow {
    /// One per window of the entity, ascending.
    pub(crate) windows: Box<[Total]>,
    pub(crate) last_ms: [i64; KINDS],
}

/// The version in force, and what has come of the next one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Versions {
    version_ms: Option<i64>,
    rows: [HashMap<Box<str>, SharedRow>; SHARED_ENTITIES],
    /// Records of a version whose last is still to come.
    coming: Vec<EntityVersion>,
}

impl Versions {
    /// Takes a record of a version in; whether the version is now in force.
    ///
    /// Changes of a version mean something only upon the one before, so nothing is in force until
    /// a whole one has come. A version of other declarations is passed over, and so is one that is
    /// not newer: a repeat, where delivery is at-least-once.
    pub(crate) fn fold(&mut self, record: &EntityVersion, plan: &Plan) -> bool {
        let is_newer = self.version_ms.is_none_or(|version| record.version_ms > version);
        if record.layout != plan.shared_layout() || !is_newer {
            return false;
        }
        if self.version_ms.is_none() && !record.whole {
            return false;
        }
        if self.coming.last().is_some_and(|before| before.version_ms != record.version_ms) {
            self.coming.clear();
        }
        self.coming.push(record.clone());
        if !record.last {
            return false;
        }
        if record.whole {
            self.rows = Default::default();
        }
        for row in std::mem::take(&mut self.coming).iter().flat_map(|record| &record.rows) {
            self.apply(row, plan);
        }
        self.version_ms = Some(record.version_ms);
        true
    }

    fn apply(&mut self, row: &EntityRow, plan: &Plan) {
        // An entity of a newer writer is none of this plan's.
        let Some(entity) = SharedEntity::ALL.iter().position(|entity| *entity as i32 == row.entity) else {
            return;
        };
        let Some(kept) = &plan.shared[entity] else { return };
        if row.counts.is_empty() {
            self.rows[entity].remove(&*row.key);
            return;
        }
        let total = |window: usize| {
            let mut total = Total::default();
            let counts = row.counts.iter().skip(window * KINDS);
            for (mine, theirs) in total.counts.iter_mut().zip(counts) {
                *mine = u32::try_from(*theirs).unwrap_or(u32::MAX);
            }
            for (mine, theirs) in total.sums.iter_mut().zip(row.values.iter().skip(window * 3)) {
                *mine = *theirs as f64 / VALUE_PARTS;
            }
            total
        };
        let mut last_ms = [NEVER; KINDS];
        for (mine, theirs) in last_ms.iter_mut().zip(&row.last_ms) {
            *mine = if *theirs == 0 { NEVER } else { *theirs };
        }
        let windows = (0..kept.windows.len()).map(total).collect();
        self.rows[entity].insert(row.key.as_str().into(), SharedRow { windows, last_ms });
    }

    /// The version that a read as of this time may see: nothing of it is later than the read.
    pub(crate) fn as_of(&self, at_ms: i64) -> Option<i64> {
        self.version_ms.filter(|version| *version <= at_ms)
    }

    /// The windows of the event's key of each shared entity; none for one that nothing is known of.
    pub(crate) fn find(&self, event: &Event) -> [Option<&SharedRow>; SHARED_ENTITIES] {
        std::array::from_fn(|entity| self.rows[entity].get(key_of(event, entity)))
    }

    pub(crate) fn len(&self) -> usize {
        self.rows.iter().map(HashMap::len).sum()
    }

    pub(crate) fn bytes(&self) -> usize {
        let row =
            |row: &SharedRow| size_of::<(Box<str>, SharedRow)>() + row.windows.len() * size_of::<Total>();
        let keys: usize = self.rows.iter().flatten().map(|(key, _)| key.len()).sum();
        keys + self.rows.iter().flat_map(HashMap::values).map(row).sum::<usize>()
    }

    pub(crate) fn write(&self, out: &mut Writer) {
        out.bool(self.version_ms.is_some());
        out.int(self.version_ms.unwrap_or(0));
        for rows in &self.rows {
            let mut sorted: Vec<_> = rows.iter().collect();
            sorted.sort_unstable_by_key(|(key, _)| *key);
            out.len(sorted.len());
            for (key, row) in sorted {
                out.text(key);
                for total in &row.windows {
                    total.counts.iter().for_each(|count| out.uint(u64::from(*count)));
                    total.sums.iter().for_each(|sum| out.f64(*sum));
                }
                row.last_ms.iter().for_each(|last| out.int(*last));
            }
        }
        out.len(self.coming.len());
        for record in &self.coming {
            out.bytes(&Protobuf::to_vec(&Entry::Control(Control::Entities(record.clone()))));
        }
    }

    pub(crate) fn read_from(input: &mut Reader<'_>, plan: &Plan) -> Result<Self, SnapshotError> {
        let mut versions = Self::default();
        let is_some = input.bool()?;
        let version_ms = input.int()?;
        versions.version_ms = is_some.then_some(version_ms);
        for (rows, kept) in versions.rows.iter_mut().zip(&plan.shared) {
            let windows = kept.as_ref().map_or(0, |kept| kept.windows.len());
            for _ in 0..input.len()? {
                let key: Box<str> = input.text()?.into();
                let mut row =
                    SharedRow { windows: vec![Total::default(); windows].into(), last_ms: [NEVER; KINDS] };
                for total in &mut row.windows {
                    for count in &mut total.counts {
                        *count = input.id()?;
                    }
                    for sum in &mut total.sums {
                        *sum = input.f64()?;
                    }
                }
                for last in &mut row.last_ms {
                    *last = input.int()?;
                }
                rows.insert(key, row);
            }
        }
        for _ in 0..input.len()? {
            let record = Bytes::copy_from_slice(input.bytes()?);
            match Protobuf::decode(&record) {
                Ok(Entry::Control(Control::Entities(record))) => versions.coming.push(record),
                _ => return Err(input.damaged()),
            }
        }
        Ok(versions)
    }
}
