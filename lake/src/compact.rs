//! Small files of a date into large ones: the same rows in the order of their topic, or clustered.

use std::collections::{BTreeMap, HashSet};

use deltalake::kernel::Action;
use deltalake::kernel::transaction::CommitProperties;
use deltalake::protocol::DeltaOperation;

use crate::append::not_made;
use crate::clock::now_ms;
use crate::encode::Encoder;
use crate::error::{Error, Result};
use crate::file::DataFile;
use crate::scan::{Order, Scan, ScanOptions};
use crate::table::{blocking, unique};
use crate::{Config, Table};

/// Commits tried while others append.
const ATTEMPTS: usize = 32;

/// What compaction did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Compacted {
    /// Small files that were replaced.
    pub removed: u64,
    /// Files that replaced them.
    pub added: u64,
    /// Rows that moved.
    pub rows: u64,
    /// Bytes of the new files.
    pub bytes: u64,
}

impl Table {
    /// Merges the small files of every date that has at least `compact_min_files` of them. Rows of a row
    /// group are sorted by the columns of `clustered_by`; where there are none, all stay in the order of the
    /// topic. Row groups do in any case, so that a scan in that order has one of each file in memory. Safe
    /// beside writers and beside another compaction: whoever comes second finds a file gone and
    /// drops its own.
    ///
    /// # Errors
    /// What the store says; a file that is missing or damaged, by name.
    pub async fn compact(&mut self, config: &Config, clustered_by: &[&str]) -> Result<Compacted> {
        self.refresh().await?;
        let mut total = Compacted::default();
        for files in candidates(self.files()?, config) {
            let done = self.compact_files(files, config, clustered_by).await?;
            total.removed += done.removed;
            total.added += done.added;
            total.rows += done.rows;
            total.bytes += done.bytes;
        }
        Ok(total)
    }

    async fn compact_files(
        &mut self,
        old: Vec<DataFile>,
        config: &Config,
        clustered_by: &[&str],
    ) -> Result<Compacted> {
        let new = self.rewrite(&old, config, clustered_by).await?;
        let rows = |files: &[DataFile]| files.iter().map(|file| file.rows).sum::<u64>();
        if rows(&old) != rows(&new) {
            self.discard(&new).await;
            let path = old.first().map(|file| file.path.clone()).unwrap_or_default();
            return Err(Error::File {
                table: self.name.to_string(),
                version: self.version(),
                path,
                what: format!("and those after it gave {} rows for {}", rows(&new), rows(&old)),
            });
        }
        if !self.replace(&old, &new, config).await? {
            // The new files stay until vacuum: whether no commit names them is not certain.
            tracing::info!(table = %self.name, "another compaction was faster");
            return Ok(Compacted::default());
        }
        Ok(Compacted {
            removed: old.len() as u64,
            added: new.len() as u64,
            rows: rows(&new),
            bytes: new.iter().map(|file| file.bytes).sum(),
        })
    }

    /// The rows of the files, in files of about the target's size.
    async fn rewrite(
        &self,
        old: &[DataFile],
        config: &Config,
        clustered_by: &[&str],
    ) -> Result<Vec<DataFile>> {
        let Some(date) = old.first().map(|file| file.date) else { return Ok(Vec::new()) };
        let options = ScanOptions { order: Order::Place, ..ScanOptions::default() };
        let mut scan = Scan::new(self.clone(), old.to_vec(), &options)?;
        let mut new = Vec::new();
        let fresh = || Encoder::new(&self.name, &self.schema, date, config.zstd_level, clustered_by);
        let mut encoder = fresh()?;
        while let Some(batch) = scan.next().await? {
            encoder = blocking(move || encoder.write(&batch).map(|()| encoder)).await?;
            if encoder.size() >= config.target_file_bytes {
                new.push(self.store_file(std::mem::replace(&mut encoder, fresh()?)).await?);
            }
        }
        if encoder.rows() > 0 {
            new.push(self.store_file(encoder).await?);
        }
        Ok(new)
    }

    async fn store_file(&self, encoder: Encoder) -> Result<DataFile> {
        let (file, bytes) = blocking(move || encoder.finish(&unique(), now_ms())).await?;
        self.put(&file, bytes).await?;
        Ok(file)
    }

    /// Commits the replacement; `false` if one of the old files is gone already.
    async fn replace(&mut self, old: &[DataFile], new: &[DataFile], config: &Config) -> Result<bool> {
        let now = now_ms();
        let actions: Vec<Action> = old
            .iter()
            .map(|file| Action::Remove(file.remove(now)))
            .chain(new.iter().map(|file| Action::Add(file.add(false))))
            .collect();
        let operation =
            DeltaOperation::Optimize { predicate: None, target_size: config.target_file_bytes as i64 };
        for _ in 0..ATTEMPTS {
            let present: HashSet<String> = self.files()?.into_iter().map(|file| file.path).collect();
            if new.first().is_some_and(|file| present.contains(&file.path)) {
                // Our own commit of the try before, whose answer was lost.
                return Ok(true);
            }
            if !old.iter().all(|file| present.contains(&file.path)) {
                return Ok(false);
            }
            // deltalake lets a second removal of a file pass where the first changed no data,
            // which would double rows: so no retry of its own, but only of ours, which looks.
            let properties = CommitProperties::default().with_max_retries(0);
            match self.commit(actions.clone(), properties, operation.clone()).await {
                Ok(_) => return Ok(true),
                Err(error) if not_made(&error) => self.refresh().await?,
                Err(error) => return Err(Error::delta(&self.name)(error)),
            }
        }
        tracing::info!(table = %self.name, "writers were faster than compaction, leaving it for now");
        Ok(false)
    }
}

/// Groups of files worth merging: the small ones of a date, where there are enough.
pub(crate) fn candidates(files: Vec<DataFile>, config: &Config) -> Vec<Vec<DataFile>> {
    let mut dates: BTreeMap<i32, Vec<DataFile>> = BTreeMap::new();
    for file in files.into_iter().filter(|file| file.bytes < config.target_file_bytes / 2) {
        dates.entry(file.date).or_default().push(file);
    }
    dates.into_values().filter(|files| files.len() >= config.compact_min_files).collect()
}
