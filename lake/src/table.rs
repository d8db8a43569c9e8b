//! A Delta table: opening it at a version, what it consists of, how far its topic is in it.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use deltalake::DeltaTable;
use deltalake::kernel::StructType;
use deltalake::kernel::transaction::CommitProperties;
use deltalake::logstore::{LogStoreRef, ObjectStoreRef};
use schemas::table::DATE_COLUMN;

use crate::error::{Error, Result};
use crate::file::DataFile;
use crate::{Config, columns, location};

/// Times that a commit is tried again after others changed the table's metadata or the log grew
/// faster than we read it.
pub(crate) const ATTEMPTS: usize = 8;

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
    pub(crate) positions: HashMap<String, Option<i64>>,
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
