//! `salience train tune`: the search of the trainer, logged into a folder.

use std::io::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use runtime::shutdown::Shutdown;
use toml::{Table, Value};
pub use trainer::tune::EXAMPLE;
use trainer::tune::{Entry, Tune};

use crate::context::Context;

/// The log of all trainings: a line of JSON each.
const LOG: &str = "trials.jsonl";

/// Searches the space of `file`; the best settings as TOML, `None` if it was stopped.
///
/// # Errors
/// A space that makes no sense, too few examples, a folder that cannot be written.
pub fn run(context: &Context, file: &Path, out: &Path, shutdown: &Shutdown) -> Result<Option<String>> {
    let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
    let space = Tune::parse(&text).with_context(|| file.display().to_string())?;
    std::fs::create_dir_all(out).with_context(|| out.display().to_string())?;
    let mut log = std::fs::File::create(out.join(LOG)).with_context(|| out.display().to_string())?;
    let folder = out.to_owned();
    let trainer = super::trainer(context)?;
    let found = context.tokio.block_on(trainer.tune(space, shutdown, move |entry, events| {
        write(&mut log, &folder, entry, events).map_err(|error| trainer::Error::Damaged {
            path: folder.display().to_string(),
            what: error.to_string(),
        })
    }))?;
    let Some(best) = found else { return Ok(None) };
    let mut model = Table::new();
    for (key, value) in &best.entry.settings {
        let (section, name) = key.split_once('.').unwrap_or((key, ""));
        let section = model.entry(section).or_insert_with(|| Value::Table(Table::new()));
        if let Value::Table(section) = section {
            section.insert(name.to_owned(), value.clone());
        }
    }
    let settings = toml::to_string(&Table::from_iter([("model".to_owned(), Value::Table(model))]))?;
    Ok(Some(format!(
        "# Best of the last round: trial {}, validation loss {:.6}, best after epoch {}.\n{settings}",
        best.entry.trial,
        best.entry.validation_loss.unwrap_or(f64::NAN),
        best.entry.epochs
    )))
}

fn write(log: &mut std::fs::File, folder: &Path, entry: &Entry, events: &[u8]) -> Result<()> {
    writeln!(log, "{}", serde_json::to_string(entry)?)?;
    log.flush()?;
    let folder = folder.join(format!("trial-{:03}", entry.trial)).join(format!("rung-{}", entry.rung));
    std::fs::create_dir_all(&folder)?;
    std::fs::write(folder.join(trainer::tensorboard::file_name(0)), events)?;
    tracing::info!(
        trial = entry.trial,
        rung = entry.rung,
        budget = entry.budget,
        validation_loss = entry.validation_loss,
        failed = entry.failed,
        seconds = entry.seconds,
        "trial ended"
    );
    Ok(())
}
