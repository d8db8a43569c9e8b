//! Care for the tables: merging small files, deleting what nobody needs.

use anyhow::{Result, ensure};
use lake::{MakeEncoder, Table};
use schemas::table::{self, Spec};

use crate::context::Context;
use crate::declared;

/// The tables of a deployment, each with its topic and what makes its rows.
pub fn specs(context: &Context) -> Vec<lake::TableSpec> {
    let prefix = &context.config.kafka.prefix;
    let spec = |spec: &Spec| lake::TableSpec {
        table: spec.table.to_owned(),
        topic: format!("{prefix}{}", spec.topic).into(),
        encoder: encoder(context, spec.table),
        clustered_by: spec.clustered_by,
    };
    table::spec().iter().map(spec).collect()
}

/// Encoders of a table's rows; of `features` by all that is declared when one is made.
fn encoder(context: &Context, name: &'static str) -> MakeEncoder {
    let (store, own) = (context.store.clone(), context.vector_schema.clone());
    Box::new(move || {
        let vectors = match name {
            table::features::NAME => declared::schemas_or(&store, &own)?,
            _ => Vec::new(),
        };
        Ok(table::encoder(name, &vectors).ok_or("there is no such table")?)
    })
}

/// Opens the tables of those names, all where there are none.
fn open(context: &Context, names: &[String]) -> Result<Vec<Table>> {
    let there = context.tokio.block_on(lake::tables(context.store.root_url()))?;
    for name in names {
        ensure!(there.contains(name), "there is no table {name:?}; there are {}", there.join(", "));
    }
    let wanted = there.iter().filter(|table| names.is_empty() || names.contains(table));
    wanted.map(|name| Ok(context.tokio.block_on(Table::open(context.store.root_url(), name))?)).collect()
}

/// Merges small files; a line per table that says what was done.
///
/// # Errors
/// A table that is not there, or cannot be read or written.
pub fn compact(context: &Context, names: &[String]) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    for mut table in open(context, names)? {
        let spec = schemas::table::spec().iter().find(|spec| spec.table == table.name());
        let clustered_by = spec.map_or(&[][..], |spec| spec.clustered_by);
        let done = context.tokio.block_on(table.compact(&context.config.lake, clustered_by))?;
        lines.push(format!(
            "{}: {} files became {} ({} rows, {} bytes)",
            table.name(),
            done.removed,
            done.added,
            done.rows,
            done.bytes
        ));
    }
    Ok(lines)
}

/// Deletes files that neither a current version nor a kept model needs, once they are older than
/// `lake.retention`; a line per table.
///
/// # Errors
/// As [`compact`].
pub fn vacuum(context: &Context, names: &[String]) -> Result<Vec<String>> {
    let pinned = context.tokio.block_on(context.registry().pinned_versions())?;
    let mut lines = Vec::new();
    for mut table in open(context, names)? {
        let kept = pinned.get(table.name()).map_or(&[][..], Vec::as_slice);
        let done = context.tokio.block_on(table.vacuum(context.config.lake.retention, kept))?;
        lines.push(format!("{}: {done:?}", table.name()));
    }
    Ok(lines)
}
