//! Versions of shared entities of a history whose own are of other declarations: made anew from tiles
//! of all partitions, and read by each partition's fold.
//!
//! A version comes into force when the partition's clock has passed it: every event before it was in
//! time then, so no vector sees the future.

use std::sync::Arc;

use anyhow::Result;
use features::{Merge, Plan};
use runtime::store::Store;
use schemas::{Control, EntityTiles, EntityVersion, Entry};

use super::job::{Job, Part};
use super::objects::{FULL, Records, put};
use super::tiles;
use crate::history::{Events, Stored};

/// Whether the log's versions are of other declarations than the plan's, or there are none.
pub(super) fn are_of_others(stored: &Stored, plan: &Plan, parts: &[Part]) -> Result<bool> {
    // Every partition has the same versions.
    let Some(part) = parts.iter().max_by_key(|part| part.end).filter(|_| plan.shares()) else {
        return Ok(false);
    };
    let mut history = stored.read(part.partition, 0..part.end, &Events::None)?;
    let mut any = false;
    while let Some((_, entry)) = history.next()? {
        if let Entry::Control(Control::Entities(version)) = entry {
            any = true;
            if version.layout != plan.shared_layout() {
                return Ok(true);
            }
        }
    }
    Ok(!any)
}

/// The folder of the versions' objects.
fn folder(job: &str) -> String {
    format!("{job}/versions")
}

/// An object that is there when all others are.
fn all(job: &str) -> String {
    format!("{job}/versions-are-made")
}

/// Whether they have been made.
pub(super) fn are_made(store: &Store, job: &str) -> Result<bool> {
    Ok(store.get_blocking(&all(job))?.is_some())
}

/// Merges the tiles of all partitions. In memory are those between the first and the last partition,
/// which go on side by side.
pub(super) fn make(store: &Store, job: &Job) -> Result<()> {
    let mut lanes = Vec::new();
    for part in &job.partitions {
        let paths = tiles::objects(store, &job.folder, part.partition)?;
        let paths = paths.into_iter().map(|(_, path)| path).collect();
        lanes.push((i64::MIN, Records::new(store.clone(), paths)));
    }
    let mut merge = Merge::new(Arc::clone(&job.plan), lanes.len());
    let mut out = Writer { store, folder: folder(&job.folder), objects: 0, bytes: Vec::new() };
    while let Some(least) = (0..lanes.len()).min_by_key(|lane| (lanes[*lane].0, *lane)) {
        let (closed_ms, records) = &mut lanes[least];
        if *closed_ms == i64::MAX {
            break;
        }
        // To the next that is closed; a partition that has ended holds nobody back.
        *closed_ms = loop {
            let Some(mut tiles) = records.next::<EntityTiles>()? else { break i64::MAX };
            tiles.partition = least as i32;
            out.write(merge.step(&tiles))?;
            if tiles.last {
                break tiles.closed_ms;
            }
        };
        if *closed_ms == i64::MAX {
            let end = EntityTiles {
                partition: least as i32,
                closed_ms: END_MS,
                layout: job.plan.shared_layout(),
                last: true,
                ..EntityTiles::default()
            };
            // When all have ended there is nothing more to publish.
            if lanes.iter().any(|(closed_ms, _)| *closed_ms != i64::MAX) {
                out.write(merge.step(&end))?;
            }
        }
    }
    out.flush()?;
    Ok(store.put_blocking(&all(&job.folder), bytes::Bytes::new())?)
}

/// Closes a partition for good: after any time that an event may have.
const END_MS: i64 = i64::MAX / 4;

struct Writer<'a> {
    store: &'a Store,
    folder: String,
    objects: u32,
    bytes: Vec<u8>,
}

impl Writer<'_> {
    fn write(&mut self, versions: Vec<EntityVersion>) -> Result<()> {
        for version in versions {
            put(&Entry::Control(Control::Entities(version)), &mut self.bytes);
            if self.bytes.len() >= FULL {
                self.flush()?;
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        let path = format!("{}/{:010}", self.folder, self.objects);
        self.objects += 1;
        Ok(self.store.put_blocking(&path, std::mem::take(&mut self.bytes).into())?)
    }
}

/// Reads versions in order, for one partition.
pub(super) struct Reader {
    records: Records,
    ready: Option<EntityVersion>,
}

impl Reader {
    pub(super) fn open(store: &Store, job: &str) -> Result<Self> {
        let paths = store.list_blocking(&folder(job))?;
        Ok(Self { records: Records::new(store.clone(), paths), ready: None })
    }

    /// The next record, if it is of a version that the clock has passed.
    pub(super) fn next_to(&mut self, clock_ms: i64) -> Result<Option<EntityVersion>> {
        if self.ready.is_none()
            && let Some(Entry::Control(Control::Entities(version))) = self.records.next()?
        {
            self.ready = Some(version);
        }
        Ok(self.ready.take_if(|version| version.version_ms <= clock_ms))
    }
}
