//! Snapshots of a unit's state: the file's format, and which of several files may be restored.
//!
//! Knows no store and no broker: bytes in, bytes out. A snapshot is taken of committed state only,
//! so that replaying the log from its positions gives the state at any later commit. It is whole, or it is
//! what has changed since a whole one, which it names with its checksum: the one is no good without the
//! other.

use std::borrow::Cow;

use crate::processor::{Position, TopicPartition, UnitId};

/// First bytes of every file.
const MAGIC: &[u8; 8] = b"SALSNAP\0";
/// Version of the format.
const VERSION: u32 = 2;
/// Bytes of the checksum at the end.
pub const CHECKSUM: usize = 32;

/// The state of a unit, and where in the log it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Which unit.
    pub unit: UnitId,
    /// What the state means: [`crate::processor::ProcessorFactory::state_fingerprint`].
    pub fingerprint: u64,
    /// The committed positions that the state reflects, sorted by partition.
    pub positions: Vec<Position>,
    /// The whole one that this is a change of; `None` for a whole one.
    pub base: Option<Base>,
    /// The processor's own bytes, in parts.
    pub parts: Vec<Vec<u8>>,
}

/// The whole snapshot that changes were made to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Base {
    /// Its [`Snapshot::key`].
    pub key: u64,
    /// The checksum of its file.
    pub checksum: [u8; CHECKSUM],
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
    /// It is of changes, and the whole one that it names is gone, damaged or another.
    #[error("the whole snapshot at {0}, of which it holds the changes, is not there as it was")]
    Base(u64),
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

    /// Its path in the store: `snapshots/{service}/{unit}/{key}.snap`, with `-{key of its base}` before the
    /// ending for changes.
    pub fn path(&self, service: &str) -> String {
        let (folder, key) = (folder(service, self.unit), self.key());
        match self.base {
            None => format!("{folder}/{key:020}.snap"),
            Some(Base { key: base, .. }) => format!("{folder}/{key:020}-{base:020}.snap"),
        }
    }

    /// The path of the whole one, for changes.
    pub fn base_path(&self, service: &str) -> Option<String> {
        self.base.map(|base| format!("{}/{:020}.snap", folder(service, self.unit), base.key))
    }

    /// Bytes of the processor's own.
    pub fn payload_len(&self) -> usize {
        self.parts.iter().map(Vec::len).sum()
    }

    /// The processor's own bytes, in one piece.
    pub fn payload(&self) -> Cow<'_, [u8]> {
        match self.parts.as_slice() {
            [part] => Cow::Borrowed(part),
            parts => Cow::Owned(parts.concat()),
        }
    }

    /// The file's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let length = self.payload_len();
        let mut bytes = Vec::with_capacity(length + 512);
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
        bytes.push(u8::from(self.base.is_some()));
        if let Some(Base { key, checksum }) = &self.base {
            bytes.extend_from_slice(&key.to_le_bytes());
            bytes.extend_from_slice(checksum);
        }
        bytes.extend_from_slice(&(length as u64).to_le_bytes());
        self.parts.iter().for_each(|part| bytes.extend_from_slice(part));
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
        let base = match reader.take(1)? {
            [0] => None,
            [1] => Some(Base { key: reader.u64()?, checksum: reader.array()? }),
            _ => return Err(Refused::Malformed),
        };
        let length = usize::try_from(reader.u64()?).map_err(|_| Refused::Malformed)?;
        let parts = vec![reader.take(length)?.to_vec()];
        if reader.0.is_empty() {
            Ok(Self { unit, fingerprint, positions, base, parts })
        } else {
            Err(Refused::Malformed)
        }
    }

    /// Puts the payload of the whole one, whose file this is, before that of the changes.
    ///
    /// # Errors
    /// A file that is not the one that was changed, or none.
    pub fn complete(&mut self, file: Option<&[u8]>) -> Result<(), Refused> {
        let Some(base) = self.base else { return Ok(()) };
        let refused = Refused::Base(base.key);
        let file = file.filter(|file| checksum_of(file) == Some(base.checksum)).ok_or(refused.clone())?;
        let whole = Self::decode(file)?;
        if whole.base.is_some() || whole.unit != self.unit || whole.fingerprint != self.fingerprint {
            return Err(refused);
        }
        self.parts.splice(0..0, whole.parts);
        Ok(())
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

/// The checksum of a snapshot's file, as the file has it.
pub fn checksum_of(file: &[u8]) -> Option<[u8; CHECKSUM]> {
    file.last_chunk().copied()
}

/// The key that a path names, and that of the whole one behind it, if it is of changes; `None` for a path that
/// is no snapshot's.
pub fn keys_of(path: &str) -> Option<(u64, Option<u64>)> {
    let name = path.rsplit('/').next()?.strip_suffix(".snap")?;
    match name.split_once('-') {
        None => Some((name.parse().ok()?, None)),
        Some((key, base)) => Some((key.parse().ok()?, Some(base.parse().ok()?))),
    }
}

/// The paths worth trying, newest first.
pub fn newest_first(paths: Vec<String>, below: Option<u64>) -> Vec<String> {
    let mut keyed: Vec<(u64, String)> =
        paths.into_iter().filter_map(|path| Some((keys_of(&path)?.0, path))).collect();
    keyed.retain(|(key, _)| below.is_none_or(|below| *key < below));
    keyed.sort_unstable_by(|a, b| b.cmp(a));
    keyed.into_iter().map(|(_, path)| path).collect()
}

/// The paths that are not needed any more: all but the newest `kept` whole snapshots, and the newest `kept`
/// changes of these.
pub fn superseded(paths: Vec<String>, kept: usize) -> Vec<String> {
    let (changes, whole): (Vec<String>, Vec<String>) = newest_first(paths, None)
        .into_iter()
        .partition(|path| keys_of(path).is_some_and(|(_, base)| base.is_some()));
    let oldest = whole.iter().take(kept).next_back().and_then(|path| keys_of(path)).map_or(0, |(key, _)| key);
    let is_of_kept =
        |path: &String| keys_of(path).and_then(|(_, base)| base).is_some_and(|base| base >= oldest);
    let (of_kept, of_none): (Vec<String>, Vec<String>) = changes.into_iter().partition(is_of_kept);
    whole.into_iter().skip(kept).chain(of_kept.into_iter().skip(kept)).chain(of_none).collect()
}

/// A file's snapshot, if it may be restored; one of changes is to be completed.
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
mod tests;
