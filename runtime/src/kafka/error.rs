//! What can go wrong with a cluster, and what to do about it.

use rdkafka::error::{KafkaError as Client, RDKafkaErrorCode as Code};

use crate::processor::TopicPartition;

/// What a cluster refused or failed to do. Each message says retry or fatal, and what mends it.
#[derive(Debug, thiserror::Error)]
pub enum KafkaError {
    /// No broker answers.
    #[error("no broker answers at {bootstrap}: {what}; check kafka.bootstrap and kafka.properties (retry)")]
    Unreachable {
        /// The servers that were tried.
        bootstrap: String,
        /// What librdkafka said.
        what: String,
    },
    /// A client that cannot be made: a property that librdkafka does not know or take.
    #[error(
        "cannot make a client: {what}; check kafka.properties, kafka.consumer and kafka.producer (fatal)"
    )]
    Config {
        /// Property and reason, as librdkafka says it.
        what: String,
    },
    /// A topic that is not there.
    #[error("topic {topic} is not there; `salience topics create` makes it (fatal)")]
    NoTopic {
        /// The topic, with prefix.
        topic: String,
    },
    /// A topic whose partition count is not the one that it was made with.
    #[error(
        "topic {topic} has {live} partitions and was recorded with {recorded}: state and keys belong to \
         partitions, so a changed count mixes them up; restore the count, or start a new deployment with \
         another kafka.prefix and storage.root (fatal)"
    )]
    PartitionCount {
        /// The topic, with prefix.
        topic: String,
        /// As it is.
        live: i32,
        /// As it was recorded.
        recorded: i32,
    },
    /// The log no longer holds the offset that was asked for.
    #[error(
        "{partition} begins at offset {begin}, and offset {wanted} was wanted: retention has cut it; raise \
         topics.internal_retention or topics.retention_bytes, or rebuild from the tables (fatal)"
    )]
    Cut {
        /// Which partition.
        partition: TopicPartition,
        /// The offset that was wanted.
        wanted: i64,
        /// The first that is there.
        begin: i64,
    },
    /// A record that could not be delivered.
    #[error("a record for {topic} was not delivered: {source} ({})", verdict(.source))]
    Delivery {
        /// The topic.
        topic: String,
        /// What librdkafka said.
        source: Box<Client>,
    },
    /// The cluster refused a request.
    #[error("cannot {action}: {what} ({verdict})")]
    Refused {
        /// What was tried.
        action: String,
        /// What the cluster said.
        what: String,
        /// `retry` or `fatal`.
        verdict: &'static str,
    },
    /// A record of partition counts that cannot be read or written.
    #[error(transparent)]
    Store(Box<crate::store::StoreError>),
    /// A record of partition counts that is damaged.
    #[error("{path} in the store is damaged: {what}; delete it to have it recorded anew (fatal)")]
    Record {
        /// The object.
        path: String,
        /// What is wrong with it.
        what: String,
    },
}

impl From<crate::store::StoreError> for KafkaError {
    fn from(error: crate::store::StoreError) -> Self {
        Self::Store(Box::new(error))
    }
}

impl KafkaError {
    /// Whether trying again may help.
    pub fn is_retriable(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Store(_) => true,
            Self::Delivery { source, .. } => transient(code_of(source)),
            Self::Refused { verdict, .. } => *verdict == "retry",
            _ => false,
        }
    }

    pub(super) fn refused(action: impl Into<String>, bootstrap: &str, source: &Client) -> Self {
        let code = code_of(source);
        if matches!(code, Some(Code::BrokerTransportFailure | Code::AllBrokersDown | Code::Resolve)) {
            return Self::Unreachable { bootstrap: bootstrap.to_owned(), what: source.to_string() };
        }
        Self::Refused { action: action.into(), what: source.to_string(), verdict: verdict(source) }
    }
}

/// librdkafka's code, where the error has one.
pub(super) fn code_of(error: &Client) -> Option<Code> {
    match error {
        Client::Transaction(error) => Some(error.code()),
        other => other.rdkafka_error_code(),
    }
}

/// Whether an error passes by itself, so that the same call may be made again.
pub(super) fn transient(code: Option<Code>) -> bool {
    matches!(
        code,
        Some(
            Code::BrokerTransportFailure
                | Code::AllBrokersDown
                | Code::Resolve
                // A broker that left the cluster in the middle of a call.
                | Code::DestroyBroker
                | Code::OperationTimedOut
                | Code::MessageTimedOut
                | Code::RequestTimedOut
                | Code::LeaderNotAvailable
                | Code::NotLeaderForPartition
                | Code::NotCoordinator
                | Code::CoordinatorNotAvailable
                | Code::CoordinatorLoadInProgress
                | Code::NotEnoughReplicas
                | Code::NotEnoughReplicasAfterAppend
                | Code::NetworkException
                | Code::WaitingForCoordinator
                | Code::UnstableOffsetCommit
                | Code::Retry
        )
    )
}

fn verdict(error: &Client) -> &'static str {
    if transient(code_of(error)) { "retry" } else { "fatal" }
}
