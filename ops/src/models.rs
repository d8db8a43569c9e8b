//! The registry of models, for people.

use anyhow::{Context as _, Result};
use trainer::{Announcer, Champion};

use crate::clock::wall_ms;
use crate::context::Context;

/// A line per version.
///
/// # Errors
/// A registry that cannot be read.
pub fn list(context: &Context) -> Result<Vec<String>> {
    let listed = context.tokio.block_on(context.registry().list())?;
    if listed.is_empty() {
        return Ok(vec!["no versions yet".to_owned()]);
    }
    Ok(listed
        .into_iter()
        .map(|line| {
            let mark = match (line.champion, line.was_champion) {
                (true, _) => "champion",
                (_, true) => "was champion",
                _ => "",
            };
            let run = &line.run;
            format!("{:<8} {mark:<13} {:>8} rows  {}", run.model_version, run.data.rows, run.gate.reason)
        })
        .collect())
}

/// What made a version, as JSON.
///
/// # Errors
/// A version that is not there.
pub fn show(context: &Context, version: &str) -> Result<String> {
    let run = context.tokio.block_on(context.registry().run(version))?;
    Ok(serde_json::to_string_pretty(&run)?)
}

/// Makes a version the champion, and announces it.
///
/// # Errors
/// A version that is not there, a pointer that somebody else moved meanwhile.
pub fn promote(context: &Context, version: &str) -> Result<String> {
    let registry = context.registry();
    let moved = context.tokio.block_on(async {
        let seen = registry.champion().await?;
        registry.promote(seen.as_ref(), version, "promoted by hand", wall_ms()).await
    })?;
    announce(context, &moved)
}

/// Makes the champion before the present one the champion again, and announces it.
///
/// # Errors
/// No champion before it, a pointer that somebody else moved meanwhile.
pub fn rollback(context: &Context) -> Result<String> {
    let moved = context.tokio.block_on(context.registry().rollback(wall_ms()))?;
    announce(context, &moved)
}

pub(crate) fn announce(context: &Context, champion: &Champion) -> Result<String> {
    let announcer = Announcer::new(&context.config.kafka, &context.names)?;
    context
        .tokio
        .block_on(announcer.announce(&context.registry(), champion))
        .context("the pointer was moved; the trainer will announce it when it runs")?;
    Ok(format!("champion is {}", champion.model_version))
}
