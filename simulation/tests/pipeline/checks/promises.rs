//! What ingest and the merge promise of `events`, on which the folds rest: a control record is in every
//! partition or in none, watermarks never go back, and no event comes behind what its source has ticked.

use std::collections::BTreeMap;

use bytes::Bytes;
use schemas::{Control, Entry, Source};
use simulation::Broker;

use super::{Checked, entries};
use crate::pipeline::PARTS;

/// What a partition was told.
#[derive(Debug, Default, PartialEq, Eq)]
struct Told {
    /// By source, in order: its watermark, and whether it is idle.
    ticks: BTreeMap<Source, Vec<(i64, bool)>>,
    /// Workers write these, each for itself: their order among one another may differ.
    sets: Vec<Bytes>,
    versions: Vec<Bytes>,
}

pub(super) fn check(broker: &Broker, checked: &mut Checked) -> Result<(), String> {
    let mut first: Option<Told> = None;
    for of in broker.partitions(&PARTS.names.events) {
        let mut told = Told::default();
        for (at, (record, entry)) in entries(broker, &of).into_iter().enumerate() {
            let place = || format!("{of} offset {}", record.offset);
            let value = record.value.clone().unwrap();
            if at == 0 && !matches!(entry, Entry::Control(Control::Sources(_))) {
                return Err(format!("{}: the partition does not begin with the set of sources", place()));
            }
            match entry {
                Entry::Control(Control::Sources(_)) => told.sets.push(value),
                Entry::Control(Control::Declared(_)) => {
                    return Err(format!("{}: nobody has declared anything", place()));
                }
                Entry::Control(Control::Entities(_)) => told.versions.push(value),
                Entry::Control(Control::Ticks(ticks)) => {
                    checked.ticks += 1;
                    for tick in ticks.ticks {
                        let before = told.ticks.entry(tick.source.clone()).or_default();
                        if before.last().is_some_and(|(watermark, _)| *watermark > tick.watermark_ms) {
                            return Err(format!("{}: {tick:?} goes back", place()));
                        }
                        before.push((tick.watermark_ms, tick.idle));
                    }
                }
                Entry::Event(event) => {
                    let source =
                        Source { topic: event.origin.topic.clone(), partition: event.origin.partition };
                    let ticked = told.ticks.get(&source).and_then(|ticks| ticks.last());
                    if ticked.is_some_and(|(watermark, _)| event.event_time_ms < *watermark) {
                        return Err(format!("{}: {:?} is behind its source", place(), event.origin));
                    }
                }
            }
        }
        match &first {
            Some(first) if *first != told => return Err(format!("{of} was told otherwise than partition 0")),
            _ => first = Some(told),
        }
    }
    Ok(())
}
