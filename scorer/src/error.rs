//! What a scorer could not do. Each variant says what mends it.

/// An error of the scorer.
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
    /// What was declared could not be read.
    #[error("the vector schema {fingerprint:016x} cannot be looked up: {what} (retry)")]
    Schemas {
        /// The schema's fingerprint.
        fingerprint: u64,
        /// Why.
        what: String,
    },
    /// Kafka failed.
    #[error(transparent)]
    Kafka(#[from] runtime::kafka::KafkaError),
    /// The worker failed.
    #[error(transparent)]
    Worker(Box<runtime::worker::WorkerError>),
    /// A model that must not be served.
    #[error("model {version} at {uri}: {what}")]
    Refused {
        /// Its version.
        version: String,
        /// Where it is, from the store's root.
        uri: String,
        /// What is wrong with it.
        what: String,
    },
    /// A thread that could not be started.
    #[error("cannot start the thread that watches models: {0} (fatal)")]
    Thread(std::io::Error),
}

impl From<runtime::worker::WorkerError> for Error {
    fn from(error: runtime::worker::WorkerError) -> Self {
        Self::Worker(Box::new(error))
    }
}
