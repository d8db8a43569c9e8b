//! The merge: tiles of all partitions in, versions of the shared entities' windows out.
//!
//! A fold of the topic `entity-tiles`. Version B is published when every partition has closed all
//! tiles before B. What a partition sends is taken by (tile, key, partition), so that a repeat
//! (at-least-once delivery) replaces itself, and sums are integers, so that the partitions' order
//! does not matter.

use std::collections::BTreeMap;
use std::sync::Arc;

use schemas::{EntityRow, EntityTile, EntityVersion, SharedEntity};

use super::Sums;
use super::keyed::{Keyed, Windows};
use super::numbers::Numbers;
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
    pending: BTreeMap<(i64, u32, usize), Sums>,
    keys: Numbers,
    /// Per number of a key what it holds; nothing where all its tiles are still pending.
    held: Vec<Option<Keyed>>,
    /// Keys of which something leaves a window at that time; some stand twice.
    due: BTreeMap<i64, Vec<u32>>,
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
            keys: Numbers::default(),
            held: Vec::new(),
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
        let held = || self.held.iter().flatten();
        (held().count(), self.pending.len() + held().map(Keyed::tiles).sum::<usize>())
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
        let number = self.number(entity, &record.key);
        self.pending.insert((record.tile_ms, number, partition), Sums::of(record));
        Vec::new()
    }

    /// The number of a key, with room for what it holds.
    fn number(&mut self, entity: usize, key: &str) -> u32 {
        let number = self.keys.intern(entity, key);
        if self.held.len() <= number as usize {
            self.held.resize(number as usize + 1, None);
        }
        number
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
            changed = self.numbers_held().collect();
        } else {
            changed.sort_unstable();
            changed.dedup();
        }
        self.keys.sort(&mut changed);
        let rows: Vec<EntityRow> = changed.iter().filter_map(|number| self.row(*number, whole)).collect();
        if whole {
            self.forget();
        }
        self.counts.versions += 1;
        self.counts.rows += rows.len() as u64;
        let layout = self.plan.shared_layout();
        let mut rows = rows.into_iter().peekable();
        let mut records = Vec::new();
        // A version of no change is a record, too.
        while records.is_empty() || rows.peek().is_some() {
            let some = rows.by_ref().take(ROWS_PER_RECORD).collect();
            let last = rows.peek().is_none();
            records.push(EntityVersion { version_ms, layout, whole, last, rows: some });
        }
        records
    }

    /// Numbers of keys that hold something.
    fn numbers_held(&self) -> impl Iterator<Item = u32> {
        (0..).zip(&self.held).filter(|(_, keyed)| keyed.is_some()).map(|(number, _)| number)
    }

    /// Gives back the numbers of keys of which nothing is left.
    fn forget(&mut self) {
        let mut used: Vec<bool> = self.held.iter().map(Option::is_some).collect();
        let pending = self.pending.keys().map(|(_, number, _)| number);
        for number in pending.chain(self.due.values().flatten()) {
            used[*number as usize] = true;
        }
        self.keys.retain(|number| used[number as usize]);
    }

    /// Moves tiles before the version to their keys; the keys, some of them twice.
    fn take_closed(&mut self, version_ms: i64) -> Vec<u32> {
        let width_ms = self.plan.shared_tile_ms();
        let open = self.pending.split_off(&(version_ms, 0, 0));
        let mut changed = Vec::with_capacity(self.pending.len());
        for ((tile_ms, number, _), sums) in std::mem::replace(&mut self.pending, open) {
            let Some(plan) = &self.plan.shared[self.keys.entity(number)] else { continue };
            let keyed = self.held[number as usize].get_or_insert_with(|| Keyed::new(plan));
            keyed.add(tile_ms, width_ms, &sums, plan, |leaves_ms| {
                self.due.entry(leaves_ms).or_default().push(number);
            });
            changed.push(number);
        }
        changed
    }

    /// The key's row at the version; none for a key that is gone, where nobody needs to be told.
    fn row(&mut self, number: u32, whole: bool) -> Option<EntityRow> {
        let (at, name) = (self.keys.entity(number), self.keys.text(number));
        let plan = self.plan.shared[at].as_ref()?;
        let held = &mut self.held[number as usize];
        let windows = held.as_mut()?.windows(self.version_ms, plan);
        let (entity, name) = (SharedEntity::ALL[at] as i32, name.to_owned());
        let Some(Windows { sums, last_ms }) = windows else {
            *held = None;
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
        // In the order of keys: numbers are not part of the state.
        let key = |out: &mut Writer, number: u32| {
            out.len(self.keys.entity(number));
            out.text(self.keys.text(number));
        };
        let mut pending: Vec<_> = self.pending.iter().collect();
        pending.sort_by_key(|((tile_ms, number, partition), _)| {
            (*tile_ms, self.keys.entity(*number), self.keys.text(*number), *partition)
        });
        out.len(pending.len());
        for ((tile_ms, number, partition), sums) in pending {
            out.int(*tile_ms);
            key(&mut out, *number);
            out.len(*partition);
            sums.write(&mut out);
        }
        let mut held: Vec<u32> = self.numbers_held().collect();
        self.keys.sort(&mut held);
        out.len(held.len());
        for number in held {
            key(&mut out, number);
            self.held[number as usize].iter().for_each(|keyed| keyed.write(&mut out));
        }
        out.len(self.due.len());
        for (leaves_ms, numbers) in &self.due {
            let mut numbers = numbers.clone();
            numbers.sort_unstable();
            numbers.dedup();
            self.keys.sort(&mut numbers);
            out.int(*leaves_ms);
            out.len(numbers.len());
            for number in numbers {
                key(&mut out, number);
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
            let (tile_ms, number, partition) =
                (input.int()?, merge.read_key(&mut input)?, input.uint()? as usize);
            merge.pending.insert((tile_ms, number, partition), Sums::read_from(&mut input)?);
        }
        for _ in 0..input.len()? {
            let number = merge.read_key(&mut input)?;
            let Some(plan) = &merge.plan.shared[merge.keys.entity(number)] else {
                return Err(input.damaged());
            };
            merge.held[number as usize] = Some(Keyed::read_from(&mut input, plan)?);
        }
        for _ in 0..input.len()? {
            let leaves_ms = input.int()?;
            for _ in 0..input.len()? {
                let number = merge.read_key(&mut input)?;
                merge.due.entry(leaves_ms).or_default().push(number);
            }
        }
        if input.at_end() { Ok(merge) } else { Err(input.damaged()) }
    }

    fn read_key(&mut self, input: &mut Reader<'_>) -> Result<u32, SnapshotError> {
        let entity = input.uint()? as usize;
        if entity >= SHARED_ENTITIES {
            return Err(input.damaged());
        }
        let key = input.text()?;
        Ok(self.number(entity, key))
    }
}
