//! I5: a model is a function of table versions, config, seed and parent.

use anyhow::Result;
use lake::Table;
use model::KernelClass;
use runtime::shutdown::Shutdown;
use scorer::Loaded;

use super::{Options, Outcome};
use crate::context::Context;

pub(super) fn check(context: &Context, options: Options) -> Result<Outcome> {
    let mut outcome =
        Outcome::new("I5", "the champion is what its tables, config, seed and parent make, bit for bit");
    let registry = context.registry();
    let Some(champion) = context.tokio.block_on(registry.champion())? else {
        outcome.out_of_scope("no model has been published yet".to_owned());
        return Ok(outcome);
    };
    let version = &champion.model_version;
    // Whole and as announced: every file against the manifest, the manifest against the pointer.
    let uri = registry.uri(version);
    if let Err(error) = Loaded::read(&context.store, &uri, version, &champion.checksum) {
        outcome.differs(format!("{version}: {error}"));
        return Ok(outcome);
    }
    let whole = format!("{version}: every file has the checksum that was announced");
    let run = context.tokio.block_on(registry.run(version))?;
    if !options.recompute {
        outcome.out_of_scope(format!("{whole}; it was not trained again"));
        return Ok(outcome);
    }
    if let Some(other) = not_compared(&run.code_version, &run.kernel) {
        outcome.out_of_scope(format!("{whole}; {other}"));
        return Ok(outcome);
    }
    if let Some(damage) = damaged(context, &run)? {
        outcome.out_of_scope(format!("{version}: cannot be trained again: {damage}"));
        return Ok(outcome);
    }
    match context.tokio.block_on(trainer::retrain(&run, &context.store, &Shutdown::new())) {
        Ok(again) if again.checksum == run.checksum => {
            outcome.checked(whole);
            outcome.checked(format!("{version}: trained again on {} examples, the same bits", run.data.rows));
        }
        Ok(again) => outcome.differs(format!(
            "{version}: artefact checksum: stored {}, recomputed {} (weights {})",
            run.checksum, again.checksum, again.weights_checksum
        )),
        Err(error) => outcome.out_of_scope(format!("{version}: cannot be trained again: {error}")),
    }
    Ok(outcome)
}

/// Why a repetition here would not have to give the same bits, if it would not.
fn not_compared(code_version: &str, kernel: &str) -> Option<String> {
    let ours = trainer::Run::current_code_version();
    if code_version != ours {
        return Some(format!("trained by other code ({code_version}, this is {ours}): not compared"));
    }
    let ours = KernelClass::detect().as_str();
    (kernel != ours)
        .then(|| format!("trained by kernels of class {kernel}, this machine's are {ours}: not compared"))
}

/// What is wrong with the tables at the versions that the run read, if anything is.
fn damaged(context: &Context, run: &trainer::Run) -> Result<Option<String>> {
    for (name, version) in &run.tables {
        let opened = context.tokio.block_on(Table::try_open(context.store.root_url(), name, Some(*version)));
        let table = match opened {
            Ok(Some(table)) => table,
            Ok(None) => return Ok(Some(format!("there is no table {name}"))),
            Err(error) => return Ok(Some(error.to_string())),
        };
        if let Some(damage) = context.tokio.block_on(table.check_files())?.damaged.first() {
            return Ok(Some(damage.to_string()));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_models_of_this_code_and_these_kernels_are_compared() {
        let (code, kernel) = (trainer::Run::current_code_version(), KernelClass::detect().as_str());
        assert_eq!(not_compared(&code, kernel), None);
        // What runs recorded before there were revisions.
        assert_eq!(
            not_compared("0.1.0", kernel),
            Some(format!("trained by other code (0.1.0, this is {code}): not compared"))
        );
        assert!(not_compared(&code, "another").is_some_and(|why| why.contains("class another")));
    }
}
