//! I2: what features wrote for a partition is the fold of that partition of `events`, and what the merge
//! wrote the fold of `entity-tiles`: byte for byte, in order, by a processor that saw all of it at once.

use std::collections::BTreeMap;
use std::sync::Arc;

use runtime::processor::{
    InRecord, Input, OutRecord, Outputs, Position, ProcessorFactory, TopicPartition, TopicRecord, UnitId,
};
use schemas::{Control, EntityTiles, Entry};
use simulation::Broker;

use super::{Checked, decode, entries};
use crate::pipeline::PARTS;

/// The outputs of a fold, by partition.
type Made = BTreeMap<TopicPartition, Vec<OutRecord>>;

pub(super) fn check_features(broker: &Broker, checked: &mut Checked) -> Result<(), String> {
    let names = &PARTS.names;
    for of in broker.partitions(&names.events) {
        let mut made = fold(&PARTS.features, broker, &of, UnitId(of.partition as u32));
        for (topic, count) in [
            (&names.feature_vectors, &mut checked.vectors),
            (&names.labels, &mut checked.labels),
            (&names.duplicates, &mut checked.duplicates),
        ] {
            let to = TopicPartition { topic: Arc::clone(topic), partition: of.partition };
            *count += same(&to, &made.remove(&to).unwrap_or_default(), &broker.all(&to))?;
        }
        // Tiles of all partitions stand in one partition, each with its own's number.
        let to = TopicPartition { topic: Arc::clone(&names.entity_tiles), partition: 0 };
        let mut stored = broker.all(&to);
        stored.retain(|record| decode::<EntityTiles>(record).partition == of.partition);
        checked.tiles += same(&to, &made.remove(&to).unwrap_or_default(), &stored)?;
        nothing_else(&made)?;
    }
    Ok(())
}

pub(super) fn check_merge(broker: &Broker, checked: &mut Checked) -> Result<(), String> {
    let names = &PARTS.names;
    let of = TopicPartition { topic: Arc::clone(&names.entity_tiles), partition: 0 };
    let mut made = fold(&PARTS.merge, broker, &of, UnitId(0));
    for to in broker.partitions(&names.aggregates) {
        checked.aggregates += same(&to, &made.remove(&to).unwrap_or_default(), &broker.all(&to))?;
    }
    for to in broker.partitions(&names.events) {
        let versions = entries(broker, &to).into_iter();
        let versions = versions.filter(|(_, entry)| matches!(entry, Entry::Control(Control::Entities(_))));
        let stored: Vec<TopicRecord> = versions.map(|(record, _)| record).collect();
        checked.versions += same(&to, &made.remove(&to).unwrap_or_default(), &stored)?;
    }
    nothing_else(&made)
}

/// All of a partition through a new processor.
fn fold(factory: &dyn ProcessorFactory, broker: &Broker, of: &TopicPartition, unit: UnitId) -> Made {
    let mut processor = factory.create(unit, None).unwrap();
    let mut out = Outputs::default();
    let start = Position { partition: of.clone(), offset: 0, metadata: String::new() };
    processor.step(Input::Assigned { positions: &[start], now_ms: 0 }, &mut out).unwrap();
    let record = |record| InRecord { topic: Arc::clone(&of.topic), record };
    let records: Vec<InRecord> = broker.all(of).into_iter().map(record).collect();
    if !records.is_empty() {
        processor.step(Input::Records { records: &records, now_ms: 0 }, &mut out).unwrap();
    }
    let mut made = Made::new();
    for record in out.records {
        let partition = record.partition.unwrap();
        made.entry(TopicPartition { topic: Arc::clone(&record.topic), partition }).or_default().push(record);
    }
    made
}

/// Whether both are the same records; how many.
fn same(of: &TopicPartition, made: &[OutRecord], stored: &[TopicRecord]) -> Result<u64, String> {
    for (made, stored) in made.iter().zip(stored) {
        if made.key != stored.key || made.value != stored.value || made.headers != stored.headers {
            return Err(format!("I2: {of} offset {}: not what the fold makes", stored.offset));
        }
    }
    if made.len() == stored.len() {
        Ok(made.len() as u64)
    } else {
        Err(format!("I2: {of} holds {} records, the fold makes {}", stored.len(), made.len()))
    }
}

fn nothing_else(made: &Made) -> Result<(), String> {
    made.keys().next().map_or(Ok(()), |of| Err(format!("I2: the fold writes to {of} as well")))
}
