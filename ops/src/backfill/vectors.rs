//! The table that a backfill writes: vectors of one partition, each with the place of its view, and
//! how far the partition is in it, in one commit.

use std::ops::Range;

use anyhow::Result;
use features::{Sink, VectorView};
use lake::Writer;
use schemas::table::features::Encoder;
use schemas::{Duplicate, EntityTiles, Label};

use super::fold::Target;
use super::job::{Job, Part};
use super::progress::Progress;
use crate::context::Context;

/// Application id of the table's positions, with the partition behind it.
const APP: &str = "backfill";

/// About what a vector takes beside its numbers, and a behaviour of it, in bytes.
const TEXTS: u64 = 256;
const BEHAVIOUR: u64 = 64;

/// A sink that keeps vectors of the range that the table does not have yet.
pub(super) struct Vectors<'a> {
    context: &'a Context,
    writer: Writer<Encoder>,
    partition: i32,
    times: Range<i64>,
    /// Everything before this offset is in the table.
    committed: i64,
    progress: &'a Progress,
    failed: Option<lake::Error>,
}

impl<'a> Vectors<'a> {
    /// Of one partition; a commit is as large as the lake's, shared by so many threads.
    pub(super) fn open(
        context: &'a Context,
        job: &Job,
        of: &Part,
        threads: usize,
        progress: &'a Progress,
    ) -> Result<Self> {
        let mut config = context.config.lake.clone();
        config.max_rows = (config.max_rows / threads).max(1);
        config.max_bytes = (config.max_bytes / threads as u64).max(1);
        let encoder = Box::new(Encoder::new(&[job.plan.vector_schema()]));
        let (writer, committed) = context.tokio.block_on(async {
            let root = context.store.root_url();
            let mut writer = Writer::open(root, &job.out, APP.into(), encoder, &config).await?;
            let positions = writer.restore(of.partition + 1).await?;
            Ok::<_, lake::Error>((writer, positions.last().copied().flatten()))
        })?;
        let mut vectors = Self {
            context,
            writer,
            partition: of.partition,
            times: job.times.clone(),
            committed: committed.unwrap_or(0),
            progress,
            failed: None,
        };
        vectors.writer.begin(of.partition, 0);
        Ok(vectors)
    }
}

impl Target for Vectors<'_> {
    fn committed(&self) -> i64 {
        self.committed
    }

    fn at(&mut self, _: i64) {}

    fn full(&self) -> bool {
        self.writer.full()
    }

    fn advance(&mut self, offset: i64) -> Result<()> {
        self.writer.advance(self.partition, offset);
        self.failed.take().map_or(Ok(()), |error| Err(error.into()))
    }

    fn commit(&mut self) -> Result<()> {
        let done = self.context.tokio.block_on(self.writer.commit())?;
        self.progress.wrote(done.rows);
        self.committed = self.writer.reached().get(&self.partition).copied().unwrap_or(self.committed);
        Ok(())
    }
}

impl Sink for Vectors<'_> {
    fn vector(&mut self, vector: &VectorView<'_>) {
        let place = vector.place;
        if place.offset < self.committed || !self.times.contains(&vector.event.event_time_ms) {
            return;
        }
        let size = vector.values.len() as u64 * 4 + vector.behaviours().len() as u64 * BEHAVIOUR + TEXTS;
        // The bytes that the stream writes are not made only to be read again: the row is what they say.
        let append = |encoder: &mut Encoder| {
            encoder.append_filled(place, vector.values, |row| vector.write(row))?;
            Ok(true)
        };
        if let Err(error) = self.writer.push_with(place, size, append) {
            self.failed.get_or_insert(error);
        }
    }

    fn label(&mut self, _: &Label) {}
    fn duplicate(&mut self, _: Duplicate) {}
    fn hours(&mut self, _: EntityTiles) {}
    fn tiles(&mut self, _: EntityTiles) {}
}
