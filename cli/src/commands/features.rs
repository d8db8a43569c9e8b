//! `salience features ...`.

use anyhow::{Context as _, Result};

use super::load;
use crate::args::Global;
use crate::args::features::FeaturesCommand;

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
