//! What a user takes, and how long a snapshot and a restore last.

use std::sync::Arc;

use anyhow::{Result, ensure};
use features::{Config, Core, Plan};

use super::workload::{self, Users};
use super::{BATCH, DAYS, EVENTS_PER_USER, Feed, InMemory, SEED};
use crate::bench::watch::Watch;

/// The state of users with 20 events each.
pub(super) struct State {
    pub(super) bytes: usize,
    pub(super) resident: Option<usize>,
    pub(super) snapshot_bytes: usize,
    pub(super) snapshot_s: f64,
    pub(super) restore_s: f64,
}

impl State {
    pub(super) fn measure(mut config: Config, users: u32) -> Result<Self> {
        // What users share is no user's memory.
        config.entities.retain(|name, _| name.starts_with("user"));
        let plan = &Arc::new(Plan::compile(&config)?);
        let count = users as usize * EVENTS_PER_USER;
        let rows = workload::rows(count, DAYS.1, Users::InTurn(users), SEED)?;
        let before = resident_bytes();
        let mut sink = InMemory::default();
        let mut feed = Feed::new(plan, &mut sink);
        for (number, rows) in rows.chunks(BATCH).enumerate() {
            feed.steps(&workload::entries(rows, number * BATCH, false), &mut sink);
            sink.checked.clear();
        }
        let core = feed.core;
        let resident = resident_bytes().zip(before).map(|(after, before)| after.saturating_sub(before));
        let watch = Watch::start();
        let snapshot = core.snapshot();
        let snapshot_s = watch.seconds();
        let watch = Watch::start();
        let back = Core::restore(Arc::clone(plan), 0, &snapshot)?;
        let restore_s = watch.seconds();
        ensure!(back.snapshot() == snapshot, "a restored core writes another snapshot");
        let (bytes, snapshot_bytes) = (core.state_bytes(), snapshot.len());
        Ok(Self { bytes, resident, snapshot_bytes, snapshot_s, restore_s })
    }
}

fn resident_bytes() -> Option<usize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.split_whitespace().next()?.parse::<usize>().ok()? * 1024)
}
