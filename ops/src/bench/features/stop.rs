//! How long the fold stands still for a snapshot where it is not users that make it large.

use anyhow::Result;
use features::Declarations;
use schemas::{Entry, Kind};

use super::state::PART_BYTES;
use super::workload::{self, Row, Users};
use super::{BATCH, Feed, InMemory, SEED};
use crate::bench::watch::Watch;

/// Few: they are none of what is measured.
const USERS: Users = Users::InTurn(1_000);
/// Events of each item in its windows.
const EACH: usize = 3;

/// The longest stop, s, for parts of a snapshot of a core that has windows of so many items, and behind them an
/// order of each that the clock has not passed.
pub(super) fn longest(declarations: &Declarations, items: u32) -> Result<f64> {
    let mut sink = InMemory::default();
    let mut feed = Feed::new(declarations, &mut sink)?;
    let rows = |count: usize, kind: Kind| -> Result<Vec<Row>> {
        let rows = workload::rows(count, 1, USERS, SEED)?;
        Ok((0..items).cycle().zip(rows).map(|(item, row)| row.of(item, kind)).collect())
    };
    for (number, rows) in rows(items as usize * EACH, Kind::View)?.chunks(BATCH).enumerate() {
        feed.steps(&workload::entries(rows, number * BATCH, false), &mut sink)?;
        sink.checked.clear();
    }
    for (number, rows) in rows(items as usize, Kind::Purchase)?.chunks(BATCH).enumerate() {
        let rows: Vec<Row> = rows.iter().map(|row| row.later(1)).collect();
        let mut entries = workload::entries(&rows, number * BATCH, false);
        // The clock stands: no order is decided, no tile and no hour closes.
        entries.retain(|entry| matches!(entry, Entry::Event(_)));
        feed.steps(&entries, &mut sink)?;
    }
    let watch = Watch::start();
    feed.declared.begin_image(true);
    let mut longest_s = watch.seconds();
    loop {
        let watch = Watch::start();
        let part = feed.declared.next_part(PART_BYTES);
        longest_s = longest_s.max(watch.seconds());
        if part.is_none() {
            return Ok(longest_s);
        }
    }
}
