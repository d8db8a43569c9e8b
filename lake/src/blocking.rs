//! Tables for plain threads: the same calls, waiting on the calling thread.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::LazyLock;

use arrow::array::RecordBatch;
use futures::StreamExt as _;
use schemas::duration::Millis;
use tokio::runtime::{Builder, Runtime};

use crate::error::{Error, Result};
use crate::scan::{Batches, ScanOptions};
use crate::{Table, Vacuumed};

/// Threads that wait for stores, for all callers of this module; started by the first.
static IO: LazyLock<Result<Runtime, String>> = LazyLock::new(|| {
    Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("lake-wait")
        .enable_all()
        .build()
        .map_err(|error| error.to_string())
});

fn io() -> Result<&'static Runtime> {
    IO.as_ref().map_err(|error| Error::Thread(error.clone()))
}

/// Waits for any of this crate's futures: `block_on(Table::open(root, "events"))`.
///
/// # Errors
/// The future's.
///
/// # Panics
/// When called from within an async task.
pub fn block_on<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    io()?.block_on(future)
}

/// Vacuums tables, one after the other, leaving the versions that are pinned (by kept models) of
/// each; what was done, by table.
///
/// # Errors
/// As [`Table::vacuum`]; the tables before are done.
pub fn vacuum(
    root: &str,
    tables: &[String],
    retention: Millis,
    pinned: &BTreeMap<String, BTreeSet<u64>>,
) -> Result<Vec<(String, Vacuumed)>> {
    let one = |name: &String| {
        let pinned: Vec<u64> = pinned.get(name).into_iter().flatten().copied().collect();
        let done = block_on(async { Table::open(root, name).await?.vacuum(retention, &pinned).await })?;
        Ok((name.clone(), done))
    };
    tables.iter().map(one).collect()
}

/// The batches of a scan, decoded on the calling thread as they are taken.
pub struct BlockingBatches {
    batches: Batches,
}

impl Iterator for BlockingBatches {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        match io() {
            Ok(io) => io.block_on(self.batches.next()),
            Err(error) => Some(Err(error)),
        }
    }
}

impl Table {
    /// [`Table::scan`] for a plain thread.
    ///
    /// # Errors
    /// As [`Table::scan`].
    pub fn scan_blocking(&self, options: &ScanOptions) -> Result<BlockingBatches> {
        Ok(BlockingBatches { batches: self.scan(options)? })
    }
}
