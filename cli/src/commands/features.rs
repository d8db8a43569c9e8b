//! `salience features docs` and `as-of`, `salience backfill`.

use anyhow::{Context as _, Result};
use ops::context::Context;

use super::{load, open, print_measured, shutdown};
use crate::args::Global;
use crate::args::features::{Backfill, FeaturesCommand};

/// The exit code of a backfill that was asked to stop: the same command goes on with it.
const STOPPED: u8 = 3;

/// Runs the subcommand; its exit code.
pub(super) fn run(global: &Global, command: FeaturesCommand) -> Result<u8> {
    match command {
        FeaturesCommand::Docs { out } => {
            let text = ops::docs::markdown(&load(global, None)?)?;
            match out {
                Some(file) => {
                    std::fs::write(&file, text)
                        .with_context(|| format!("cannot write {}", file.display()))?;
                }
                None => print!("{text}"),
            }
            Ok(0)
        }
    }
}

/// Runs a backfill; its exit code.
pub(super) fn backfill(global: &Global, backfill: Backfill) -> Result<u8> {
    let Backfill { from: from_ms, to: to_ms, warm_up, out, threads, json } = backfill;
    let options = ops::backfill::Options { from_ms, to_ms, warm_up, out, threads };
    let context = Context::open(load(global, Some(ops::backfill::PRESET))?)?;
    match ops::backfill::run(&context, &options, &shutdown()?)? {
        ops::backfill::Outcome::Ended(report) => print_measured(&report, json),
        ops::backfill::Outcome::Stopped(how) => {
            eprintln!("{how}");
            Ok(STOPPED)
        }
    }
}
