//! `bench train` and `bench infer`: our network's speed beside `PyTorch`'s and ONNX Runtime's, of the
//! same function, on the same threads, turn by turn in one run.

mod case;
pub mod infer;
mod peer;
mod roofline;
pub mod train;

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

/// What the command line says.
#[derive(Debug, Clone)]
pub struct Options {
    /// The Python of the peers; else `TEST_PYTHON`, else that of `tests/peers/setup`.
    pub python: Option<PathBuf>,
    /// Threads of each side; 0: all cores.
    pub threads: usize,
}

impl Options {
    fn threads(&self) -> usize {
        let cores = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        if self.threads == 0 { cores() } else { self.threads }
    }

    /// Runs on a pool of that many threads.
    fn on_threads<T: Send>(&self, f: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(self.threads()).build();
        pool.context("cannot start threads")?.install(f)
    }
}

/// A folder that is gone when this is.
pub(super) struct Folder(PathBuf);

impl Folder {
    pub(super) fn new(name: &str) -> Result<Self> {
        let path = std::env::temp_dir().join(format!("salience-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self(path))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What is left behind lies in the system's folder for such things.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The middle one.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The largest difference between two sides' logits; peers must compute the same function.
fn furthest(ours: &[f32], theirs: &[f64]) -> Result<f64> {
    anyhow::ensure!(ours.len() == theirs.len(), "a peer gave {} of {} logits", theirs.len(), ours.len());
    Ok(ours.iter().zip(theirs).map(|(ours, theirs)| (f64::from(*ours) - theirs).abs()).fold(0.0, f64::max))
}

/// Furthest that logits may lie apart.
const TOLERANCE: f64 = 1e-4;

/// A number, or a dash where it was not measured.
struct Maybe(Option<f64>, usize);

impl fmt::Display for Maybe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(value) => write!(f, "{value:>10.digits$}", digits = self.1),
            None => write!(f, "{:>10}", "-"),
        }
    }
}
