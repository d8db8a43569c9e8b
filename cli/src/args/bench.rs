//! `salience bench ...`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

#[derive(Debug, Subcommand)]
#[expect(clippy::option_option, reason = "--peers may stand alone or name a folder")]
pub(crate) enum BenchCommand {
    /// Events per second through all hops, beside a plain copy of the same bytes. Uses the cluster
    /// of `SALIENCE_KAFKA_BOOTSTRAP` or `--bootstrap`, else an embedded broker.
    Pipeline {
        /// Raw records.
        #[arg(long, default_value_t = 400_000)]
        events: u64,
        /// Measures it with features and scorer chained (`run.chain`), too.
        #[arg(long)]
        chain: bool,
        /// Prints JSON.
        #[arg(long)]
        json: bool,
    },
    /// Milliseconds from event to prediction, at least once and exactly once, at steady rates: from the time
    /// at which a record was due to be sent to the reading of its prediction. Uses the cluster of
    /// `SALIENCE_KAFKA_BOOTSTRAP` or `--bootstrap`, else an embedded broker.
    Latency {
        /// Raw records a second, each rate for itself.
        #[arg(long, value_delimiter = ',', default_values_t = ops::bench::latency::RATES)]
        rates: Vec<u32>,
        /// Seconds measured of each rate, after one second that is not.
        #[arg(long, default_value_t = 4.0)]
        seconds: f64,
        /// Measures it with features and scorer chained (`run.chain`), too.
        #[arg(long)]
        chain: bool,
        /// Seed of the market.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Prints JSON.
        #[arg(long)]
        json: bool,
    },
    /// Milliseconds without vectors when the instance of `features` that owns all users' state leaves its group
    /// or is killed, with a standby at the instance that takes over and without. Runs instances as processes,
    /// on the cluster of `SALIENCE_KAFKA_BOOTSTRAP` or `--bootstrap`, else on an embedded broker.
    Takeover {
        /// Users whose state is taken over, with 5 events each.
        #[arg(long, default_value_t = 20_000)]
        users: u32,
        /// Prints JSON.
        #[arg(long)]
        json: bool,
    },
    /// Milliseconds without vectors of a partition while instances of `features` join one at a time, up to four,
    /// and leave one at a time, with standbys and without, at a steady rate of views. Fails where a view does not
    /// have exactly one vector, byte for byte what the log says. Runs instances as processes, on the cluster of
    /// `SALIENCE_KAFKA_BOOTSTRAP` or `--bootstrap`, else on an embedded broker.
    Scale {
        /// Users whose state moves, with 5 events each.
        #[arg(long, default_value_t = 20_000)]
        users: u32,
        /// Prints JSON.
        #[arg(long)]
        json: bool,
    },
    /// How far each stage is behind and what memory each service has while a simulated market sends twice what
    /// they can take, and until they have caught up. Fails where not all that was sent comes out. Runs ingest,
    /// features, merge and scorer as processes, on the cluster of `SALIENCE_KAFKA_BOOTSTRAP` or `--bootstrap`,
    /// else on an embedded broker, which keeps its logs in memory.
    Overload {
        /// Minutes of overload; catching up takes about as long again.
        #[arg(long, default_value_t = 0.2)]
        minutes: f64,
        /// Seed of the market.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Prints JSON.
        #[arg(long)]
        json: bool,
    },
    /// Raw records of the simulated market that ingest's core takes a second of a core's time, from bytes to
    /// encoded events, beside a bare parse of the same bytes by simd-json.
    Ingest {
        /// Raw records.
        #[arg(long, default_value_t = 300_000)]
        events: u64,
        /// Seed of the market.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Prints JSON.
        #[arg(long)]
        json: bool,
    },
    /// Examples per second of training the classic shape (50 tokens, a table of a million rows), beside
    /// `PyTorch` on the same threads.
    Train(Speed),
    /// Milliseconds of batches of 1 to 1,024 through the same network, beside ONNX Runtime and `PyTorch`.
    Infer(Speed),
    /// The default network beside `LightGBM`, `AutoInt` and DIN on the same impressions and split: three
    /// simulated markets, whose truth is known, and public logs. Takes hours at its full size.
    Quality(Quality),
    /// How faithful each way to explain a prediction is, on three simulated markets: by taking away
    /// what it names, and by what truly drives the clicks there.
    Explain {
        /// Impressions of each market.
        #[arg(long, default_value_t = 100_000)]
        impressions: u64,
        /// Only these markets: linear, crossed, drifting.
        #[arg(long, value_delimiter = ',', value_name = "MARKETS")]
        only: Vec<String>,
        /// Seed of the markets.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Prints JSON.
        #[arg(long)]
        json: bool,
    },
    /// Events that one core folds into features a second, and memory, snapshot and restore time a user.
    ///
    /// The events are made by a seed: 80 % views, 17 % clicks, 3 % purchases, users by Zipf's law with
    /// exponent 0.8, items with 1.1, 2 % up to a minute late. Each view makes a vector of the user, of
    /// the user under the view's campaign, of the item and of the campaign: counts and value over six
    /// windows of 1m to 30d, click rates, ages, and the last 20 behaviours. Labels and hourly sums are made
    /// too, and what users share is merged on the same thread. All vectors are compared with a count one
    /// by one.
    ///
    /// `events_per_s` hands vectors over in memory, `unmerged_events_per_s` leaves the merge's time out,
    /// `wire_events_per_s` decodes records and encodes vectors and labels as the service does.
    Features {
        /// Events folded over 7 days; there is a user for every 20.
        #[arg(long, default_value_t = 1_000_000)]
        events: usize,
        /// Users of 20 events each over 30 days, of whom memory, snapshot and restore (from one, and from
        /// the log alone) are measured.
        #[arg(long, default_value_t = 100_000)]
        users: u32,
        /// Items that users share, of which it is measured how long a snapshot stops the fold.
        #[arg(long, default_value_t = 200_000)]
        items: u32,
        /// Events of the history that is backfilled as by `bench backfill`, with the same declarations.
        #[arg(long, default_value_t = 100_000)]
        history: u64,
        /// Runs the same events through Kafka Streams and Flink, and the history through `DuckDB`, each on
        /// one core in the same run, and says ratios: of what tests/peers/setup-streams has made in FOLDER,
        /// by default where it makes it. Takes minutes.
        #[arg(long, value_name = "FOLDER", num_args = 0..=1)]
        peers: Option<Option<PathBuf>>,
        /// Prints JSON.
        #[arg(long)]
        json: bool,
    },
    /// Records of history that `backfill` folds a second, and the most memory it takes, over a history
    /// made by a seed in a temporary folder: 80 % views, 17 % clicks, 3 % purchases, users by Zipf's law
    /// with exponent 0.8, one for every 20 events, 2 % up to a minute late.
    Backfill {
        /// Events of the history.
        #[arg(long, default_value_t = 1_000_000)]
        events: u64,
        /// Days that it lasts.
        #[arg(long, default_value_t = 30)]
        days: u32,
        /// Partitions of `events`.
        #[arg(long, default_value_t = 6)]
        partitions: i32,
        /// Partitions folded side by side; 0 takes all cores.
        #[arg(long, default_value_t = 0)]
        threads: usize,
        /// Offsets of every 100,000 whose vectors are compared with those that the stream makes of the same
        /// records: it folds the history while it is made, and puts versions of shared entities into it.
        #[arg(long, default_value_t = 0)]
        sample: i64,
        /// Runs the user's windows alone beside `DuckDB`, too, which tests/peers/setup-streams has put into
        /// FOLDER, by default where it puts it; both on one core, by turns.
        #[arg(long, value_name = "FOLDER", num_args = 0..=1)]
        peers: Option<Option<PathBuf>>,
        /// Prints JSON.
        #[arg(long)]
        json: bool,
    },
    /// The classic network of neuromarketing (50 inputs, 256-128) on simulated viewings, with attention
    /// over its inputs and without.
    Classic {
        /// Viewings; 70 % are trained on.
        #[arg(long, default_value_t = 40_000)]
        viewings: usize,
        /// Seed of the viewings.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Writes both side by side as a page (HTML that needs nothing else).
        #[arg(long, value_name = "FILE")]
        report: Option<PathBuf>,
        /// Prints JSON.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Speed {
    /// The Python of the peers; else `TEST_PYTHON`, else the one that tests/peers/setup has made.
    /// Without any there are no ratios.
    #[arg(long, value_name = "FILE")]
    pub(crate) python: Option<PathBuf>,
    /// Threads of each side; 0 uses all cores.
    #[arg(long, default_value_t = 0)]
    pub(crate) threads: usize,
    /// Prints JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Quality {
    /// Impressions of each simulated market.
    #[arg(long, default_value_t = 1_000_000)]
    pub(crate) impressions: u64,
    /// A folder with the public logs, in `rees46` and `open-bandit`.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) data: Option<PathBuf>,
    /// The Python that tests/peers/setup has made; without it there are no peers.
    #[arg(long, value_name = "FILE")]
    pub(crate) python: Option<PathBuf>,
    /// Only these sets: linear, crossed, drifting, rees46, `open_bandit`.
    #[arg(long, value_delimiter = ',', value_name = "SETS")]
    pub(crate) only: Vec<String>,
    /// Seed of the markets.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Keeps the rows and predictions there, as numpy files; peers whose predictions of the same rows
    /// are there already are not trained again.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) keep: Option<PathBuf>,
    /// Prints JSON.
    #[arg(long)]
    pub(crate) json: bool,
}
