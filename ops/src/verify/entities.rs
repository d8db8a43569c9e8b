//! Shared entities, a part of I2: the versions marked in each partition of `events` are the fold of
//! `entity-tiles`. That tiles are the folds of `events` is checked with features' other outputs.

use anyhow::Result;
use runtime::processor::{InRecord, Input, OutRecord, Outputs, UnitId};
use schemas::{Control, Entry};

use super::Outcome;
use super::i2::{BLOCK, decode, differences, drained};
use crate::context::Context;
use crate::log::{Cursor, Cut, Range};

/// Folds the tiles again up to the cut and compares every version marked, in order.
pub(super) fn check(context: &Context, cut: &Cut, outcome: &mut Outcome) -> Result<()> {
    let (tiles, events) = (&context.names.entity_tiles, &context.names.events);
    let input = Range::to(context, tiles, cut.of(tiles))?;
    let output = Range::whole(context, events)?;
    let mut marks = Vec::new();
    for partition in 0..output.begin.len() {
        match Cursor::from_the_first(context, &output, partition)? {
            Ok(cursor) => marks.push(Marks { cursor, compared: 0 }),
            Err(why) => {
                outcome.out_of_scope(why);
                return Ok(());
            }
        }
    }
    let mut cursor = match Cursor::from_the_first(context, &input, 0)? {
        Ok(cursor) => cursor,
        Err(why) => {
            outcome.out_of_scope(why);
            return Ok(());
        }
    };
    let mut merge = context.merge()?.create(UnitId(0), None)?;
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
                against(context, &mut marks, &record, outcome)?;
            }
        }
        if end {
            break;
        }
    }
    if drained(context, &input, 0)? {
        for marks in &mut marks {
            if let Some(extra) = marks.next()? {
                let place = super::compare::place(events, &extra.record);
                outcome.differs(format!("{place}: no tile makes this version"));
            }
        }
    }
    let compared: u64 = marks.iter().map(|marks| marks.compared).sum();
    outcome.checked(format!(
        "{tiles}: {folded} records folded again, {compared} versions marked in {events} compared byte for byte"
    ));
    Ok(())
}

/// The versions marked in a partition of `events`.
struct Marks<'a> {
    cursor: Cursor<'a>,
    compared: u64,
}

impl Marks<'_> {
    fn next(&mut self) -> Result<Option<InRecord>> {
        while let Some(record) = self.cursor.next()? {
            if matches!(decode::<Entry>(&record)?, Entry::Control(Control::Entities(_))) {
                return Ok(Some(record));
            }
        }
        Ok(None)
    }
}

fn against(
    context: &Context,
    marks: &mut [Marks<'_>],
    recomputed: &OutRecord,
    outcome: &mut Outcome,
) -> Result<()> {
    let partition = recomputed.partition.unwrap_or_default();
    let Some(marks) = marks.get_mut(partition as usize) else { return Ok(()) };
    marks.compared += 1;
    match marks.next()? {
        Some(stored) => differences(context, recomputed, &stored, outcome),
        None => outcome.differs(format!(
            "{}[{partition}]: the version marked {}. is missing",
            recomputed.topic, marks.compared
        )),
    }
    Ok(())
}
