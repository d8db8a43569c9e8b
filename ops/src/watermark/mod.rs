//! Who holds event time back: a fold of the control records of `events`, and of the marks in
//! `entity-tiles`, as they stand in the logs.

mod fold;
mod show;

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use schemas::{Codec, EntityTiles, Entry, Protobuf, Source};
use serde::Serialize;

use self::fold::Fold;
use crate::context::Context;
use crate::history::{Events, Stored};
use crate::log::{Cursor, Range, scan};

/// Records that are read from the end of a log first; then twice as many, until all is found.
const TAIL: i64 = 4_096;

/// One source, as a partition of `events` knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SourceState {
    /// Raw topic.
    pub topic: String,
    /// Partition of it.
    pub partition: i32,
    /// Its watermark, ms since 1970 UTC; none before its first tick.
    pub watermark_ms: Option<i64>,
    /// Whether it is at its end and has been for a while: then it holds nothing.
    pub idle: bool,
    /// How far its watermark lies behind the greatest one, ms.
    pub behind_ms: Option<i64>,
    /// Whether the clock waits for it: no other source that is not idle has a smaller watermark.
    pub holds: bool,
    /// Records that ingest has still to read of it; transaction markers count.
    pub unread: Option<i64>,
}

/// One partition of `events`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PartitionState {
    /// Its number.
    pub partition: i32,
    /// The event clock, ms since 1970 UTC; none before it has started.
    pub clock_ms: Option<i64>,
    /// How far it lies behind the furthest partition, ms.
    pub behind_ms: Option<i64>,
    /// First offset of what is known of it: above 0 where retention has cut the log and the lake
    /// does not have what is missing.
    pub known_from: i64,
    /// The sources, in their order.
    pub sources: Vec<SourceState>,
    /// The version of shared entities that its vectors read, ms; none before the first.
    pub entity_version_ms: Option<i64>,
    /// Up to when its tiles of shared entities are closed, ms; none before its first mark.
    pub closed_ms: Option<i64>,
    /// Records that features have still to read of it; transaction markers count.
    pub unread: Option<i64>,
}

/// What shared entities wait for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EntityState {
    /// The next version is not later than this: what all partitions have closed, ms.
    pub closed_ms: Option<i64>,
    /// The partitions that have closed least.
    pub held_by: Vec<i32>,
    /// How far they lie behind the one that has closed most, ms.
    pub behind_ms: Option<i64>,
}

/// A look at the event time of a deployment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Each partition of `events`.
    pub partitions: Vec<PartitionState>,
    /// None where no shared entity is declared, or no tile was closed yet.
    pub entities: Option<EntityState>,
}

/// Looks.
///
/// # Errors
/// A cluster without `events`, a log or a table that cannot be read.
pub fn look(context: &Context) -> Result<Report> {
    let events = &context.names.events;
    let partitions = context.admin.partitions(events)?;
    let partitions = partitions
        .with_context(|| format!("there is no topic {events}; `salience topics create` makes it"))?;
    // Before the clocks: what is closed then is not ahead of them.
    let closed_ms = closed(context, partitions)?;
    let range = Range::whole(context, events)?;
    let stored = Stored::open(context, partitions)?;
    let mut folds = Vec::new();
    for partition in 0..partitions {
        folds.push(fold(context, stored.as_ref(), &range, partition)?);
    }
    let mut raw = BTreeMap::new();
    for topic in [&context.names.views, &context.names.clicks, &context.names.purchases] {
        for (partition, unread) in (0..).zip(unread(context, "ingest", topic)?) {
            raw.insert(Source { topic: topic.to_string(), partition }, unread);
        }
    }
    Ok(fold::report(&folds, &closed_ms, &raw, &unread(context, "features", events)?))
}

/// The fold of one partition: from the tables what they have of it, the rest from the log.
fn fold(context: &Context, stored: Option<&Stored>, range: &Range, partition: i32) -> Result<Fold> {
    let at = partition as usize;
    let mut fold = Fold::new(partition);
    let mut from = 0;
    if let Some(stored) = stored.filter(|stored| stored.ends[at] >= range.begin[at]) {
        // A history that begins in the middle is none: then the log may know more.
        if stored.ends[at] > 0 && stored.cut(partition)?.is_none() {
            let mut history = stored.read(partition, 0..stored.ends[at], &Events::None)?;
            while let Some((_, entry)) = history.next()? {
                fold.step(&entry);
            }
            from = stored.ends[at];
        }
    }
    if from < range.begin[at] {
        (fold, from) = (Fold::new(partition), range.begin[at]);
        fold.known_from = from;
    }
    let mut rest = range.only(at);
    rest.begin[at] = from;
    let mut cursor = Cursor::new(context, &rest, at)?;
    while let Some(record) = cursor.next()? {
        let value = record.record.value.unwrap_or_default();
        let entry: Entry = Protobuf::decode(&value)
            .with_context(|| format!("{}[{partition}] offset {}", range.topic, record.record.offset))?;
        fold.step(&entry);
    }
    Ok(fold)
}

/// Per partition of `events`: up to when it has closed its tiles of shared entities.
fn closed(context: &Context, partitions: i32) -> Result<Vec<Option<i64>>> {
    let topic = &context.names.entity_tiles;
    let mut closed = vec![None; partitions as usize];
    if context.admin.partitions(topic)?.is_none() {
        return Ok(closed);
    }
    let whole = Range::whole(context, topic)?;
    let (begin, end) = (whole.begin[0], whole.end[0]);
    // The last record of each partition is near the end, unless the partition has stopped long ago.
    let mut size = TAIL;
    loop {
        let mut range = whole.clone();
        range.begin[0] = begin.max(end - size);
        scan(context, &range, |record| {
            let tiles: EntityTiles = Protobuf::decode(&record.record.value.unwrap_or_default())?;
            let slot = usize::try_from(tiles.partition).ok().and_then(|at| closed.get_mut(at));
            if let Some(slot) = slot.filter(|_| tiles.last && tiles.layout != EntityTiles::HOURS) {
                *slot = (*slot).max(Some(tiles.closed_ms));
            }
            Ok(())
        })?;
        if range.begin[0] == begin || closed.iter().all(Option::is_some) {
            return Ok(closed);
        }
        size *= 2;
    }
}

/// By partition: what a service has still to read of a topic.
fn unread(context: &Context, service: &str, topic: &Arc<str>) -> Result<Vec<i64>> {
    if context.admin.partitions(topic)?.is_none() {
        return Ok(Vec::new());
    }
    let committed = context.admin.committed(&context.group(service), topic)?;
    let reader = context.reader()?;
    let bounds = reader.begin_offsets(topic)?.into_iter().zip(reader.end_offsets(topic)?);
    let unread = bounds.zip(committed).map(|((begin, end), at)| end - at.map_or(begin, |(offset, _)| offset));
    Ok(unread.map(|unread| unread.max(0)).collect())
}
