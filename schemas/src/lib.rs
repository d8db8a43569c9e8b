//! The records of Salience: plain types, their wire formats, their Arrow schemas, their versions.
//!
//! Knows no I/O: nothing here reads a socket, a file or a clock.

pub mod aggregate;
pub mod announcement;
pub mod clock;
pub mod codec;
pub mod dead_letter;
pub mod duration;
pub mod entity;
pub mod event;
pub mod id;
pub mod label;
pub mod prediction;
pub mod raw;
pub mod table;
pub mod topic;
pub mod vector;

pub use aggregate::Aggregate;
pub use announcement::ModelAnnouncement;
pub use clock::EventClock;
pub use codec::{Codec, DecodeError, Json, Protobuf, Record};
pub use dead_letter::{DeadLetter, Reason};
pub use entity::{EntityRow, EntitySums, EntityTiles, EntityVersion, HourBlock, SharedEntity, TileBlock};
pub use event::{
    Control, Declaration, Entry, Event, Kind, LateEvent, Origin, Source, SourceSet, Tick, Ticks,
};
pub use id::{EventTimeMs, Offset, Partition, Place};
pub use label::{Duplicate, Label};
pub use prediction::Prediction;
pub use raw::RawEvent;
pub use vector::{Behaviour, FeatureVector, VectorSchema};
