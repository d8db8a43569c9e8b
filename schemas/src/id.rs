//! Newtypes for what would otherwise be bare integers.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A partition number of a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Partition(pub i32);

/// An offset in a partition. As a position it is that of the next record to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Offset(pub i64);

/// A time in the customer's world: milliseconds since 1970-01-01 UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EventTimeMs(pub i64);

impl EventTimeMs {
    /// The first time that Salience holds: 1970-01-01T00:00:00Z.
    pub const MIN: Self = Self(0);
    /// The last: 9999-12-31T23:59:59.999Z. Later ones fit no table (dates have four-digit years).
    pub const MAX: Self = Self(253_402_300_799_999);
}

/// Where an event stands in the `events` log: its id for everything downstream of ingest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, prost::Message)]
pub struct Place {
    /// Partition of `events`.
    #[prost(int32, tag = "1")]
    pub partition: i32,
    /// Offset in that partition.
    #[prost(int64, tag = "2")]
    pub offset: i64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.partition, self.offset)
    }
}

macro_rules! display_as_number {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    )*};
}
display_as_number!(Partition, Offset, EventTimeMs);
