//! How far each stage has come: lag, and waiting for a system to become quiet.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use runtime::kafka::Reader;
use runtime::shutdown::Shutdown;

use crate::context::Context;

/// Services in the order of the flow, with the topics that each reads.
pub fn stages(context: &Context) -> [(&'static str, Vec<Arc<str>>); 3] {
    let n = &context.names;
    [
        ("ingest", vec![n.views.clone(), n.clicks.clone(), n.purchases.clone()]),
        ("features", vec![n.events.clone()]),
        ("scorer", vec![n.feature_vectors.clone()]),
    ]
}

/// Offsets between where a stage has committed and where its input ends. Transaction markers count
/// as offsets, so a quiet system may show a few.
pub struct Backlog<'a> {
    context: &'a Context,
    reader: Reader,
}

impl<'a> Backlog<'a> {
    /// Of all stages.
    ///
    /// # Errors
    /// A client that cannot be made.
    pub fn new(context: &'a Context) -> Result<Self> {
        Ok(Self { context, reader: context.reader()? })
    }

    /// By stage, summed over partitions.
    ///
    /// # Errors
    /// A cluster that does not answer.
    pub fn by_stage(&self) -> Result<[(&'static str, i64); 3]> {
        let mut sums = [("ingest", 0), ("features", 0), ("scorer", 0)];
        for (slot, (service, topics)) in sums.iter_mut().zip(stages(self.context)) {
            let group = self.context.group(service);
            for topic in topics {
                let ends = self.reader.end_offsets(&topic)?;
                let committed = self.context.admin.committed(&group, &topic)?;
                for (end, at) in ends.iter().zip(committed) {
                    slot.1 += (end - at.map_or(0, |(offset, _)| offset)).max(0);
                }
            }
        }
        Ok(sums)
    }

    /// The longest of the stages' backlogs.
    ///
    /// # Errors
    /// A cluster that does not answer.
    pub fn now(&self) -> Result<i64> {
        Ok(self.by_stage()?.iter().map(|(_, lag)| *lag).max().unwrap_or(0))
    }
}

/// Waits until the stages have read everything that is in their inputs.
///
/// # Errors
/// A cluster that does not answer, a stage that does not come on for a minute, a stopped system.
#[expect(clippy::disallowed_methods, reason = "waits for other processes; no core sees the clock")]
pub fn wait_until_drained(context: &Context, shutdown: &Shutdown) -> Result<()> {
    const PATIENCE: Duration = Duration::from_secs(60);
    let backlog = Backlog::new(context)?;
    let mut last = backlog.by_stage()?;
    let mut changed = Instant::now();
    let mut quiet = 0;
    loop {
        // Ticks and transaction markers keep offsets moving a little: what counts is that nothing
        // is behind by more than the markers of one commit per partition, several looks in a row.
        let now = backlog.by_stage()?;
        let slack = i64::from(context.config.topics.internal_partitions) * 2;
        let raw_done = now[0].1 == 0;
        quiet = if raw_done && now[1].1 <= slack && now[2].1 <= slack { quiet + 1 } else { 0 };
        if quiet >= 5 {
            return Ok(());
        }
        if now != last {
            (last, changed) = (now, Instant::now());
        }
        if changed.elapsed() > PATIENCE {
            bail!("a stage does not come on: {now:?} offsets behind for {PATIENCE:?}");
        }
        if shutdown.sleep(Duration::from_millis(100)) {
            bail!("stopped before the pipeline was drained: {}", shutdown.failure().unwrap_or_default());
        }
    }
}
