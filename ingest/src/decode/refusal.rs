//! Why a record was refused. Messages name fields, limits and sizes, never a value: any field of a
//! broken record may hold a person's id, and the record itself stands beside the message.

use std::fmt;

use schemas::Reason;

/// A refused record: where it goes is `dead-letters`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {message}", reason.as_str())]
pub struct Refusal {
    /// From the closed list.
    pub reason: Reason,
    /// In words: the field, what was expected.
    pub message: String,
}

impl Refusal {
    /// A refusal.
    pub fn new(reason: Reason, message: impl fmt::Display) -> Self {
        Self { reason, message: message.to_string() }
    }

    pub(super) fn missing(field: &str) -> Self {
        Self::new(Reason::MissingField, format_args!("{field} is absent or empty"))
    }

    pub(super) fn wrong_type(field: &str, expected: &str, found: &str) -> Self {
        Self::new(Reason::WrongType, format_args!("{field} must be {expected}, found {found}"))
    }

    pub(super) fn number(field: &str, expected: &str) -> Self {
        Self::new(Reason::InvalidNumber, format_args!("{field} must be {expected}"))
    }
}
