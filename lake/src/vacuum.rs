//! Deleting what no version needs any more: neither the current one, nor one that is pinned, nor
//! one that was current within the retention.

use std::collections::HashSet;

use deltalake::checkpoints::cleanup_expired_logs_for;
use futures::TryStreamExt as _;
use object_store::{ObjectStore as _, ObjectStoreExt as _};
use schemas::duration::Millis;

use crate::Table;
use crate::clock::now_ms;
use crate::error::{Error, Result};

/// What vacuum did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Vacuumed {
    /// Data files that were deleted.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Files of the log that were deleted.
    pub log_files: u64,
}

impl Table {
    /// Deletes data files that neither the current version nor a pinned one names and that have
    /// been unused for `retention` (wall clock), and the log of versions before all of these.
    ///
    /// # Errors
    /// What the store says; a pinned version that is not there (nothing is deleted then).
    pub async fn vacuum(&mut self, retention: Millis, pinned: &[u64]) -> Result<Vacuumed> {
        self.refresh().await?;
        let cutoff = now_ms() - retention.0;
        let mut needed: HashSet<String> = self.files()?.into_iter().map(|file| file.path).collect();
        for version in pinned {
            let pinned = self.at(*version).await?;
            needed.extend(pinned.files()?.into_iter().map(|file| file.path));
        }
        let log = self.log();
        let removed = self.state()?.all_tombstones(&log);
        let removed: Vec<_> = removed.try_collect().await.map_err(Error::delta(&self.name))?;
        needed.extend(
            removed
                .iter()
                .filter(|file| file.deletion_timestamp().is_none_or(|time| time >= cutoff))
                .map(|file| file.path().to_string()),
        );
        let mut done = self.delete_unneeded(&needed, cutoff).await?;
        let keep = pinned.iter().copied().chain([self.version()]).min().unwrap_or(0);
        let cleaned = cleanup_expired_logs_for(keep, log.as_ref(), cutoff, None).await;
        done.log_files = cleaned.map_err(Error::delta(&self.name))? as u64;
        Ok(done)
    }

    async fn delete_unneeded(&self, needed: &HashSet<String>, cutoff: i64) -> Result<Vacuumed> {
        let stored = |error| Error::store(&self.name)(error);
        let objects: Vec<_> = self.store.list(None).try_collect().await.map_err(stored)?;
        let mut done = Vacuumed::default();
        for object in objects {
            let path = object.location.as_ref();
            // Ours only: what others keep beside the table is not ours to delete.
            let data = path.starts_with("date=")
                && object.location.extension().is_some_and(|end| end.eq_ignore_ascii_case("parquet"));
            if !data || needed.contains(path) || object.last_modified.timestamp_millis() >= cutoff {
                continue;
            }
            self.store.delete(&object.location).await.map_err(stored)?;
            done.files += 1;
            done.bytes += object.size;
        }
        Ok(done)
    }
}
