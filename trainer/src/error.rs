//! What a trainer could not do. Each variant says what mends it.

use crate::split::TooFew;

/// An error of the trainer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A setting that makes no sense.
    #[error("{key}: {what} (fatal: mend the config)")]
    Config {
        /// The key, with its section.
        key: String,
        /// What is wrong and what is allowed.
        what: String,
    },
    /// The object store failed.
    #[error(transparent)]
    Store(#[from] runtime::store::StoreError),
    /// Kafka failed.
    #[error(transparent)]
    Kafka(#[from] runtime::kafka::KafkaError),
    /// A table could not be read.
    #[error(transparent)]
    Lake(#[from] lake::Error),
    /// A record in the registry cannot be read, or would be overwritten.
    #[error("{path}: {what} (fatal: restore it from a copy)")]
    Damaged {
        /// Where it is, from the store's root.
        path: String,
        /// What is wrong.
        what: String,
    },
    /// No such version.
    #[error("model {name} has no version {version}; `salience models list` shows what there is")]
    NoVersion {
        /// Model name.
        name: String,
        /// Version asked for.
        version: String,
    },
    /// No training to go on with.
    #[error("model {name} has no unfinished training to go on with")]
    NothingToResume {
        /// Model name.
        name: String,
    },
    /// Nothing to roll back to.
    #[error("model {name} has had no other champion to go back to")]
    NothingBefore {
        /// Model name.
        name: String,
    },
    /// Somebody else moved the champion.
    #[error("the champion of {name} was moved by another (pointer {sequence} is taken); look again (retry)")]
    Raced {
        /// Model name.
        name: String,
        /// The pointer that was to be made.
        sequence: u64,
    },
    /// Another instance trains now.
    #[error("models of {name} are being trained by {holder}; only one may at a time (retry)")]
    Busy {
        /// Model name.
        name: String,
        /// Who holds the lease.
        holder: String,
    },
    /// Another instance took over, because the lease was not prolonged in time.
    #[error("the lease on training {name} ran out and another has it; nothing was published (retry)")]
    LeaseLost {
        /// Model name.
        name: String,
    },
    /// Too little to learn from, yet.
    #[error(transparent)]
    TooFew(#[from] TooFew),
    /// A table that is not there yet.
    #[error("table {table} is not there yet (retry)")]
    NoTable {
        /// Its name.
        table: String,
    },
    /// A row that is no record.
    #[error("{0} (fatal)")]
    Row(#[from] schemas::table::TableError),
    /// Vectors of the table follow another schema than the config declares.
    #[error(
        "no vector of table features at version {version} has fingerprint {fingerprint:016x}: the declared features have changed; wait for new vectors (retry)"
    )]
    Fingerprint {
        /// Table version.
        version: u64,
        /// Fingerprint of the declared schema.
        fingerprint: u64,
    },
    /// The encoded examples could not be kept on disk.
    #[error("trainer.spill_folder: {folder}: {what} (retry once there is room, or name another folder)")]
    Spill {
        /// Where.
        folder: String,
        /// What is wrong.
        what: String,
    },
    /// Nobody knows which features are declared now.
    #[error("the features in force cannot be looked up: {0} (retry)")]
    InForce(String),
    /// A vector that its schema does not describe.
    #[error("{0} (fatal)")]
    Encode(#[from] model::EncodeError),
    /// The model could not be trained, read or run.
    #[error("model: {0} (fatal)")]
    Model(String),
    /// Asked to stop in the middle.
    #[error("stopped")]
    Stopped,
    /// A thread of ours panicked.
    #[error("the training thread panicked (fatal: please report it)")]
    Panicked,
}

impl Error {
    /// Whether a later try may succeed with nothing mended: the service stays up.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::TooFew(_)
            | Self::NoTable { .. }
            | Self::Raced { .. }
            | Self::Busy { .. }
            | Self::LeaseLost { .. }
            | Self::Fingerprint { .. }
            | Self::Spill { .. }
            | Self::InForce(_)
            | Self::Lake(lake::Error::NoTable { .. })
            | Self::Store(runtime::store::StoreError::Store { .. }) => true,
            Self::Lake(error) => error.retry(),
            Self::Kafka(error) => error.is_retriable(),
            _ => false,
        }
    }
}
