//! Encoded examples on disk, in blocks: written as they stream by, read back one block at a time.
//!
//! In memory are at most [`BUFFER_BYTES`] while writing, and a block while reading. The file has no
//! name (it is unlinked as soon as it is made), so that no end of the process, however sudden,
//! leaves it behind.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use model::encode::KeyedSet;

use crate::Error;
use crate::random::SplitMix;

/// Encoded examples that are held before they are written.
pub const BUFFER_BYTES: usize = 64 << 20;

/// Where a part of a block lies in the file.
#[derive(Debug, Clone, Copy)]
struct Chunk {
    at: u64,
    bytes: usize,
}

#[derive(Debug, Clone, Default)]
struct Block {
    rows: usize,
    chunks: Vec<Chunk>,
}

/// Which block the next example goes into.
#[derive(Debug)]
enum Order {
    /// The blocks are filled one after the other.
    Kept { block_rows: usize },
    /// Each example into a random block, so that every block is an even sample of all: shuffling
    /// the blocks, and each in itself, is then as good as shuffling all at once.
    Scattered(SplitMix),
}

/// Writes blocks.
#[derive(Debug)]
pub struct Writer {
    file: File,
    folder: PathBuf,
    /// Where the file ends.
    end: u64,
    order: Order,
    empty: KeyedSet,
    blocks: Vec<Block>,
    /// What is held back of each block.
    open: Vec<KeyedSet>,
    held_bytes: usize,
    most_bytes: usize,
    limit_bytes: usize,
    scratch: Vec<u8>,
}

fn failed(folder: &Path, what: &std::io::Error) -> Error {
    Error::Spill { folder: folder.display().to_string(), what: what.to_string() }
}

impl Writer {
    /// Blocks of `block_rows` in the order in which examples come. `empty` is a set of what the
    /// encoder makes; `folder` is where the file is made.
    ///
    /// # Errors
    /// A folder in which no file can be made.
    pub fn in_order(folder: &Path, empty: KeyedSet, block_rows: usize) -> Result<Self, Error> {
        Self::new(folder, empty, Order::Kept { block_rows: block_rows.max(1) }, 0)
    }

    /// About `rows` examples in random blocks of about `block_rows`.
    ///
    /// # Errors
    /// A folder in which no file can be made.
    pub fn scattered(
        folder: &Path,
        empty: KeyedSet,
        block_rows: usize,
        rows: usize,
        seed: u64,
    ) -> Result<Self, Error> {
        let blocks = rows.div_ceil(block_rows.max(1)).max(1);
        Self::new(folder, empty, Order::Scattered(SplitMix::new(seed)), blocks)
    }

    fn new(folder: &Path, empty: KeyedSet, order: Order, blocks: usize) -> Result<Self, Error> {
        let file = tempfile::tempfile_in(folder).map_err(|error| failed(folder, &error))?;
        Ok(Self {
            file,
            folder: folder.to_owned(),
            end: 0,
            order,
            open: vec![empty.clone(); blocks],
            blocks: vec![Block::default(); blocks],
            empty,
            held_bytes: 0,
            most_bytes: 0,
            limit_bytes: BUFFER_BYTES,
            scratch: Vec::new(),
        })
    }

    /// Holds at most `bytes` of examples in memory, and one example.
    #[must_use]
    pub const fn with_buffer(mut self, bytes: usize) -> Self {
        self.limit_bytes = bytes;
        self
    }

    /// Lets `add` push one example onto the set that it is given.
    ///
    /// # Errors
    /// What `add` says; a full disk.
    pub fn push(&mut self, add: impl FnOnce(&mut KeyedSet) -> Result<(), Error>) -> Result<(), Error> {
        let number = match &mut self.order {
            Order::Scattered(random) => random.below(self.open.len()),
            Order::Kept { block_rows } => {
                let full = self.blocks.last().is_none_or(|block| block.rows >= *block_rows);
                if full {
                    // The finished block is written whole.
                    self.flush()?;
                    self.blocks.push(Block::default());
                    self.open = vec![self.empty.clone()];
                }
                0
            }
        };
        let set = &mut self.open[number];
        let before = set.bytes();
        add(set)?;
        self.held_bytes += set.bytes() - before;
        self.most_bytes = self.most_bytes.max(self.held_bytes);
        let first = self.blocks.len() - self.open.len();
        self.blocks[first + number].rows += 1;
        if self.held_bytes > self.limit_bytes {
            self.flush()?;
        }
        Ok(())
    }

    /// Writes what is held.
    fn flush(&mut self) -> Result<(), Error> {
        let first = self.blocks.len() - self.open.len();
        for (set, block) in self.open.iter_mut().zip(&mut self.blocks[first..]) {
            if set.is_empty() {
                continue;
            }
            self.scratch.clear();
            set.write_to(&mut self.scratch);
            // Given back, not kept: else every block's buffer would stay as large as its largest.
            *set = self.empty.clone();
            self.file.write_all_at(&self.scratch, self.end).map_err(|error| failed(&self.folder, &error))?;
            block.chunks.push(Chunk { at: self.end, bytes: self.scratch.len() });
            self.end += self.scratch.len() as u64;
        }
        self.held_bytes = 0;
        Ok(())
    }

    /// The most that was held in memory, bytes of examples.
    pub const fn most_bytes(&self) -> usize {
        self.most_bytes
    }

    /// The blocks, to be read. Random blocks that got no example are left out.
    ///
    /// # Errors
    /// A full disk.
    pub fn finish(mut self) -> Result<Blocks, Error> {
        self.flush()?;
        self.blocks.retain(|block| block.rows > 0);
        Ok(Blocks {
            file: self.file,
            folder: self.folder,
            empty: self.empty,
            index: self.blocks,
            bytes: self.end,
        })
    }
}

/// Blocks on disk.
#[derive(Debug)]
pub struct Blocks {
    file: File,
    folder: PathBuf,
    empty: KeyedSet,
    index: Vec<Block>,
    bytes: u64,
}

impl Blocks {
    /// How many blocks.
    pub const fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// Examples of all blocks.
    pub fn rows(&self) -> usize {
        self.index.iter().map(|block| block.rows).sum()
    }

    /// Examples of one block.
    pub fn block_rows(&self, number: usize) -> usize {
        self.index.get(number).map_or(0, |block| block.rows)
    }

    /// Size of the file.
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Reads one block.
    ///
    /// # Errors
    /// A disk that fails or gives back other bytes than were written.
    pub fn read(&self, number: usize) -> Result<KeyedSet, Error> {
        let mut set = self.empty.clone();
        self.read_into(number, &mut set)?;
        Ok(set)
    }

    fn read_into(&self, number: usize, set: &mut KeyedSet) -> Result<(), Error> {
        let damaged = |what: String| Error::Spill { folder: self.folder.display().to_string(), what };
        let Some(block) = self.index.get(number) else {
            return Err(damaged(format!("has no block {number}")));
        };
        let mut bytes = Vec::new();
        for chunk in &block.chunks {
            bytes.resize(chunk.bytes, 0);
            self.file.read_exact_at(&mut bytes, chunk.at).map_err(|error| failed(&self.folder, &error))?;
            set.read_from(&bytes).map_err(|error| damaged(error.to_string()))?;
        }
        Ok(())
    }

    /// The examples of all blocks at once.
    ///
    /// # Errors
    /// As of [`Self::read`].
    pub fn read_all(&self) -> Result<KeyedSet, Error> {
        let mut set = self.empty.clone();
        for number in 0..self.len() {
            self.read_into(number, &mut set)?;
        }
        Ok(set)
    }

    /// All blocks, one after the other.
    pub fn all(&self) -> impl Iterator<Item = Result<KeyedSet, Error>> + '_ {
        (0..self.len()).map(|number| self.read(number))
    }
}
