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
    /// Says what the configuration's declarations change in those in force: which numbers and which state are
    /// kept, which are rebuilt from the log and how far back it is read, which go. Changes nothing.
    ///
    /// Exit code 0: nothing changes; 2: something does; 1: failed.
    Plan {
        /// Prints JSON.
        #[arg(long)]
        json: bool,
    },
    /// Puts the configuration's declarations into force: shows the plan, asks, and writes it as a record to every
    /// partition of `events`, in one transaction.
    ///
    /// Every vector of a view behind the record is made by them, whichever instance makes it and whatever
    /// its own configuration says. No service but the trainer needs a restart: that trains on what its own
    /// configuration declares.
    Apply {
        /// Asks nothing.
        #[arg(long)]
        yes: bool,
    },
    /// Shows a vector of the past, and which events made each of its values.
    ///
    /// The vector is that of the user's last view at or before the time, as it was made: from what had
    /// arrived before it. With --item, --campaign or --category it is that of a view which never was, at
    /// the time itself, from what had arrived when the event clock passed it. Events are read from the
    /// lake's tables, then from the log.
    AsOf(AsOf),
}

#[derive(Debug, Args)]
pub(crate) struct AsOf {
    /// The user's id as it stands in raw events; needs the key of pseudonyms.
    #[arg(long, value_name = "ID", required_unless_present = "pseudonym", conflicts_with = "pseudonym")]
    pub(crate) user: Option<String>,
    /// The user's pseudonym, as it stands in tables and predictions.
    #[arg(long, value_name = "PSEUDONYM")]
    pub(crate) pseudonym: Option<String>,
    /// As of when: 2026-01-31, 2026-01-31T18:30:00Z, or ms since 1970 UTC.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub(crate) at: i64,
    /// Item of a view that never was. What is not given is the last view's; of another item than that
    /// one's, the category is what the user's own events say.
    #[arg(long)]
    pub(crate) item: Option<String>,
    /// Its campaign.
    #[arg(long)]
    pub(crate) campaign: Option<String>,
    /// Its category.
    #[arg(long)]
    pub(crate) category: Option<String>,
    /// Prints JSON, with every event of every value.
    #[arg(long)]
    pub(crate) json: bool,
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
