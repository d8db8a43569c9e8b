//! What a person sees of a training: a bar where standard error is a terminal, lines of the log
//! elsewhere.

use std::io::IsTerminal as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use model::Progress;
use trainer::{Phase, Status};

/// Between two looks at the status.
const LOOK: Duration = Duration::from_millis(100);
/// Between two lines of the log.
const LINE: Duration = Duration::from_secs(10);

/// Runs `work` while its progress is shown.
pub(super) fn shown<T>(status: &Status, work: impl FnOnce() -> T) -> T {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            if std::io::stderr().is_terminal() { bar(status, &over) } else { lines(status, &over) }
        });
        let done = work();
        over.store(true, Ordering::SeqCst);
        watcher.thread().unpark();
        done
    })
}

/// How fast, since the first step that was seen.
struct Speed {
    began: Instant,
    first: Option<Progress>,
}

impl Speed {
    #[expect(clippy::disallowed_methods, reason = "shown to a person; no output follows from it")]
    fn new() -> Self {
        Self { began: Instant::now(), first: None }
    }

    /// Examples a second, and seconds left if nothing ends training early.
    fn of(&mut self, now: &Progress) -> Option<(f64, f64)> {
        let Some(first) = self.first else {
            *self = Self { first: Some(*now), ..Self::new() };
            return None;
        };
        let seconds = self.began.elapsed().as_secs_f64();
        let steps = (now.done - first.done) as f64;
        (steps > 0.0 && seconds > 0.0).then(|| {
            let left = now.total.saturating_sub(now.done) as f64;
            ((now.examples - first.examples) as f64 / seconds, left * seconds / steps)
        })
    }
}

fn bar(status: &Status, over: &AtomicBool) {
    let bar = ProgressBar::no_length();
    // A template of our own, with known keys; the plain bar if the library thinks otherwise.
    if let Ok(style) = ProgressStyle::with_template("{wide_bar} {pos}/{len} {msg}") {
        bar.set_style(style);
    }
    let mut speed = Speed::new();
    while !over.load(Ordering::SeqCst) {
        let now = status.get();
        match (now.phase, now.progress) {
            (Phase::Training, Some(progress)) => {
                bar.set_length(progress.total);
                bar.set_position(progress.done);
                bar.set_message(message(&progress, now.validation_losses.last(), speed.of(&progress)));
            }
            (phase, _) => bar.set_message(phase.as_str()),
        }
        bar.tick();
        std::thread::park_timeout(LOOK);
    }
    bar.finish_and_clear();
}

fn lines(status: &Status, over: &AtomicBool) {
    let mut speed = Speed::new();
    let (mut validations, mut last) = (0, None::<Instant>);
    while !over.load(Ordering::SeqCst) {
        let now = status.get();
        if let (Phase::Training, Some(progress)) = (now.phase, now.progress) {
            let fast = speed.of(&progress);
            let due = last.is_none_or(|last| last.elapsed() >= LINE);
            if due || now.validation_losses.len() > validations {
                tracing::info!("{}", message(&progress, now.validation_losses.last(), fast));
                validations = now.validation_losses.len();
                last = Some(Speed::new().began);
            }
        }
        std::thread::park_timeout(LOOK);
    }
}

/// Epoch, losses, speed, time left.
fn message(progress: &Progress, validation: Option<&f64>, speed: Option<(f64, f64)>) -> String {
    let validation = validation.map_or_else(String::new, |loss| format!(" validation {loss:.5}"));
    let speed = speed.map_or_else(String::new, |(examples, left)| {
        let left = left.ceil() as u64;
        format!(" {examples:.0} samples/s ETA {}:{:02}", left / 60, left % 60)
    });
    format!("epoch {}/{} loss {:.5}{validation}{speed}", progress.epoch + 1, progress.epochs, progress.loss)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn progress(done: u64) -> Progress {
        Progress {
            epoch: 1,
            epochs: 8,
            step: 4,
            steps: 10,
            loss: 0.25,
            gradient_norm: 1.0,
            validation_loss: None,
            done,
            total: 80,
            learning_rate: 0.001,
            examples: done * 32,
        }
    }

    #[test]
    fn a_message_names_epoch_losses_speed_and_time_left() {
        assert_eq!(message(&progress(14), None, None), "epoch 2/8 loss 0.25000");
        assert_eq!(
            message(&progress(14), Some(&0.5), Some((1_234.4, 61.2))),
            "epoch 2/8 loss 0.25000 validation 0.50000 1234 samples/s ETA 1:02"
        );
    }

    #[test]
    fn speed_counts_from_the_first_step_that_was_seen() {
        let mut speed = Speed::new();
        assert!(speed.of(&progress(40)).is_none(), "a resumed run has not done its first steps now");
        // At least 20 ms pass, which bounds the speed from above whatever the machine does.
        std::thread::sleep(Duration::from_millis(20));
        let (examples, left) = speed.of(&progress(60)).unwrap();
        assert!(examples > 0.0 && examples <= 20.0 * 32.0 / 0.02);
        assert!(left >= 0.02);
    }

    #[test]
    fn what_the_work_gives_comes_back() {
        assert_eq!(shown(&Status::new(), || 7), 7);
    }
}
