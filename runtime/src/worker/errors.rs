//! What a client's error means for the loop.

use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use crate::core::Failure;

/// Whether the code says that somebody else has taken our place.
pub(super) fn is_fenced(code: RDKafkaErrorCode) -> bool {
    matches!(
        code,
        RDKafkaErrorCode::Fenced
            | RDKafkaErrorCode::ProducerFenced
            | RDKafkaErrorCode::InvalidProducerEpoch
            | RDKafkaErrorCode::FencedInstanceId
    )
}

/// What to do after `error`; `fatal` is the client's own fatal error, where it has one.
pub(super) fn classify(error: &KafkaError, fatal: Option<RDKafkaErrorCode>) -> Failure {
    if let Some(code) = fatal {
        return if is_fenced(code) { Failure::Fenced } else { Failure::Fatal };
    }
    match error {
        KafkaError::Transaction(error) if is_fenced(error.code()) => Failure::Fenced,
        KafkaError::Transaction(error) if error.is_fatal() => Failure::Fatal,
        KafkaError::Transaction(error) if error.txn_requires_abort() => Failure::Abortable,
        KafkaError::Transaction(error) if error.is_retriable() => Failure::Retriable,
        KafkaError::ConsumerCommit(code) if is_fenced(*code) => Failure::Fenced,
        KafkaError::ConsumerCommit(
            RDKafkaErrorCode::IllegalGeneration
            | RDKafkaErrorCode::UnknownMemberId
            | RDKafkaErrorCode::StaleMemberEpoch
            | RDKafkaErrorCode::RebalanceInProgress,
        ) => Failure::Abortable,
        KafkaError::MessageConsumptionFatal(code) if is_fenced(*code) => Failure::Fenced,
        KafkaError::Transaction(_)
        | KafkaError::MessageConsumptionFatal(_)
        | KafkaError::Canceled
        | KafkaError::Nul(_) => Failure::Fatal,
        _ => Failure::Retriable,
    }
}

/// Whether no retry can produce the record.
pub(super) fn is_hopeless(error: &KafkaError) -> bool {
    matches!(
        error,
        KafkaError::MessageProduction(
            RDKafkaErrorCode::MessageSizeTooLarge
                | RDKafkaErrorCode::UnknownTopic
                | RDKafkaErrorCode::UnknownPartition
                | RDKafkaErrorCode::UnknownTopicOrPartition
                | RDKafkaErrorCode::TopicAuthorizationFailed
                | RDKafkaErrorCode::InvalidArgument
        ) | KafkaError::Nul(_)
    )
}
