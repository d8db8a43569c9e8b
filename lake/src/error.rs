//! What can go wrong with a table, saying which one, where, and whether trying again may help.

use deltalake::DeltaTableError;

/// A failure of a table or of its service.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A root that cannot hold tables.
    #[error("{url:?} cannot hold tables: {why}")]
    Location {
        /// The root as given.
        url: String,
        /// Why not.
        why: String,
    },
    /// A root whose store does not answer.
    #[error("the tables under {url:?} cannot be reached: {why}")]
    Away {
        /// The root as given.
        url: String,
        /// What deltalake says.
        why: Box<DeltaTableError>,
    },
    /// No such table.
    #[error("there is no table {table} under {root}")]
    NoTable {
        /// Its name.
        table: String,
        /// Where it was looked for.
        root: String,
    },
    /// Columns that do not fit.
    #[error("table {table}: column {column}: {what}")]
    Schema {
        /// The table.
        table: String,
        /// The column.
        column: String,
        /// What is wrong.
        what: String,
    },
    /// A data file that is missing, damaged or not what the log says.
    #[error("table {table} at version {version}: file {path} {what}")]
    File {
        /// The table.
        table: String,
        /// The version that names the file.
        version: u64,
        /// The file, relative to the table.
        path: String,
        /// What is wrong with it.
        what: String,
    },
    /// Another writer has moved a position meanwhile; reload and drop what is in already.
    #[error("table {table}: {app} stands at {found:?}, not at {expected:?}: another writer commits it too")]
    Moved {
        /// The table.
        table: String,
        /// The application id, `topic:partition`.
        app: String,
        /// What this writer knew.
        expected: Option<i64>,
        /// What the table says now.
        found: Option<i64>,
    },
    /// The table's log.
    #[error("table {table}: {source}")]
    Delta {
        /// The table.
        table: String,
        /// What deltalake says.
        source: Box<DeltaTableError>,
    },
    /// The object store.
    #[error("table {table}: {source}")]
    Store {
        /// The table.
        table: String,
        /// What the store says.
        source: object_store::Error,
    },
    /// Rows that could not be arranged or encoded.
    #[error("table {table}: {source}")]
    Arrow {
        /// The table.
        table: String,
        /// What arrow says.
        source: arrow::error::ArrowError,
    },
    /// Parquet that could not be written.
    #[error("table {table}: {source}")]
    Parquet {
        /// The table.
        table: String,
        /// What parquet says.
        source: parquet::errors::ParquetError,
    },
    /// A record that its encoder cannot read.
    #[error("table {table}: {topic}[{partition}] offset {offset} cannot be read: {source}")]
    Record {
        /// The table.
        table: String,
        /// Its topic.
        topic: String,
        /// The record's partition.
        partition: i32,
        /// The record's offset.
        offset: i64,
        /// Why.
        source: schemas::DecodeError,
    },
    /// What makes its rows could not be made.
    #[error("table {table}: its columns cannot be told: {source}")]
    Encoder {
        /// The table.
        table: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A topic that is not what the table was made from.
    #[error("table {table}: {topic}[{partition}]: {what}")]
    Topic {
        /// The table.
        table: String,
        /// Its topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// What is wrong and what mends it.
        what: String,
    },
    /// Kafka.
    #[error("table {table}: reading {topic}: {source}")]
    Kafka {
        /// The table.
        table: String,
        /// Its topic.
        topic: String,
        /// What the reader says.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A setting that makes no sense.
    #[error("{0}")]
    Config(String),
    /// A thread of the service that could not be started, or that panicked.
    #[error("lake: {0}")]
    Thread(String),
}

/// What the kernel says of a store that failed, of itself or in the words of the store; the last of a table's folder
/// that was there a moment ago.
const KERNEL_STORE: [&str; 3] =
    ["Error interacting with object store", "Generic LocalFileSystem error", "Invalid table location"];

/// This crate's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Whether trying again may help: the store or the cluster was slow or away.
    pub fn retry(&self) -> bool {
        match self {
            Self::Away { .. } => true,
            Self::Kafka { source, .. } => {
                source.downcast_ref().is_some_and(runtime::kafka::KafkaError::is_retriable)
            }
            Self::Store { source, .. } => store_retry(source),
            Self::Delta { source, .. } => match source.as_ref() {
                DeltaTableError::ObjectStore { source } => store_retry(source),
                // Not a version that somebody asks for: the newest one that was seen is not to be found now.
                DeltaTableError::Io { .. } | DeltaTableError::InvalidVersion(_) => true,
                // A log that is read through the kernel fails with the kernel's error, whose type is
                // not to be had from here; what is not found is another of its errors.
                DeltaTableError::KernelError(error) => store_failed(&error.to_string()),
                // The same where a table at hand is brought up to date.
                DeltaTableError::Generic(said) => store_failed(said),
                _ => false,
            },
            _ => false,
        }
    }

    pub(crate) fn delta(table: &str) -> impl Fn(DeltaTableError) -> Self + '_ {
        move |source| Self::Delta { table: table.to_owned(), source: Box::new(source) }
    }

    pub(crate) fn store(table: &str) -> impl Fn(object_store::Error) -> Self + '_ {
        move |source| Self::Store { table: table.to_owned(), source }
    }

    pub(crate) fn arrow(table: &str) -> impl Fn(arrow::error::ArrowError) -> Self + '_ {
        move |source| Self::Arrow { table: table.to_owned(), source }
    }

    pub(crate) fn parquet(table: &str) -> impl Fn(parquet::errors::ParquetError) -> Self + '_ {
        move |source| Self::Parquet { table: table.to_owned(), source }
    }
}

/// Whether the kernel speaks of a store that failed.
fn store_failed(said: &str) -> bool {
    KERNEL_STORE.iter().any(|failure| said.contains(failure))
}

fn store_retry(error: &object_store::Error) -> bool {
    use object_store::Error as E;
    !matches!(
        error,
        E::NotFound { .. }
            | E::InvalidPath { .. }
            | E::NotSupported { .. }
            | E::NotImplemented { .. }
            | E::PermissionDenied { .. }
            | E::Unauthenticated { .. }
            | E::UnknownConfigurationKey { .. }
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn a_folder_that_has_just_gone_is_worth_another_try() {
        let folder = tempfile::tempdir().unwrap();
        let log = crate::location::log_store(folder.path().to_str().unwrap(), "labels").unwrap();
        std::fs::remove_dir_all(folder.path()).unwrap();
        let gone = deltalake::DeltaTable::new(log).load().await.map_err(Error::delta("labels")).unwrap_err();
        assert!(gone.retry(), "{gone:?}");
    }

    #[test]
    fn what_failed_in_the_store_is_worth_another_try_however_it_is_wrapped() {
        let generic = |said: &str| Error::delta("events")(DeltaTableError::Generic(said.to_owned()));
        let away = "Error interacting with object store: Generic LocalFileSystem error: Unable to walk dir";
        assert!(generic(away).retry());
        assert!(!generic("Partition column date not found in schema").retry());
    }
}
