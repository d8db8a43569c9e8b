//! `salience features docs`, `plan`, `apply` and `as-of`, `salience backfill`.

use std::io::{IsTerminal as _, Write as _};

use anyhow::{Context as _, Result, bail};
use ops::context::Context;

use super::{load, open, print_measured, shutdown};
use crate::args::Global;
use crate::args::features::{AsOf, Backfill, FeaturesCommand};

/// The exit code of a backfill that was asked to stop: the same command goes on with it.
const STOPPED: u8 = 3;

/// Runs the subcommand; its exit code.
pub(super) fn run(global: &Global, command: FeaturesCommand) -> Result<u8> {
    match command {
        FeaturesCommand::Docs { out } => {
            let text = ops::docs::markdown(&load(global, None)?)?;
            if let Some(file) = out {
                std::fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
            } else {
                print!("{text}");
            }
            Ok(0)
        }
        FeaturesCommand::Plan { json } => {
            let report = ops::plan::look(&open(global)?)?.report;
            print_measured(&report, json)?;
            Ok(report.exit_code())
        }
        FeaturesCommand::Apply { yes } => apply(global, yes),
        FeaturesCommand::AsOf(as_of) => run_as_of(global, as_of),
    }
}

fn apply(global: &Global, yes: bool) -> Result<u8> {
    let context = open(global)?;
    let planned = ops::plan::look(&context)?;
    print!("{}", planned.report);
    if planned.report.changes && planned.report.refused.is_none() && !yes && !is_agreed()? {
        bail!("nothing was applied");
    }
    println!("{}", ops::plan::apply(&context, &planned)?);
    Ok(0)
}

fn is_agreed() -> Result<bool> {
    if !std::io::stdin().is_terminal() {
        bail!("nobody can be asked here: look at `salience features plan`, then apply with --yes");
    }
    print!("\nApply this? Only yes is taken for it: ");
    std::io::stdout().flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(answer.trim() == "yes")
}

fn run_as_of(global: &Global, as_of: AsOf) -> Result<u8> {
    let context = open(global)?;
    let pseudonym = match (as_of.pseudonym, as_of.user) {
        (Some(pseudonym), _) => pseudonym,
        (None, user) => ops::pseudonym(&context.config, &user.unwrap_or_default())
            .context("--user needs the key of pseudonyms; without it name the user by --pseudonym")?,
    };
    let AsOf { at: at_ms, item, campaign, category, json, .. } = as_of;
    let options = ops::asof::Options { pseudonym, at_ms, item, campaign, category };
    print_measured(&ops::asof::run(&context, &options)?, json)
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
