//! Adding to a table: the files of a batch and the positions of its topic in one commit.
//!
//! Either both are there or neither is, so that a crash leaves at most a file that nothing names.

use std::sync::Arc;

use arrow::array::RecordBatch;
use bytes::Bytes;
use deltalake::DeltaTableError;
use deltalake::kernel::transaction::{
    CommitBuilder, CommitConflictError, CommitProperties, TableReference, TransactionError,
};
use deltalake::kernel::{Action, Transaction};
use deltalake::protocol::{DeltaOperation, SaveMode};
use object_store::ObjectStoreExt as _;
use schemas::table::DATE_COLUMN;

use crate::Table;
use crate::clock::now_ms;
use crate::encode::{Encoder, by_date};
use crate::error::{Error, Result};
use crate::file::DataFile;
use crate::table::{ATTEMPTS, blocking, unique};

/// How far a partition of the topic is in the table: the next offset to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// The application id; see [`app_id`].
    pub app: String,
    /// What the table says before this commit, as far as the writer knows.
    pub from: Option<i64>,
    /// What it says after: everything before this offset is in.
    pub next: i64,
}

/// What a commit added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Appended {
    /// The version that it made.
    pub version: u64,
    /// Rows.
    pub rows: u64,
    /// Files.
    pub files: u64,
    /// Bytes of these files.
    pub bytes: u64,
}

impl Table {
    /// Adds rows and moves positions, both or neither. The table goes on to the version made.
    ///
    /// # Errors
    /// [`Error::Moved`] where a position is not what the writer thought: nothing was added, the
    /// table has been refreshed. After another error it is unknown whether the commit was made;
    /// refresh and look at the positions.
    pub async fn append(
        &mut self,
        rows: RecordBatch,
        progress: &[Progress],
        zstd_level: i32,
    ) -> Result<Appended> {
        self.expect(progress).await?;
        let files = self.write(rows, zstd_level).await?;
        let mut actions = Vec::with_capacity(files.len());
        let mut appended = Appended::default();
        for file in &files {
            actions.push(Action::Add(file.add(true)));
            appended.files += 1;
            appended.rows += file.rows;
            appended.bytes += file.bytes;
        }
        let operation = DeltaOperation::Write {
            mode: SaveMode::Append,
            partition_by: Some(vec![DATE_COLUMN.to_owned()]),
            predicate: None,
        };
        let transactions: Vec<Transaction> = progress
            .iter()
            .map(|moved| Transaction::new_with_last_update(&moved.app, moved.next, Some(now_ms())))
            .collect();
        for attempt in 1.. {
            let properties = CommitProperties::default().with_application_transactions(transactions.clone());
            match self.commit(actions.clone(), properties, operation.clone()).await {
                Ok(version) => {
                    for moved in progress {
                        self.positions.insert(moved.app.clone(), Some(moved.next));
                    }
                    appended.version = version;
                    break;
                }
                Err(error) if attempt < ATTEMPTS && not_made(&error) => {
                    self.refresh().await?;
                    // What was in the way may be this very commit, whose answer was lost: its
                    // files must stay. Files that no commit names are vacuum's.
                    self.expect(progress).await?;
                }
                Err(error) => return Err(Error::delta(&self.name)(error)),
            }
        }
        Ok(appended)
    }

    /// Refuses positions that the table does not have.
    async fn expect(&mut self, progress: &[Progress]) -> Result<()> {
        for moved in progress {
            let found = self.committed(&moved.app).await?;
            if found != moved.from {
                let (app, expected) = (moved.app.clone(), moved.from);
                // What is at hand may be old: let the caller see the newest.
                self.refresh().await?;
                return Err(Error::Moved { table: self.name.to_string(), app, expected, found });
            }
        }
        Ok(())
    }

    async fn write(&self, rows: RecordBatch, zstd_level: i32) -> Result<Vec<DataFile>> {
        if rows.num_rows() == 0 {
            return Ok(Vec::new());
        }
        let (name, schema) = (Arc::clone(&self.name), Arc::clone(&self.schema));
        let encoded = blocking(move || {
            by_date(&name, &rows)?
                .into_iter()
                .map(|(date, rows)| {
                    let mut encoder = Encoder::new(&name, &schema, date, zstd_level, &[])?;
                    encoder.write(&rows)?;
                    encoder.finish(&unique(), now_ms())
                })
                .collect::<Result<Vec<_>>>()
        })
        .await?;
        let mut files = Vec::with_capacity(encoded.len());
        for (file, bytes) in encoded {
            self.put(&file, bytes).await?;
            files.push(file);
        }
        Ok(files)
    }

    pub(crate) async fn put(&self, file: &DataFile, bytes: Vec<u8>) -> Result<()> {
        let path = object_store::path::Path::from(file.path.as_str());
        self.store.put(&path, Bytes::from(bytes).into()).await.map_err(Error::store(&self.name))?;
        Ok(())
    }

    /// Deletes files that no commit names. What cannot be deleted is left to vacuum.
    pub(crate) async fn discard(&self, files: &[DataFile]) {
        for file in files {
            let path = object_store::path::Path::from(file.path.as_str());
            if let Err(error) = self.store.delete(&path).await {
                tracing::debug!(table = %self.name, file = %file.path, %error, "an unused file stays behind");
            }
        }
    }

    /// Commits and goes on to the version made. What follows a commit (a checkpoint) may fail
    /// without harm: the next commit makes it.
    pub(crate) async fn commit(
        &mut self,
        actions: Vec<Action>,
        properties: CommitProperties,
        operation: DeltaOperation,
    ) -> Result<u64, DeltaTableError> {
        let log = self.log();
        let properties = properties.with_cleanup_expired_logs(Some(false));
        let made = {
            let state = self.delta.snapshot()?;
            CommitBuilder::from(properties)
                .with_actions(actions)
                .build(Some(state as &dyn TableReference), log, operation)
                .into_prepared_commit_future()
                .await?
                .await?
        };
        let version = made.version;
        match made.await {
            Ok(finished) => self.delta.state = Some(finished.snapshot()),
            Err(error) => {
                tracing::warn!(table = %self.name, version, %error, "committed, but not followed up");
                self.delta.update_incremental(Some(version)).await?;
            }
        }
        Ok(version)
    }
}

/// Errors after which another look tells whether the commit was made: a store that retries a put
/// by itself may report a conflict with the very entry that it has written.
pub(crate) fn not_made(error: &DeltaTableError) -> bool {
    matches!(
        error,
        DeltaTableError::Transaction {
            source: TransactionError::CommitConflict(
                CommitConflictError::ConcurrentTransaction
                    | CommitConflictError::MetadataChanged
                    | CommitConflictError::ProtocolChanged(_)
                    | CommitConflictError::ConcurrentAppend
            ) | TransactionError::MaxCommitAttempts(_)
        } | DeltaTableError::VersionAlreadyExists(_)
    )
}
