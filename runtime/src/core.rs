//! The consume-transform-produce loop as a pure state machine: events in, commands out.
//!
//! Knows no rdkafka, no thread, no clock (time comes with the events) and no store. A driver
//! executes one command at a time and answers each with one event; when there is no command, it
//! polls. The worker drives it against Kafka, the simulation against a broker in memory.
//!
//! What it guarantees, whatever fails and when: positions are committed with the outputs of all
//! records before them, once. An abort does not touch the folds: outputs are kept until a commit
//! has taken them, and the same bytes go out again. What is lost is dropped and rebuilt from what
//! is committed.

mod machine;
mod outbox;
mod rebuild;
mod standby;
mod unit;

pub use crate::config::Delivery;
pub use machine::{Core, Counters};
pub(crate) use rebuild::is_stateful;
pub use standby::{Finished, Job, Standby, Standbys};

use crate::processor::{InRecord, Position, StepError, TopicPartition, UnitId};
use crate::snapshot::{Snapshot, Wanted};

/// The times that the driver reads for the core.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Clock {
    /// The wall clock, ms since 1970 UTC. It may jump.
    pub wall_ms: i64,
    /// A clock that never goes back, in ms from anywhere.
    pub steady_ms: u64,
}

/// What the loop is told beyond its events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// Transactions, or at least once.
    pub delivery: Delivery,
    /// The longest time between two commits, ms.
    pub commit_interval_ms: u64,
    /// Whether to commit as soon as the input has been drained, where outputs can be read only then.
    pub idle_commit: bool,
    /// Time between two snapshots of a unit, ms.
    pub snapshot_interval_ms: u64,
    /// Outputs at which a commit is due before the interval is over.
    pub most_pending: usize,
    /// How long after a commit the next transaction begins at the earliest, ms, unless it is urgent: a coordinator
    /// that is asked before it has written the last one's markers lets its client wait for longer.
    pub rest_ms: u64,
}

/// What the group and the log say about a partition: the answer to [`Command::Look`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Which partition.
    pub partition: TopicPartition,
    /// The committed offset and its metadata; `None` where nothing was ever committed.
    pub committed: Option<(i64, String)>,
    /// First offset that the log holds.
    pub low: i64,
    /// Offset after the last one that a `read_committed` reader may see.
    pub high: i64,
}

impl Standing {
    /// The offset up to which outputs are committed: nothing beyond the log's beginning where none was.
    pub(crate) fn settled(&self) -> i64 {
        self.committed.as_ref().map_or(self.low, |(offset, _)| *offset)
    }
}

/// How a command failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// Not known to have happened; the same call again settles it.
    Retriable,
    /// The transaction has to be aborted.
    Abortable,
    /// The transactional id has another owner, or its transaction has outlived its time-out: a broker says the
    /// same of both.
    Fenced,
    /// Another member has taken this one's place in the group.
    Replaced,
    /// The clients are of no more use.
    Fatal,
    /// Something stands in the way that only an operator can mend.
    Refused,
}

/// What has happened.
#[derive(Debug)]
pub enum Event {
    /// The group gave these partitions, beside those it gave before.
    Assigned {
        /// They.
        partitions: Vec<TopicPartition>,
    },
    /// The group asks for these partitions back; they can still be committed.
    Revoked {
        /// They.
        partitions: Vec<TopicPartition>,
    },
    /// The group has given these partitions to somebody else.
    Lost {
        /// They.
        partitions: Vec<TopicPartition>,
    },
    /// A poll gave records.
    Records {
        /// In each partition's order.
        records: Vec<InRecord>,
        /// Now.
        clock: Clock,
    },
    /// A poll gave nothing, and the broker was heard from since the last time.
    Drained {
        /// The partitions that stand at their end.
        at_end: Vec<TopicPartition>,
        /// Now.
        clock: Clock,
    },
    /// A poll gave nothing, which says nothing of the broker.
    Quiet {
        /// Now.
        clock: Clock,
    },
    /// The service is to stop.
    Stop,
    /// Answer to [`Command::Look`].
    Looked(Vec<Standing>),
    /// Answer to [`Command::Load`].
    Loaded {
        /// Which unit was asked for.
        unit: UnitId,
        /// The newest snapshot that may be restored.
        found: Option<Snapshot>,
    },
    /// Answer to [`Command::Load`], too: a standby of the unit was at hand.
    TakenOver {
        /// Which unit was asked for.
        unit: UnitId,
        /// The state that was kept warm.
        standby: Standby,
    },
    /// Answer to [`Command::Produce`]: so many of [`Core::unsent`] are with the producer; fewer
    /// than all of them if its queue is full.
    Produced(usize),
    /// Answer to all other commands: done.
    Done,
    /// Answer to any command: not done.
    Failed {
        /// How.
        failure: Failure,
        /// The client's words.
        what: String,
    },
}

/// What is to be done. Each is answered by one event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Find out what is committed for these partitions, and what their logs hold.
    Look(Vec<TopicPartition>),
    /// Find the newest snapshot that may be restored.
    Load(Wanted),
    /// Read exactly these partitions, from these offsets; this also accepts what the group gave
    /// or takes.
    Consume(Vec<(TopicPartition, i64)>),
    /// Stop reading exactly these partitions, and read all others.
    Pause(Vec<TopicPartition>),
    /// Begin a transaction.
    Begin,
    /// Hand the records of [`Core::unsent`] to the producer, in order.
    Produce,
    /// Wait until all that was produced is delivered (at least once).
    Flush,
    /// Add positions to the transaction, with the group's metadata.
    SendOffsets(Vec<Position>),
    /// Commit the transaction.
    Commit,
    /// Commit positions outside a transaction (at least once).
    CommitOffsets(Vec<Position>),
    /// Abort the transaction.
    Abort,
    /// Keep a snapshot; with the key of a whole one, as what has changed since that. Its failure costs time at
    /// the next restart, nothing else.
    Save(Snapshot, Option<u64>),
    /// All is committed and saved: close.
    Leave,
}

/// Why the loop cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum CoreError {
    /// A processor failed.
    #[error("unit {} failed: {source}", unit.0)]
    Step {
        /// Which unit.
        unit: UnitId,
        /// What failed.
        source: StepError,
    },
    /// The worker's transactional id is of no more use to it: it is built anew, and if somebody else has the
    /// id, the group says which of the two stays.
    #[error(
        "fenced: {what}. A transaction was open for longer than it may be, or another process runs with the \
         same service.instance (the worker must be built anew)"
    )]
    Fenced {
        /// The client's words.
        what: String,
    },
    /// Somebody else uses this worker's ids.
    #[error(
        "replaced in the group: {what}. Another process runs with the same service.instance (fatal; give each \
         its own, and start this one again)"
    )]
    Replaced {
        /// The client's words.
        what: String,
    },
    /// The group still has a member of this worker's name (KIP-848).
    #[error(
        "{what}. The group still has a member of this name: it was killed, and the broker waits for it until its \
         session ends (group.consumer.session.timeout.ms, 45 s by default), or another process runs with the same \
         service.instance (fatal; restart it if it is the only one)"
    )]
    Held {
        /// The client's words.
        what: String,
    },
    /// The cluster does not know the group protocol.
    #[error(
        "{what}. The cluster does not speak kafka.group_protocol = \"consumer\" (KIP-848): Apache Kafka does from \
         4.0 on, the embedded broker does not (fatal; set it to \"classic\")"
    )]
    Protocol {
        /// The client's words.
        what: String,
    },
    /// The clients are of no more use: the worker is built anew.
    #[error("{what} (the worker must be built anew)")]
    Client {
        /// The client's words.
        what: String,
    },
    /// Something stands in the way.
    #[error("{what} (fatal)")]
    Refused {
        /// What, and what mends it.
        what: String,
    },
    /// What was committed is not what the log holds.
    #[error(
        "the committed offset {committed} of {partition} is outside the log, which holds {low} to {high}: \
         records expired before they were read, or the topic was made anew (fatal; to go on from what is \
         there, delete the group's offsets)"
    )]
    OutOfRange {
        /// Which partition.
        partition: TopicPartition,
        /// What was committed.
        committed: i64,
        /// First offset of the log.
        low: i64,
        /// Offset after the last.
        high: i64,
    },
    /// State cannot be rebuilt.
    #[error(
        "the state of {partition} cannot be rebuilt: its log begins at {low}, and no usable snapshot stands \
         at or after that (fatal; restore a snapshot, or rebuild from the lake)"
    )]
    Cut {
        /// Which partition.
        partition: TopicPartition,
        /// First offset of the log.
        low: i64,
    },
}
