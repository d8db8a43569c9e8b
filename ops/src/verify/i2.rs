//! I2: what features wrote for a partition is the fold of that partition of `events`; what the merge
//! marked there is the fold of `entity-tiles`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use runtime::processor::{InRecord, Input, OutRecord, Outputs, Position, ProcessorFactory, UnitId};
use schemas::{Codec, Duplicate, EntityTiles, Entry, FeatureVector, Kind, Label, Protobuf};

use super::{Options, Outcome, compare, entities};
use crate::context::Context;
use crate::log::{Cursor, Cut, Range, scan};

/// How many events are folded before their outputs are compared: bounds memory.
pub(super) const BLOCK: usize = 4096;

pub(super) fn check(context: &Context, cut: &Cut, options: Options) -> Result<Outcome> {
    let says = if options.recompute {
        "features' outputs are the fold of events, the merge's of tiles, byte for byte"
    } else {
        "every view has its vector, every label its vector"
    };
    let mut outcome = Outcome::new("I2", says);
    let events = Range::to(context, &context.names.events, cut.of(&context.names.events))?;
    let recomputable = options.recompute && !context.at_least_once();
    if options.recompute && !recomputable {
        outcome
            .out_of_scope("the bytes: delivery is at-least-once, repeats have no place in a fold".to_owned());
    }
    let n = &context.names;
    let logs = [&n.events, &n.feature_vectors, &n.labels, &n.duplicates];
    let begins = logs.map(|topic| Ok((topic, context.reader()?.begin_offsets(topic)?)));
    let begins = begins.into_iter().collect::<Result<Vec<_>>>()?;
    for partition in 0..events.begin.len() {
        if events.end[partition] == 0 {
            continue;
        }
        let cut = begins.iter().find(|(_, begin)| begin.get(partition).is_some_and(|begin| *begin > 0));
        if recomputable {
            recompute(context, &events, partition, &mut outcome)?;
        } else if let Some((topic, begin)) = cut {
            outcome.out_of_scope(format!(
                "{}[{partition}]: {topic}[{partition}] is cut by retention, it begins at offset {}",
                events.topic, begin[partition]
            ));
        } else {
            count(context, &events, partition, &mut outcome)?;
        }
    }
    if recomputable {
        entities::check(context, cut, &mut outcome)?;
    }
    Ok(outcome)
}

/// Every view has a vector or was dropped as a duplicate, never both; every label has its vector.
fn count(context: &Context, events: &Range, partition: usize, outcome: &mut Outcome) -> Result<()> {
    let names = &context.names;
    let mut views: BTreeMap<i64, u32> = BTreeMap::new();
    scan(context, &events.only(partition), |record| {
        let entry = decode::<Entry>(&record)?;
        if let Entry::Event(event) = entry
            && event.kind_or_unknown() == Kind::View
        {
            views.insert(record.record.offset, 0);
        }
        Ok(())
    })?;
    let mut vectors = 0u64;
    let known = |views: &mut BTreeMap<i64, u32>, offset: i64, what: &str, outcome: &mut Outcome| match views
        .get_mut(&offset)
    {
        Some(count) => *count += 1,
        None if offset < events.end[partition] => {
            outcome.differs(format!("{what} of {}[{partition}] offset {offset}: no such view", events.topic));
        }
        None => {}
    };
    scan(context, &Range::whole(context, &names.feature_vectors)?.only(partition), |record| {
        let vector = decode::<FeatureVector>(&record)?;
        vectors += 1;
        known(&mut views, vector.place.offset, "vector", outcome);
        Ok(())
    })?;
    let mut dropped: BTreeSet<i64> = BTreeSet::new();
    scan(context, &Range::whole(context, &names.duplicates)?.only(partition), |record| {
        let duplicate = decode::<Duplicate>(&record)?;
        dropped.insert(duplicate.place.offset);
        if let Some(count) = views.get_mut(&duplicate.place.offset) {
            *count += 1;
        }
        Ok(())
    })?;
    let mut labels = 0u64;
    scan(context, &Range::whole(context, &names.labels)?.only(partition), |record| {
        let label = decode::<Label>(&record)?;
        labels += 1;
        let offset = label.place.offset;
        if offset < events.end[partition] && (!views.contains_key(&offset) || dropped.contains(&offset)) {
            outcome.differs(format!("label of {}[{partition}] offset {offset}: has no vector", events.topic));
        }
        Ok(())
    })?;
    for (offset, count) in &views {
        let place = format!("view at {}[{partition}] offset {offset}", events.topic);
        match count {
            1 => {}
            0 => outcome.differs(format!("{place}: no vector, and not named as a duplicate")),
            _ if context.at_least_once() => {}
            n => outcome.differs(format!("{place}: {n} vectors or duplicates")),
        }
    }
    outcome.checked(format!(
        "{}[{partition}]: {} views, {vectors} vectors, {} duplicates, {labels} labels, by place",
        events.topic,
        views.len(),
        dropped.len()
    ));
    Ok(())
}

pub(super) fn decode<T>(record: &InRecord) -> Result<T>
where
    T: schemas::Record,
    Protobuf: Codec<T>,
{
    let value = record.record.value.clone().unwrap_or_default();
    Protobuf::decode(&value).with_context(|| compare::place(&record.topic, &record.record))
}

/// Folds the partition again and compares every output with the log, in order. Where the log declares what
/// reads it from its beginning, the fold begins anew.
fn recompute(context: &Context, events: &Range, partition: usize, outcome: &mut Outcome) -> Result<()> {
    let factory = context.features()?;
    let before = outcome.clone();
    while !fold(context, factory.as_ref(), events, partition, outcome)? {
        outcome.clone_from(&before);
    }
    Ok(())
}

/// `false`: the factory knows more of the log now, and the fold must begin anew.
fn fold(
    context: &Context,
    factory: &dyn ProcessorFactory,
    events: &Range,
    partition: usize,
    outcome: &mut Outcome,
) -> Result<bool> {
    let mut processor = factory.create(UnitId(partition as u32), None)?;
    let mut written = BTreeMap::new();
    for topic in factory.outputs() {
        let range = Range::whole(context, &topic)?;
        // Tiles of all partitions stand in the one partition of their topic.
        let tiles_of = (topic == context.names.entity_tiles).then_some(partition as i32);
        match Cursor::from_the_first(context, &range, if tiles_of.is_some() { 0 } else { partition })? {
            Ok(cursor) => written.insert(topic, Log { cursor, tiles_of, compared: 0 }),
            Err(why) => {
                outcome.out_of_scope(format!("{}[{partition}]: {why}", events.topic));
                return Ok(true);
            }
        };
    }
    let mut input = match Cursor::from_the_first(context, events, partition)? {
        Ok(cursor) => cursor,
        Err(why) => {
            outcome.out_of_scope(why);
            return Ok(true);
        }
    };
    let mut out = Outputs::default();
    let mut folded = 0u64;
    let start = Position {
        partition: runtime::processor::TopicPartition {
            topic: Arc::clone(&events.topic),
            partition: partition as i32,
        },
        offset: 0,
        metadata: String::new(),
    };
    processor.step(Input::Assigned { positions: &[start], now_ms: 0 }, &mut out)?;
    let mut block = Vec::with_capacity(BLOCK);
    loop {
        let next = input.next()?;
        let end = next.is_none();
        block.extend(next);
        if block.len() == BLOCK || (end && !block.is_empty()) {
            folded += block.len() as u64;
            processor.step(Input::Records { records: &block, now_ms: 0 }, &mut out)?;
            if out.rebuild {
                return Ok(false);
            }
            block.clear();
            for record in out.records.drain(..) {
                against(context, &mut written, &record, outcome)?;
            }
        }
        if end {
            break;
        }
    }
    // What the logs hold beyond this came from events beyond the cut; the counts of a stopped
    // system are whole, and then nothing may follow.
    if drained(context, events, partition)? {
        for (topic, log) in &mut written {
            if let Some(extra) = log.next()? {
                outcome.differs(format!("{}: no event makes it", compare::place(topic, &extra.record)));
            }
        }
    }
    let outputs: Vec<String> =
        written.iter().map(|(topic, log)| format!("{} {topic}", log.compared)).collect();
    outcome.checked(format!(
        "{}[{partition}]: {folded} records folded again, {} compared byte for byte",
        events.topic,
        outputs.join(", ")
    ));
    Ok(true)
}

struct Log<'a> {
    cursor: Cursor<'a>,
    /// Only tiles of this partition of `events`.
    tiles_of: Option<i32>,
    compared: u64,
}

impl Log<'_> {
    fn next(&mut self) -> Result<Option<InRecord>> {
        while let Some(record) = self.cursor.next()? {
            match self.tiles_of {
                Some(partition) if decode::<EntityTiles>(&record)?.partition != partition => {}
                _ => return Ok(Some(record)),
            }
        }
        Ok(None)
    }
}

fn against(
    context: &Context,
    written: &mut BTreeMap<Arc<str>, Log<'_>>,
    recomputed: &OutRecord,
    outcome: &mut Outcome,
) -> Result<()> {
    let Some(log) = written.get_mut(&recomputed.topic) else { return Ok(()) };
    log.compared += 1;
    let Some(stored) = log.next()? else {
        outcome.differs(format!("{}: record {} is missing", recomputed.topic, log.compared));
        return Ok(());
    };
    differences(context, recomputed, &stored, outcome);
    Ok(())
}

/// Says in what a stored record differs from the recomputed one.
pub(super) fn differences(
    context: &Context,
    recomputed: &OutRecord,
    stored: &InRecord,
    outcome: &mut Outcome,
) {
    let place = compare::place(&recomputed.topic, &stored.record);
    // What was read from a table has no key: the row's columns are what the key was made of.
    if stored.record.key.is_some() && stored.record.key != recomputed.key {
        outcome.differs(format!("{place}: key {:?}, recomputed {:?}", stored.record.key, recomputed.key));
    }
    if stored.record.value != recomputed.value {
        let bytes = |value: &Option<bytes::Bytes>| value.clone().unwrap_or_default();
        let what = compare::records(
            context,
            &recomputed.topic,
            &bytes(&stored.record.value),
            &bytes(&recomputed.value),
        );
        outcome.differs(format!("{place}: {what}"));
    }
}

/// Whether nothing lies between what a stage has committed and the end of its input.
pub(super) fn drained(context: &Context, events: &Range, partition: usize) -> Result<bool> {
    let mut rest = Range::whole(context, &events.topic)?;
    rest.begin[partition] = events.end[partition];
    Ok(Cursor::new(context, &rest, partition)?.next()?.is_none())
}
