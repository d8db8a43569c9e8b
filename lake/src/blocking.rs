//! Tables for plain threads: the same calls, waiting on the calling thread.

use std::future::Future;
use std::sync::LazyLock;

use arrow::array::RecordBatch;
use futures::StreamExt as _;
use tokio::runtime::{Builder, Runtime};

use crate::Table;
use crate::error::{Error, Result};
use crate::scan::{Batches, ScanOptions};

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
