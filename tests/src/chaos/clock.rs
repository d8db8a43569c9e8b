//! The wall clock of the chaos test: faults, patience and latency are matters of real time.

use std::time::{Duration, Instant, SystemTime};

/// Now.
#[expect(clippy::disallowed_methods, reason = "faults happen in real time; no core sees it")]
pub(super) fn now() -> Instant {
    Instant::now()
}

/// Now, ms since 1970 UTC, as records are stamped.
#[expect(clippy::disallowed_methods, reason = "compared with the time stamps of records")]
pub(super) fn wall_ms() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as i64)
}

/// Asks until there is an answer; `None` when `patience` has run out.
pub(super) fn wait_for<T>(patience: Duration, mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let began = now();
    loop {
        let answer = ask();
        if answer.is_some() || began.elapsed() >= patience {
            return answer;
        }
        // Between two looks at another process; the condition decides, not this pause.
        std::thread::sleep(Duration::from_millis(50));
    }
}
