//! Closing clients without waiting for ever.
//!
//! librdkafka (2.12.1) gives no bound on how long a consumer or a producer takes to close. One that hung after an
//! outage kept its worker from being built anew, and its process from ending. What does not close in time is left
//! behind with its threads: whoever is built in its place takes its name in the group and its transactional id from it.

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use super::measure;

/// How long clients may take to close.
const PATIENCE: Duration = Duration::from_secs(10);

/// Drops a worker's clients, and says where they are left behind.
pub(super) fn close(service: &str, worker: &str, clients: impl Send + 'static) {
    if !close_within(PATIENCE, clients) {
        measure::left_behind(service, worker, PATIENCE);
    }
}

/// Drops `clients` on a thread of their own, and waits for it at most `patience`; whether it was done by then.
pub(super) fn close_within(patience: Duration, clients: impl Send + 'static) -> bool {
    let (done, closed) = channel::<()>();
    let closing = thread::Builder::new().name("closing".to_owned()).spawn(move || {
        drop(clients);
        drop(done);
    });
    // Nothing is ever sent: the other end goes when the clients have gone. Where there is no thread they have gone
    // with the closure.
    closing.is_err() || closed.recv_timeout(patience) == Err(RecvTimeoutError::Disconnected)
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Barrier};

    use super::*;

    /// Takes until somebody else comes to the barrier.
    struct Slow(Arc<Barrier>);

    impl Drop for Slow {
        fn drop(&mut self) {
            self.0.wait();
        }
    }

    #[test]
    fn what_does_not_close_is_left_behind_and_what_does_is_waited_for() {
        let gate = Arc::new(Barrier::new(2));
        assert!(!close_within(Duration::from_millis(20), Slow(Arc::clone(&gate))));
        // It goes on closing meanwhile.
        gate.wait();
        let other = Arc::clone(&gate);
        let opens = thread::spawn(move || other.wait());
        assert!(close_within(Duration::from_mins(1), Slow(gate)));
        assert!(opens.join().is_ok());
    }
}
