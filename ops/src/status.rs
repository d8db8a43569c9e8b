//! How far a deployment has come: for operators and for tests that wait on a condition.

use std::collections::BTreeMap;

use anyhow::Result;
use serde::Serialize;

use crate::context::Context;
use crate::report::{self, TableReport};
use crate::stages::Backlog;

/// A look at a deployment.
#[derive(Debug, Clone, Serialize)]
pub struct Status {
    /// By stage, offsets between what it has committed and the end of its input; transaction
    /// markers count, so a quiet stage may show a few.
    pub lag: BTreeMap<&'static str, i64>,
    /// The tables.
    pub tables: BTreeMap<String, TableReport>,
    /// Version of the champion.
    pub champion: Option<String>,
}

/// Looks.
///
/// # Errors
/// A cluster, a table or a registry that cannot be read.
pub fn look(context: &Context) -> Result<Status> {
    let champion = context.tokio.block_on(context.registry().champion())?;
    Ok(Status {
        lag: Backlog::new(context)?.by_stage()?.into_iter().collect(),
        tables: report::tables(context)?,
        champion: champion.map(|champion| champion.model_version),
    })
}
