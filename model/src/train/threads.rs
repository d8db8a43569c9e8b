//! Threads of a training's own.

use rayon::{ThreadPool, ThreadPoolBuilder};

use super::TrainError;

/// So many threads, named `name` and a number.
pub(super) fn pool(name: &'static str, threads: usize) -> Result<ThreadPool, TrainError> {
    ThreadPoolBuilder::new()
        .num_threads(threads)
        .thread_name(move |number| format!("{name}-{number}"))
        .build()
        .map_err(|error| TrainError::Threads { threads, what: error.to_string() })
}
