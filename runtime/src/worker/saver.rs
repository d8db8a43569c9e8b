//! Writes snapshots on a thread of its own, and finds them again.
//!
//! The worker waits for serialising only. Knows no broker.

use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use super::measure;
use crate::snapshot::{self, Snapshot, Wanted};
use crate::store::{Store, StoreError};

/// Snapshots that may wait; with more, the store is slower than the interval.
const WAITING: usize = 2;

/// The thread that writes.
#[derive(Debug)]
pub(super) struct Saver {
    service: String,
    sender: Option<SyncSender<Snapshot>>,
    thread: Option<JoinHandle<()>>,
}

impl Saver {
    pub(super) fn start(service: &str, store: Store, kept: usize) -> std::io::Result<Self> {
        let (sender, receiver) = sync_channel(WAITING);
        let name = service.to_owned();
        let thread = std::thread::Builder::new()
            .name(format!("{service}-saver"))
            .spawn(move || write_all(&name, &store, kept.max(2), &receiver))?;
        Ok(Self { service: service.to_owned(), sender: Some(sender), thread: Some(thread) })
    }

    /// Hands a snapshot over; with `wait`, even if the store is behind.
    pub(super) fn save(&self, snapshot: Snapshot, wait: bool) {
        let Some(sender) = &self.sender else { return };
        let path = snapshot.path(&self.service);
        let refused = if wait {
            sender.send(snapshot).err().map(|_| "the thread that writes has ended")
        } else {
            match sender.try_send(snapshot) {
                Ok(()) => None,
                Err(TrySendError::Full(_)) => Some("the store is behind"),
                Err(TrySendError::Disconnected(_)) => Some("the thread that writes has ended"),
            }
        };
        if let Some(why) = refused {
            measure::not_saved(&self.service, &path, &why);
        }
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

fn write_all(service: &str, store: &Store, kept: usize, receiver: &Receiver<Snapshot>) {
    for snapshot in receiver {
        let path = snapshot.path(service);
        let bytes = snapshot.encode();
        let length = bytes.len();
        match write(store, service, &snapshot, &path, bytes, kept) {
            Ok(()) => measure::saved(service, &path, length),
            Err(error) => measure::not_saved(service, &path, &error),
        }
    }
}

fn write(
    store: &Store,
    service: &str,
    snapshot: &Snapshot,
    path: &str,
    bytes: Vec<u8>,
    kept: usize,
) -> Result<(), StoreError> {
    store.put_blocking(path, bytes.into())?;
    let paths = store.list_blocking(&snapshot::folder(service, snapshot.unit))?;
    for old in snapshot::newest_first(paths, None).into_iter().skip(kept) {
        store.delete_blocking(&old)?;
    }
    Ok(())
}

/// The newest snapshot in the store that may be restored.
pub(super) fn find(store: &Store, service: &str, wanted: &Wanted) -> Result<Option<Snapshot>, StoreError> {
    let paths = store.list_blocking(&snapshot::folder(service, wanted.unit))?;
    for path in snapshot::newest_first(paths, wanted.below) {
        let Some(bytes) = store.get_blocking(&path)? else { continue };
        match snapshot::open(&bytes, wanted) {
            Ok(found) => return Ok(Some(found)),
            Err(why) => measure::refused(service, &path, &why),
        }
    }
    Ok(None)
}
