//! Reads public and customers' logs as raw records.
//!
//! A row that cannot be read as its format says is not dropped: it goes on as it stands, and ingest
//! refuses it with a reason, so that a replay accounts for every row.

mod mapped;
mod open_bandit;
mod rees46;
mod service;

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::read::MultiGzDecoder;

pub use mapped::Mapping;
pub use service::{Options, run};

use crate::feed::FeedRecord;

/// The log formats that are understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// REES46 multi-category store: `event_time,event_type,product_id,...`.
    Rees46,
    /// Open Bandit Dataset: `,timestamp,item_id,position,click,...`.
    OpenBandit,
    /// One JSON object a line.
    Jsonl,
    /// Comma-separated with a header row.
    Csv,
}

impl Format {
    /// Settings that fit these logs (a TOML layer over the defaults, under the user's own).
    pub const fn preset(self) -> &'static str {
        match self {
            Self::Rees46 => include_str!("../../presets/rees46.toml"),
            Self::OpenBandit => include_str!("../../presets/open_bandit.toml"),
            Self::Jsonl | Self::Csv => include_str!("../../presets/replay.toml"),
        }
    }
}

/// Why a log could not be opened or read.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The file.
    #[error("cannot read {path}: {source}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The header row.
    #[error("{path}: {what}")]
    Header {
        /// Which file.
        path: PathBuf,
        /// What is wrong, and what was expected.
        what: String,
    },
    /// The mapping file.
    #[error("mapping {path}: {what}")]
    Mapping {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// CSV needs one.
    #[error(
        "--format csv needs --map mapping.toml: which column is which field (see `salience replay --help`)"
    )]
    NoMapping,
}

/// The rows of one log.
pub type Rows = Box<dyn Iterator<Item = Result<FeedRecord, ReplayError>> + Send>;

/// A log opened: its rows, and how many bytes of the file have been read so far.
pub struct Log {
    /// Raw records, in the file's order. A row may give several.
    pub rows: Rows,
    /// Bytes of the file (compressed, where it is) read so far, for a progress bar.
    pub read: Arc<AtomicU64>,
    /// Size of the file, bytes.
    pub size: u64,
}

/// Opens a log, plain or gzip (told by its first bytes, not by its name).
///
/// # Errors
/// A file that cannot be read, a header or a mapping that does not fit.
pub fn open(path: &Path, format: Format, mapping: Option<&Mapping>) -> Result<Log, ReplayError> {
    let io = |source| ReplayError::Io { path: path.to_owned(), source };
    let file = File::open(path).map_err(io)?;
    let size = file.metadata().map_err(io)?.len();
    let read = Arc::new(AtomicU64::new(0));
    let mut buffered = BufReader::with_capacity(1 << 16, Counted { inner: file, read: Arc::clone(&read) });
    let gzip = buffered.fill_buf().map_err(io)?.starts_with(&[0x1f, 0x8b]);
    let reader: Box<dyn Read + Send> =
        if gzip { Box::new(MultiGzDecoder::new(buffered)) } else { Box::new(buffered) };
    let rows = match format {
        Format::Rees46 => rees46::rows(path, reader)?,
        Format::OpenBandit => open_bandit::rows(path, reader)?,
        Format::Jsonl => mapped::json_lines(path, reader, mapping),
        Format::Csv => mapped::csv_rows(path, reader, mapping.ok_or(ReplayError::NoMapping)?)?,
    };
    Ok(Log { rows, read, size })
}

/// Counts what passes, so that a progress bar can move with the compressed file.
struct Counted {
    inner: File,
    read: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.read.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

/// The columns of a CSV file by name.
struct Columns {
    names: Vec<String>,
}

impl Columns {
    fn read<R: Read>(path: &Path, csv: &mut csv::Reader<R>) -> Result<Self, ReplayError> {
        let header = csv.headers().map_err(|e| ReplayError::Header {
            path: path.to_owned(),
            what: format!("no header row: {e}"),
        })?;
        Ok(Self { names: header.iter().map(str::to_owned).collect() })
    }

    fn require(&self, path: &Path, name: &str) -> Result<usize, ReplayError> {
        self.names.iter().position(|n| n == name).ok_or_else(|| ReplayError::Header {
            path: path.to_owned(),
            what: format!("has no column {name:?}; its columns are {}", self.names.join(", ")),
        })
    }
}

/// A row that could not be read, as a record that ingest will refuse.
fn unreadable(text: &str, at_ms: i64) -> FeedRecord {
    FeedRecord { topic: schemas::topic::VIEWS, key: String::new(), value: text.as_bytes().to_vec(), at_ms }
}

/// The record's JSON.
fn record(event: &schemas::RawEvent, topic: &'static str) -> FeedRecord {
    use schemas::{Codec, Json};
    FeedRecord { topic, key: event.user_id.clone(), value: Json::to_vec(event), at_ms: event.event_time }
}
