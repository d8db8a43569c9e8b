//! What a user takes, and how long a snapshot and a restore last.

use std::sync::Arc;

use anyhow::{Result, ensure};
use features::{Config, Core, Declarations};

use super::log::replay;
use super::workload::{self, Row, Users};
use super::{BATCH, DAYS, EVENTS_PER_USER, Feed, InMemory, SEED};
use crate::bench::watch::Watch;

/// Bytes of a snapshot that the service writes between two polls.
pub(super) const PART_BYTES: usize = 256 * 1_024;
/// Events folded in between.
const BETWEEN: usize = 500;

/// The state of users with 20 events each.
pub(super) struct State {
    pub(super) bytes: usize,
    pub(super) resident: Option<usize>,
    pub(super) snapshot_bytes: usize,
    pub(super) snapshot_s: f64,
    pub(super) restore_s: f64,
    /// The same state from the log.
    pub(super) replay_s: f64,
    /// The longest that the fold stood still while a snapshot was written beside it.
    pub(super) longest_stop_s: f64,
    /// Bytes of what had changed when a quarter of the users had one event more.
    pub(super) changes_bytes: usize,
}

impl State {
    pub(super) fn measure(mut config: Config, users: u32) -> Result<Self> {
        // What users share is no user's memory.
        config.entities.retain(|name, _| name.starts_with("user"));
        let declarations = Declarations::of(&config)?;
        let count = users as usize * EVENTS_PER_USER;
        let rows = workload::rows(count, DAYS.1, Users::InTurn(users), SEED)?;
        let before = resident_bytes();
        let mut sink = InMemory::default();
        let mut feed = Feed::new(&declarations, &mut sink)?;
        for (number, rows) in rows.chunks(BATCH).enumerate() {
            feed.steps(&workload::entries(rows, number * BATCH, false), &mut sink)?;
            sink.checked.clear();
        }
        let resident = resident_bytes().zip(before).map(|(after, before)| after.saturating_sub(before));
        let core = feed.declared.core();
        let watch = Watch::start();
        let snapshot = core.snapshot();
        let snapshot_s = watch.seconds();
        let watch = Watch::start();
        let back = Core::restore(Arc::clone(declarations.plan()), 0, &snapshot)?;
        let restore_s = watch.seconds();
        ensure!(back.snapshot() == snapshot, "a restored core writes another snapshot");
        let (bytes, snapshot_bytes) = (core.state_bytes(), snapshot.len());
        drop(back);
        let replay_s = replay(&config, &rows, &snapshot)?;
        drop((rows, snapshot));
        let more = workload::rows((users as usize).div_ceil(4), 1, Users::InTurn(users), SEED + 1)?;
        let rows: Vec<Row> = more.into_iter().map(|row| row.later(DAYS.1)).collect();
        let mut batches = rows.chunks(BETWEEN).enumerate();
        let mut fold = |feed: &mut Feed, (number, rows): (usize, &[Row])| {
            feed.steps(&workload::entries(rows, count + number * BETWEEN, false), &mut sink)?;
            sink.checked.clear();
            anyhow::Ok(())
        };
        let (mut longest_stop_s, mut changes_bytes) = (0.0_f64, 0);
        for whole in [true, false] {
            if !whole {
                batches.by_ref().try_for_each(|batch| fold(&mut feed, batch))?;
            }
            changes_bytes = 0;
            let watch = Watch::start();
            feed.declared.begin_image(whole);
            longest_stop_s = longest_stop_s.max(watch.seconds());
            loop {
                let watch = Watch::start();
                let part = feed.declared.next_part(PART_BYTES);
                longest_stop_s = longest_stop_s.max(watch.seconds());
                let Some(part) = part else { break };
                changes_bytes += part.len();
                batches.next().into_iter().try_for_each(|batch| fold(&mut feed, batch))?;
            }
        }
        Ok(Self {
            bytes,
            resident,
            snapshot_bytes,
            snapshot_s,
            restore_s,
            replay_s,
            longest_stop_s,
            changes_bytes,
        })
    }
}

fn resident_bytes() -> Option<usize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.split_whitespace().next()?.parse::<usize>().ok()? * 1024)
}
