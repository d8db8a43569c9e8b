//! Snapshots of a unit's state: the file's format, and which of several files may be restored.
//!
//! Knows no store and no broker: bytes in, bytes out. A snapshot is taken of committed state only,
//! so that replaying the log from its positions gives the state at any later commit.

use crate::processor::{Position, TopicPartition, UnitId};

/// First bytes of every file.
const MAGIC: &[u8; 8] = b"SALSNAP\0";
/// Version of the format.
const VERSION: u32 = 1;
/// Bytes of the checksum at the end.
const CHECKSUM: usize = 32;

/// The state of a unit, and where in the log it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Which unit.
    pub unit: UnitId,
    /// What the state means: [`crate::processor::ProcessorFactory::state_fingerprint`].
    pub fingerprint: u64,
    /// The committed positions that the state reflects, sorted by partition.
    pub positions: Vec<Position>,
    /// The processor's own bytes.
    pub payload: Vec<u8>,
}

/// Why a file is not restored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// No snapshot at all, or one that was cut off.
    #[error("it is cut short or no snapshot")]
    Malformed,
    /// Bits have changed since it was written.
    #[error("its checksum does not match its bytes")]
    Checksum,
    /// Written by another version of the format.
    #[error("it has format version {0}, this program reads {VERSION}")]
    Version(u32),
    /// Its state means something else than the service's.
    #[error("its fingerprint is {found:016x}, the declarations' is {wanted:016x}")]
    Fingerprint {
        /// In the file.
        found: u64,
        /// What the service restores.
        wanted: u64,
    },
    /// It is of another unit, or of other partitions than the unit now has.
    #[error("it is of another unit or of other partitions")]
    Unit,
    /// It holds records that are not committed.
    #[error("it stands at {at} in {partition}, behind which only {committed} is committed")]
    Ahead {
        /// Which partition.
        partition: TopicPartition,
        /// Where it stands.
        at: i64,
        /// The committed offset.
        committed: i64,
    },
    /// The log from its position on has been deleted in part.
    #[error("it stands at {at} in {partition}, whose log now begins at {low}")]
    Cut {
        /// Which partition.
        partition: TopicPartition,
        /// Where it stands.
        at: i64,
        /// Where the log begins.
        low: i64,
    },
}

/// What a snapshot must be to be restored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Which unit.
    pub unit: UnitId,
    /// What the state must mean.
    pub fingerprint: u64,
    /// The unit's partitions.
    pub bounds: Vec<Bounds>,
    /// Only snapshots older than the one with this key: it turned out to be unreadable.
    pub below: Option<u64>,
}

/// What of a partition's log can be replayed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bounds {
    /// Which partition.
    pub partition: TopicPartition,
    /// First offset that the log still holds.
    pub low: i64,
    /// The committed offset.
    pub committed: i64,
}

impl Snapshot {
    /// Orders the snapshots of a unit: the sum of its offsets, which only grows.
    pub fn key(&self) -> u64 {
        let offsets = self.positions.iter().map(|position| position.offset.max(0) as u64);
        offsets.fold(0, u64::saturating_add)
    }

    /// Its path in the store: `snapshots/{service}/{unit}/{key}.snap`.
    pub fn path(&self, service: &str) -> String {
        format!("{}/{:020}.snap", folder(service, self.unit), self.key())
    }

    /// The file's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.payload.len() + 256);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&self.fingerprint.to_le_bytes());
        bytes.extend_from_slice(&self.unit.0.to_le_bytes());
        bytes.extend_from_slice(&(self.positions.len() as u32).to_le_bytes());
        for position in &self.positions {
            put_text(&mut bytes, &position.partition.topic);
            bytes.extend_from_slice(&position.partition.partition.to_le_bytes());
            bytes.extend_from_slice(&position.offset.to_le_bytes());
            put_text(&mut bytes, &position.metadata);
        }
        bytes.extend_from_slice(&(self.payload.len() as u64).to_le_bytes());
        bytes.extend_from_slice(&self.payload);
        let checksum = blake3::hash(&bytes);
        bytes.extend_from_slice(checksum.as_bytes());
        bytes
    }

    /// Reads a file.
    ///
    /// # Errors
    /// A damaged file, or one of another format version.
    pub fn decode(bytes: &[u8]) -> Result<Self, Refused> {
        let content = bytes.len().checked_sub(CHECKSUM).ok_or(Refused::Malformed)?;
        let (content, checksum) = bytes.split_at(content);
        let mut reader = Reader(content);
        if reader.take(MAGIC.len())? != MAGIC {
            return Err(Refused::Malformed);
        }
        if blake3::hash(content).as_bytes() != checksum {
            return Err(Refused::Checksum);
        }
        let version = reader.u32()?;
        if version != VERSION {
            return Err(Refused::Version(version));
        }
        let fingerprint = reader.u64()?;
        let unit = UnitId(reader.u32()?);
        let mut positions = Vec::new();
        for _ in 0..reader.u32()? {
            let topic = reader.text()?;
            let partition = TopicPartition { topic: topic.into(), partition: reader.u32()? as i32 };
            let offset = reader.u64()? as i64;
            positions.push(Position { partition, offset, metadata: reader.text()?.to_owned() });
        }
        let length = usize::try_from(reader.u64()?).map_err(|_| Refused::Malformed)?;
        let payload = reader.take(length)?.to_vec();
        if reader.0.is_empty() {
            Ok(Self { unit, fingerprint, positions, payload })
        } else {
            Err(Refused::Malformed)
        }
    }

    /// Whether it may be restored.
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self, wanted: &Wanted) -> Result<(), Refused> {
        if self.fingerprint != wanted.fingerprint {
            return Err(Refused::Fingerprint { found: self.fingerprint, wanted: wanted.fingerprint });
        }
        if self.unit != wanted.unit || self.positions.len() != wanted.bounds.len() {
            return Err(Refused::Unit);
        }
        for bounds in &wanted.bounds {
            let at = self.positions.iter().find(|position| position.partition == bounds.partition);
            let at = at.ok_or(Refused::Unit)?.offset;
            let partition = bounds.partition.clone();
            if at > bounds.committed {
                return Err(Refused::Ahead { partition, at, committed: bounds.committed });
            }
            if at < bounds.low {
                return Err(Refused::Cut { partition, at, low: bounds.low });
            }
        }
        Ok(())
    }
}

/// The folder of a unit's snapshots.
pub fn folder(service: &str, unit: UnitId) -> String {
    format!("snapshots/{service}/{}", unit.0)
}

/// The key that a path names, `None` for a path that is no snapshot's.
pub fn key_of(path: &str) -> Option<u64> {
    path.rsplit('/').next()?.strip_suffix(".snap")?.parse().ok()
}

/// The paths worth trying, newest first.
pub fn newest_first(paths: Vec<String>, below: Option<u64>) -> Vec<String> {
    let mut keyed: Vec<(u64, String)> =
        paths.into_iter().filter_map(|path| Some((key_of(&path)?, path))).collect();
    keyed.retain(|(key, _)| below.is_none_or(|below| *key < below));
    keyed.sort_unstable_by(|a, b| b.cmp(a));
    keyed.into_iter().map(|(_, path)| path).collect()
}

/// A file's snapshot, if it may be restored.
///
/// # Errors
/// Why not.
pub fn open(bytes: &[u8], wanted: &Wanted) -> Result<Snapshot, Refused> {
    let snapshot = Snapshot::decode(bytes)?;
    snapshot.check(wanted)?;
    Ok(snapshot)
}

fn put_text(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend_from_slice(&(text.len() as u32).to_le_bytes());
    bytes.extend_from_slice(text.as_bytes());
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], Refused> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Refused::Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Refused> {
        self.take(N)?.try_into().map_err(|_| Refused::Malformed)
    }

    fn u32(&mut self) -> Result<u32, Refused> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, Refused> {
        self.array().map(u64::from_le_bytes)
    }

    fn text(&mut self) -> Result<&'a str, Refused> {
        let length = self.u32()? as usize;
        std::str::from_utf8(self.take(length)?).map_err(|_| Refused::Malformed)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn events(partition: i32) -> TopicPartition {
        TopicPartition { topic: "events".into(), partition }
    }

    fn sample(offset: i64) -> Snapshot {
        Snapshot {
            unit: UnitId(3),
            fingerprint: 0xfeed,
            positions: vec![Position { partition: events(3), offset, metadata: "w=7".into() }],
            payload: b"state".to_vec(),
        }
    }

    fn wanted(low: i64, committed: i64) -> Wanted {
        let bounds = vec![Bounds { partition: events(3), low, committed }];
        Wanted { unit: UnitId(3), fingerprint: 0xfeed, bounds, below: None }
    }

    #[test]
    fn reads_what_it_wrote() {
        let snapshot = sample(42);
        assert_eq!(Snapshot::decode(&snapshot.encode()), Ok(snapshot.clone()));
        assert_eq!(snapshot.path("features"), "snapshots/features/3/00000000000000000042.snap");
        assert_eq!(key_of(&snapshot.path("features")), Some(42));
    }

    #[test]
    fn offsets_that_add_up_to_more_than_a_key_holds_have_the_last_key() {
        let mut snapshot = sample(i64::MAX);
        snapshot.positions = (0..3).flat_map(|_| snapshot.positions.clone()).collect();
        assert_eq!(snapshot.key(), u64::MAX);
        assert_eq!(key_of(&snapshot.path("features")), Some(u64::MAX));
    }

    #[test]
    fn any_cut_and_any_changed_byte_is_refused() {
        let bytes = sample(42).encode();
        for length in 0..bytes.len() {
            assert!(Snapshot::decode(&bytes[..length]).is_err(), "cut at {length}");
        }
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert!(Snapshot::decode(&damaged).is_err(), "byte {at} changed");
        }
    }

    #[test]
    fn only_committed_state_of_the_same_declarations_is_restored() {
        assert_eq!(sample(42).check(&wanted(0, 42)), Ok(()));
        assert!(matches!(sample(43).check(&wanted(0, 42)), Err(Refused::Ahead { at: 43, .. })));
        assert!(matches!(sample(9).check(&wanted(10, 42)), Err(Refused::Cut { low: 10, .. })));
        let other = Wanted { fingerprint: 1, ..wanted(0, 42) };
        assert!(matches!(sample(42).check(&other), Err(Refused::Fingerprint { .. })));
        let other = Wanted { unit: UnitId(4), ..wanted(0, 42) };
        assert_eq!(sample(42).check(&other), Err(Refused::Unit));
    }

    #[test]
    fn tries_the_newest_first() {
        let paths = ["s/1/00000000000000000009.snap", "s/1/note", "s/1/00000000000000000010.snap"];
        let paths: Vec<String> = paths.iter().map(ToString::to_string).collect();
        assert_eq!(newest_first(paths.clone(), None).len(), 2);
        assert!(newest_first(paths.clone(), None)[0].contains("10.snap"));
        assert_eq!(newest_first(paths, Some(10)), vec!["s/1/00000000000000000009.snap"]);
    }
}
