//! Wire formats behind one trait: JSON for what users send and read, Protobuf for internal topics.
//!
//! An internal record is one byte of version, then Protobuf. Within a version fields are only
//! added, as Protobuf allows; a change that old readers would misread takes a new version byte.

use bytes::{Buf, Bytes};
use prost::Message;
use prost::encoding::{WireType, decode_key, decode_varint};

use crate::{
    Aggregate, Control, Declaration, Duplicate, EntityTiles, EntityVersion, Entry, Event, FeatureVector,
    Label, LateEvent, ModelAnnouncement, Prediction, RawEvent, SourceSet, Ticks,
};

/// Why bytes could not be read as a record.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// No bytes at all.
    #[error("{record}: empty value")]
    Empty {
        /// Name of the record type.
        record: &'static str,
    },
    /// Written by a version that this code does not know.
    #[error("{record}: version {found} is unknown, this build reads up to {known}; upgrade it first")]
    Version {
        /// Name of the record type.
        record: &'static str,
        /// Version in the bytes.
        found: u32,
        /// Newest version that this code reads.
        known: u32,
    },
    /// Written by a version whose records are no longer read.
    #[error(
        "{record}: version {found} is of an older build, this one reads {oldest} and up; begin with an empty \
         topic"
    )]
    Retired {
        /// Name of the record type.
        record: &'static str,
        /// Version in the bytes.
        found: u32,
        /// Oldest version that this code reads.
        oldest: u32,
    },
    /// Not Protobuf of this message.
    #[error("{record}: {source}")]
    Protobuf {
        /// Name of the record type.
        record: &'static str,
        /// What prost says.
        source: prost::DecodeError,
    },
    /// Not JSON of this record.
    #[error("{record}: {source}")]
    Json {
        /// Name of the record type.
        record: &'static str,
        /// What serde says.
        source: serde_json::Error,
    },
    /// A vector made under other declarations than the reader's.
    #[error(
        "{record}: vector schema {found:016x} is not {expected:016x}, this reader's; give it the declarations \
         that made the vector, or a table of its own"
    )]
    Fingerprint {
        /// Name of the record type.
        record: &'static str,
        /// Fingerprint in the record.
        found: u64,
        /// Fingerprint of the reader's schema.
        expected: u64,
    },
    /// Valid bytes that make no record (an envelope without a body).
    #[error("{record}: {what}")]
    Invalid {
        /// Name of the record type.
        record: &'static str,
        /// What is wrong.
        what: &'static str,
    },
}

/// A record type with a name and a version.
pub trait Record: Sized {
    /// Name in errors and fixtures.
    const NAME: &'static str;
    /// Version that this code writes.
    const VERSION: u8;
    /// Oldest version that this code reads.
    const OLDEST: u8 = 1;
}

/// A wire format for records of type `T`.
pub trait Codec<T: Record> {
    /// Appends the record's bytes.
    fn encode(record: &T, out: &mut Vec<u8>);

    /// Reads a record.
    ///
    /// # Errors
    /// Bytes of another record, of an unknown version, or damaged.
    fn decode(bytes: &Bytes) -> Result<T, DecodeError>;

    /// The record's bytes.
    fn to_vec(record: &T) -> Vec<u8> {
        let mut out = Vec::new();
        Self::encode(record, &mut out);
        out
    }
}

/// Versioned Protobuf.
#[derive(Debug, Clone, Copy)]
pub struct Protobuf;

/// JSON, one object.
#[derive(Debug, Clone, Copy)]
pub struct Json;

/// A record whose Rust type is its Protobuf message.
pub trait ProtobufRecord: Record + Message + Default {
    /// Whether what Protobuf has read is a record; says what is wrong.
    fn check(&self) -> Result<(), &'static str> {
        Ok(())
    }
}

impl<T: ProtobufRecord> Codec<T> for Protobuf {
    fn encode(record: &T, out: &mut Vec<u8>) {
        out.reserve(1 + record.encoded_len());
        out.push(T::VERSION);
        record.encode_raw(out);
    }

    fn decode(bytes: &Bytes) -> Result<T, DecodeError> {
        let record = T::decode(versioned::<T>(bytes)?)
            .map_err(|source| DecodeError::Protobuf { record: T::NAME, source })?;
        match record.check() {
            Ok(()) => Ok(record),
            Err(what) => Err(DecodeError::Invalid { record: T::NAME, what }),
        }
    }
}

/// Checks the version byte and gives what follows it.
pub(crate) fn versioned<T: Record>(bytes: &Bytes) -> Result<Bytes, DecodeError> {
    let mut rest = bytes.clone();
    if rest.is_empty() {
        return Err(DecodeError::Empty { record: T::NAME });
    }
    let found = rest.get_u8();
    if found == 0 || found > T::VERSION {
        return Err(DecodeError::Version {
            record: T::NAME,
            found: u32::from(found),
            known: u32::from(T::VERSION),
        });
    }
    if found < T::OLDEST {
        return Err(DecodeError::Retired {
            record: T::NAME,
            found: u32::from(found),
            oldest: u32::from(T::OLDEST),
        });
    }
    Ok(rest)
}

macro_rules! protobuf_records {
    ($($type:ty => $name:literal v $version:literal),* $(,)?) => {$(
        impl Record for $type {
            const NAME: &'static str = $name;
            const VERSION: u8 = $version;
        }
        impl ProtobufRecord for $type {}
    )*};
}
protobuf_records! {
    LateEvent => "late event" v 1,
    FeatureVector => "feature vector" v 1,
    Label => "label" v 1,
    Duplicate => "duplicate" v 1,
}

impl Record for Aggregate {
    const NAME: &'static str = "aggregate";
    const VERSION: u8 = 2;
    // The first held sums of one partition, for whoever reads them to add up.
    const OLDEST: u8 = 2;
}

impl ProtobufRecord for Aggregate {}

impl Record for EntityTiles {
    const NAME: &'static str = "entity tiles";
    const VERSION: u8 = 2;
    // The first had a record per key, which this code would read as an empty one.
    const OLDEST: u8 = 2;
}

impl ProtobufRecord for EntityTiles {
    fn check(&self) -> Result<(), &'static str> {
        crate::entity::check_tiles(self)
    }
}

/// The envelope of the `events` log. Tags 2 and up are control records.
#[derive(Clone, PartialEq, prost::Message)]
struct Envelope {
    #[prost(oneof = "Body", tags = "1, 2, 3, 5, 6")]
    body: Option<Body>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Body {
    #[prost(message, tag = "1")]
    Event(Box<Event>),
    #[prost(message, tag = "2")]
    Ticks(Ticks),
    #[prost(message, tag = "3")]
    Sources(SourceSet),
    #[prost(message, tag = "5")]
    Entities(EntityVersion),
    #[prost(message, tag = "6")]
    Declared(Declaration),
}

impl Record for Entry {
    const NAME: &'static str = "entry of events";
    const VERSION: u8 = 1;
}

impl Codec<Entry> for Protobuf {
    fn encode(record: &Entry, out: &mut Vec<u8>) {
        // The envelope is written by hand so that an event is not copied to be encoded.
        fn field(tag: u32, message: &impl Message, out: &mut Vec<u8>) {
            prost::encoding::message::encode(tag, message, out);
        }
        out.push(Entry::VERSION);
        match record {
            Entry::Event(event) => field(1, event.as_ref(), out),
            Entry::Control(Control::Ticks(ticks)) => field(2, ticks, out),
            Entry::Control(Control::Sources(set)) => field(3, set, out),
            Entry::Control(Control::Entities(version)) => field(5, version, out),
            Entry::Control(Control::Declared(declaration)) => field(6, declaration, out),
        }
    }

    fn decode(bytes: &Bytes) -> Result<Entry, DecodeError> {
        let envelope = Envelope::decode(versioned::<Entry>(bytes)?)
            .map_err(|source| DecodeError::Protobuf { record: Entry::NAME, source })?;
        match envelope.body {
            Some(Body::Event(event)) => Ok(Entry::Event(event)),
            Some(Body::Ticks(ticks)) => Ok(Entry::Control(Control::Ticks(ticks))),
            Some(Body::Sources(set)) => Ok(Entry::Control(Control::Sources(set))),
            Some(Body::Entities(version)) => match crate::entity::check(&version.blocks) {
                Ok(()) => Ok(Entry::Control(Control::Entities(version))),
                Err(what) => Err(DecodeError::Invalid { record: Entry::NAME, what }),
            },
            Some(Body::Declared(declaration)) => {
                if declaration.fingerprint == Declaration::fingerprint_of(&declaration.text) {
                    Ok(Entry::Control(Control::Declared(declaration)))
                } else {
                    let what =
                        "declarations do not have the fingerprint of their text; the record is damaged";
                    Err(DecodeError::Invalid { record: Entry::NAME, what })
                }
            }
            None => Err(DecodeError::Invalid {
                record: Entry::NAME,
                what: "no body, or a control record that this build does not know (or no longer: a version of \
                       shared entities with windows); upgrade it first, or begin with an empty topic",
            }),
        }
    }
}

impl Entry {
    /// Reads a record over this entry: an event over an event, whose texts keep their memory. As
    /// [`Protobuf::decode`] does otherwise.
    ///
    /// # Errors
    /// As that.
    pub fn read(&mut self, bytes: &Bytes) -> Result<(), DecodeError> {
        let mut rest = versioned::<Self>(bytes)?;
        let is_event = decode_key(&mut rest).is_ok_and(|key| key == (1, WireType::LengthDelimited))
            && decode_varint(&mut rest).is_ok_and(|length| length == rest.len() as u64);
        if let Self::Event(event) = self
            && is_event
        {
            event.clear();
            if event.merge(rest).is_ok() {
                return Ok(());
            }
        }
        // Of another kind, or not as we write it: prost says what is wrong with it.
        *self = Protobuf::decode(bytes)?;
        Ok(())
    }
}

/// A record that is written as JSON; its `version` field, where it has one, is checked on reading.
pub trait JsonRecord: Record + serde::Serialize + serde::de::DeserializeOwned {
    /// The version in the record, if it carries one.
    fn version(&self) -> Option<u32>;
}

impl<T: JsonRecord> Codec<T> for Json {
    fn encode(record: &T, out: &mut Vec<u8>) {
        // These types serialise without error: no map with keys that are no text, no failing impl.
        let written = serde_json::to_writer(&mut *out, record);
        debug_assert!(written.is_ok(), "{} must serialise", T::NAME);
    }

    fn decode(bytes: &Bytes) -> Result<T, DecodeError> {
        if bytes.is_empty() {
            return Err(DecodeError::Empty { record: T::NAME });
        }
        let record: T =
            serde_json::from_slice(bytes).map_err(|source| DecodeError::Json { record: T::NAME, source })?;
        match record.version() {
            Some(found) if found == 0 || found > u32::from(T::VERSION) => {
                Err(DecodeError::Version { record: T::NAME, found, known: u32::from(T::VERSION) })
            }
            _ => Ok(record),
        }
    }
}

macro_rules! json_records {
    ($($type:ty => $name:literal v $version:literal, $get:expr);* $(;)?) => {$(
        impl Record for $type {
            const NAME: &'static str = $name;
            const VERSION: u8 = $version;
        }
        impl JsonRecord for $type {
            fn version(&self) -> Option<u32> {
                let get: fn(&$type) -> Option<u32> = $get;
                get(self)
            }
        }
    )*};
}
json_records! {
    RawEvent => "raw event" v 1, |_| None;
    Prediction => "prediction" v 2, |record| Some(record.version);
    ModelAnnouncement => "model announcement" v 1, |record| Some(record.version);
}
