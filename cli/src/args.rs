//! The command line.

pub(crate) mod bench;
pub(crate) mod features;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use schemas::duration::Millis;

/// Consumer behaviour in, scored predictions out: a streaming pipeline on Kafka.
///
/// Start with `salience demo`: it needs no cluster.
#[derive(Debug, Parser)]
#[command(name = "salience", version, propagate_version = true, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Where settings come from: the defaults, then --config files, then SALIENCE_ variables
/// (`SALIENCE_KAFKA_BOOTSTRAP` is `kafka.bootstrap`), then --set.
#[derive(Debug, Args)]
pub(crate) struct Global {
    /// A TOML file with settings; may be given several times, later ones win.
    #[arg(long, short, global = true, value_name = "FILE")]
    pub(crate) config: Vec<PathBuf>,
    /// One setting, as in --set kafka.prefix=shop. (may be given several times)
    #[arg(long, global = true, value_name = "KEY=VALUE", value_parser = key_value)]
    pub(crate) set: Vec<(String, String)>,
    /// The cluster: short for --set kafka.bootstrap=HOST:PORT.
    #[arg(long, global = true, value_name = "HOST:PORT")]
    pub(crate) bootstrap: Option<String>,
    /// What is logged: short for --set telemetry.filter=FILTER (error, warn, info, debug, or by module).
    #[arg(long, global = true, value_name = "FILTER")]
    pub(crate) log: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// The whole pipeline on a simulated market, on an embedded broker.
    Demo(Demo),
    /// A real log through the whole pipeline.
    Replay(Replay),
    /// All services in this process, against a cluster.
    Run,
    /// Service: raw records to canonical events.
    Ingest,
    /// Service: events to feature vectors and labels; or what is declared.
    Features {
        #[command(subcommand)]
        command: Option<features::FeaturesCommand>,
    },
    /// Service: tiles of shared entities to versions of their windows.
    Merge,
    /// Service: vectors to predictions.
    Scorer,
    /// Service: topics to Delta tables; or care for the tables.
    Lake {
        #[command(subcommand)]
        command: Option<LakeCommand>,
    },
    /// Service: retrains on a schedule and publishes what is better.
    Trainer,
    /// Trains once, now, judges, and publishes if better.
    ///
    /// Shows its progress: a bar on a terminal, else lines of the log. Exit code 0: trained, published
    /// or not; 3: stopped by Ctrl-C or SIGTERM, and left a checkpoint in the registry; 1: failed.
    #[command(args_conflicts_with_subcommands = true)]
    Train(Train),
    /// Proves that nothing was lost, repeated or skewed.
    ///
    /// Exit code 0: what was checked holds; 1: an invariant is broken; 2: nothing could be checked.
    Verify(Verify),
    /// How far the services of a deployment have come, as JSON.
    Status,
    /// Who holds event time back: per partition of `events` its clock, the sources with their
    /// watermarks, and what the versions of shared entities wait for.
    Watermark {
        /// Prints JSON.
        #[arg(long)]
        json: bool,
    },
    /// Folds the lake's history into vectors of the declarations as they are now, in a table of its own.
    ///
    /// Reads the tables `events` and `control`; needs no cluster. The result is a Delta table of the columns
    /// of `features`, each row with the place of its view. Killed or stopped, the same command goes on.
    /// In memory are, per thread, the state of one partition and a commit's worth of rows
    /// (`lake.max_bytes`, shared by the threads). Exit code 3: stopped by Ctrl-C or SIGTERM.
    Backfill(features::Backfill),
    /// Sends a simulated market's raw records to a cluster.
    Simulate(Simulate),
    /// Topics of a deployment.
    Topics {
        #[command(subcommand)]
        command: TopicsCommand,
    },
    /// The configuration.
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// The registry of models.
    Models {
        #[command(subcommand)]
        command: ModelsCommand,
    },
    /// Measures.
    Bench {
        #[command(subcommand)]
        command: bench::BenchCommand,
    },
    /// The pseudonym of a user id, for those who hold the key (`SALIENCE_PSEUDONYM_KEY` or
    /// `ingest.pseudonym_key_file`).
    Pseudonym {
        /// User ids as they stand in raw events.
        #[arg(required = true)]
        user: Vec<String>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// How long the market runs, wall clock (60s, 5m); without it: until Ctrl-C.
    #[arg(long = "for", value_name = "DURATION", value_parser = duration)]
    pub(crate) run_for: Option<Duration>,
    /// Market time that passes in a second of the wall clock.
    #[arg(long, default_value_t = 3600.0, value_name = "FACTOR")]
    pub(crate) speed: f64,
    /// Seed of the market.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Writes a JSON report.
    #[arg(long, value_name = "FILE")]
    pub(crate) report: Option<PathBuf>,
    /// Where tables, models and snapshots go; emptied first if a demo made it.
    #[arg(long, default_value = "salience-demo", value_name = "FOLDER")]
    pub(crate) data: PathBuf,
    /// Verifies by counts only, rather than by running the cores and the training again.
    #[arg(long)]
    pub(crate) quick_verify: bool,
    /// Uses the cluster of the configuration instead of an embedded broker.
    #[arg(long)]
    pub(crate) cluster: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum LogFormat {
    /// REES46 multi-category store (Kaggle).
    Rees46,
    /// Open Bandit Dataset.
    OpenBandit,
    /// One JSON object a line; with --map, under other names.
    Jsonl,
    /// CSV with a header row; needs --map.
    Csv,
}

#[derive(Debug, Args)]
pub(crate) struct Replay {
    /// The logs, plain or gzip, in the order of their times.
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// What they are.
    #[arg(long, value_enum)]
    pub(crate) format: LogFormat,
    /// Which of the log's names stand for which of ours: TOML with [fields] (ours = "theirs"), [kinds]
    /// (theirs = "ours"), [constants], and above them `time_format` = "ms", "s", "rfc3339" or a
    /// strftime pattern.
    #[arg(long, value_name = "FILE")]
    pub(crate) map: Option<PathBuf>,
    /// Log time that passes in a second of the wall clock; without it: full speed.
    #[arg(long, value_name = "FACTOR")]
    pub(crate) speed: Option<f64>,
    /// Writes a JSON report.
    #[arg(long, value_name = "FILE")]
    pub(crate) report: Option<PathBuf>,
    /// Where tables, models and snapshots go; emptied first if a replay made it.
    #[arg(long, default_value = "salience-replay", value_name = "FOLDER")]
    pub(crate) data: PathBuf,
    /// Verifies by running the cores and the training again, rather than by counts only.
    #[arg(long)]
    pub(crate) recompute: bool,
    /// Uses the cluster of the configuration instead of an embedded broker.
    #[arg(long)]
    pub(crate) cluster: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum LakeCommand {
    /// Merges small files of each date.
    Compact(Tables),
    /// Deletes files that neither a current table nor a kept model needs.
    Vacuum(Tables),
}

#[derive(Debug, Args)]
pub(crate) struct Tables {
    /// Which tables; without any: all.
    pub(crate) tables: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Train {
    #[command(subcommand)]
    pub(crate) command: Option<TrainCommand>,
    /// Goes on with the training that was stopped or killed, from its last checkpoint, with its data
    /// and settings, to the weights that it would have come to.
    #[arg(long)]
    pub(crate) resume: bool,
    /// Copies record, settings, report, event file and model there too.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) out: Option<PathBuf>,
    /// Tells no scorer of a new champion (needs no cluster); the trainer service will when it runs.
    #[arg(long)]
    pub(crate) no_announce: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TrainCommand {
    /// Looks for better settings by successive halving; prints the best ones as TOML for --config.
    ///
    /// Publishes nothing. Exit code 3: stopped; the trials so far are in the folder.
    Tune(Tune),
}

#[derive(Debug, Args)]
pub(crate) struct Tune {
    /// What to try: a TOML file with [tune] and [tune.space]; without it: `salience train tune
    /// --example` prints one.
    #[arg(required_unless_present = "example", value_name = "FILE")]
    pub(crate) space: Option<PathBuf>,
    /// Prints an example of such a file, with comments.
    #[arg(long)]
    pub(crate) example: bool,
    /// Where trials are logged: trials.jsonl, and a folder of each for `TensorBoard`.
    #[arg(long, default_value = "salience-tune", value_name = "FOLDER")]
    pub(crate) out: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// Runs the cores again over the logs and compares byte for byte; trains the champion again.
    #[arg(long)]
    pub(crate) recompute: bool,
    /// Writes the outcome as JSON to standard output.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Simulate {
    /// Market time that passes in a second of the wall clock; without it: full speed.
    #[arg(long, value_name = "FACTOR")]
    pub(crate) speed: Option<f64>,
    /// Raw records to send; without it: until Ctrl-C.
    #[arg(long)]
    pub(crate) records: Option<u64>,
    /// Seed of the market.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TopicsCommand {
    /// Makes those that are missing and records their partition counts.
    Create,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Loads the configuration and says what is wrong with it.
    Check,
    /// Prints it as it is in force, or the commented defaults; secrets are not shown.
    Show {
        /// The commented defaults, to begin a file of one's own with.
        #[arg(long)]
        defaults: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum ModelsCommand {
    /// All versions, with what the gate said.
    List,
    /// One version: config, data, metrics, decision.
    Show {
        /// As `models list` names it.
        #[arg(id = "model_version", value_name = "VERSION")]
        version: String,
    },
    /// What the event file of a version's training holds (see `TensorBoard`), a line per tag.
    Tensorboard {
        /// As `models list` names it.
        #[arg(id = "model_version", value_name = "VERSION")]
        version: String,
    },
    /// Copies what a version's training left behind into a folder.
    Export {
        /// As `models list` names it.
        #[arg(id = "model_version", value_name = "VERSION")]
        version: String,
        /// The folder.
        out: PathBuf,
    },
    /// Makes a version the champion, whatever the gate said.
    Promote {
        /// As `models list` names it.
        #[arg(id = "model_version", value_name = "VERSION")]
        version: String,
    },
    /// Makes the champion before this one the champion again.
    Rollback,
}

fn key_value(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("write KEY=VALUE")?;
    Ok((key.trim().to_owned(), value.trim().to_owned()))
}

fn duration(text: &str) -> Result<Duration, String> {
    Millis::parse(text).map(Millis::as_duration).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_arguments_of_every_command_are_sound() {
        super::Cli::command().debug_assert();
    }
}
