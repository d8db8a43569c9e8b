//! The store's calls for plain threads: the same, waited for on the calling thread.

use std::future::Future;
use std::sync::{OnceLock, mpsc};

use bytes::Bytes;
use tokio::runtime::{Builder, Runtime};

use super::{Result, Store, StoreError};

/// The runtime that waits for stores on behalf of plain threads: one for the process, since a
/// worker thread must not bring one of its own, and may itself belong to another runtime.
fn waiting() -> Result<&'static Runtime> {
    static WAITING: OnceLock<Runtime> = OnceLock::new();
    if let Some(runtime) = WAITING.get() {
        return Ok(runtime);
    }
    let runtime = Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("store")
        .enable_all()
        .build()
        .map_err(StoreError::Thread)?;
    Ok(WAITING.get_or_init(|| runtime))
}

/// Runs `work` elsewhere and waits for it here; works on any thread, even one of a runtime.
fn wait_for<T: Send + 'static>(work: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
    let (done, result) = mpsc::sync_channel(1);
    waiting()?.spawn(async move {
        // The receiver is this very call, which waits.
        let _received = done.send(work.await);
    });
    result
        .recv()
        .unwrap_or_else(|_| Err(StoreError::Thread(std::io::Error::other("the work ended without a result"))))
}

impl Store {
    /// [`Store::get`], waited for.
    pub fn get_blocking(&self, path: &str) -> Result<Option<Bytes>> {
        let (store, path) = (self.clone(), path.to_owned());
        wait_for(async move { store.get(&path).await })
    }

    /// [`Store::put`], waited for.
    pub fn put_blocking(&self, path: &str, bytes: Bytes) -> Result<()> {
        let (store, path) = (self.clone(), path.to_owned());
        wait_for(async move { store.put(&path, bytes).await })
    }

    /// [`Store::put_new`], waited for.
    pub fn put_new_blocking(&self, path: &str, bytes: Bytes) -> Result<bool> {
        let (store, path) = (self.clone(), path.to_owned());
        wait_for(async move { store.put_new(&path, bytes).await })
    }

    /// [`Store::list`], waited for.
    pub fn list_blocking(&self, prefix: &str) -> Result<Vec<String>> {
        let (store, prefix) = (self.clone(), prefix.to_owned());
        wait_for(async move { store.list(&prefix).await })
    }

    /// [`Store::delete`], waited for.
    pub fn delete_blocking(&self, path: &str) -> Result<()> {
        let (store, path) = (self.clone(), path.to_owned());
        wait_for(async move { store.delete(&path).await })
    }
}
