//! From a raw record's bytes to canonical events, or to the reason why not.
//!
//! No input makes it panic, recurse or allocate beyond a small multiple of the record's size; a
//! refusal's message never carries what could be a person's id. Knows no clock: whether a time
//! lies in the future is `horizon`'s business.

mod json;
mod mapping;
mod refusal;
mod rfc3339;
mod validate;

pub use mapping::Mapping;
pub use refusal::Refusal;
pub use rfc3339::parse as parse_rfc3339;
pub use validate::{Decoder, Events, RawPlace, RawTopic};

/// Event times are believed from here: 2000-01-01 UTC, ms. Seconds sent as milliseconds fall
/// before it.
pub const EARLIEST_MS: i64 = 946_684_800_000;
/// Event times are believed up to here: 2100-01-01 UTC, ms.
pub const LATEST_MS: i64 = 4_102_444_800_000;
