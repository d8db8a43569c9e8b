//! How far a backfill has come, and what a person sees of it: a bar where standard error is a
//! terminal, lines of the log elsewhere.

use std::io::IsTerminal as _;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// Between two looks.
const LOOK: Duration = Duration::from_millis(100);
/// Between two lines of the log.
const LINE: Duration = Duration::from_secs(10);

/// Counts of all partitions together.
#[derive(Debug)]
pub(super) struct Progress {
    /// Offsets to pass.
    total: i64,
    passed: AtomicI64,
    /// Of these, passed by an earlier run.
    skipped: AtomicI64,
    records: AtomicU64,
    vectors: AtomicU64,
    over: AtomicBool,
}

impl Progress {
    /// Nothing done of so many offsets.
    pub(super) fn new(total: i64) -> Self {
        Self {
            total,
            passed: AtomicI64::new(0),
            skipped: AtomicI64::new(0),
            records: AtomicU64::new(0),
            vectors: AtomicU64::new(0),
            over: AtomicBool::new(false),
        }
    }

    /// So many offsets were folded by an earlier run.
    pub(super) fn pass(&self, offsets: i64) {
        self.passed.fetch_add(offsets, Ordering::Relaxed);
        self.skipped.fetch_add(offsets, Ordering::Relaxed);
    }

    /// So many records were folded, and the position moved on by so many offsets.
    pub(super) fn folded(&self, records: u64, offsets: i64) {
        self.records.fetch_add(records, Ordering::Relaxed);
        self.passed.fetch_add(offsets, Ordering::Relaxed);
    }

    /// So many vectors are in the table now.
    pub(super) fn wrote(&self, vectors: u64) {
        self.vectors.fetch_add(vectors, Ordering::Relaxed);
    }

    /// Records folded by this run.
    pub(super) fn records(&self) -> u64 {
        self.records.load(Ordering::Relaxed)
    }

    /// Vectors written by this run.
    pub(super) fn vectors(&self) -> u64 {
        self.vectors.load(Ordering::Relaxed)
    }

    /// How much of all is done, 0 to 1.
    pub(super) fn share(&self) -> f64 {
        self.passed.load(Ordering::Relaxed) as f64 / self.total.max(1) as f64
    }

    /// Nothing more is to be done: all is, or something failed.
    pub(super) fn end(&self) {
        self.over.store(true, Ordering::SeqCst);
    }

    /// Whether [`Progress::end`] was said.
    pub(super) fn is_over(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }

    /// Runs `work` while its progress is shown.
    pub(super) fn shown<T>(&self, work: impl FnOnce() -> T) -> T {
        std::thread::scope(|scope| {
            let watcher =
                scope.spawn(|| if std::io::stderr().is_terminal() { self.bar() } else { self.lines() });
            let done = work();
            self.end();
            watcher.thread().unpark();
            done
        })
    }

    fn bar(&self) {
        let bar = ProgressBar::new(self.total.max(0) as u64);
        // A template of our own, with known keys; the plain bar if the library thinks otherwise.
        if let Ok(style) = ProgressStyle::with_template("{wide_bar} {percent:>3}% {msg}") {
            bar.set_style(style);
        }
        let began = now();
        while !self.is_over() {
            bar.set_position(self.passed.load(Ordering::Relaxed).max(0) as u64);
            bar.set_message(self.message(began.elapsed()));
            bar.tick();
            std::thread::park_timeout(LOOK);
        }
        bar.finish_and_clear();
    }

    fn lines(&self) {
        let (began, mut last) = (now(), now());
        while !self.is_over() {
            if last.elapsed() >= LINE {
                tracing::info!("{:.0} % {}", self.share() * 100.0, self.message(began.elapsed()));
                last = now();
            }
            std::thread::park_timeout(LOOK);
        }
    }

    /// Vectors, speed, time left.
    fn message(&self, took: Duration) -> String {
        let seconds = took.as_secs_f64().max(1e-3);
        let passed = self.passed.load(Ordering::Relaxed);
        let done = passed - self.skipped.load(Ordering::Relaxed);
        let eta = (done > 0).then(|| (self.total - passed).max(0) as f64 * seconds / done as f64);
        let eta = eta.map_or_else(String::new, |left| {
            let left = left.ceil() as u64;
            format!(" ETA {}:{:02}", left / 60, left % 60)
        });
        format!("{} vectors {:.0} records/s{eta}", self.vectors(), self.records() as f64 / seconds)
    }
}

#[expect(clippy::disallowed_methods, reason = "shown to a person; no output follows from it")]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_earlier_run_did_counts_as_done_but_not_as_speed() {
        let progress = Progress::new(1_000);
        progress.pass(400);
        progress.folded(90, 100);
        progress.wrote(60);
        assert!((progress.share() - 0.5).abs() < 1e-9);
        assert_eq!(progress.message(Duration::from_secs(10)), "60 vectors 9 records/s ETA 0:50");
        assert_eq!(progress.shown(|| 7), 7);
    }
}
