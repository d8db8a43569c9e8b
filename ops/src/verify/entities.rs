//! The merge, a part of I2: the versions marked in each partition of `events`, and the hourly sums in
//! `aggregates`, are the fold of `entity-tiles`. That this is the fold of `events` is checked with features'
//! other outputs.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Result;
use runtime::processor::{InRecord, Input, OutRecord, Outputs, UnitId};
use schemas::{Control, Entry};

use super::Outcome;
use super::i2::{BLOCK, decode, differences, drained};
use crate::context::Context;
use crate::log::{Cursor, Cut, Range};

/// Folds the tiles again up to the cut and compares every version marked and every hourly sum, in order.
pub(super) fn check(context: &Context, cut: &Cut, outcome: &mut Outcome) -> Result<()> {
    let (tiles, events) = (&context.names.entity_tiles, &context.names.events);
    let input = Range::to(context, tiles, cut.of(tiles))?;
    let factory = context.merge()?;
    let mut written = BTreeMap::new();
    for topic in factory.outputs() {
        let output = Range::whole(context, &topic)?;
        for partition in 0..output.begin.len() {
            let cursor = match Cursor::from_the_first(context, &output, partition)? {
                Ok(cursor) => cursor,
                Err(why) => {
                    outcome.out_of_scope(why);
                    return Ok(());
                }
            };
            let log = Log { cursor, only_versions: topic == *events, compared: 0 };
            written.insert((Arc::clone(&topic), partition as i32), log);
        }
    }
    let mut cursor = match Cursor::from_the_first(context, &input, 0)? {
        Ok(cursor) => cursor,
        Err(why) => {
            outcome.out_of_scope(why);
            return Ok(());
        }
    };
    let mut merge = factory.create(UnitId(0), None)?;
    let mut out = Outputs::default();
    let mut block = Vec::with_capacity(BLOCK);
    let mut folded = 0_u64;
    loop {
        let next = cursor.next()?;
        let end = next.is_none();
        block.extend(next);
        if block.len() == BLOCK || (end && !block.is_empty()) {
            folded += block.len() as u64;
            merge.step(Input::Records { records: &block, now_ms: 0 }, &mut out)?;
            block.clear();
            for record in out.records.drain(..) {
                against(context, &mut written, &record, outcome)?;
            }
        }
        if end {
            break;
        }
    }
    if drained(context, &input, 0)? {
        for ((topic, _), log) in &mut written {
            if let Some(extra) = log.next()? {
                let place = super::compare::place(topic, &extra.record);
                outcome.differs(format!("{place}: nothing in {tiles} makes it"));
            }
        }
    }
    let compared = |of: &Arc<str>| -> u64 {
        written.iter().filter(|((topic, _), _)| topic == of).map(|(_, log)| log.compared).sum()
    };
    let (versions, sums) = (compared(events), compared(&context.names.aggregates));
    outcome.checked(format!(
        "{tiles}: {folded} records folded again, {versions} versions marked in {events} and {sums} {} compared \
         byte for byte",
        context.names.aggregates
    ));
    Ok(())
}

/// What the merge wrote to a partition of a topic.
struct Log<'a> {
    cursor: Cursor<'a>,
    /// Of `events`, the versions marked are the merge's.
    only_versions: bool,
    compared: u64,
}

impl Log<'_> {
    fn next(&mut self) -> Result<Option<InRecord>> {
        while let Some(record) = self.cursor.next()? {
            let is_version = |record: &InRecord| {
                decode::<Entry>(record).map(|entry| matches!(entry, Entry::Control(Control::Entities(_))))
            };
            if !self.only_versions || is_version(&record)? {
                return Ok(Some(record));
            }
        }
        Ok(None)
    }
}

fn against(
    context: &Context,
    written: &mut BTreeMap<(Arc<str>, i32), Log<'_>>,
    recomputed: &OutRecord,
    outcome: &mut Outcome,
) -> Result<()> {
    let (topic, partition) = (&recomputed.topic, recomputed.partition.unwrap_or_default());
    let Some(log) = written.get_mut(&(Arc::clone(topic), partition)) else { return Ok(()) };
    log.compared += 1;
    match log.next()? {
        Some(stored) => differences(context, recomputed, &stored, outcome),
        None => {
            outcome.differs(format!("{topic}[{partition}]: record {} of the merge is missing", log.compared));
        }
    }
    Ok(())
}
