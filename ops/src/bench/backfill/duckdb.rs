//! `DuckDB` beside `backfill`: the windows of the user alone, from the same tables of events to a table.

use std::fmt;
use std::path::Path;

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

use super::Pass;
use crate::bench::peers::{Peers, on_one_core, said};
use crate::bench::{features, speed};
use crate::config::Config;
use crate::context::Context;

const PROGRAM: &str = include_str!("../../../../tests/peers/backfill_duckdb.py");
/// Turns of each side; the better one counts.
const TURNS: usize = 2;
/// Furthest that both sums may lie apart: `DuckDB` counts what came late, and ours rounds the busiest users'
/// windows by a tile, which is up to a 48th of a day.
const TOLERANCE: f64 = 0.02;

/// The user's windows alone, both sides on one core.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Beside {
    /// Records that we fold a second of a core's time.
    pub rows_per_core_s: f64,
    /// Most memory of this process while we did, MiB.
    pub peak_rss_mib: f64,
    /// Sum of the user's views of the last day over our vectors.
    pub sum: u64,
    /// Records that `DuckDB` folds a second of a core's time.
    pub duckdb_rows_per_core_s: f64,
    /// Most memory of `DuckDB`'s process, MiB.
    pub duckdb_peak_rss_mib: f64,
    /// The sum over `DuckDB`'s vectors.
    pub duckdb_sum: u64,
    /// Its version.
    pub duckdb_version: String,
}

impl Beside {
    /// Ours over theirs.
    pub fn ratio(&self) -> f64 {
        self.rows_per_core_s / self.duckdb_rows_per_core_s
    }
}

#[derive(Deserialize)]
struct Said {
    version: String,
    cpu_s: f64,
    peak_rss_mib: f64,
    views: u64,
    sum: u64,
    our_views: u64,
    our_sum: u64,
}

/// Both sides, turn by turn, over the history in `folder`.
pub(super) fn run(
    mut config: Config,
    folder: &Path,
    peers: &Peers,
    events: u64,
    views: u64,
) -> Result<Beside> {
    config.features = features::reference()?;
    config.features.entities.retain(|name, _| name == "user");
    // What DuckDB does not make.
    config.features.last_n = 0;
    let context = Context::open(config)?;
    let own = speed::Folder::new("bench-backfill")?;
    let (program, out) = (own.path().join("backfill_duckdb.py"), own.path().join("vectors.parquet"));
    std::fs::write(&program, PROGRAM)?;
    let tables = folder.join(lake::TABLES);
    let mut beside = Beside::default();
    for turn in 0..TURNS {
        let table = format!("user_{turn}");
        let pass = Pass::run(&context, &table, 1, views)?;
        let mut command = on_one_core(&peers.path("python/bin/python"));
        command.arg(&program).args([&tables.join("events"), &tables.join(&table), &out]).arg("1");
        let said: Said = said("DuckDB", &mut command)?;
        let apart = (said.sum as f64 - said.our_sum as f64).abs() / (said.sum as f64).max(1.0);
        ensure!(
            said.views == views && said.our_views == views && apart <= TOLERANCE,
            "DuckDB has {} vectors with {} views of the last day, ours are {} with {}",
            said.views,
            said.sum,
            said.our_views,
            said.our_sum
        );
        beside = Beside {
            rows_per_core_s: beside.rows_per_core_s.max(events as f64 / pass.cpu_s),
            peak_rss_mib: beside.peak_rss_mib.max(pass.peak_rss_mib),
            sum: said.our_sum,
            duckdb_rows_per_core_s: beside.duckdb_rows_per_core_s.max(events as f64 / said.cpu_s),
            duckdb_peak_rss_mib: beside.duckdb_peak_rss_mib.max(said.peak_rss_mib),
            duckdb_sum: said.sum,
            duckdb_version: said.version,
        };
    }
    Ok(beside)
}

impl fmt::Display for Beside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the user alone: {:.0} records a core's second, DuckDB {} {:.0}, ratio {:.2}; views of the last day \
             {}, DuckDB's {}",
            self.rows_per_core_s,
            self.duckdb_version,
            self.duckdb_rows_per_core_s,
            self.ratio(),
            self.sum,
            self.duckdb_sum
        )
    }
}
