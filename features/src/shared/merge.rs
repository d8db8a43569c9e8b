//! The merge: tiles of all partitions in, versions of the shared entities' windows out.
//!
//! A fold of the topic `entity-tiles`. Version B is published when every partition has closed all
//! tiles before B. What a partition sends is taken by (tile, key, partition), so that a repeat
//! (at-least-once delivery) replaces itself, and sums are integers, so that the partitions' order
//! does not matter.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use schemas::{EntityRow, EntityTile, EntityVersion, SharedEntity};

use super::Sums;
use super::keyed::{Keyed, Windows};
use crate::history::NEVER;
use crate::plan::{Plan, SHARED_ENTITIES};
use crate::wire::{Reader, SnapshotError, Writer};

/// Version of the format, and of what the fold makes of the same log.
pub(crate) const FORMAT: u8 = 1;
const MAGIC: u64 = u64::from_le_bytes(*b"saltiles");
/// Rows of one record of a version, at most: keeps records well below the broker's limit.
const ROWS_PER_RECORD: usize = 1_000;
/// A version holds all keys when it is the first of an hour: a reader that has none in force (its
/// declarations are new) waits for it.
const WHOLE_EVERY_MS: i64 = 3_600_000;

/// Index of the shared entity, and which of them.
type EntityKey = (usize, Arc<str>);

/// What has been done since it was made or restored. Not part of the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MergeCounts {
    /// Records of tiles taken, marks left out.
    pub tiles: u64,
    /// Records of tiles that were closed already: repeats.
    pub repeats: u64,
    /// Versions published.
    pub versions: u64,
    /// Rows published.
    pub rows: u64,
}

/// The fold of all partitions' tiles.
#[derive(Debug, Clone)]
pub struct Merge {
    plan: Arc<Plan>,
    /// Per partition of `events`: the time up to which it has closed; [`NEVER`] before its first mark.
    closed_ms: Vec<i64>,
    /// Tiles that not all partitions have closed, by time, key, partition.
    pending: BTreeMap<(i64, EntityKey, usize), Sums>,
    keys: BTreeMap<EntityKey, Keyed>,
    /// Keys of which something leaves a window at that time.
    due: BTreeMap<i64, BTreeSet<EntityKey>>,
    version_ms: i64,
    counts: MergeCounts,
}

impl Merge {
    /// The fold of nothing, over so many partitions of `events`.
    pub fn new(plan: Arc<Plan>, partitions: usize) -> Self {
        Self {
            plan,
            closed_ms: vec![NEVER; partitions],
            pending: BTreeMap::new(),
            keys: BTreeMap::new(),
            due: BTreeMap::new(),
            version_ms: NEVER,
            counts: MergeCounts::default(),
        }
    }

    /// The last version published, ms; `None` before the first.
    pub fn version_ms(&self) -> Option<i64> {
        Some(self.version_ms).filter(|version| *version != NEVER)
    }

    /// Per partition of `events`: the time up to which it has closed its tiles, ms; `None` before
    /// its first mark. The least holds versions back.
    pub fn closed_ms(&self) -> Vec<Option<i64>> {
        self.closed_ms.iter().map(|closed| Some(*closed).filter(|closed| *closed != NEVER)).collect()
    }

    /// What has been done.
    pub fn counts(&self) -> MergeCounts {
        self.counts
    }

    /// Keys held, and their tiles.
    pub fn held(&self) -> (usize, usize) {
        (self.keys.len(), self.pending.len() + self.keys.values().map(Keyed::tiles).sum::<usize>())
    }

    /// Folds one record; the records of the version that it completes, in order.
    pub fn step(&mut self, record: &EntityTile) -> Vec<EntityVersion> {
        let Ok(partition) = usize::try_from(record.partition) else { return Vec::new() };
        let Some(closed) = self.closed_ms.get_mut(partition) else { return Vec::new() };
        if record.entity == SharedEntity::None as i32 {
            *closed = (*closed).max(record.tile_ms);
            let complete = self.closed_ms.iter().copied().min().unwrap_or(NEVER);
            // Before 1970 there is nothing: a clock that starts at 0 has had no event.
            return if complete > self.version_ms.max(0) { self.publish(complete) } else { Vec::new() };
        }
        let entity = SharedEntity::ALL.iter().position(|entity| *entity as i32 == record.entity);
        let Some(entity) = entity.filter(|entity| self.plan.shared[*entity].is_some()) else {
            return Vec::new();
        };
        if record.tile_ms < *closed {
            self.counts.repeats += 1;
            return Vec::new();
        }
        self.counts.tiles += 1;
        let cell = (record.tile_ms, (entity, Arc::from(record.key.as_str())), partition);
        self.pending.insert(cell, Sums::of(record));
        Vec::new()
    }

    fn publish(&mut self, version_ms: i64) -> Vec<EntityVersion> {
        let before_ms = std::mem::replace(&mut self.version_ms, version_ms);
        let mut changed = self.take_closed(version_ms);
        while let Some(entry) = self.due.first_entry()
            && *entry.key() <= version_ms
        {
            changed.append(&mut entry.remove());
        }
        let hour = |ms: i64| ms.div_euclid(WHOLE_EVERY_MS);
        let whole = before_ms == NEVER || hour(version_ms) > hour(before_ms);
        if whole {
            changed.extend(self.keys.keys().cloned());
        }
        let rows: Vec<EntityRow> = changed.iter().filter_map(|key| self.row(key, whole)).collect();
        self.counts.versions += 1;
        self.counts.rows += rows.len() as u64;
        let layout = self.plan.shared_layout();
        let record = |rows| EntityVersion { version_ms, layout, whole, last: false, rows };
        let mut records: Vec<EntityVersion> =
            rows.chunks(ROWS_PER_RECORD).map(|rows| record(rows.to_vec())).collect();
        if records.is_empty() {
            records.push(record(Vec::new()));
        }
        if let Some(last) = records.last_mut() {
            last.last = true;
        }
        records
    }

    /// Moves tiles before the version to their keys; the keys.
    fn take_closed(&mut self, version_ms: i64) -> BTreeSet<EntityKey> {
        let width_ms = self.plan.shared_tile_ms();
        let none: EntityKey = (0, Arc::from(""));
        let open = self.pending.split_off(&(version_ms, none, 0));
        let mut changed = BTreeSet::new();
        for ((tile_ms, key, _), sums) in std::mem::replace(&mut self.pending, open) {
            let Some(plan) = &self.plan.shared[key.0] else { continue };
            let keyed = self.keys.entry(key.clone()).or_insert_with(|| Keyed::new(plan));
            keyed.add(tile_ms, width_ms, &sums, plan, |leaves_ms| {
                self.due.entry(leaves_ms).or_default().insert(key.clone());
            });
            changed.insert(key);
        }
        changed
    }

    /// The key's row at the version; none for a key that is gone, where nobody needs to be told.
    fn row(&mut self, key: &EntityKey, whole: bool) -> Option<EntityRow> {
        let plan = self.plan.shared[key.0].as_ref()?;
        let windows = self.keys.get_mut(key)?.windows(self.version_ms, plan);
        let (entity, name) = (SharedEntity::ALL[key.0] as i32, key.1.to_string());
        let Some(Windows { sums, last_ms }) = windows else {
            self.keys.remove(key);
            return (!whole).then(|| EntityRow { entity, key: name, ..EntityRow::default() });
        };
        let values =
            if plan.values { sums.iter().flat_map(|sums| sums.values).collect() } else { Vec::new() };
        let last_ms = if plan.ages { last_ms.to_vec() } else { Vec::new() };
        let counts = sums.iter().flat_map(|sums| sums.counts).collect();
        Some(EntityRow { entity, key: name, counts, values, last_ms })
    }

    /// The state as bytes.
    pub fn snapshot(&self) -> Vec<u8> {
        let mut out = Writer(Vec::new());
        out.fixed(MAGIC);
        out.byte(FORMAT);
        out.fixed(self.plan.shared_layout());
        out.int(self.version_ms);
        out.len(self.closed_ms.len());
        self.closed_ms.iter().for_each(|closed| out.int(*closed));
        out.len(self.pending.len());
        for ((tile_ms, (entity, key), partition), sums) in &self.pending {
            out.int(*tile_ms);
            out.len(*entity);
            out.text(key);
            out.len(*partition);
            sums.write(&mut out);
        }
        out.len(self.keys.len());
        for ((entity, key), keyed) in &self.keys {
            out.len(*entity);
            out.text(key);
            keyed.write(&mut out);
        }
        out.len(self.due.len());
        for (leaves_ms, keys) in &self.due {
            out.int(*leaves_ms);
            out.len(keys.len());
            for (entity, key) in keys {
                out.len(*entity);
                out.text(key);
            }
        }
        out.0
    }

    /// A merge as it was when the snapshot was taken.
    ///
    /// # Errors
    /// Bytes that are no snapshot, damaged, or of another format, plan or count of partitions.
    pub fn restore(plan: Arc<Plan>, partitions: usize, bytes: &[u8]) -> Result<Self, SnapshotError> {
        let mut input = Reader::new(bytes);
        if bytes.len() < 9 || input.fixed()? != MAGIC || input.byte()? != FORMAT {
            return Err(SnapshotError::Format { known: FORMAT });
        }
        let (found, wanted) = (input.fixed()?, plan.shared_layout());
        if found != wanted {
            return Err(SnapshotError::Declarations { found, wanted });
        }
        let mut merge = Self::new(plan, partitions);
        merge.version_ms = input.int()?;
        if input.len()? != partitions {
            return Err(input.damaged());
        }
        for closed in &mut merge.closed_ms {
            *closed = input.int()?;
        }
        for _ in 0..input.len()? {
            let (tile_ms, key, partition) = (input.int()?, merge.key(&mut input)?, input.uint()? as usize);
            merge.pending.insert((tile_ms, key, partition), Sums::read_from(&mut input)?);
        }
        for _ in 0..input.len()? {
            let key = merge.key(&mut input)?;
            let Some(plan) = &merge.plan.shared[key.0] else { return Err(input.damaged()) };
            merge.keys.insert(key, Keyed::read_from(&mut input, plan)?);
        }
        for _ in 0..input.len()? {
            let leaves_ms = input.int()?;
            for _ in 0..input.len()? {
                let key = merge.key(&mut input)?;
                merge.due.entry(leaves_ms).or_default().insert(key);
            }
        }
        if input.at_end() { Ok(merge) } else { Err(input.damaged()) }
    }

    /// A key that is read; one that is held already is shared with it.
    fn key(&self, input: &mut Reader<'_>) -> Result<EntityKey, SnapshotError> {
        let entity = input.uint()? as usize;
        if entity >= SHARED_ENTITIES {
            return Err(input.damaged());
        }
        let key = (entity, Arc::from(input.text()?));
        Ok(self.keys.get_key_value(&key).map_or(key, |(held, _)| held.clone()))
    }
}
