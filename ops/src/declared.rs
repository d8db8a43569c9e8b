//! The declarations of a deployment: those that were there before its log declared any, all that were ever
//! put into force, and those that are.
//!
//! Which are in force where stands in `events`. The store holds what was first, and every text by its
//! fingerprint, for those who meet vectors of a schema that they do not know.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail, ensure};
use features::Declarations;
use runtime::processor::{ProcessorFactory, UnitId};
use runtime::snapshot::{self, Snapshot};
use runtime::store::Store;
use schemas::{Codec, Control, Entry, Place, Protobuf, VectorSchema};

use crate::context::Context;
use crate::log::{Range, scan};

/// What was declared before the log declared anything.
const FIRST: &str = "declarations/first.json";
/// Every text, by its fingerprint.
const TEXTS: &str = "declarations/texts";

/// The first declarations; `None` before the service `features` was first started.
pub(crate) fn first(store: &Store) -> Result<Option<Declarations>> {
    let Some(bytes) = store.get_blocking(FIRST)? else { return Ok(None) };
    Ok(Some(read(&bytes).context(FIRST)?))
}

/// The first declarations; the configuration's become them where there are none. Of several processes that
/// begin at once, all get the same.
pub(crate) fn begin(context: &Context) -> Result<Declarations> {
    let own = Declarations::of(&context.config.features)?;
    if context.store.put_new_blocking(FIRST, own.text().to_owned().into())? {
        tracing::info!(fingerprint = format!("{:016x}", own.fingerprint()), "the first declarations");
    }
    let first = first(&context.store)?.context("the first declarations are gone from the store")?;
    keep(&context.store, &first)?;
    if context.store.get_blocking(&path_of(&own))?.is_none() {
        tracing::warn!(
            "what the configuration declares was never put into force: `salience features plan` says what is \
             different, `salience features apply` changes it"
        );
    }
    Ok(first)
}

/// The first declarations, or what would become them.
pub(crate) fn first_or_own(context: &Context) -> Result<Declarations> {
    match first(&context.store)? {
        Some(first) => Ok(first),
        None => Ok(Declarations::of(&context.config.features)?),
    }
}

/// Keeps the text of declarations, before anything is made by them.
pub(crate) fn keep(store: &Store, declarations: &Declarations) -> Result<()> {
    store.put_new_blocking(&path_of(declarations), declarations.text().to_owned().into())?;
    Ok(())
}

fn path_of(declarations: &Declarations) -> String {
    format!("{TEXTS}/{:016x}.json", declarations.fingerprint())
}

/// Schemas of the vectors of everything that was ever declared, each once.
fn schemas(store: &Store) -> Result<Vec<VectorSchema>> {
    let mut schemas = BTreeMap::new();
    for path in store.list_blocking(TEXTS)? {
        let Some(bytes) = store.get_blocking(&path)? else { continue };
        let declarations = read(&bytes).with_context(|| path.clone())?;
        schemas.insert(declarations.plan().schema_fingerprint(), declarations.plan().vector_schema());
    }
    Ok(schemas.into_values().collect())
}

/// Schemas of all vectors that there can be: `own` where nothing was declared yet.
pub(crate) fn schemas_or(store: &Store, own: &VectorSchema) -> Result<Vec<VectorSchema>> {
    let schemas = schemas(store)?;
    Ok(if schemas.is_empty() { vec![own.clone()] } else { schemas })
}

/// Finds the schema of a fingerprint among what was ever declared and the configuration's own.
pub(crate) fn lookup(context: &Context) -> scorer::Lookup {
    let (store, own) = (context.store.clone(), context.vector_schema.clone());
    Arc::new(move |fingerprint| {
        if own.fingerprint() == fingerprint {
            return Ok(Some(own.clone()));
        }
        let schemas = schemas(&store).map_err(|error| format!("{error:#}"))?;
        Ok(schemas.into_iter().find(|schema| schema.fingerprint() == fingerprint))
    })
}

/// Finds the schema of the vectors that are made now: the configuration's own before anything was declared.
pub(crate) fn schema_in_force(context: &Arc<Context>) -> trainer::InForce {
    let context = Arc::clone(context);
    Arc::new(move || match in_force(&context) {
        Ok(Some(found)) => Ok(found.declarations.plan().vector_schema()),
        Ok(None) => Ok(context.vector_schema.clone()),
        Err(error) => Err(format!("{error:#}")),
    })
}

fn read(bytes: &[u8]) -> Result<Declarations> {
    Ok(Declarations::read(std::str::from_utf8(bytes)?)?)
}

/// What is in force at the end of the log.
#[derive(Debug, Clone)]
pub(crate) struct InForce {
    pub(crate) declarations: Declarations,
    /// The record that put it into force in partition 0, where that is known.
    pub(crate) place: Option<Place>,
}

/// The declarations in force; `None` before the service `features` was first started.
///
/// Partition 0 tells: a declaration stands in all partitions or in none. Its newest snapshot says what was in
/// force where it stands, and the log what came after.
///
/// # Errors
/// A store or a cluster that cannot be read; a log whose beginning is gone, and no snapshot.
pub(crate) fn in_force(context: &Context) -> Result<Option<InForce>> {
    let Some(first) = first(&context.store)? else { return Ok(None) };
    let mut found = InForce { declarations: first.clone(), place: None };
    let events = &context.names.events;
    if context.admin.partitions(events)?.is_none() {
        return Ok(Some(found));
    }
    let mut range = Range::whole(context, events)?.only(0);
    match newest(context, &first)? {
        Some((offset, declarations)) if offset >= range.begin[0] => {
            found.declarations = declarations;
            range.begin[0] = offset;
        }
        _ if range.begin[0] > 0 => bail!(
            "{events}[0] begins at offset {}, and there is no snapshot of features from which to go on: what was \
             declared before cannot be told",
            range.begin[0]
        ),
        _ => {}
    }
    scan(context, &range, |record| {
        let place = record.record.place();
        let entry = Protobuf::decode(&record.record.value.unwrap_or_default())
            .with_context(|| format!("events {place}"))?;
        if let Entry::Control(Control::Declared(declared)) = entry {
            let declarations =
                Declarations::read(&declared.text).with_context(|| format!("events {place}"))?;
            found = InForce { declarations, place: Some(place) };
        }
        Ok(())
    })?;
    Ok(Some(found))
}

/// What the newest good snapshot of partition 0 says was in force, and the offset where it stands.
fn newest(context: &Context, first: &Declarations) -> Result<Option<(i64, Declarations)>> {
    let fingerprint = features::factory(first.plan().config(), &context.names)?.state_fingerprint();
    let paths = context.store.list_blocking(&snapshot::folder("features", UnitId(0)))?;
    for path in snapshot::newest_first(paths, None) {
        let Some(bytes) = context.store.get_blocking(&path)? else { continue };
        let good = Snapshot::decode(&bytes).ok().filter(|found| Some(found.fingerprint) == fingerprint);
        let in_force = good.and_then(|found| {
            Some((found.positions.first()?.offset, Declarations::in_snapshot(&found.payload()).ok()?))
        });
        if in_force.is_some() {
            return Ok(in_force);
        }
    }
    Ok(None)
}

/// Refuses where the log does not reach back to its beginning: no state can be made of it anew.
pub(crate) fn check_log_is_whole(context: &Context) -> Result<()> {
    let events = &context.names.events;
    let begins = context.reader()?.begin_offsets(events)?;
    let cut = begins.iter().enumerate().find(|(_, begin)| **begin > 0);
    if let Some((partition, begin)) = cut {
        bail!(
            "state must be rebuilt, and {events}[{partition}] begins at offset {begin}: retention has cut it. Change \
             only what the state that there is can be read for, or begin a new deployment"
        );
    }
    ensure!(!begins.is_empty(), "there is no topic {events}; `salience topics create` makes it");
    Ok(())
}
