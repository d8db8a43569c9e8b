//! A training in the middle, as bytes: a header of JSON, arrays of 32-bit numbers, and the BLAKE3 of
//! all before it. Knows no file, and not what the arrays are.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};

use serde::{Deserialize, Serialize};

use super::History;
use super::plateau::Plateau;
use crate::config::TrainingConfig;

/// First bytes; the last one is the format's number.
const MAGIC: [u8; 8] = *b"SALCKPT\x01";
/// Longest header that is read, bytes: longer ones are damage.
const MOST_HEADER: u64 = 1 << 28;
/// Numbers that are read or written at once.
const PIECE: usize = 1 << 14;

/// Why a checkpoint is refused.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// It could not be read to its end.
    #[error("checkpoint: {0}")]
    Read(#[from] io::Error),
    /// Not a checkpoint, or one of another version of this code.
    #[error("checkpoint: not one, or one of another version of this code")]
    Format,
    /// Its bytes are not those that were written.
    #[error("checkpoint is damaged: its checksum is {found}, not {expected}")]
    Damaged {
        /// BLAKE3 of the bytes, hex.
        found: String,
        /// What they end in, hex.
        expected: String,
    },
    /// It belongs to another training.
    #[error("checkpoint is of another training: its {what} is not this one's")]
    Other {
        /// What differs.
        what: &'static str,
    },
}

/// What must be equal for a training to go on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Identity {
    /// The config, threads left out.
    pub(super) config: serde_json::Value,
    pub(super) seed: u64,
    /// Weights checksum of the parent, hex.
    pub(super) parent: Option<String>,
    /// BLAKE3 of the encoder, hex.
    pub(super) encoder: String,
    /// Training examples.
    pub(super) examples: u64,
    /// Validation examples.
    pub(super) validation: u64,
}

impl Identity {
    /// The first thing that differs.
    pub(super) fn differs(&self, other: &Self) -> Option<&'static str> {
        let Self { config, seed, parent, encoder, examples, validation } = self;
        [
            (*config != other.config, "config"),
            (*seed != other.seed, "seed"),
            (*parent != other.parent, "parent"),
            (*encoder != other.encoder, "encoder"),
            (*examples != other.examples, "number of training examples"),
            (*validation != other.validation, "number of validation examples"),
        ]
        .into_iter()
        .find_map(|(differs, what)| differs.then_some(what))
    }
}

/// Where a training is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Position {
    pub(super) epoch: usize,
    /// Steps taken of the epoch.
    pub(super) step: usize,
    /// Examples seen in all epochs.
    pub(super) seen: u64,
    /// Losses since the last validation, times their examples.
    pub(super) loss_sum: f64,
    /// Examples since the last validation.
    pub(super) loss_count: f64,
    /// Where the validations stand.
    pub(super) plateau: Plateau,
    /// Whether it has ended.
    pub(super) ended: bool,
}

impl Position {
    /// Whether a training of so many steps an epoch can be there, with that history.
    pub(super) fn is_in(&self, history: &History, training: &TrainingConfig, steps: usize) -> bool {
        let validations = history.validations.len();
        self.epoch <= training.max_epochs
            && self.step < steps
            && history.steps == self.epoch as u64 * steps as u64 + self.step as u64
            && self.seen <= history.steps.saturating_mul(training.batch_size as u64)
            && self.plateau.decays <= training.plateau_decays
            && self.plateau.without_gain <= training.patience
            && (history.best < validations || history.best == 0)
            && history.decays.iter().all(|at| *at < validations)
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Header {
    identity: Identity,
    position: Position,
    history: History,
    /// Steps that the optimizer has counted.
    optimizer_step: u64,
    /// Name and length of each array, in order.
    arrays: Vec<(String, u64)>,
}

/// A training in the middle: weights, moments, position, best weights, history.
#[derive(Debug)]
pub struct Checkpoint {
    header: Header,
    arrays: BTreeMap<String, Vec<u32>>,
}

impl Checkpoint {
    /// Reads one that [`Snapshot::write`](super::Snapshot::write) wrote.
    ///
    /// # Errors
    /// It can't be read, is damaged, or is none.
    pub fn read(input: &mut dyn Read) -> Result<Self, CheckpointError> {
        let mut hashing = Hashing { inner: input, hasher: blake3::Hasher::new() };
        let mut magic = [0; 8];
        hashing.exact(&mut magic)?;
        if magic != MAGIC {
            return Err(CheckpointError::Format);
        }
        let mut length = [0; 8];
        hashing.exact(&mut length)?;
        let length = u64::from_le_bytes(length);
        if length > MOST_HEADER {
            return Err(CheckpointError::Format);
        }
        let mut json = Vec::new();
        hashing.take(length, &mut json)?;
        // A header that damage made unreadable is told by the checksum where all bytes are there.
        let Ok(header) = serde_json::from_slice::<Header>(&json) else {
            let mut rest = Vec::new();
            hashing.inner.read_to_end(&mut rest)?;
            let end = rest.len().saturating_sub(blake3::OUT_LEN);
            hashing.hasher.update(&rest[..end]);
            let mut checksum = &rest[end..];
            Hashing { inner: &mut checksum, hasher: hashing.hasher }.finish()?;
            return Err(CheckpointError::Format);
        };
        let mut arrays = BTreeMap::new();
        for (name, length) in &header.arrays {
            arrays.insert(name.clone(), hashing.array(*length)?);
        }
        hashing.finish()?;
        Ok(Self { header, arrays })
    }

    /// Epoch that it was in, from 0.
    pub const fn epoch(&self) -> usize {
        self.header.position.epoch
    }

    /// Steps taken.
    pub const fn done(&self) -> u64 {
        self.header.history.steps
    }

    /// How training had gone.
    pub const fn history(&self) -> &History {
        &self.header.history
    }

    pub(super) const fn identity(&self) -> &Identity {
        &self.header.identity
    }

    pub(super) const fn position(&self) -> &Position {
        &self.header.position
    }

    pub(super) const fn optimizer_step(&self) -> u64 {
        self.header.optimizer_step
    }

    /// Takes out the array `name`; empty where there is none.
    pub(super) fn take(&mut self, name: &str) -> Vec<u32> {
        self.arrays.remove(name).unwrap_or_default()
    }

    /// The same as floats.
    pub(super) fn take_floats(&mut self, name: &str) -> Vec<f32> {
        self.take(name).into_iter().map(f32::from_bits).collect()
    }

    /// Takes out all arrays whose names start with `prefix`, without it.
    pub(super) fn take_all(&mut self, prefix: &str) -> Vec<(String, Vec<f32>)> {
        let names: Vec<String> =
            self.arrays.keys().filter(|name| name.starts_with(prefix)).cloned().collect();
        names.into_iter().map(|name| (name[prefix.len()..].to_owned(), self.take_floats(&name))).collect()
    }
}

struct Hashing<'a> {
    inner: &'a mut dyn Read,
    hasher: blake3::Hasher,
}

impl Hashing<'_> {
    fn exact(&mut self, out: &mut [u8]) -> io::Result<()> {
        self.inner.read_exact(out)?;
        self.hasher.update(out);
        Ok(())
    }

    /// `length` bytes; grows as they come, so that a damaged length asks for no memory.
    fn take(&mut self, length: u64, out: &mut Vec<u8>) -> io::Result<()> {
        let mut left = length;
        while left > 0 {
            let piece = left.min(4 * PIECE as u64) as usize;
            let start = out.len();
            out.resize(start + piece, 0);
            self.exact(&mut out[start..])?;
            left -= piece as u64;
        }
        Ok(())
    }

    fn array(&mut self, length: u64) -> io::Result<Vec<u32>> {
        let mut values = Vec::new();
        let mut piece = vec![0; 4 * PIECE];
        let mut left = length;
        while left > 0 {
            let count = left.min(PIECE as u64) as usize;
            self.exact(&mut piece[..4 * count])?;
            values
                .extend(piece[..4 * count].as_chunks::<4>().0.iter().map(|bytes| u32::from_le_bytes(*bytes)));
            left -= count as u64;
        }
        Ok(values)
    }

    fn finish(self) -> Result<(), CheckpointError> {
        let mut expected = [0; blake3::OUT_LEN];
        self.inner.read_exact(&mut expected)?;
        let found = self.hasher.finalize();
        let expected = blake3::Hash::from_bytes(expected);
        if found == expected {
            return Ok(());
        }
        Err(CheckpointError::Damaged {
            found: found.to_hex().to_string(),
            expected: expected.to_hex().to_string(),
        })
    }
}

/// An array to be written.
pub(super) enum Array<'a> {
    Floats(&'a [f32]),
    Whole(&'a [u32]),
    /// Rows of `width` of a table.
    Rows(&'a [f32], usize, &'a [u32]),
}

impl Array<'_> {
    const fn len(&self) -> usize {
        match self {
            Self::Floats(values) => values.len(),
            Self::Whole(values) => values.len(),
            Self::Rows(_, width, rows) => rows.len() * *width,
        }
    }

    fn write(&self, out: &mut Writing<'_>) -> io::Result<()> {
        match self {
            Self::Floats(values) => out.floats(values),
            Self::Whole(values) => out.bits(values.iter().copied()),
            Self::Rows(table, width, rows) => out.bits(rows.iter().flat_map(|&row| {
                let row = row as usize;
                table[row * width..(row + 1) * width].iter().map(|value| value.to_bits())
            })),
        }
    }
}

/// Writes a checkpoint.
pub(super) fn write(
    out: &mut dyn Write,
    (identity, position, history): (&Identity, &Position, &History),
    optimizer_step: u64,
    arrays: &[(String, Array<'_>)],
) -> io::Result<()> {
    let header = Header {
        identity: identity.clone(),
        position: position.clone(),
        history: history.clone(),
        optimizer_step,
        arrays: arrays.iter().map(|(name, array)| (name.clone(), array.len() as u64)).collect(),
    };
    let json = serde_json::to_vec(&header)?;
    let mut writing = Writing { inner: out, hasher: blake3::Hasher::new() };
    writing.all(&MAGIC)?;
    writing.all(&(json.len() as u64).to_le_bytes())?;
    writing.all(&json)?;
    for (_, array) in arrays {
        array.write(&mut writing)?;
    }
    let checksum = writing.hasher.finalize();
    writing.inner.write_all(checksum.as_bytes())
}

struct Writing<'a> {
    inner: &'a mut dyn Write,
    hasher: blake3::Hasher,
}

impl Writing<'_> {
    fn all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hasher.update(bytes);
        self.inner.write_all(bytes)
    }

    fn floats(&mut self, values: &[f32]) -> io::Result<()> {
        self.bits(values.iter().map(|value| value.to_bits()))
    }

    fn bits(&mut self, values: impl Iterator<Item = u32>) -> io::Result<()> {
        let mut piece = Vec::with_capacity(4 * PIECE);
        for value in values {
            piece.extend_from_slice(&value.to_le_bytes());
            if piece.len() == 4 * PIECE {
                self.all(&piece)?;
                piece.clear();
            }
        }
        self.all(&piece)
    }
}
