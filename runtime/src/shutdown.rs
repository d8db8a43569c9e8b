//! Stopping together: one flag for all parts of a process, set by a signal, by a caller, or by the
//! first part that fails. Knows nothing of what the parts do.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

/// The exit code after a part has failed.
pub const FAILED: i32 = 1;

/// The exit code when a second signal cut the stopping short.
const CUT_SHORT: i32 = 130;

/// The flag that stops every part of a process. Cheap to clone; all clones are one.
#[derive(Clone, Default)]
pub struct Shutdown {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    token: CancellationToken,
    draining: AtomicBool,
    exit_code: AtomicI32,
    failure: Mutex<Option<String>>,
    lock: Mutex<()>,
    changed: Condvar,
}

impl fmt::Debug for Shutdown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shutdown").field("set", &self.is_set()).field("exit_code", &self.exit_code()).finish()
    }
}

impl Shutdown {
    /// A flag that is not set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether everything should stop.
    pub fn is_set(&self) -> bool {
        self.inner.token.is_cancelled()
    }

    /// Asks everything to stop. The exit code stays as it is.
    pub fn set(&self) {
        self.inner.token.cancel();
        let _held = self.inner.lock.lock().unwrap_or_else(PoisonError::into_inner);
        self.inner.changed.notify_all();
    }

    /// Asks everything to stop for good rather than for a restart: what is kept for one's own return (the
    /// membership of a consumer group) is given up, so that others take over at once.
    pub fn drain(&self) {
        self.inner.draining.store(true, Ordering::SeqCst);
        self.set();
    }

    /// Whether everything should stop for good.
    pub fn is_draining(&self) -> bool {
        self.inner.draining.load(Ordering::SeqCst)
    }

    /// Waits until everything should stop.
    pub async fn wait(&self) {
        self.inner.token.cancelled().await;
    }

    /// Sleeps on the calling thread; `true` as soon as everything should stop.
    pub fn sleep(&self, time: Duration) -> bool {
        let held = self.inner.lock.lock().unwrap_or_else(PoisonError::into_inner);
        let _held = self
            .inner
            .changed
            .wait_timeout_while(held, time, |()| !self.is_set())
            .unwrap_or_else(PoisonError::into_inner);
        self.is_set()
    }

    /// Waits on the calling thread until everything should stop.
    pub fn wait_blocking(&self) {
        while !self.sleep(Duration::from_hours(1)) {}
    }

    /// A token for tokio's combinators, cancelled when everything should stop.
    pub fn token(&self) -> CancellationToken {
        self.inner.token.clone()
    }

    /// Records that a part failed, and asks everything to stop. The first failure is kept.
    pub fn fail(&self, part: &str, error: &dyn fmt::Display) {
        tracing::error!(part, %error, "a part failed, stopping all");
        let mut failure = self.inner.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.get_or_insert_with(|| format!("{part}: {error}"));
        drop(failure);
        self.inner.exit_code.store(FAILED, Ordering::SeqCst);
        self.set();
    }

    /// The first failure, with the name of its part.
    pub fn failure(&self) -> Option<String> {
        self.inner.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What the process should exit with: 0, or [`FAILED`] after a failure.
    pub fn exit_code(&self) -> i32 {
        self.inner.exit_code.load(Ordering::SeqCst)
    }

    /// Watches over a part. A part that ends without [`Guard::finish`], by a panic or by a way
    /// that nobody thought of, counts as failed.
    pub fn guard(&self, part: impl Into<String>) -> Guard {
        Guard { shutdown: self.clone(), part: part.into(), finished: false }
    }

    /// Sets the flag at SIGINT or SIGTERM; a second signal ends the process at once.
    ///
    /// # Errors
    /// The signals cannot be caught or the thread cannot be started.
    pub fn on_signals(&self) -> std::io::Result<()> {
        use tokio::signal::unix::{SignalKind, signal};

        let shutdown = self.clone();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (mut interrupt, mut terminate) = {
            let _entered = runtime.enter();
            (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)
        };
        std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
            runtime.block_on(async move {
                let mut next = async || {
                    tokio::select! {
                        _ = interrupt.recv() => "SIGINT",
                        _ = terminate.recv() => "SIGTERM",
                    }
                };
                let signal = next().await;
                tracing::info!(signal, "stopping; a second signal stops at once");
                shutdown.set();
                next().await;
                std::process::exit(CUT_SHORT);
            });
        })?;
        Ok(())
    }
}

/// Watches over one part of the process; made by [`Shutdown::guard`].
#[derive(Debug)]
pub struct Guard {
    shutdown: Shutdown,
    part: String,
    finished: bool,
}

impl Guard {
    /// The part has ended. An error stops all the others and sets the exit code.
    pub fn finish<E: fmt::Display>(mut self, result: Result<(), E>) {
        self.finished = true;
        if let Err(error) = result {
            self.shutdown.fail(&self.part, &error);
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if !self.finished {
            let why = if std::thread::panicking() { "panicked" } else { "ended without a word" };
            self.shutdown.fail(&self.part, &why);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn one_failing_part_stops_the_others_and_sets_the_code() {
        let shutdown = Shutdown::new();
        let waiting = shutdown.clone();
        let other = std::thread::spawn(move || waiting.sleep(Duration::from_mins(1)));
        shutdown.guard("ingest").finish::<String>(Ok(()));
        assert!(!shutdown.is_set());
        shutdown.guard("scorer").finish(Err("no model"));
        shutdown.guard("lake").finish(Err("later"));
        assert!(other.join().unwrap());
        assert_eq!(shutdown.exit_code(), FAILED);
        assert_eq!(shutdown.failure().as_deref(), Some("scorer: no model"));
    }

    #[test]
    fn a_panicking_part_counts_as_failed() {
        let shutdown = Shutdown::new();
        let guarded = shutdown.clone();
        let part = std::thread::spawn(move || {
            let _guard = guarded.guard("features");
            panic!("as planned");
        });
        assert!(part.join().is_err());
        assert_eq!(shutdown.failure().as_deref(), Some("features: panicked"));
    }

    #[test]
    fn setting_it_is_no_failure() {
        let shutdown = Shutdown::new();
        assert!(!shutdown.sleep(Duration::from_millis(1)));
        shutdown.set();
        assert!(shutdown.sleep(Duration::from_mins(1)));
        assert_eq!(shutdown.exit_code(), 0);
        assert_eq!(shutdown.failure(), None);
        assert!(!shutdown.is_draining());
        shutdown.drain();
        assert!(shutdown.is_set() && shutdown.is_draining());
    }
}
