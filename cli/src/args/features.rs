//! `salience features ...` and `salience backfill`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use schemas::duration::Millis;

#[derive(Debug, Subcommand)]
pub(crate) enum FeaturesCommand {
    /// Writes what is declared as Markdown: entities, columns, windows and how exact they are, state,
    /// the model's inputs. Needs no cluster.
    Docs {
        /// Where to, instead of standard output.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Backfill {
    /// First event time of the vectors written (2026-01-31, 2026-01-31T18:30:00Z, ms since 1970 UTC);
    /// without it: from the first.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub(crate) from: Option<i64>,
    /// Event time before which they lie; without it: to the last.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub(crate) to: Option<i64>,
    /// Folds events from so long before --from only (as in 30d), instead of from the beginning: at least
    /// the longest window, or windows are not full.
    #[arg(long, value_name = "DURATION", value_parser = Millis::parse, requires = "from")]
    pub(crate) warm_up: Option<Millis>,
    /// The table written.
    #[arg(long, value_name = "TABLE", default_value = "features_backfill")]
    pub(crate) out: String,
    /// Partitions folded side by side; 0 takes all cores.
    #[arg(long, default_value_t = 0)]
    pub(crate) threads: usize,
    /// Prints JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

fn moment(text: &str) -> Result<i64, String> {
    ops::time::parse(text).map_err(|error| error.to_string())
}
