//! What a client's error means for the loop.

use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use crate::core::Failure;

/// What a code says of our place, if it says that we have lost it.
pub(super) fn lost(code: RDKafkaErrorCode) -> Option<Failure> {
    match code {
        RDKafkaErrorCode::FencedInstanceId => Some(Failure::Replaced),
        RDKafkaErrorCode::Fenced
        | RDKafkaErrorCode::ProducerFenced
        | RDKafkaErrorCode::InvalidProducerEpoch => Some(Failure::Fenced),
        _ => None,
    }
}

/// What a client's fatal error means.
pub(super) fn of_fatal(code: RDKafkaErrorCode) -> Failure {
    lost(code).unwrap_or(Failure::Fatal)
}

/// What to do after `error`; `fatal` is the client's own fatal error, where it has one.
pub(super) fn classify(error: &KafkaError, fatal: Option<RDKafkaErrorCode>) -> Failure {
    if let Some(code) = fatal {
        return of_fatal(code);
    }
    let code = match error {
        KafkaError::Transaction(error) => Some(error.code()),
        KafkaError::ConsumerCommit(code) | KafkaError::MessageConsumptionFatal(code) => Some(*code),
        _ => None,
    };
    if let Some(failure) = code.and_then(lost) {
        return failure;
    }
    match error {
        KafkaError::Transaction(error) if error.is_fatal() => Failure::Fatal,
        KafkaError::Transaction(error) if error.txn_requires_abort() => Failure::Abortable,
        KafkaError::Transaction(error) if error.is_retriable() => Failure::Retriable,
        // A record of the transaction was not delivered; or the group has gone on without us.
        KafkaError::MessageProduction(_)
        | KafkaError::ConsumerCommit(
            RDKafkaErrorCode::IllegalGeneration
            | RDKafkaErrorCode::UnknownMemberId
            | RDKafkaErrorCode::StaleMemberEpoch
            | RDKafkaErrorCode::RebalanceInProgress,
        ) => Failure::Abortable,
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
