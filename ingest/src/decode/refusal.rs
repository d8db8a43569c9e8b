//! Why a record was refused. Messages name fields and limits; of values only what cannot be a
//! person's id.

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

/// Shows a text only if it looks like a word of a vocabulary (`kind`) or like a time: letters do
/// not mix with digits in the first, nor stand at all but for `T` and `Z` in the second.
pub(super) fn shown(text: &str) -> &str {
    let word = text.bytes().all(|b| b.is_ascii_alphabetic() || b == b'_' || b == b'-');
    let time = text.contains(':') && text.bytes().all(|b| b.is_ascii_digit() || b"TtZz:.+- ".contains(&b));
    if text.len() <= 32 && (word || time) { text } else { "a text" }
}
