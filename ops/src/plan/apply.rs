//! Carrying a plan out: one record in every partition of `events`, in one transaction.

use std::fmt;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail, ensure};
use runtime::kafka::Together;
use runtime::processor::OutRecord;
use schemas::{Codec, Control, Entry, Protobuf};

use super::Planned;
use crate::context::Context;
use crate::declared;

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    /// Nothing: nothing changes.
    Nothing,
    /// Nothing runs yet: the declarations are what the log will begin with.
    First,
    /// The declarations stand in so many partitions of `events`.
    Declared(usize),
}

impl fmt::Display for Applied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => write!(f, "nothing to apply"),
            Self::First => write!(f, "applied: the log will begin with these declarations"),
            Self::Declared(partitions) => write!(
                f,
                "applied: declared in {partitions} partitions of events; every vector of a view behind it is made by \
                 these declarations"
            ),
        }
    }
}

/// Puts the planned declarations into force.
///
/// # Errors
/// A plan that cannot be carried out, or no longer fits; a store or a cluster that cannot be written.
pub fn apply(context: &Context, planned: &Planned) -> Result<Applied> {
    let Planned { report, before, next } = planned;
    if !report.changes {
        return Ok(Applied::Nothing);
    }
    if let Some(why) = &report.refused {
        bail!("{why}");
    }
    let Some(before) = before else {
        let first = declared::begin(context)?;
        ensure!(first.fingerprint() == next.fingerprint(), "others were declared meanwhile; plan again");
        return Ok(Applied::First);
    };
    // Whoever applies at the same time is fenced, or what it has written is seen here.
    let id = format!("{}features-apply", context.config.kafka.prefix);
    let together = Together::open(&context.config.kafka, &id)?;
    let now = declared::in_force(context)?.map(|now| now.declarations.fingerprint());
    ensure!(now == Some(before.fingerprint()), "others were declared meanwhile; plan again");
    // Who meets a vector of another schema looks there for its names.
    declared::keep(&context.store, next)?;
    let events = &context.names.events;
    let partitions =
        context.admin.partitions(events)?.with_context(|| format!("there is no topic {events}"))?;
    let value = Protobuf::to_vec(&Entry::Control(Control::Declared(next.record())));
    let record = |partition| OutRecord {
        topic: Arc::clone(events),
        partition: Some(partition),
        key: None,
        value: Some(value.clone().into()),
        headers: Vec::new(),
    };
    let records: Vec<OutRecord> = (0..partitions).map(record).collect();
    together.write(&records).context("declaring in events")?;
    Ok(Applied::Declared(records.len()))
}
