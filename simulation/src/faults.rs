//! What goes wrong: by chance, at a given call, or because somebody built it in.

use runtime::processor::OutRecord;

/// How often what goes wrong at a call, in a thousand.
#[derive(Debug, Clone, Copy, Default)]
pub struct Faults {
    /// A call fails and may be made again; sometimes it has happened all the same.
    pub retriable: u64,
    /// A call fails and the transaction must be aborted.
    pub abortable: u64,
    /// A commit is made and reported as not known.
    pub doubtful: u64,
    /// A worker dies before or after a call.
    pub crash: u64,
    /// The clients break for good.
    pub fatal: u64,
    /// The process stops for a while, a call before it, and then goes on with that call.
    pub freeze: u64,
}

/// Where a worker dies: at its n-th call, before or after the broker has done it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CrashAt {
    /// Which call of the worker, from 0.
    pub call: u64,
    /// Whether the broker has done it.
    pub after: bool,
}

/// A mistake put in on purpose, to see that a check finds it.
#[derive(Debug, Clone, Copy, Default)]
pub enum Sabotage {
    /// None.
    #[default]
    None,
    /// Offsets are committed when they are sent, not with the transaction.
    OffsetsOutside,
    /// A snapshot says that it stands one record before the last that is in it.
    SnapshotLate,
    /// One in three of the records that this holds for is never written.
    Lose(fn(&OutRecord) -> bool),
}
