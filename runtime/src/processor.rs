//! The border between the loop and what it drives.
//!
//! A [`Processor`] is a pure fold: inputs in, outputs out, no clock, no randomness, no I/O. The
//! loop feeds it, sends what it puts out, and commits both together.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
pub use schemas::table::TopicRecord;

/// A partition of a topic. The name is the cluster's (with the deployment's prefix).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicPartition {
    /// Topic.
    pub topic: Arc<str>,
    /// Partition number.
    pub partition: i32,
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[{}]", self.topic, self.partition)
    }
}

/// A consumed record.
#[derive(Debug, Clone)]
pub struct InRecord {
    /// Topic that it came from.
    pub topic: Arc<str>,
    /// The record, its partition and offset included.
    pub record: TopicRecord,
}

impl InRecord {
    /// Where it came from.
    pub fn topic_partition(&self) -> TopicPartition {
        TopicPartition { topic: Arc::clone(&self.topic), partition: self.record.partition }
    }
}

/// A record to produce. Cheap to clone: an aborted transaction sends the same bytes again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutRecord {
    /// Topic, with prefix.
    pub topic: Arc<str>,
    /// Partition; `None` lets the key decide (murmur2, as Java clients do).
    pub partition: Option<i32>,
    /// Key.
    pub key: Option<Bytes>,
    /// Value; `None` is a tombstone.
    pub value: Option<Bytes>,
    /// Headers, in order.
    pub headers: Vec<(String, Option<Bytes>)>,
}

/// Where a partition's fold begins or stands: the next offset to read, and the metadata that was
/// committed with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    /// Which partition.
    pub partition: TopicPartition,
    /// Next offset to read.
    pub offset: i64,
    /// Text committed beside the offset; empty where there is none.
    pub metadata: String,
}

/// What a processor is told.
#[derive(Debug)]
pub enum Input<'a> {
    /// The partitions of the unit and where their folds begin: the first input, once.
    Assigned {
        /// One per partition of the unit.
        positions: &'a [Position],
        /// The wall clock, ms since 1970 UTC. Only ingest may let it change an output.
        now_ms: i64,
    },
    /// Records, in each partition's order; partitions of a unit may be mixed.
    Records {
        /// At least one.
        records: &'a [InRecord],
        /// The wall clock, as above.
        now_ms: i64,
    },
    /// A poll succeeded and gave nothing more for now.
    Drained {
        /// The partitions of the unit that stand at their end, as far as the broker said in a
        /// fetch that succeeded.
        at_end: &'a [TopicPartition],
        /// The wall clock, as above.
        now_ms: i64,
    },
}

/// What a step gives back. The loop empties it after each step.
#[derive(Debug, Default)]
pub struct Outputs {
    /// To be produced, in this order.
    pub records: Vec<OutRecord>,
    /// Positions to commit with them, for processors that say so themselves
    /// ([`Positions::Reported`]); the last of a partition counts.
    pub positions: Vec<Position>,
    /// Partitions to stop reading until a later step leaves them out: back-pressure.
    pub pause: Vec<TopicPartition>,
    /// The state cannot take this input, and another one that the factory now makes of the same log can: the
    /// unit is dropped, with all that is not committed, and built anew. What else this step gave is dropped.
    pub rebuild: bool,
}

/// Who says how far a unit has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Positions {
    /// Everything handed to `step` is done when `step` returns.
    Implied,
    /// The processor holds records back and reports positions in [`Outputs`].
    Reported,
}

/// A failed step. There is no "skip": a processor that can refuse a record does so by an output.
#[derive(Debug, thiserror::Error)]
#[error("{what} (fatal: restarting will meet it again)")]
pub struct StepError {
    /// What failed, where, and what mends it.
    pub what: String,
}

impl StepError {
    /// From anything that can be said.
    pub fn new(what: impl fmt::Display) -> Self {
        Self { what: what.to_string() }
    }
}

/// A pure fold over the records of one unit.
pub trait Processor: Send {
    /// Folds one input.
    ///
    /// # Errors
    /// What cannot be folded and cannot be refused: the service stops.
    fn step(&mut self, input: Input<'_>, out: &mut Outputs) -> Result<(), StepError>;

    /// Folds one input whose outputs were committed before and are dropped now: what serves these alone may be
    /// left out.
    ///
    /// # Errors
    /// As [`Processor::step`].
    fn replay(&mut self, input: Input<'_>, out: &mut Outputs) -> Result<(), StepError> {
        self.step(input, out)
    }

    /// The state, for a snapshot; `None` for a processor without any, and for one with an image.
    fn snapshot(&self) -> Option<Vec<u8>> {
        None
    }

    /// A state that takes too long to be written at once.
    fn image(&mut self) -> Option<&mut dyn Image> {
        None
    }
}

/// A state that is written part by part while its processor goes on to fold.
pub trait Image {
    /// Begins an image of the state as it is now: whole, or what has changed since the last whole one was
    /// begun. One that is under way is given up.
    fn begin(&mut self, whole: bool);

    /// The next part of the image, of about so many bytes; `None` when all has been given. The parts
    /// together are the snapshot; those of changes stand behind those of the whole one.
    ///
    /// # Errors
    /// State that cannot be read back from where it was put aside: the service stops.
    fn next_part(&mut self, bytes: usize) -> Result<Option<Vec<u8>>, StepError>;
}

/// A unit of state: the partitions that one processor folds together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UnitId(pub u32);

/// Another service whose work is done in the same transactions as one's own: see [`crate::chain`].
#[derive(Debug, Clone)]
pub struct StandIn {
    /// That service: its group's offsets are committed with one's own, and it never works at the same time.
    pub service: Arc<str>,
    /// The topic that it would read, with prefix: an output of one's own. Its partitions are those of the input,
    /// by number.
    pub topic: Arc<str>,
    /// Of which offset of the input a record of `topic` was made.
    pub made_of: MadeOf,
}

/// The offset of the record that a record was made of, in the partition of the same number.
pub type MadeOf = fn(&InRecord) -> Result<i64, StepError>;

/// Makes the processors of a service.
pub trait ProcessorFactory: Send + Sync {
    /// Topics it reads, with prefix.
    fn inputs(&self) -> Vec<Arc<str>>;

    /// Topics it writes, with prefix.
    fn outputs(&self) -> Vec<Arc<str>>;

    /// Which unit a partition belongs to: `UnitId(partition)` for one processor per partition,
    /// a constant for one over all that the worker is assigned.
    fn unit(&self, partition: &TopicPartition) -> UnitId;

    /// Who says how far a unit has come.
    fn positions(&self) -> Positions {
        Positions::Implied
    }

    /// For processors with state: the fingerprint of what the state means (format version and
    /// declarations). A snapshot of another fingerprint is not restored. `None`: no state, no
    /// snapshots, no replay.
    fn state_fingerprint(&self) -> Option<u64> {
        None
    }

    /// The service whose work this one does as well, if it does.
    fn stands_in(&self) -> Option<&StandIn> {
        None
    }

    /// A processor for the unit, from a snapshot's bytes or from nothing. Behind a whole [`Image`] may stand
    /// one of changes.
    ///
    /// # Errors
    /// A snapshot that cannot be read.
    fn create(&self, unit: UnitId, snapshot: Option<&[u8]>) -> Result<Box<dyn Processor>, StepError>;
}
