//! `salience bench ...`.

use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use ops::bench::peers::Peers;
use ops::bench::{
    backfill, classic, explain, features, ingest, latency, overload, pipeline, quality, scale, speed,
    takeover,
};

use super::{load, print_measured, sources};
use crate::args::Global;
use crate::args::bench::{BenchCommand, Quality, Speed};

/// Runs the benchmark; its exit code.
pub(super) fn run(global: &Global, command: BenchCommand) -> Result<u8> {
    match command {
        BenchCommand::Pipeline { events, chain, json } => {
            let config = load(global, Some(pipeline::PRESET))?;
            ensure!(events > 0, "--events must be at least 1");
            let options = pipeline::Options { events, seed: 1, chain, cluster: names_cluster(global) };
            print_measured(&pipeline::run(&config, options)?, json)
        }
        BenchCommand::Latency { rates, seconds, chain, seed, json } => {
            let config = load(global, Some(latency::PRESET))?;
            let options = latency::Options { rates, seconds, seed, chain, cluster: names_cluster(global) };
            print_measured(&latency::run(&config, &options)?, json)
        }
        BenchCommand::Takeover { users, json } => {
            load(global, Some(takeover::PRESET))?;
            let options = takeover::Options { users, program: program()?, cluster: names_cluster(global) };
            print_measured(&takeover::run(&sources(global, Some(takeover::PRESET)), &options)?, json)
        }
        BenchCommand::Scale { users, json } => {
            load(global, Some(scale::PRESET))?;
            let options = scale::Options { users, program: program()?, cluster: names_cluster(global) };
            print_measured(&scale::run(&sources(global, Some(scale::PRESET)), &options)?, json)
        }
        BenchCommand::Overload { minutes, seed, json } => {
            load(global, Some(overload::PRESET))?;
            let cluster = names_cluster(global);
            let options = overload::Options { minutes, seed, program: program()?, cluster };
            print_measured(&overload::run(&sources(global, Some(overload::PRESET)), &options)?, json)
        }
        BenchCommand::Ingest { events, seed, json } => {
            let config = load(global, Some(ingest::PRESET))?;
            print_measured(&ingest::run(&config, ingest::Options { events, seed })?, json)
        }
        BenchCommand::Train(options) => {
            load(global, None)?;
            print_measured(&speed::train::run(&options_of(&options))?, options.json)
        }
        BenchCommand::Infer(options) => {
            load(global, None)?;
            print_measured(&speed::infer::run(&options_of(&options))?, options.json)
        }
        BenchCommand::Quality(options) => run_quality(global, options),
        BenchCommand::Explain { impressions, only, seed, json } => {
            load(global, Some(quality::PRESET))?;
            let options = explain::Options { impressions, only, seed };
            print_measured(&explain::run(&sources(global, None), &options)?, json)
        }
        BenchCommand::Features { events, users, items, history, peers, json } => {
            let config = load(global, Some(ops::backfill::PRESET))?;
            let options = features::Options { events, users, items, history, peers: peers.map(Peers::new) };
            print_measured(&features::run(config, &options)?, json)
        }
        BenchCommand::Backfill { events, days, partitions, threads, sample, peers, json } => {
            let config = load(global, Some(ops::backfill::PRESET))?;
            let peers = peers.map(Peers::new);
            let options = backfill::Options { events, days, partitions, threads, sample, peers };
            print_measured(&backfill::run(config, &options)?, json)
        }
        BenchCommand::Classic { viewings, seed, report: file, json } => {
            let config = load(global, Some(classic::PRESET))?;
            let (report, page) = classic::run(&config, viewings, seed)?;
            if let Some(file) = file {
                std::fs::write(&file, page).with_context(|| format!("cannot write {}", file.display()))?;
            }
            print_measured(&report, json)
        }
    }
}

fn run_quality(global: &Global, options: Quality) -> Result<u8> {
    let sources = sources(global, None);
    load(global, Some(quality::PRESET))?;
    let Quality { impressions, data, python, only, seed, keep, json } = options;
    let options = quality::Options { impressions, seed, data, only, python, keep };
    print_measured(&quality::run(&sources, &options)?, json)
}

fn options_of(options: &Speed) -> speed::Options {
    speed::Options { python: options.python.clone(), threads: options.threads }
}

/// Whether the user names a cluster, rather than wanting an embedded broker.
fn names_cluster(global: &Global) -> bool {
    global.bootstrap.is_some() || std::env::var_os("SALIENCE_KAFKA_BOOTSTRAP").is_some()
}

/// This program, of which processes are started.
fn program() -> Result<PathBuf> {
    std::env::current_exe().context("where this program lies")
}
