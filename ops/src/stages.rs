//! How far each stage has come: lag, and waiting for a system to become quiet.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use runtime::processor::TopicPartition;
use runtime::shutdown::Shutdown;
use schemas::{Codec, Control, Entry, EventClock, Protobuf, Source, SourceSet};

use crate::context::{Context, PooledReader};

/// How long a log that was cut must have been quiet to count as ended.
const CUT_QUIET: Duration = Duration::from_secs(10);

/// How long a stage may make no progress.
const PATIENCE: Duration = Duration::from_mins(1);

/// Services in the order of the flow, with the topics that each reads.
pub fn stages(context: &Context) -> [(&'static str, Vec<Arc<str>>); 4] {
    let n = &context.names;
    [
        ("ingest", vec![n.views.clone(), n.clicks.clone(), n.purchases.clone()]),
        ("features", vec![n.events.clone()]),
        ("merge", vec![n.entity_tiles.clone()]),
        ("scorer", vec![n.feature_vectors.clone()]),
    ]
}

/// Offsets between where a stage has committed and where its input ends. Transaction markers count
/// as offsets, so a quiet system may show a few.
pub struct Backlog<'a> {
    context: &'a Context,
    reader: PooledReader<'a>,
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
    pub fn by_stage(&self) -> Result<[(&'static str, i64); 4]> {
        let stages = stages(self.context);
        let mut sums = stages.each_ref().map(|(service, _)| (*service, 0));
        for (slot, (service, topics)) in sums.iter_mut().zip(stages) {
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

/// All partitions of the raw topics.
fn sources(context: &Context) -> Result<Vec<Source>> {
    let mut sources = Vec::new();
    for topic in &stages(context)[0].1 {
        for partition in 0..context.admin.partitions(topic)?.unwrap_or(0) {
            sources.push(Source { topic: topic.to_string(), partition });
        }
    }
    sources.sort();
    Ok(sources)
}

/// Waits until ingest has recorded every source as idle in partition 0 of `events`: the event
/// clock then stands where the feed left it, whatever the order in which its sources ran dry.
///
/// # Errors
/// A log that cannot be read, sources that do not fall idle for a minute, a stopped system.
#[expect(clippy::disallowed_methods, reason = "waits for other processes; no core sees the clock")]
pub fn wait_until_idle(context: &Context, shutdown: &Shutdown) -> Result<()> {
    let first = TopicPartition { topic: Arc::clone(&context.names.events), partition: 0 };
    let mut reader = context.reader()?;
    let begin = reader.begin_offsets(&first.topic)?.first().copied().unwrap_or(0);
    reader.assign(&[(first, begin)])?;
    // Where retention has cut the log, the set of sources may be gone, and the tick of a source
    // that has long been idle: the set is known, and quiet must then be enough.
    let mut clock = EventClock::default();
    clock.fold(&Control::Sources(SourceSet { sources: sources(context)? }));
    let quiet = if begin > 0 { CUT_QUIET } else { PATIENCE };
    let mut came = Instant::now();
    while !clock.all_idle() {
        for record in reader.poll(10_000, Duration::from_millis(100))? {
            if let Entry::Control(control) = Protobuf::decode(&record.record.value.unwrap_or_default())? {
                clock.fold(&control);
            }
            came = Instant::now();
        }
        if came.elapsed() > quiet && begin > 0 {
            break;
        }
        if came.elapsed() > quiet {
            bail!("ingest does not record its sources as idle, for {PATIENCE:?}");
        }
        if shutdown.is_set() {
            bail!("stopped before the sources were idle: {}", shutdown.failure().unwrap_or_default());
        }
    }
    Ok(())
}

/// Waits until the stages have read everything that is in their inputs.
///
/// # Errors
/// A cluster that does not answer, a stage that does not come on for a minute, a stopped system.
#[expect(clippy::disallowed_methods, reason = "waits for other processes; no core sees the clock")]
pub fn wait_until_drained(context: &Context, shutdown: &Shutdown) -> Result<()> {
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
        let rest_done = now[1..].iter().all(|(_, lag)| *lag <= slack);
        quiet = if raw_done && rest_done { quiet + 1 } else { 0 };
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
