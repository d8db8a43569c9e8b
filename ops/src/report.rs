//! What a demo or a replay was: counts, latency, tables, the verdict.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::Serialize;

use crate::context::Context;
use crate::quality::Judgement;
use crate::sink::Latency;

/// One table of the lake.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct TableReport {
    /// Rows of the current version.
    pub rows: u64,
    /// Files of the current version.
    pub files: u64,
    /// Bytes of these files.
    pub bytes: u64,
}

/// The report that `--report` writes.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Raw records sent.
    pub events_in: u64,
    /// Canonical events that were folded: those in `events` less the dropped duplicates. An order
    /// of several lines is several events.
    pub events_used: u64,
    /// Events dropped as repeats.
    pub duplicates: u64,
    /// Events behind their source's watermark.
    pub late: u64,
    /// Records refused.
    pub dead_letters: u64,
    /// Views that were folded, each of which has a vector.
    pub impressions: u64,
    /// Predictions in the topic.
    pub predictions: u64,
    /// Of these, by base rates.
    pub predictions_fallback: u64,
    /// Of these, by a model.
    pub predictions_scored: u64,
    /// Label records.
    pub labels: u64,
    /// Champions published.
    pub models_published: u64,
    /// The champion's version.
    pub champion: Option<String>,
    /// Wall clock, from the raw record's timestamp to the prediction being read.
    pub latency_ms: Latency,
    /// Raw records per second of the wall clock, from the first sent to the last prediction.
    pub events_per_s: f64,
    /// The tables.
    pub tables: BTreeMap<String, TableReport>,
    /// Whether `verify` holds.
    pub verified: bool,
    /// The model's quality on the impressions it scored, where the truth is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quality: Option<Judgement>,
}

impl Report {
    /// Writes it as JSON.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self)?;
        std::fs::write(path, text + "\n").with_context(|| format!("cannot write {}", path.display()))
    }
}

/// The tables as they are now.
///
/// # Errors
/// A table that cannot be read.
pub fn tables(context: &Context) -> Result<BTreeMap<String, TableReport>> {
    let mut found = BTreeMap::new();
    for table in schemas::table::spec().iter().map(|spec| spec.table) {
        let opened = context.tokio.block_on(lake::Table::try_open(context.store.root_url(), table, None))?;
        if let Some(table_now) = opened {
            let row = TableReport {
                rows: table_now.row_count()?,
                files: table_now.files()?.len() as u64,
                bytes: table_now.bytes()?,
            };
            found.insert(table.to_owned(), row);
        }
    }
    Ok(found)
}

/// For people: where the tables are and how to ask them something.
#[derive(Debug, Clone)]
pub struct Query {
    /// The folder of the tables.
    pub folder: PathBuf,
    /// A command line that asks one of them.
    pub duckdb: String,
}

/// How to query tables that lie in a folder; `None` where they lie elsewhere.
pub fn how_to_query(context: &Context) -> Option<Query> {
    let folder = std::path::absolute(context.store.local_root()?.join(lake::TABLES)).ok()?;
    let duckdb = format!(
        "duckdb -c \"INSTALL delta; LOAD delta; SELECT status, count(*), avg(p_click) FROM \
         delta_scan('{}') GROUP BY status\"",
        folder.join("predictions").display()
    );
    Some(Query { folder, duckdb })
}
