//! A Delta table: opening, appending with its position, and what it consists of.
//!
//! A commit holds the files of a batch and, as application transactions, the offset of the topic
//! up to which each partition is in the table. Either both are there or neither is, so that a
//! crash leaves at most a file that nothing names.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use deltalake::kernel::transaction::{
    CommitBuilder, CommitConflictError, CommitProperties, TableReference, TransactionError,
};
use deltalake::kernel::{Action, StructType, Transaction};
use deltalake::logstore::{LogStoreRef, ObjectStoreRef};
use deltalake::protocol::{DeltaOperation, SaveMode};
use deltalake::{DeltaTable, DeltaTableError};
use object_store::ObjectStoreExt as _;
use schemas::table::DATE_COLUMN;

use crate::clock::now_ms;
use crate::encode::{Encoder, by_date};
use crate::error::{Error, Result};
use crate::file::DataFile;
use crate::{Config, columns, location};

/// Times that a commit is tried again after others changed the table's metadata or the log grew
/// faster than we read it.
const ATTEMPTS: usize = 8;

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

/// The application id under which a table keeps how far it has read a partition of a topic (its
/// name on the cluster, prefix included).
pub fn app_id(topic: &str, partition: i32) -> String {
    format!("{topic}:{partition}")
}

/// A table at one version. Cheap to clone; a clone stays at its version.
#[derive(Clone)]
pub struct Table {
    pub(crate) root: Arc<str>,
    pub(crate) name: Arc<str>,
    pub(crate) delta: DeltaTable,
    pub(crate) schema: SchemaRef,
    pub(crate) store: ObjectStoreRef,
    /// Positions at this version, as far as they were asked for.
    positions: HashMap<String, Option<i64>>,
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Table")
            .field("name", &self.name)
            .field("version", &self.version())
            .finish_non_exhaustive()
    }
}

/// The names of the tables under a root.
///
/// # Errors
/// The store.
pub async fn tables(root: &str) -> Result<Vec<String>> {
    // Any table's store shows its neighbours only through its parent: ask for the parent's.
    let log = location::parent(root)?;
    let listed = log.list_with_delimiter(None).await.map_err(Error::store(location::TABLES))?;
    let mut names: Vec<String> =
        listed.common_prefixes.iter().filter_map(|path| path.filename().map(str::to_owned)).collect();
    names.sort();
    Ok(names)
}

impl Table {
    /// Opens the newest version of a table that exists.
    ///
    /// # Errors
    /// [`Error::NoTable`], or what the store or the log says.
    pub async fn open(root: &str, name: &str) -> Result<Self> {
        Self::try_open(root, name, None).await?.ok_or_else(|| no_table(root, name))
    }

    /// Opens the version of a table, as pinned by a model or a proof.
    ///
    /// # Errors
    /// [`Error::NoTable`], a version that is not there any more, or what the store says.
    pub async fn open_at(root: &str, name: &str, version: u64) -> Result<Self> {
        Self::try_open(root, name, Some(version)).await?.ok_or_else(|| no_table(root, name))
    }

    /// Opens a table, if it exists.
    ///
    /// # Errors
    /// What the store or the log says.
    pub async fn try_open(root: &str, name: &str, version: Option<u64>) -> Result<Option<Self>> {
        let log = location::log_store(root, name)?;
        if !log.is_delta_table_location().await.map_err(Error::delta(name))? {
            return Ok(None);
        }
        let mut delta = DeltaTable::new(log);
        match version {
            Some(version) => delta.load_version(version).await,
            None => delta.load().await,
        }
        .map_err(Error::delta(name))?;
        Self::from_delta(root, name, delta).map(Some)
    }

    /// Opens a table, or creates it: partitioned by date, with the schema's columns and their
    /// comments (`comment` in a field's metadata). Nullable columns that a table of old lacks
    /// are added to it.
    ///
    /// # Errors
    /// A schema that is no table's or does not fit the table that exists.
    pub async fn open_or_create(root: &str, name: &str, schema: &SchemaRef, config: &Config) -> Result<Self> {
        let wanted = columns::to_delta(name, schema)?;
        let mut table = match Self::try_open(root, name, None).await? {
            Some(table) => table,
            None => Self::create(root, name, &wanted, config).await?,
        };
        table.add_columns(&wanted).await?;
        Ok(table)
    }

    async fn create(root: &str, name: &str, columns: &StructType, config: &Config) -> Result<Self> {
        let log = location::log_store(root, name)?;
        let schema = columns::to_arrow(name, columns)?;
        let properties = columns::properties(&schema, config);
        let created = DeltaTable::new(log)
            .create()
            .with_table_name(name)
            .with_columns(columns.fields().cloned())
            .with_partition_columns([DATE_COLUMN])
            .with_configuration(properties.into_iter().map(|(key, value)| (key, Some(value))))
            // No second try: a table that appears meanwhile is opened, not created over.
            .with_commit_properties(CommitProperties::default().with_max_retries(0))
            .await;
        match created {
            Ok(delta) => Self::from_delta(root, name, delta),
            Err(error) => match Self::try_open(root, name, None).await? {
                Some(table) => Ok(table),
                None => Err(Error::delta(name)(error)),
            },
        }
    }

    async fn add_columns(&mut self, wanted: &StructType) -> Result<()> {
        for _ in 0..ATTEMPTS {
            let have = self.state()?.schema();
            let added = columns::added(&self.name, &have, wanted)?;
            if added.is_empty() {
                return Ok(());
            }
            tracing::info!(table = %self.name, columns = added.len(), "adding columns");
            // A failed commit may be another writer adding the same: look again.
            let tried = self.delta.clone().add_columns().with_fields(added).await;
            self.refresh().await?;
            if let Err(error) = tried {
                tracing::warn!(table = %self.name, %error, "adding columns failed, looking again");
            }
        }
        Err(Error::Schema {
            table: self.name.to_string(),
            column: "*".to_owned(),
            what: "could not be added: another writer changes the table all the time".to_owned(),
        })
    }

    fn from_delta(root: &str, name: &str, delta: DeltaTable) -> Result<Self> {
        let state = delta.snapshot().map_err(Error::delta(name))?;
        let schema = columns::to_arrow(name, &state.schema())?;
        let store = delta.log_store().object_store(None);
        Ok(Self { root: root.into(), name: name.into(), delta, schema, store, positions: HashMap::new() })
    }

    pub(crate) fn state(&self) -> Result<&deltalake::table::state::DeltaTableState> {
        self.delta.snapshot().map_err(Error::delta(&self.name))
    }

    pub(crate) fn log(&self) -> LogStoreRef {
        self.delta.log_store()
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its address: what `DuckDB`'s `delta_scan` and Polars' `scan_delta` take.
    pub fn url(&self) -> String {
        self.delta.table_url().to_string()
    }

    /// The version at hand.
    pub fn version(&self) -> u64 {
        self.delta.version().unwrap_or(0)
    }

    /// The columns, `date` included, in the types that batches have.
    pub fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    /// The same table at another version.
    ///
    /// # Errors
    /// A version that is not there.
    pub async fn at(&self, version: u64) -> Result<Self> {
        Self::open_at(&self.root, &self.name, version).await
    }

    /// Goes on to the newest version.
    ///
    /// # Errors
    /// What the store or the log says.
    pub async fn refresh(&mut self) -> Result<()> {
        self.delta.update_state().await.map_err(Error::delta(&self.name))?;
        self.schema = columns::to_arrow(&self.name, &self.state()?.schema())?;
        self.positions.clear();
        Ok(())
    }

    /// The files of this version, by their first place.
    ///
    /// # Errors
    /// An entry of the log that says too little.
    pub fn files(&self) -> Result<Vec<DataFile>> {
        let version = self.version();
        let mut files = self
            .state()?
            .log_data()
            .iter()
            .map(|view| DataFile::read(&self.name, version, &view))
            .collect::<Result<Vec<_>>>()?;
        files.sort_by(|a, b| (a.first_place(), &a.path).cmp(&(b.first_place(), &b.path)));
        Ok(files)
    }

    /// Rows of this version, by the log.
    ///
    /// # Errors
    /// As [`Table::files`].
    pub fn row_count(&self) -> Result<u64> {
        Ok(self.files()?.iter().map(|file| file.rows).sum())
    }

    /// Bytes of this version's files, by the log.
    ///
    /// # Errors
    /// As [`Table::files`].
    pub fn bytes(&self) -> Result<u64> {
        Ok(self.files()?.iter().map(|file| file.bytes).sum())
    }

    /// How far the application id has come at this version: the next offset to read.
    ///
    /// # Errors
    /// What the store or the log says.
    pub async fn committed(&mut self, app: &str) -> Result<Option<i64>> {
        if let Some(known) = self.positions.get(app) {
            return Ok(*known);
        }
        let log = self.log();
        let found = self.state()?.transaction_version(&log, app).await.map_err(Error::delta(&self.name))?;
        self.positions.insert(app.to_owned(), found);
        Ok(found)
    }

    /// How far each partition of a topic is in this version: the next offset to read, 0 to
    /// `partitions - 1`.
    ///
    /// # Errors
    /// As [`Table::committed`].
    pub async fn positions(&mut self, topic: &str, partitions: i32) -> Result<Vec<Option<i64>>> {
        let mut all = Vec::new();
        for partition in 0..partitions {
            all.push(self.committed(&app_id(topic, partition)).await?);
        }
        Ok(all)
    }

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
                    if let Err(error) = self.expect(progress).await {
                        self.discard(&files).await;
                        return Err(error);
                    }
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
                    let mut encoder = Encoder::new(&name, &schema, date, zstd_level)?;
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

/// Errors after which it is certain that the commit was not made and worth another look.
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

/// Runs what computes on a thread for it.
pub(crate) async fn blocking<T, F>(work: F) -> Result<T>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T> + Send + 'static,
{
    tokio::task::spawn_blocking(work).await.map_err(|error| Error::Thread(error.to_string()))?
}

/// A part of a file's name that no other file has: a retry must never overwrite what a commit
/// already names.
pub(crate) fn unique() -> String {
    uuid::Uuid::new_v4().simple().to_string()
}

fn no_table(root: &str, name: &str) -> Error {
    Error::NoTable { table: name.to_owned(), root: root.to_owned() }
}
