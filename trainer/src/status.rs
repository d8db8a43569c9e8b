//! What the trainer is doing, for those who show it. Knows no terminal.

use std::sync::{Arc, Mutex, PoisonError};

/// A look at the trainer.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Snapshot {
    /// What it is doing.
    pub phase: Phase,
    /// Runs that ended with a version, published or not.
    pub runs: u64,
    /// Versions published by this process.
    pub published: u64,
    /// The champion's version, if there is one.
    pub champion: Option<String>,
    /// The version of the last run.
    pub last_version: Option<String>,
    /// What the gate said of it.
    pub last_decision: Option<crate::Decision>,
    /// Why the last try gave no version, if it gave none.
    pub last_failure: Option<String>,
    /// Validation loss of the run under way, oldest first.
    pub validation_losses: Vec<f64>,
    /// The last step of the run under way.
    pub progress: Option<model::Progress>,
    /// Training examples of the run under way or the last.
    pub rows: usize,
}

/// What a trainer does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Phase {
    /// Waits for its schedule.
    #[default]
    Waiting,
    /// Reads labels and vectors.
    Reading,
    /// Learns.
    Training,
    /// Compares challenger and champion.
    Judging,
}

impl Phase {
    /// One word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Reading => "reading",
            Self::Training => "training",
            Self::Judging => "judging",
        }
    }
}

/// A shared look: the trainer writes, anyone reads. Clones are one.
#[derive(Debug, Clone, Default)]
pub struct Status(Arc<Mutex<Snapshot>>);

impl Status {
    /// Nothing has happened yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// How it stands now.
    pub fn get(&self) -> Snapshot {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn update(&self, change: impl FnOnce(&mut Snapshot)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}
