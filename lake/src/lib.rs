//! Tables as the images of topics: every record of a topic once in a Delta table, and back to
//! Arrow batches; compaction and vacuum.
//!
//! Knows the bookkeeping columns and `date` of `schemas::table`; of no other column what it
//! means. The only crate that names deltalake.

mod append;
pub mod blocking;
mod check;
mod clock;
mod columns;
mod compact;
mod config;
mod encode;
mod error;
mod file;
mod keeper;
mod ledger;
mod location;
mod merge;
mod read;
mod scan;
mod service;
mod source;
mod status;
mod table;
mod telemetry;
mod vacuum;
mod writer;

pub use append::{Appended, Progress};
pub use check::Checked;
pub use columns::COMMENT;
pub use compact::Compacted;
pub use config::{Config, DEFAULTS, OnGap};
pub use error::{Error, Result};
pub use file::{DataFile, date_text};
pub use ledger::{Ledger, Move};
pub use location::{TABLES, table_url};
pub use scan::{Batches, Order, ScanOptions};
pub use service::{MakeEncoder, TableSpec, run, run_on};
pub use source::{Source, SourceError};
pub use status::{Status, TableStatus};
pub use table::{Table, app_id, tables};
pub use vacuum::Vacuumed;
pub use writer::Writer;
