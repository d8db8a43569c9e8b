//! `salience train`: one training, now, with its progress shown; stopped, it leaves a checkpoint.

mod progress;
pub mod tune;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use runtime::shutdown::Shutdown;
use trainer::{Error, Status, Trainer, Trigger};

use crate::context::Context;
use crate::models;

/// The exit code of a training that was asked to stop: `--resume` goes on with it.
pub const STOPPED: u8 = 3;

/// What the command line says.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Go on with the run that was stopped or killed.
    pub resume: bool,
    /// Copies what the run leaves behind there too.
    pub out: Option<PathBuf>,
    /// Moves the champion pointer without telling scorers.
    pub quiet: bool,
}

/// How it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// With a version; what the gate said of it.
    Ended(String),
    /// At a signal.
    Stopped(String),
}

/// A trainer of the configuration's model.
pub(crate) fn trainer(context: &Context) -> Result<Trainer> {
    Ok(Trainer::new(
        context.config.trainer.clone(),
        context.config.model.clone(),
        context.vector_schema.clone(),
        context.store.clone(),
    )?)
}

/// Trains once, now.
///
/// # Errors
/// Too few examples, a lake or registry that cannot be read, nothing to go on with.
pub fn run(context: &Context, options: &Options, shutdown: &Shutdown) -> Result<Outcome> {
    let trainer = trainer(context)?;
    let status = Status::new();
    let ended = progress::shown(&status, || {
        context.tokio.block_on(async {
            if options.resume {
                Box::pin(trainer.resume(&status, shutdown)).await
            } else {
                Box::pin(trainer.train(Trigger::Asked, &status, shutdown)).await
            }
        })
    });
    let ended = match ended {
        Ok(ended) => ended,
        Err(Error::Stopped) => {
            let done = status.get().progress.map_or(0, |progress| progress.done);
            return Ok(Outcome::Stopped(format!(
                "stopped after {done} steps; `salience train --resume` goes on from there"
            )));
        }
        Err(error) => return Err(error.into()),
    };
    if let Some(folder) = &options.out {
        copy(context, &ended.run.model_version, folder)?;
    }
    if let Some(champion) = ended.published.as_ref().filter(|_| !options.quiet) {
        models::announce(context, champion)?;
    }
    Ok(Outcome::Ended(format!("{}: {}", ended.run.model_version, ended.run.gate.reason)))
}

/// Copies what a run left behind into a folder: run.json, config.toml, the report, the event file,
/// the artefact.
///
/// # Errors
/// A version that is not there, a folder that cannot be written.
pub fn copy(context: &Context, version: &str, folder: &Path) -> Result<()> {
    let registry = context.registry();
    let files = context.tokio.block_on(registry.files(version))?;
    for (name, bytes) in files {
        let path = folder.join(&name);
        let parent = path.parent().unwrap_or(folder);
        std::fs::create_dir_all(parent)
            .and_then(|()| std::fs::write(&path, &bytes))
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// The tags of a version's event file, a line each.
///
/// # Errors
/// A version that is not there or has no event file; a damaged one.
pub fn tags(context: &Context, version: &str) -> Result<Vec<String>> {
    let files = context.tokio.block_on(context.registry().files(version))?;
    let (_, bytes) = files
        .into_iter()
        .find(|(name, _)| name.contains("tfevents"))
        .with_context(|| format!("{version} has no event file: it was trained before there were any"))?;
    let tags = trainer::tensorboard::read(&bytes)?;
    Ok(tags.iter().map(|(tag, series)| format!("{tag:<40} {}", series.describe())).collect())
}
