//! Writes snapshots on a thread of its own, and finds them again.
//!
//! The worker waits for serialising only. Knows no broker.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::{Receiver, Sender, SyncSender, TrySendError, channel, sync_channel};
use std::thread::JoinHandle;

use super::measure;
use crate::processor::UnitId;
use crate::snapshot::{self, Base, Snapshot, Wanted};
use crate::store::{Store, StoreError};

/// Snapshots that may wait; with more, the store is slower than the interval.
const WAITING: usize = 2;

/// A snapshot, and the key of the whole one that it is a change of, if it is.
type Unsaved = (Snapshot, Option<u64>);

/// The thread that writes.
#[derive(Debug)]
pub(super) struct Saver {
    service: String,
    sender: Option<SyncSender<Unsaved>>,
    /// Units whose last snapshot could not be written.
    failed: Receiver<UnitId>,
    /// Of these a whole one must come before what has changed since.
    broken: BTreeSet<UnitId>,
    thread: Option<JoinHandle<()>>,
}

impl Saver {
    pub(super) fn start(service: &str, store: Store, kept: usize) -> std::io::Result<Self> {
        let (sender, receiver) = sync_channel(WAITING);
        let (fail, failed) = channel();
        let mut writer =
            Writer { service: service.to_owned(), store, kept: kept.max(2), whole: BTreeMap::new(), fail };
        let thread = std::thread::Builder::new()
            .name(format!("{service}-saver"))
            .spawn(move || receiver.into_iter().for_each(|unsaved| writer.save(unsaved)))?;
        let (service, sender, thread) = (service.to_owned(), Some(sender), Some(thread));
        Ok(Self { service, sender, failed, broken: BTreeSet::new(), thread })
    }

    /// Hands a snapshot over; with `wait`, even if the store is behind.
    ///
    /// # Errors
    /// Why it was not taken, and nothing can be built on it.
    pub(super) fn save(&mut self, snapshot: Snapshot, base: Option<u64>, wait: bool) -> Result<(), String> {
        let Some(sender) = &self.sender else { return Ok(()) };
        let (unit, path) = (snapshot.unit, snapshot.path(&self.service));
        self.broken.extend(self.failed.try_iter());
        if base.is_none() {
            self.broken.remove(&unit);
        }
        let refused = if self.broken.contains(&unit) {
            Some("the whole one that it holds the changes of was not saved")
        } else if wait {
            sender.send((snapshot, base)).err().map(|_| "the thread that writes has ended")
        } else {
            match sender.try_send((snapshot, base)) {
                Ok(()) => None,
                Err(TrySendError::Full(_)) => Some("the store is behind"),
                Err(TrySendError::Disconnected(_)) => Some("the thread that writes has ended"),
            }
        };
        let Some(why) = refused else { return Ok(()) };
        measure::not_saved(&self.service, &path, &why);
        Err(format!("{path}: {why}"))
    }
}

impl Drop for Saver {
    fn drop(&mut self) {
        self.sender = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!(service = self.service, "the thread that writes snapshots panicked");
        }
    }
}

/// What the thread knows.
struct Writer {
    service: String,
    store: Store,
    kept: usize,
    /// The last whole snapshot of each unit that was written.
    whole: BTreeMap<UnitId, Base>,
    fail: Sender<UnitId>,
}

impl Writer {
    fn save(&mut self, (mut snapshot, base): Unsaved) {
        let unit = snapshot.unit;
        if let Some(key) = base {
            snapshot.base = self.whole.get(&unit).copied().filter(|whole| whole.key == key);
            if snapshot.base.is_none() {
                let why = "the whole one that it holds the changes of was not saved";
                return self.failed(unit, &snapshot.path(&self.service), &why);
            }
        }
        let path = snapshot.path(&self.service);
        let bytes = snapshot.encode();
        let (length, checksum) = (bytes.len(), snapshot::checksum_of(&bytes));
        if snapshot.base.is_none() {
            self.whole.remove(&unit);
        }
        if let Err(error) = self.write(unit, &path, bytes) {
            return self.failed(unit, &path, &error);
        }
        measure::saved(&self.service, &path, length);
        if let Some(checksum) = checksum.filter(|_| snapshot.base.is_none()) {
            self.whole.insert(unit, Base { key: snapshot.key(), checksum });
        }
    }

    fn write(&self, unit: UnitId, path: &str, bytes: Vec<u8>) -> Result<(), StoreError> {
        self.store.put_blocking(path, bytes.into())?;
        let paths = self.store.list_blocking(&snapshot::folder(&self.service, unit))?;
        for old in snapshot::superseded(paths, self.kept) {
            self.store.delete_blocking(&old)?;
        }
        Ok(())
    }

    fn failed(&self, unit: UnitId, path: &str, why: &dyn std::fmt::Display) {
        measure::not_saved(&self.service, path, why);
        // Nobody listens any more where the worker has gone.
        let _nobody = self.fail.send(unit);
    }
}

/// The newest snapshot in the store that may be restored.
pub(super) fn find(store: &Store, service: &str, wanted: &Wanted) -> Result<Option<Snapshot>, StoreError> {
    let paths = store.list_blocking(&snapshot::folder(service, wanted.unit))?;
    for path in snapshot::newest_first(paths, wanted.below) {
        let Some(bytes) = store.get_blocking(&path)? else { continue };
        let mut found = match snapshot::open(&bytes, wanted) {
            Ok(found) => found,
            Err(why) => {
                measure::refused(service, &path, &why);
                continue;
            }
        };
        let whole = found.base_path(service).map(|whole| store.get_blocking(&whole)).transpose()?.flatten();
        match found.complete(whole.as_deref()) {
            Ok(()) => return Ok(Some(found)),
            Err(why) => measure::refused(service, &path, &why),
        }
    }
    Ok(None)
}
