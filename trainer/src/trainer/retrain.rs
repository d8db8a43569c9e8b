//! A recorded model made again: what I5 asks for.

use runtime::shutdown::Shutdown;
use runtime::store::Store;
use tokio::runtime::Handle;

use super::{broken, load, on_own_thread};
use crate::Error;
use crate::fit::{self, Plan};
use crate::registry::Registry;
use crate::run::Run;

/// What a model made again looks like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retrained {
    /// BLAKE3 of the weights' file, hex: I5 asks that it equals the run's.
    pub weights_checksum: String,
    /// BLAKE3 of the artefact's manifest, hex.
    pub checksum: String,
}

/// Makes a recorded model again from the same tables, settings, seed and parent. It is good if
/// `weights_checksum` equals the run's.
///
/// # Errors
/// A table version or parent that is gone, what training says.
pub async fn retrain(run: &Run, store: &Store, stop: &Shutdown) -> Result<Retrained, Error> {
    let registry = Registry::new(store.clone(), &*run.model);
    let plan = Plan::from(run);
    let parent = match &plan.parent {
        Some(parent) => Some(load(&registry, &parent.model_version, &parent.checksum).await?),
        None => None,
    };
    let (root, stop) = (store.root_url().to_owned(), stop.clone());
    let work = move |handle: &Handle| {
        let fitted = fit::fit(&root, &plan, parent.as_ref(), handle, &stop, None, &mut ())?;
        let artefact = fitted.trained.artefact(&fit::card(&plan, &fitted)).map_err(broken)?;
        Ok(Retrained {
            weights_checksum: fitted.trained.model.weights_checksum().map_err(broken)?,
            checksum: artefact.checksum(),
        })
    };
    on_own_thread(work).await
}
