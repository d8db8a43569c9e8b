//! One partition of the topic out of many files, in the order of its offsets.
//!
//! Files of one table overlap only where dates do: files are opened when their first offset is
//! reached, so that few are open at a time.

use std::collections::VecDeque;
use std::sync::Arc;

use arrow::array::RecordBatch;

use crate::Table;
use crate::encode::places;
use crate::error::{Error, Result};
use crate::file::DataFile;
use crate::read::{FileBatches, Want};

pub(crate) struct Merge {
    table: Table,
    partition: i32,
    want: Want,
    /// Not opened yet, by first offset.
    pending: VecDeque<(i64, Arc<DataFile>)>,
    open: Vec<Head>,
}

/// The next row of an open file.
struct Head {
    file: FileBatches,
    batch: RecordBatch,
    row: usize,
    offset: i64,
}

impl Merge {
    pub(crate) fn new(table: Table, partition: i32, files: Vec<Arc<DataFile>>, want: Want) -> Self {
        let mut pending: Vec<(i64, Arc<DataFile>)> = files
            .into_iter()
            .filter_map(|file| {
                file.places.get(&partition).map(|(first, _)| *first).map(|first| (first, file))
            })
            .collect();
        pending.sort_by(|a, b| (a.0, &a.1.path).cmp(&(b.0, &b.1.path)));
        Self { table, partition, want, pending: pending.into(), open: Vec::new() }
    }

    /// The next rows, at most `limit`; `None` at the end.
    pub(crate) async fn next(&mut self, limit: usize) -> Result<Option<RecordBatch>> {
        loop {
            let least = self.open.iter().map(|head| head.offset).min();
            let reached = |first: i64| least.is_none_or(|least| first <= least);
            match self.pending.front() {
                Some((first, _)) if reached(*first) => self.open_next().await?,
                _ => break,
            }
        }
        let Some(index) =
            self.open.iter().enumerate().min_by_key(|(_, head)| head.offset).map(|(index, _)| index)
        else {
            return Ok(None);
        };
        let others = self.open.iter().enumerate().filter(|(other, _)| *other != index);
        let bound = others
            .map(|(_, head)| head.offset)
            .chain(self.pending.front().map(|(first, _)| *first))
            .min()
            .unwrap_or(i64::MAX);
        self.take(index, bound, limit.max(1)).await.map(Some)
    }

    async fn open_next(&mut self) -> Result<()> {
        let Some((_, file)) = self.pending.pop_front() else { return Ok(()) };
        let mut file = FileBatches::open(&self.table, &file, &self.want).await?;
        if let Some(batch) = file.next().await? {
            let offset = self.check(&batch, &file, i64::MIN)?;
            self.open.push(Head { file, batch, row: 0, offset });
        }
        Ok(())
    }

    /// Rows of the file at `index` with offsets below `bound`, at least one.
    async fn take(&mut self, index: usize, bound: i64, limit: usize) -> Result<RecordBatch> {
        let name = Arc::clone(&self.table.name);
        let head = &mut self.open[index];
        let (_, offsets) = places(&name, &head.batch)?;
        let rest = &offsets[head.row..];
        let run = rest.partition_point(|offset| *offset < bound).clamp(1, limit);
        let rows = head.batch.slice(head.row, run);
        let last = rest[run - 1];
        head.row += run;
        if let Some(next) = offsets.get(head.row) {
            head.offset = *next;
        } else if let Some(batch) = head.file.next().await? {
            let head = &self.open[index];
            let offset = self.check(&batch, &head.file, last)?;
            let head = &mut self.open[index];
            (head.batch, head.row, head.offset) = (batch, 0, offset);
        } else {
            self.open.swap_remove(index);
        }
        Ok(rows)
    }

    /// The first offset of a batch, which must be in order and of the partition.
    fn check(&self, batch: &RecordBatch, file: &FileBatches, after: i64) -> Result<i64> {
        let (partitions, offsets) = places(&self.table.name, batch)?;
        let ordered = offsets.is_sorted() && offsets.first().is_none_or(|first| *first >= after);
        if !ordered || partitions.iter().any(|partition| *partition != self.partition) {
            return Err(Error::File {
                table: self.table.name.to_string(),
                version: self.table.version(),
                path: file.file().path.clone(),
                what: "is not in the order of its topic: another program wrote it".to_owned(),
            });
        }
        Ok(offsets.first().copied().unwrap_or(i64::MAX))
    }
}
