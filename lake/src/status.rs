//! How far the tables are, for those who wait for them: the demo, `verify`, tests.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use crate::clock::instant;

/// How far one table is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TableStatus {
    /// Its topic, prefix included.
    pub topic: String,
    /// The version at hand.
    pub version: u64,
    /// Per partition: everything before this offset that belongs in the table is committed to it.
    pub reached: BTreeMap<i32, i64>,
    /// Per partition: the end of the topic when it was last asked for.
    pub end: BTreeMap<i32, i64>,
    /// Rows in the table.
    pub rows: u64,
    /// Files in the table.
    pub files: u64,
    /// Bytes of these.
    pub bytes: u64,
}

impl TableStatus {
    /// Offsets between what is in the table and the end of the topic; those of aborted records
    /// and of transactions count too.
    pub fn lag(&self) -> i64 {
        let behind =
            |(partition, end): (&i32, &i64)| (end - self.reached.get(partition).copied().unwrap_or(0)).max(0);
        self.end.iter().map(behind).sum()
    }
}

/// The state of all tables of a service. Cheap to clone; all clones are one.
#[derive(Debug, Clone, Default)]
pub struct Status {
    inner: Arc<(Mutex<BTreeMap<String, TableStatus>>, Condvar)>,
}

impl Status {
    /// Of no table yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// All tables, by name.
    pub fn tables(&self) -> BTreeMap<String, TableStatus> {
        self.inner.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// One table; `None` before the service has opened it.
    pub fn table(&self, name: &str) -> Option<TableStatus> {
        self.inner.0.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    pub(crate) fn update(&self, name: &str, change: impl FnOnce(&mut TableStatus)) {
        let mut tables = self.inner.0.lock().unwrap_or_else(PoisonError::into_inner);
        change(tables.entry(name.to_owned()).or_default());
        drop(tables);
        self.inner.1.notify_all();
    }

    /// Waits on the calling thread until everything before these offsets of the table's topic is
    /// in the table; `false` if `timeout` passes first.
    pub fn wait_reached(&self, name: &str, offsets: &[(i32, i64)], timeout: Duration) -> bool {
        self.wait(timeout, |tables| {
            tables.get(name).is_some_and(|table| {
                offsets
                    .iter()
                    .all(|(partition, offset)| table.reached.get(partition).copied().unwrap_or(0) >= *offset)
            })
        })
    }

    /// Waits on the calling thread until `done` holds of the tables; `false` if `timeout` passes
    /// first.
    pub fn wait(&self, timeout: Duration, done: impl Fn(&BTreeMap<String, TableStatus>) -> bool) -> bool {
        let deadline = instant() + timeout;
        let mut tables = self.inner.0.lock().unwrap_or_else(PoisonError::into_inner);
        while !done(&tables) {
            let left = deadline.saturating_duration_since(instant());
            if left.is_zero() {
                return false;
            }
            (tables, _) = self.inner.1.wait_timeout(tables, left).unwrap_or_else(PoisonError::into_inner);
        }
        true
    }
}
