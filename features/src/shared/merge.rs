//! The merge: tiles of each partition in, tiles of all partitions out.
//!
//! A fold of the topic `entity-tiles`. Version B is published when every partition has closed all
//! tiles before B, and holds those that no version before it did. Sums are integers, and summaries are bounded
//! when those of all partitions have been added, so that the partitions' order does not matter. What is not
//! closed by all is kept as it came.

use std::collections::BTreeMap;
use std::sync::Arc;

use schemas::entity::{EntitySums, RowSummaries, Rows};
use schemas::{EntityTiles, EntityVersion, TileBlock};

use super::cells::Cells;
use super::parts::{Packer, Parts, read_block};
use crate::history::NEVER;
use crate::plan::Plan;
use crate::summary::packed::{merge, pack, unpack};
use crate::wire::{Reader, SnapshotError, Writer};

/// Version of the format, and of what the fold makes of the same log.
pub(crate) const FORMAT: u8 = 2;
const MAGIC: u64 = u64::from_le_bytes(*b"saltiles");

/// What has been done since it was made or restored. Not part of the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MergeCounts {
    /// Records taken.
    pub records: u64,
    /// Records passed over: repeats, and those of other declarations.
    pub passed_over: u64,
    /// Versions published.
    pub versions: u64,
    /// Bytes of the rows published.
    pub bytes: u64,
}

/// What has come of one partition of `events`.
#[derive(Debug, Clone)]
struct Partition {
    /// The time up to which it has closed its tiles; [`NEVER`] before it has closed any.
    closed_ms: i64,
    coming: Parts,
}

/// The fold of all partitions' tiles.
#[derive(Debug, Clone)]
pub struct Merge {
    plan: Arc<Plan>,
    partitions: Vec<Partition>,
    /// Rows of tiles that not all partitions have closed, by tile and entity, a block per partition
    /// and record.
    pending: BTreeMap<(i64, i32), Vec<TileBlock>>,
    version_ms: i64,
    counts: MergeCounts,
}

impl Merge {
    /// The fold of nothing, over so many partitions of `events`.
    pub fn new(plan: Arc<Plan>, partitions: usize) -> Self {
        Self {
            plan,
            partitions: vec![Partition { closed_ms: NEVER, coming: Parts::default() }; partitions],
            pending: BTreeMap::new(),
            version_ms: NEVER,
            counts: MergeCounts::default(),
        }
    }

    /// The last version published, ms; `None` before the first.
    pub fn version_ms(&self) -> Option<i64> {
        Some(self.version_ms).filter(|version| *version != NEVER)
    }

    /// Per partition of `events`: the time up to which it has closed its tiles, ms; `None` before
    /// it has closed any. The least holds versions back.
    pub fn closed_ms(&self) -> Vec<Option<i64>> {
        let closed = |partition: &Partition| Some(partition.closed_ms).filter(|closed| *closed != NEVER);
        self.partitions.iter().map(closed).collect()
    }

    /// What has been done.
    pub fn counts(&self) -> MergeCounts {
        self.counts
    }

    /// Bytes of tiles that wait for other partitions.
    pub fn pending_bytes(&self) -> usize {
        let len = |block: &TileBlock| block.rows.len() + block.summaries.len();
        let pending: usize = self.pending.values().flatten().map(len).sum();
        pending + self.partitions.iter().map(|partition| partition.coming.bytes()).sum::<usize>()
    }

    /// Folds one record; the records of the version that it completes, in order.
    pub fn step(&mut self, record: &EntityTiles) -> Vec<EntityVersion> {
        let &EntityTiles { partition, closed_ms, layout, part, last, ref blocks, .. } = record;
        let partition = usize::try_from(partition).ok().and_then(|at| self.partitions.get_mut(at));
        let partition = partition.filter(|partition| closed_ms > partition.closed_ms);
        let Some(partition) = partition.filter(|_| layout == self.plan.shared_layout()) else {
            self.counts.passed_over += 1;
            return Vec::new();
        };
        self.counts.records += 1;
        let Some(blocks) = partition.coming.take(closed_ms, part, last, blocks) else { return Vec::new() };
        for block in blocks.iter().filter(|block| block.tile_ms >= partition.closed_ms) {
            self.pending.entry((block.tile_ms, block.entity)).or_default().push(block.clone());
        }
        partition.closed_ms = closed_ms;
        let complete = self.partitions.iter().map(|partition| partition.closed_ms).min().unwrap_or(NEVER);
        // Before 1970 there is nothing: a clock that starts at 0 has had no event.
        if complete > self.version_ms.max(0) { self.publish(complete) } else { Vec::new() }
    }

    fn publish(&mut self, version_ms: i64) -> Vec<EntityVersion> {
        self.version_ms = version_ms;
        let open = self.pending.split_off(&(version_ms, i32::MIN));
        let mut packer = Packer::default();
        for ((tile_ms, entity), mut blocks) in std::mem::replace(&mut self.pending, open) {
            if blocks.len() == 1 {
                blocks.drain(..).for_each(|block| packer.block(block));
            } else if let Some(cells) = self.plan.cells.of_number(entity) {
                summarised(&blocks, cells, |key, sums, summary| {
                    packer.row((tile_ms, entity), key.as_bytes(), sums, Some(summary));
                });
            } else {
                for (key, sums) in summed(&blocks) {
                    packer.row((tile_ms, entity), key.as_bytes(), &sums, None);
                }
            }
        }
        self.counts.versions += 1;
        let layout = self.plan.shared_layout();
        let record = |(part, last, blocks)| EntityVersion { version_ms, layout, part, last, blocks };
        let records: Vec<EntityVersion> = packer.finish().map(record).collect();
        let blocks = records.iter().flat_map(|record| &record.blocks);
        self.counts.bytes +=
            blocks.map(|block| (block.rows.len() + block.summaries.len()) as u64).sum::<u64>();
        records
    }

    /// The state as bytes.
    pub fn snapshot(&self) -> Vec<u8> {
        let summarises = !self.plan.cells.is_empty();
        let mut out = Writer(Vec::new());
        out.fixed(MAGIC);
        out.byte(FORMAT);
        out.fixed(self.plan.shared_layout());
        out.int(self.version_ms);
        out.len(self.partitions.len());
        for partition in &self.partitions {
            out.int(partition.closed_ms);
            partition.coming.write(summarises, &mut out);
        }
        out.len(self.pending.len());
        for ((tile_ms, entity), blocks) in &self.pending {
            out.int(*tile_ms);
            out.int(i64::from(*entity));
            out.len(blocks.len());
            for block in blocks {
                out.bytes(&block.rows);
                if summarises {
                    out.bytes(&block.summaries);
                }
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
        let summarises = !plan.cells.is_empty();
        let mut merge = Self::new(plan, partitions);
        merge.version_ms = input.int()?;
        if input.len()? != partitions {
            return Err(input.damaged());
        }
        for partition in &mut merge.partitions {
            *partition =
                Partition { closed_ms: input.int()?, coming: Parts::read_from(summarises, &mut input)? };
        }
        for _ in 0..input.len()? {
            let tile_ms = input.int()?;
            let entity = i32::try_from(input.int()?).map_err(|_| input.damaged())?;
            let blocks = merge.pending.entry((tile_ms, entity)).or_default();
            for _ in 0..input.len()? {
                blocks.push(read_block((tile_ms, entity), summarises, &mut input)?);
            }
        }
        if input.at_end() { Ok(merge) } else { Err(input.damaged()) }
    }
}

/// The rows of these blocks, those of one key added up, by key.
fn summed(blocks: &[TileBlock]) -> Vec<(&str, EntitySums)> {
    let rows = blocks.iter().flat_map(|block| Rows::new(&block.rows));
    let mut rows: Vec<(&str, EntitySums)> = rows.map(|row| (row.key, row.sums())).collect();
    // Blocks are in order: the sort merges them.
    rows.sort_by_key(|(key, _)| *key);
    rows.dedup_by(|(key, sums), (kept, total)| {
        let is_same = key == kept;
        if is_same {
            total.merge(sums);
        }
        is_same
    });
    rows
}

/// Gives the same with their summaries. One that is none, as only other bytes than a core's can be, is passed
/// over.
fn summarised(blocks: &[TileBlock], cells: &Cells, mut row: impl FnMut(&str, &EntitySums, &[u8])) {
    let rows = blocks.iter().flat_map(|block| {
        let summaries = RowSummaries::new(&block.summaries).chain(std::iter::repeat(&[][..]));
        Rows::new(&block.rows).zip(summaries).map(|(row, summary)| (row, (block.tile_ms, summary)))
    });
    let mut rows: Vec<_> = rows.collect();
    rows.sort_by_key(|(row, _)| row.key);
    let mut packed = Vec::new();
    for of_key in rows.chunk_by(|(row, _), (other, _)| row.key == other.key) {
        let (first, (tile_ms, summary)) = of_key[0];
        if of_key.len() == 1 {
            row(first.key, &first.sums(), summary);
            continue;
        }
        let (mut sums, mut parts) = (EntitySums::default(), cells.nothing(i64::MIN));
        for (one, (_, summary)) in of_key {
            sums.merge(&one.sums());
            merge(&mut parts, &unpack(&cells.packed, tile_ms, summary).unwrap_or_default());
        }
        packed.clear();
        pack(&cells.packed, &mut parts, tile_ms, &mut packed);
        row(first.key, &sums, &packed);
    }
}
