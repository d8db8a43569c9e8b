//! Where a worker puts what of its state does not fit into memory.
//!
//! What lies there is a cache of the log, never the truth: it goes with the process, and is made anew from
//! snapshot and log.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::ThreadId;

use crate::config::Service;

/// The place of one unit's state.
pub trait Spill: std::fmt::Debug + Send {
    /// Bytes of memory that the unit's state may take now.
    fn budget(&self) -> usize;

    /// Puts bytes under a key, in the place of what was there.
    ///
    /// # Errors
    /// What the disk says.
    fn put(&mut self, key: u64, bytes: &[u8]) -> Result<(), SpillError>;

    /// What was last put under a key.
    ///
    /// # Errors
    /// What the disk says, and that there is nothing.
    fn get(&self, key: u64) -> Result<Vec<u8>, SpillError>;
}

/// What could not be put aside or not be got back.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot {action} state that was put aside in {folder}: {why} (the state is made anew from its snapshot and \
     the log; make room there, or raise service.state_memory)"
)]
pub struct SpillError {
    /// What was tried: `read`, `write`, `make room for`.
    pub action: &'static str,
    /// Where.
    pub folder: String,
    /// What went wrong.
    pub why: String,
}

/// Memory of the store itself: blocks read, and writes that wait, per unit.
const CACHE_BYTES: u64 = 32 << 20;
const WRITES_BYTES: u64 = 16 << 20;

/// Where the units of a service put state aside: a folder that is theirs alone.
#[derive(Clone)]
pub struct Spills(Arc<Shared>);

struct Shared {
    database: fjall::Database,
    folder: String,
    /// Memory for the state of one worker, bytes.
    budget: usize,
    /// Units of each worker, by its thread.
    workers: Mutex<HashMap<ThreadId, Arc<AtomicUsize>>>,
    opened: AtomicUsize,
}

impl Spills {
    /// Where the config has a service put state aside; `None` where memory is not limited.
    ///
    /// # Errors
    /// A folder that cannot be made anew.
    pub fn of(service: &Service, name: &str) -> Result<Option<Self>, SpillError> {
        // Below 0 there is no limit.
        let Ok(budget) = usize::try_from(service.state_memory) else { return Ok(None) };
        let parent = if service.spill_folder.is_empty() {
            std::env::temp_dir()
        } else {
            (&service.spill_folder).into()
        };
        Self::new(&parent.join(format!("salience-{name}-{}", service.instance_name())), budget).map(Some)
    }

    /// In this folder, which is cleared; `budget` bytes of memory may the state of one worker take.
    ///
    /// # Errors
    /// A folder that cannot be made anew.
    pub fn new(folder: &Path, budget: usize) -> Result<Self, SpillError> {
        let shown = folder.display().to_string();
        let failed = |why: &dyn std::fmt::Display| SpillError {
            action: "make room for",
            folder: shown.clone(),
            why: why.to_string(),
        };
        match std::fs::remove_dir_all(folder) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(&error)),
            _ => {}
        }
        let database = fjall::Database::builder(folder)
            .cache_size(CACHE_BYTES)
            .worker_threads(1)
            .temporary(true)
            .open()
            .map_err(|error| failed(&error))?;
        let (workers, opened) = (Mutex::default(), AtomicUsize::new(0));
        Ok(Self(Arc::new(Shared { database, folder: shown, budget, workers, opened })))
    }

    /// The place of one more unit of the worker whose thread this is.
    ///
    /// # Errors
    /// What the disk says.
    pub fn open(&self) -> Result<Box<dyn Spill>, SpillError> {
        let name = self.0.opened.fetch_add(1, Ordering::Relaxed).to_string();
        // Bytes are ids and times: nothing is lost with the process, so nothing is synced.
        let options = || {
            fjall::KeyspaceCreateOptions::default()
                .manual_journal_persist(true)
                .expect_point_read_hits(true)
                .max_memtable_size(WRITES_BYTES)
        };
        let keyspace = self.0.database.keyspace(&name, options);
        let keyspace = keyspace.map_err(|error| self.0.failed("make room for", &error))?;
        // Only where a thread has panicked with it is it poisoned, and the counts are whole then, too.
        let mut workers = self.0.workers.lock().unwrap_or_else(PoisonError::into_inner);
        let units = Arc::clone(workers.entry(std::thread::current().id()).or_default());
        units.fetch_add(1, Ordering::Relaxed);
        Ok(Box::new(Unit { shared: Arc::clone(&self.0), keyspace, units }))
    }
}

impl std::fmt::Debug for Spills {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Spills").field("folder", &self.0.folder).field("budget", &self.0.budget).finish()
    }
}

impl Shared {
    fn failed(&self, action: &'static str, why: &dyn std::fmt::Display) -> SpillError {
        SpillError { action, folder: self.folder.clone(), why: why.to_string() }
    }
}

/// The place of one unit.
struct Unit {
    shared: Arc<Shared>,
    keyspace: fjall::Keyspace,
    /// Units of its worker.
    units: Arc<AtomicUsize>,
}

impl std::fmt::Debug for Unit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Unit").field("folder", &self.shared.folder).finish_non_exhaustive()
    }
}

impl Spill for Unit {
    fn budget(&self) -> usize {
        self.shared.budget / self.units.load(Ordering::Relaxed).max(1)
    }

    fn put(&mut self, key: u64, bytes: &[u8]) -> Result<(), SpillError> {
        let put = self.keyspace.insert(key.to_be_bytes(), bytes);
        put.map_err(|error| self.shared.failed("write", &error))
    }

    fn get(&self, key: u64) -> Result<Vec<u8>, SpillError> {
        let found =
            self.keyspace.get(key.to_be_bytes()).map_err(|error| self.shared.failed("read", &error))?;
        let found = found.ok_or_else(|| self.shared.failed("read", &"it is not there"))?;
        Ok(found.to_vec())
    }
}

impl Drop for Unit {
    fn drop(&mut self) {
        self.units.fetch_sub(1, Ordering::Relaxed);
        if let Err(error) = self.shared.database.delete_keyspace(self.keyspace.clone()) {
            tracing::warn!(folder = self.shared.folder, %error, "state that was put aside stays on disk");
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn units_share_a_worker_s_memory_and_not_their_keys() {
        let folder = tempfile::tempdir().unwrap();
        let spills = Spills::new(&folder.path().join("aside"), 1_000).unwrap();
        let mut one = spills.open().unwrap();
        assert_eq!(one.budget(), 1_000);
        let mut other = spills.open().unwrap();
        assert_eq!((one.budget(), other.budget()), (500, 500));
        one.put(7, b"one").unwrap();
        other.put(7, b"other").unwrap();
        one.put(7, b"one again").unwrap();
        assert_eq!((one.get(7).unwrap(), other.get(7).unwrap()), (b"one again".to_vec(), b"other".to_vec()));
        let error = one.get(8).unwrap_err().to_string();
        assert!(error.contains("aside") && error.contains("service.state_memory"), "{error}");
        drop(other);
        assert_eq!(one.budget(), 1_000);
        let elsewhere = std::thread::spawn({
            let spills = spills.clone();
            move || spills.open().unwrap().budget()
        });
        assert_eq!(elsewhere.join().unwrap(), 1_000, "of another worker");
    }

    #[test]
    fn nothing_of_a_process_before_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("aside");
        let spills = Spills::new(&place, 1_000).unwrap();
        let mut unit = spills.open().unwrap();
        unit.put(1, b"old").unwrap();
        // As after a kill: nothing was cleaned up.
        std::mem::forget((unit, spills));
        let spills = Spills::new(&place, 1_000).unwrap();
        assert!(spills.open().unwrap().get(1).is_err());
        std::fs::remove_dir_all(&place).unwrap();
        std::fs::write(&place, "a file").unwrap();
        let error = Spills::new(&place, 1_000).unwrap_err().to_string();
        assert!(error.contains(&place.display().to_string()), "{error}");
    }
}
