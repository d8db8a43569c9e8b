//! Records of `events` and `entity-tiles` as the services fold them: decoded, folded, encoded.

use std::sync::Arc;

use bytes::Bytes;
use features::{Config, Declarations};
use ingest::decode::{EARLIEST_MS, LATEST_MS};
use runtime::processor::{InRecord, Input, OutRecord, Outputs, Processor, ProcessorFactory, UnitId};
use schemas::table::TopicRecord;
use schemas::topic::Names;
use schemas::{Codec, Control, EntityTiles, EntityVersion, Entry, Protobuf};

use crate::Target;
use crate::dice::Dice;
use crate::stream::{self, PARTITION, PLANS};

pub const TARGET: Target = Target { name: "fold", run, seeds, times: 2_048, plus: 8 << 20, cases: 800 };

type Stage = Box<dyn Processor>;

/// Features by either plan, or the merge. Made anew for each input: features remember what a log declares.
fn factory(what: u8) -> Box<dyn ProcessorFactory> {
    let names = Names::new("");
    match what {
        2 => Box::new(features::merge_factory(PLANS[0].config(), &names, PARTITION as usize + 1).unwrap()),
        _ => Box::new(features::factory(PLANS[usize::from(what)].config(), &names).unwrap()),
    }
}

/// The first byte says which stage; then records, each behind its length in two bytes.
fn run(data: &[u8]) {
    let Some((&what, mut rest)) = data.split_first() else { return };
    let what = what % 3;
    let [one, other] = [factory(what), factory(what)];
    let (topic, unit) = (&one.inputs()[0], UnitId(if what == 2 { 0 } else { PARTITION as u32 }));
    let mut records = Vec::new();
    while let Some((length, behind)) = rest.split_at_checked(2) {
        let length = usize::from(u16::from_le_bytes([length[0], length[1]]));
        let (value, behind) = behind.split_at(length.min(behind.len()));
        rest = behind;
        let value = if what == 2 { Bytes::copy_from_slice(value) } else { admitted(value) };
        records.push(InRecord {
            topic: Arc::clone(topic),
            record: TopicRecord {
                partition: if what == 2 { 0 } else { PARTITION },
                offset: records.len() as i64,
                timestamp_ms: 0,
                key: None,
                value: Some(value),
                headers: Vec::new(),
            },
        });
    }
    let [mut straight, mut restarted] = [&one, &other].map(|factory| factory.create(unit, None).unwrap());
    for at in 0..records.len() {
        let out = step(&*one, unit, &mut straight, &records[..=at]);
        let again = step(&*other, unit, &mut restarted, &records[..=at]);
        assert!(out == again, "a restart changes what comes out");
        if at == records.len() / 2
            && let Some(state) = state(restarted.as_mut())
        {
            restarted = other.create(unit, Some(&state)).expect("a snapshot is restored");
        }
    }
    assert!(state(straight.as_mut()) == state(restarted.as_mut()), "a restart changes the state");
}

/// What comes out for the last record, or why it is refused. Where the log declares what was not known, all
/// is folded anew with what is known then.
fn step(
    factory: &dyn ProcessorFactory,
    unit: UnitId,
    stage: &mut Stage,
    records: &[InRecord],
) -> Result<Vec<OutRecord>, String> {
    let mut is_anew = false;
    'anew: loop {
        let (before, last) = records.split_at(records.len() - 1);
        let mut result = Ok(Vec::new());
        for record in before.iter().filter(|_| is_anew).chain(last) {
            let mut out = Outputs::default();
            let records = std::slice::from_ref(record);
            let stepped = stage.step(Input::Records { records, now_ms: 0 }, &mut out);
            if out.rebuild {
                (*stage, is_anew) = (factory.create(unit, None).unwrap(), true);
                continue 'anew;
            }
            result = stepped.map(|()| out.records).map_err(|error| error.to_string());
        }
        return result;
    }
}

/// The state, unless it is made for declarations that are still to come.
fn state(stage: &mut dyn Processor) -> Option<Vec<u8>> {
    if let Some(image) = stage.image() {
        image.begin(true);
        let parts = std::iter::from_fn(|| image.next_part(1 << 20).unwrap());
        return Some(parts.flatten().collect());
    }
    stage.snapshot()
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
        Entry::Control(Control::Sources(_) | Control::Entities(_) | Control::Declared(_)) => return value,
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
        // Declarations that the state goes over to, and some that need another.
        let config = plan.config();
        let lasting = Config { last_n: config.last_n - 1, ..config.clone() };
        let other = Config { exact_events: config.exact_events * 2, ..config.clone() };
        for (at, config) in [(9, other), (6, lasting)] {
            let declared = Declarations::of(&config).unwrap().record();
            entries.insert(at, Entry::Control(Control::Declared(declared)));
            seeds.push(framed(stage, entries.iter().map(Protobuf::to_vec)));
        }
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
