//! Each subcommand: a call, and what it prints.

mod bench;
mod features;

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use ops::config::{Config, Sources};
use ops::context::Context;
use ops::pipeline::Service;
use ops::session::Finished;
use runtime::shutdown::Shutdown;

use crate::args::{
    Cli, Command, ConfigCommand, Demo, Global, LakeCommand, LogFormat, ModelsCommand, Replay, Simulate,
    TopicsCommand, Train, TrainCommand, Verify,
};

/// Runs the command; its exit code.
pub(crate) fn run(cli: Cli) -> Result<u8> {
    let global = &cli.global;
    match cli.command {
        Command::Demo(demo) => run_demo(global, &demo),
        Command::Replay(replay) => run_replay(global, &replay),
        Command::Run => services(global, &Service::ALL),
        Command::Ingest => services(global, &[Service::Ingest]),
        Command::Features { command: None } => services(global, &[Service::Features]),
        Command::Features { command: Some(command) } => features::run(global, command),
        Command::Merge => services(global, &[Service::Merge]),
        Command::Scorer => services(global, &[Service::Scorer]),
        Command::Lake { command: None } => services(global, &[Service::Lake]),
        Command::Lake { command: Some(command) } => lake(global, &command),
        Command::Trainer => services(global, &[Service::Trainer]),
        Command::Train(train) => run_train(global, train),
        Command::Verify(verify) => run_verify(global, &verify),
        Command::Status => {
            println!("{}", serde_json::to_string_pretty(&ops::status::look(&open(global)?)?)?);
            Ok(0)
        }
        Command::Watermark { json } => print_measured(&ops::watermark::look(&open(global)?)?, json),
        Command::Backfill(backfill) => features::backfill(global, backfill),
        Command::Simulate(simulate) => run_simulate(global, &simulate),
        Command::Topics { command: TopicsCommand::Create } => {
            let context = open(global)?;
            ops::topics::create(&context)?;
            for spec in ops::topics::specs(&context) {
                println!("{} ({} partitions)", spec.name, spec.partitions);
            }
            Ok(0)
        }
        Command::Config { command } => config(global, &command),
        Command::Models { command } => models(global, &command),
        Command::Bench { command } => bench::run(global, command),
        Command::Pseudonym { user } => {
            let config = load(global, None)?;
            for user in &user {
                println!("{}", ops::pseudonym(&config, user)?);
            }
            Ok(0)
        }
    }
}

/// The user's settings over a command's own.
fn sources(global: &Global, preset: Option<&'static str>) -> Sources {
    let short = |key: &str, value: &Option<String>| value.clone().map(|value| (key.to_owned(), value));
    let shorts = [short("kafka.bootstrap", &global.bootstrap), short("telemetry.filter", &global.log)];
    Sources {
        preset,
        files: global.config.clone(),
        overrides: global.set.iter().cloned().chain(shorts.into_iter().flatten()).collect(),
    }
}

/// Loads the configuration and starts logging.
fn load(global: &Global, preset: Option<&'static str>) -> Result<Config> {
    let config = sources(global, preset).load()?;
    runtime::telemetry::init(&config.telemetry)?;
    Ok(config)
}

fn open(global: &Global) -> Result<Context> {
    Context::open(load(global, None)?)
}

fn shutdown() -> Result<Shutdown> {
    let shutdown = Shutdown::new();
    shutdown.on_signals()?;
    Ok(shutdown)
}

fn services(global: &Global, services: &[Service]) -> Result<u8> {
    let shutdown = shutdown()?;
    ops::run::run(load(global, None)?, services, &shutdown)?;
    Ok(shutdown.exit_code() as u8)
}

fn run_demo(global: &Global, demo: &Demo) -> Result<u8> {
    let mut config = load(global, Some(ops::demo::PRESET))?;
    own_folder(&mut config, &demo.data)?;
    let options = ops::demo::Options {
        run_for: demo.run_for,
        speed: demo.speed,
        seed: demo.seed,
        report: demo.report.clone(),
        recompute: !demo.quick_verify,
        cluster: demo.cluster || global.bootstrap.is_some(),
    };
    Ok(show(&ops::demo::run(config, &options, &shutdown()?)?))
}

fn run_replay(global: &Global, replay: &Replay) -> Result<u8> {
    let format = match replay.format {
        LogFormat::Rees46 => ops::replay::Format::Rees46,
        LogFormat::OpenBandit => ops::replay::Format::OpenBandit,
        LogFormat::Jsonl => ops::replay::Format::Jsonl,
        LogFormat::Csv => ops::replay::Format::Csv,
    };
    let mut config = load(global, Some(format.preset()))?;
    own_folder(&mut config, &replay.data)?;
    let options = ops::replay::Options {
        files: replay.files.clone(),
        format,
        map: replay.map.clone(),
        speed: replay.speed,
        report: replay.report.clone(),
        recompute: replay.recompute,
        cluster: replay.cluster || global.bootstrap.is_some(),
    };
    Ok(show(&ops::replay::run(config, &options, &shutdown()?)?))
}

/// A mark that a folder was made by a demo or a replay and may be emptied by the next.
const MARK: &str = ".salience-session";

/// An empty folder for a run that begins from nothing: `--data`, whatever `storage.root` says.
fn own_folder(config: &mut Config, folder: &Path) -> Result<()> {
    if folder.exists() {
        let empty = folder.read_dir().context("--data")?.next().is_none();
        ensure!(
            empty || folder.join(MARK).exists(),
            "{} holds something that no demo or replay made; name another folder with --data",
            folder.display()
        );
        std::fs::remove_dir_all(folder).with_context(|| format!("cannot empty {}", folder.display()))?;
    }
    std::fs::create_dir_all(folder)
        .and_then(|()| std::fs::write(folder.join(MARK), "made by salience demo or replay\n"))
        .with_context(|| format!("cannot make {}", folder.display()))?;
    config.storage.root = folder.display().to_string();
    Ok(())
}

/// Prints what a session was.
fn show(finished: &Finished) -> u8 {
    let r = &finished.report;
    println!("\n{}", finished.verdict);
    println!(
        "{} raw records: {} used, {} duplicates, {} late, {} dead letters",
        r.events_in, r.events_used, r.duplicates, r.late, r.dead_letters
    );
    println!(
        "{} impressions, {} predictions ({} by a model, {} by base rates), {} labels",
        r.impressions, r.predictions, r.predictions_scored, r.predictions_fallback, r.labels
    );
    println!(
        "{:.0} raw records/s; latency p50 {:.0} ms, p99 {:.0} ms",
        r.events_per_s, r.latency_ms.p50, r.latency_ms.p99
    );
    println!("{} models published, champion {}", r.models_published, r.champion.as_deref().unwrap_or("none"));
    for (name, table) in &r.tables {
        println!(
            "  table {name:<14} {:>9} rows {:>4} files {:>11} bytes",
            table.rows, table.files, table.bytes
        );
    }
    if let Some(q) = &r.quality {
        println!(
            "on {} scored impressions ({:.2} % clicked): log loss {:.4} (base rate {:.4}, truth {:.4}), \
             AUC {:.4} (truth {:.4})",
            q.impressions,
            q.click_rate * 100.0,
            q.log_loss,
            q.base_log_loss,
            q.true_log_loss,
            q.auc,
            q.true_auc
        );
    }
    if let Some(query) = &finished.how_to_query {
        println!("the tables are in {}; query them:\n  {}", query.folder.display(), query.duckdb);
    }
    finished.verdict.exit_code()
}

fn run_train(global: &Global, train: Train) -> Result<u8> {
    use ops::train::{Options, Outcome, STOPPED};

    if let Some(TrainCommand::Tune(tune)) = train.command {
        let Some(file) = tune.space.filter(|_| !tune.example) else {
            print!("{}", ops::train::tune::EXAMPLE);
            return Ok(0);
        };
        let best = ops::train::tune::run(&open(global)?, &file, &tune.out, &shutdown()?)?;
        return Ok(best.map_or(STOPPED, |best| {
            print!("{best}");
            0
        }));
    }
    let options = Options { resume: train.resume, out: train.out, quiet: train.no_announce };
    match ops::train::run(&open(global)?, &options, &shutdown()?)? {
        Outcome::Ended(verdict) => {
            println!("{verdict}");
            Ok(0)
        }
        Outcome::Stopped(how) => {
            eprintln!("{how}");
            Ok(STOPPED)
        }
    }
}

fn run_verify(global: &Global, verify: &Verify) -> Result<u8> {
    let options = ops::verify::Options { recompute: verify.recompute };
    let report = ops::verify::run(&open(global)?, options)?;
    if verify.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("{report}");
    }
    Ok(report.exit_code())
}

fn run_simulate(global: &Global, simulate: &Simulate) -> Result<u8> {
    let options =
        ops::simulate::Options { speed: simulate.speed, seed: simulate.seed, records: simulate.records };
    let counts = ops::simulate::run(&open(global)?, options, &shutdown()?)?;
    println!("{}", serde_json::to_string_pretty(&counts)?);
    Ok(0)
}

fn lake(global: &Global, command: &LakeCommand) -> Result<u8> {
    let context = Arc::new(open(global)?);
    let lines = match command {
        LakeCommand::Compact(which) => ops::tables::compact(&context, &which.tables)?,
        LakeCommand::Vacuum(which) => ops::tables::vacuum(&context, &which.tables)?,
    };
    for line in lines {
        println!("{line}");
    }
    Ok(0)
}

fn config(global: &Global, command: &ConfigCommand) -> Result<u8> {
    let sources = sources(global, None);
    match command {
        ConfigCommand::Check => {
            sources.load()?;
            println!("the configuration is in order");
        }
        ConfigCommand::Show { defaults: true } => print!("{}", ops::config::defaults()),
        ConfigCommand::Show { defaults: false } => print!("{}", sources.resolve()?.show()),
    }
    Ok(0)
}

fn models(global: &Global, command: &ModelsCommand) -> Result<u8> {
    let context = open(global)?;
    match command {
        ModelsCommand::List => {
            for line in ops::models::list(&context)? {
                println!("{line}");
            }
        }
        ModelsCommand::Show { version } => println!("{}", ops::models::show(&context, version)?),
        ModelsCommand::Tensorboard { version } => {
            for line in ops::train::tags(&context, version)? {
                println!("{line}");
            }
        }
        ModelsCommand::Export { version, out } => ops::train::copy(&context, version, out)?,
        ModelsCommand::Promote { version } => println!("{}", ops::models::promote(&context, version)?),
        ModelsCommand::Rollback => println!("{}", ops::models::rollback(&context)?),
    }
    Ok(0)
}

fn print_measured(measured: &(impl serde::Serialize + std::fmt::Display), json: bool) -> Result<u8> {
    if json {
        println!("{}", serde_json::to_string_pretty(measured)?);
    } else {
        print!("{measured}");
    }
    Ok(0)
}
