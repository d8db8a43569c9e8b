//! Records of `events` and `entity-tiles` as the services fold them: decoded, folded, encoded.

use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use ingest::decode::{EARLIEST_MS, LATEST_MS};
use runtime::processor::{InRecord, Input, Outputs, Processor, ProcessorFactory, UnitId};
use schemas::table::TopicRecord;
use schemas::topic::Names;
use schemas::{Codec, Control, EntityTiles, EntityVersion, Entry, Protobuf};

use crate::Target;
use crate::dice::Dice;
use crate::stream::{self, PARTITION, PLANS};

pub const TARGET: Target = Target { name: "fold", run, seeds, times: 2_048, plus: 8 << 20, cases: 800 };

struct Stage {
    factory: Box<dyn ProcessorFactory + Send + Sync>,
    topic: Arc<str>,
    unit: UnitId,
}

/// Features by both plans, and the merge.
static STAGES: LazyLock<[Stage; 3]> = LazyLock::new(|| {
    let names = Names::new("");
    let features = |at: usize| Stage {
        factory: Box::new(features::factory(PLANS[at].config(), &names).unwrap()),
        topic: Arc::clone(&names.events),
        unit: UnitId(PARTITION as u32),
    };
    let merge = features::merge_factory(PLANS[0].config(), &names, PARTITION as usize + 1).unwrap();
    let merge = Stage { factory: Box::new(merge), topic: Arc::clone(&names.entity_tiles), unit: UnitId(0) };
    [features(0), features(1), merge]
});

/// The first byte says which stage; then records, each behind its length in two bytes.
fn run(data: &[u8]) {
    let Some((&what, mut rest)) = data.split_first() else { return };
    let stage = &STAGES[usize::from(what % 3)];
    let mut records = Vec::new();
    while let Some((length, behind)) = rest.split_at_checked(2) {
        let length = usize::from(u16::from_le_bytes([length[0], length[1]]));
        let (value, behind) = behind.split_at(length.min(behind.len()));
        rest = behind;
        let value = if what % 3 == 2 { Bytes::copy_from_slice(value) } else { admitted(value) };
        records.push(InRecord {
            topic: Arc::clone(&stage.topic),
            record: TopicRecord {
                partition: if what % 3 == 2 { 0 } else { PARTITION },
                offset: records.len() as i64,
                timestamp_ms: 0,
                key: None,
                value: Some(value),
                headers: Vec::new(),
            },
        });
    }
    let mut straight = stage.factory.create(stage.unit, None).unwrap();
    let mut restarted = stage.factory.create(stage.unit, None).unwrap();
    for (at, record) in records.iter().enumerate() {
        let (out, again) = (step(straight.as_mut(), record), step(restarted.as_mut(), record));
        assert!(out == again, "a restart changes what comes out");
        if at == records.len() / 2 {
            let state = restarted.snapshot().unwrap();
            restarted = stage.factory.create(stage.unit, Some(&state)).expect("a snapshot is restored");
        }
    }
    assert!(straight.snapshot() == restarted.snapshot(), "a restart changes the state");
}

/// What comes out, or why the record is refused.
fn step(stage: &mut dyn Processor, record: &InRecord) -> Result<Vec<runtime::processor::OutRecord>, String> {
    let mut out = Outputs::default();
    let records = std::slice::from_ref(record);
    stage.step(Input::Records { records, now_ms: 0 }, &mut out).map_err(|error| error.to_string())?;
    Ok(out.records)
}

/// An entry with its times within what ingest admits: nothing else is written to `events`.
fn admitted(value: &[u8]) -> Bytes {
    let value = Bytes::copy_from_slice(value);
    let Ok(mut entry): Result<Entry, _> = Protobuf::decode(&value) else { return value };
    let within = |time_ms: &mut i64| {
        if !(EARLIEST_MS..LATEST_MS).contains(time_ms) {
            *time_ms = EARLIEST_MS + time_ms.rem_euclid(LATEST_MS - EARLIEST_MS);
        }
    };
    match &mut entry {
        Entry::Event(event) => within(&mut event.event_time_ms),
        Entry::Control(Control::Ticks(ticks)) => {
            ticks.ticks.iter_mut().for_each(|tick| within(&mut tick.watermark_ms));
        }
        Entry::Control(Control::Sources(_) | Control::Entities(_)) => return value,
    }
    Protobuf::to_vec(&entry).into()
}

fn framed(stage: u8, records: impl IntoIterator<Item = Vec<u8>>) -> Vec<u8> {
    let mut out = vec![stage];
    for record in records {
        out.extend_from_slice(&(record.len() as u16).to_le_bytes());
        out.extend(record);
    }
    out
}

fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for (stage, plan) in (0..).zip(&*PLANS) {
        for (seed, count) in [(11, 5), (12, 30), (13, 120)] {
            let entries = stream::entries(&mut Dice(seed), count, 0);
            seeds.push(framed(stage, entries.iter().map(Protobuf::to_vec)));
        }
        let tiles = crate::records::tiles();
        let version = EntityVersion {
            version_ms: tiles.closed_ms,
            layout: plan.shared_layout(),
            part: 0,
            last: true,
            blocks: tiles.blocks,
        };
        let mut entries = stream::entries(&mut Dice(14), 12, 120_000);
        entries.insert(4, Entry::Control(Control::Entities(version)));
        seeds.push(framed(stage, entries.iter().map(Protobuf::to_vec)));
    }
    let tiles = crate::records::tiles();
    let layout = PLANS[0].shared_layout();
    let closed = |partition: i32, layout: u64, after_ms: i64| {
        let tiles = EntityTiles { partition, layout, closed_ms: tiles.closed_ms + after_ms, ..tiles.clone() };
        Protobuf::to_vec(&tiles)
    };
    let both = [
        (0, layout, 0),
        (1, layout, 0),
        (0, EntityTiles::HOURS, 7_200_000),
        (1, EntityTiles::HOURS, 7_200_000),
    ];
    seeds.push(framed(2, both.map(|(partition, layout, after_ms)| closed(partition, layout, after_ms))));
    seeds
}
