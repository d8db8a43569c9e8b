//! The wall clock, where bookkeeping of files and commits needs it. Nothing here reaches a row.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Now, ms since 1970 UTC.
#[expect(clippy::disallowed_methods, reason = "times of files and their retention; no row depends on it")]
pub(crate) fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}

/// Now, for intervals.
#[expect(clippy::disallowed_methods, reason = "when to commit and how long it took; no row depends on it")]
pub(crate) fn instant() -> Instant {
    Instant::now()
}
