//! What all partitions counted of shared entities as of the last version that a partition's log has
//! marked: what its vectors read.
//!
//! Knows no merge: a version is a record of the log.

use std::borrow::Cow;

use schemas::entity::{Row, RowSummaries, Rows};
use schemas::{EntityVersion, Entry, Event, SharedEntity};

use super::image::InChunks;
use super::parts::Parts;
use super::plan::SharedPlan;
use super::summed::Summed;
use super::windows::{Of, SharedRow, Table};
use super::{Keys, key_of};
use crate::core::AHEAD;
use crate::image::{Chunks as _, Image};
use crate::interner::Interner;
use crate::plan::{Plan, SHARED_ENTITIES};
use crate::scan::Build;
use crate::uses::Uses;
use crate::wire::{Reader, SnapshotError, Writer};

/// The version in force, and what has come of the next one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Versions {
    version_ms: Option<i64>,
    /// Per entity as many as its plan has parts.
    tables: [Vec<Table>; SHARED_ENTITIES],
    /// Per entity of which more is declared: what else is known of its keys.
    summed: [Summed; SHARED_ENTITIES],
    /// Records of a version whose last is still to come.
    coming: Parts,
    /// What was read last. Not part of the state.
    rows: [SharedRow; SHARED_ENTITIES],
}

impl Versions {
    /// Takes a record of a version in; whether the version is now in force.
    ///
    /// A version of other declarations is passed over, and so is one that is not newer: a repeat, where
    /// delivery is at-least-once. A reader that begins in the middle of the log counts from there.
    pub(crate) fn fold(&mut self, record: &EntityVersion, plan: &Plan, texts: &mut Interner) -> bool {
        let &EntityVersion { version_ms, layout, part, last, ref blocks } = record;
        let is_newer = self.version_ms.is_none_or(|version| version_ms > version);
        if layout != plan.shared_layout() || !is_newer {
            return false;
        }
        let Some(blocks) = self.coming.take(version_ms, part, last, blocks) else { return false };
        // A tile of before the version in force would have left windows that it never was in.
        let from_ms = self.version_ms.unwrap_or(i64::MIN);
        for block in blocks.iter().filter(|block| block.tile_ms >= from_ms) {
            let entity = SharedEntity::ALL.iter().position(|entity| *entity as i32 == block.entity);
            let Some(entity) = entity else { continue };
            let tables = &mut self.tables[entity];
            tables.resize_with(plan.shared[entity].len(), Table::default);
            for (table, plan) in tables.iter_mut().zip(&plan.shared[entity]) {
                let mut rows = Rows::new(&block.rows);
                loop {
                    let some: [Option<Row<'_>>; AHEAD] = std::array::from_fn(|_| rows.next());
                    let perhaps = texts.look_ahead(some.map(|row| row.map_or("", |row| row.key)));
                    table.look_ahead(perhaps, plan);
                    for row in some.iter().zip(perhaps).filter_map(|(row, id)| Some((row.as_ref()?, id))) {
                        table.add(block.tile_ms, row, plan, texts);
                    }
                    if some[AHEAD - 1].is_none() {
                        break;
                    }
                }
            }
            let cells = plan.cells.of(entity);
            if !cells.is_empty() {
                for (row, summary) in Rows::new(&block.rows).zip(RowSummaries::new(&block.summaries)) {
                    self.summed[entity].add(block.tile_ms, (row.key, summary), cells, texts);
                }
            }
        }
        for (tables, plans) in self.tables.iter_mut().zip(&plan.shared) {
            // None yet of an entity of which nothing has come.
            for (table, plan) in tables.iter_mut().zip(plans) {
                table.sweep(version_ms.div_euclid(plan.tile_ms), plan, texts);
            }
        }
        for (entity, summed) in self.summed.iter_mut().enumerate() {
            let cells = plan.cells.of(entity);
            if !cells.is_empty() {
                summed.sweep(version_ms.div_euclid(cells.tile_ms), cells, texts);
            }
        }
        self.version_ms = Some(version_ms);
        true
    }

    /// The version that a read as of this time may see: nothing of it is later than the read.
    pub(crate) fn as_of(&self, at_ms: i64) -> Option<i64> {
        self.version_ms.filter(|version| *version <= at_ms)
    }

    /// The windows of these keys at the version in force, by entity; of an entity of which nothing has come
    /// they are empty.
    pub(crate) fn read(&mut self, keys: &Keys, plan: &Plan, build: Build) -> &[SharedRow; SHARED_ENTITIES] {
        let version_ms = self.version_ms.unwrap_or(0);
        let entities = self.tables.iter_mut().zip(&mut self.rows).zip(&plan.shared).zip(keys.0);
        for (((tables, row), plans), key) in entities.filter(|((_, plans), _)| !plans.is_empty()) {
            row.start(plans.iter().map(|plan| plan.windows.len()).sum());
            let mut at = 0;
            for (table, plan) in tables.iter_mut().zip(plans) {
                table.read(key, version_ms.div_euclid(plan.tile_ms), plan, (build, row, at));
                at += plan.windows.len();
            }
        }
        &self.rows
    }

    /// Reads the numbers that are made of summaries, for a view of these keys, at the version in force; those of
    /// keys of which nothing has come are of no event.
    pub(crate) fn summarise(&mut self, keys: &Keys, view: &Event, plan: &Plan, out: &mut Vec<f64>) {
        out.clear();
        out.resize(plan.numbers.numbers.len(), f64::NAN);
        let Some(version_ms) = self.version_ms else { return };
        let own = plan.cells.hashes(view);
        for (entity, summed) in self.summed.iter_mut().enumerate() {
            let cells = plan.cells.of(entity);
            if !cells.is_empty() && keys.has(entity) {
                let version = version_ms.div_euclid(cells.tile_ms);
                summed.read((keys.0[entity], version), (view.event_time_ms, &own), cells, out);
            }
        }
    }

    /// Reads what reading these entries' keys will read first. `ids` are numbers of each one's item, campaign
    /// and category.
    pub(crate) fn look_ahead(
        &self,
        (entries, ids): (&[Entry; AHEAD], [[u32; 3]; AHEAD]),
        plan: &Plan,
        texts: &Interner,
    ) {
        for (entity, (tables, plans)) in self.tables.iter().zip(&plan.shared).enumerate() {
            if tables.is_empty() {
                continue;
            }
            let keys = match SharedEntity::ALL[entity] {
                SharedEntity::Item => ids.map(|[item, ..]| item),
                SharedEntity::Campaign => ids.map(|[_, campaign, _]| campaign),
                SharedEntity::Category => ids.map(|[.., category]| category),
                _ => {
                    let keys = entries.each_ref().map(|entry| match entry {
                        Entry::Event(event) => key_of(event, entity),
                        Entry::Control(_) => Cow::Borrowed(""),
                    });
                    texts.look_ahead(keys.each_ref().map(|key| &**key))
                }
            };
            tables.iter().zip(plans).for_each(|(table, plan)| table.look_ahead(keys, plan));
        }
    }

    pub(crate) fn len(&self) -> usize {
        let of = |(tables, summed): (&Vec<Table>, &Summed)| {
            tables.iter().map(Table::len).max().unwrap_or(0).max(summed.len())
        };
        self.tables.iter().zip(&self.summed).map(of).sum()
    }

    pub(crate) fn bytes(&self) -> usize {
        let tables = self.tables.iter().flatten().map(Table::bytes).sum::<usize>();
        tables + self.summed.iter().map(Summed::bytes).sum::<usize>() + self.coming.bytes()
    }
}

/// Number of the first chunk of a table with this number.
fn first(table: usize) -> u64 {
    (table as u64) << u32::BITS
}

/// Tables, each with what an image of it is of at this version, and with its plan.
fn tables<T: IntoIterator>(
    of: impl IntoIterator<Item = T>,
    version_ms: i64,
    plan: &Plan,
) -> impl Iterator<Item = (Of, T::Item, &SharedPlan)> {
    of.into_iter().zip(&plan.shared).enumerate().flat_map(move |(entity, (tables, plans))| {
        tables.into_iter().zip(plans).enumerate().map(move |(at, (table, plan))| {
            let first = first(at * SHARED_ENTITIES + entity);
            (Of { first, version: version_ms.div_euclid(plan.tile_ms) }, table, plan)
        })
    })
}

/// Snapshots: what is known of keys is in chunks, table by table.
impl Versions {
    /// Begins an image.
    pub(crate) fn begin(&mut self, whole: bool, plan: &Plan) {
        let version_ms = self.version_ms.unwrap_or(0);
        for (of, table, plan) in tables(&mut self.tables, version_ms, plan) {
            table.begin(whole, of, plan);
        }
        for (entity, summed) in self.summed.iter_mut().enumerate() {
            summed.begin_at(first(entity), whole);
        }
    }

    /// Writes chunks that the image lacks, up to about so many bytes in all.
    pub(crate) fn write_on(&mut self, bytes: usize, plan: &Plan, out: &mut Writer) {
        for (_, table, plan) in tables(&mut self.tables, 0, plan) {
            InChunks { table, plan }.write_on(bytes, out);
        }
        self.summed.iter_mut().for_each(|summed| summed.write_on(bytes, out));
    }

    /// Writes all chunks as of the version in force.
    pub(crate) fn write_all(&self, plan: &Plan, out: &mut Writer) {
        let version_ms = self.version_ms.unwrap_or(0);
        for (of, table, plan) in tables(&self.tables, version_ms, plan) {
            table.write_all(of, plan, out);
        }
        for (entity, summed) in self.summed.iter().enumerate() {
            let cells = plan.cells.of(entity);
            if !cells.is_empty() {
                summed.write_all_at((first(entity), version_ms.div_euclid(cells.tile_ms)), cells, out);
            }
        }
    }

    /// Writes what is in no chunk.
    pub(crate) fn write_head(&self, plan: &Plan, out: &mut Writer) {
        out.bool(self.version_ms.is_some());
        out.int(self.version_ms.unwrap_or(0));
        for (tables, plans) in self.tables.iter().zip(&plan.shared) {
            // Before the first version there are none.
            let nothing = Table::default();
            for at in 0..plans.len() {
                tables.get(at).unwrap_or(&nothing).write_head(out);
            }
        }
        for (entity, summed) in self.summed.iter().enumerate() {
            if !plan.cells.of(entity).is_empty() {
                summed.write_head(out);
            }
        }
        self.coming.write(!plan.cells.is_empty(), out);
    }

    /// `head` is what [`Self::write_head`] wrote.
    pub(crate) fn read_from(
        head: &mut Reader<'_>,
        image: &Image<'_>,
        texts: &mut Uses,
        plan: &Plan,
    ) -> Result<Self, SnapshotError> {
        let mut versions = Self::default();
        let is_some = head.bool()?;
        let version_ms = head.int()?;
        versions.version_ms = is_some.then_some(version_ms);
        for (tables, plans) in versions.tables.iter_mut().zip(&plan.shared) {
            tables.resize_with(plans.len(), Table::default);
        }
        for (of, table, plan) in tables(&mut versions.tables, version_ms, plan) {
            *table = Table::read_from((&mut *head, image), of, texts, plan)?;
        }
        for (entity, summed) in versions.summed.iter_mut().enumerate() {
            let cells = plan.cells.of(entity);
            if !cells.is_empty() {
                let of = (first(entity), version_ms.div_euclid(cells.tile_ms));
                *summed = Summed::read_from((&mut *head, image), of, texts, cells)?;
            }
        }
        versions.coming = Parts::read_from(!plan.cells.is_empty(), head)?;
        Ok(versions)
    }
}
