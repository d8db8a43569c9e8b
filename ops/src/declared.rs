//! Which declarations run: what the service `features` was last started with, as it is recorded in the
//! store.

use anyhow::{Context as _, Result};
use features::{Config, Plan};

use crate::context::Context;

/// Where it is recorded.
const RUNNING: &str = "declarations/running.json";

/// Records the configuration's declarations as those that run.
///
/// # Errors
/// A store that cannot be written.
pub(crate) fn record(context: &Context) -> Result<()> {
    let text = context.config.features.to_json()?;
    context.store.put_blocking(RUNNING, text.into()).context("recording the declarations")
}

/// The declarations that run; `None` before the first start.
///
/// # Errors
/// A store that cannot be read, declarations that this build cannot read.
pub(crate) fn running(context: &Context) -> Result<Option<Config>> {
    let Some(bytes) = context.store.get_blocking(RUNNING)? else { return Ok(None) };
    let text = std::str::from_utf8(&bytes).context(RUNNING)?;
    let config = Config::from_json(text).context(RUNNING)?;
    Plan::compile(&config).context(RUNNING)?;
    Ok(Some(config))
}
