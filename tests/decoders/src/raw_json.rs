//! What customers send: raw events, catalogue records, and the metadata of committed offsets.

use std::sync::{Arc, LazyLock};

use ingest::decode::{Decoder, EARLIEST_MS, LATEST_MS, RawPlace, RawTopic};
use ingest::watermark::Watermark;
use ingest::{Catalogue, Config, PseudonymKey, Pseudonymizer, RawPartitions, SharedCatalogue};
use runtime::processor::{InRecord, Input, Outputs, Position, ProcessorFactory, TopicPartition, UnitId};
use schemas::raw::OrderLine;
use schemas::table::TopicRecord;
use schemas::topic::Names;
use schemas::{Codec, Entry, Event, Json, Protobuf, RawEvent};

use crate::Target;

pub const TARGET: Target = Target { name: "raw_json", run, seeds, times: 512, plus: 256 << 10, cases: 1_500 };

/// Now, ms since 1970 UTC.
const NOW_MS: i64 = 1_700_000_000_000;

struct Setting {
    config: Config,
    decoder: Decoder,
    factory: ingest::Factory,
    names: Names,
}

/// Fields under their own names, and fields that are mapped, nested and few bytes long.
static SETTINGS: LazyLock<[Setting; 2]> = LazyLock::new(|| {
    let mapped = [
        ("user_id", "u.id"),
        ("item_id", "u.i"),
        ("event_time", "t"),
        ("price", "p"),
        ("lines", "o.lines"),
        ("view_id", "v"),
    ];
    let plain = Config { numbers: vec!["discount".to_owned()], embedding_length: 2, ..Config::default() };
    let nested = Config {
        fields: mapped.map(|(ours, theirs)| (ours.to_owned(), theirs.to_owned())).into(),
        numbers: vec!["a.b".to_owned(), "n".to_owned()],
        max_lines: 4,
        max_text_bytes: 16,
        ..Config::default()
    };
    [plain, nested].map(|config| {
        let key = PseudonymKey::new("k1", vec![7; 32]).unwrap();
        let decoder = Decoder::new(&config, Pseudonymizer::new(&key)).unwrap();
        let names = Names::new("");
        let partitions = RawPartitions { views: 1, clicks: 1, purchases: 1 };
        let catalogue = SharedCatalogue::new(Catalogue::new(&config));
        let factory = ingest::factory(&config, names.clone(), partitions, 2, &key, catalogue).unwrap();
        Setting { config, decoder, factory, names }
    })
});

/// The first byte says which decoder and which setting; the rest is the record.
fn run(data: &[u8]) {
    let Some((&what, bytes)) = data.split_first() else { return };
    let setting = &SETTINGS[usize::from(what & 1)];
    match what >> 1 & 7 {
        0..6 => raw(setting, RawTopic::ALL[usize::from(what >> 1 & 7) % 3], bytes),
        6 => item(setting, bytes),
        _ => metadata(bytes),
    }
}

fn raw(setting: &Setting, topic: RawTopic, bytes: &[u8]) {
    let name = match topic {
        RawTopic::Views => &setting.names.views,
        RawTopic::Clicks => &setting.names.clicks,
        RawTopic::Purchases => &setting.names.purchases,
    };
    let place = RawPlace { kind: topic, topic: name, partition: 0, offset: 5, timestamp_ms: NOW_MS };
    let decoded = setting.decoder.decode(place, Some(bytes), &Catalogue::new(&setting.config));
    let count = decoded.as_ref().map_or(0, ingest::decode::Events::count);
    match decoded {
        Ok(ingest::decode::Events::One(event)) => canonical(&event, (0, 1)),
        Ok(ingest::decode::Events::Lines(events)) => {
            assert!(!events.is_empty() && events.len() <= setting.config.max_lines);
            (0..).zip(&events).for_each(|(line, event)| canonical(event, (line, events.len() as u32)));
        }
        Err(refusal) => {
            assert!(refusal.message.len() < 4_096, "a message of {} bytes", refusal.message.len());
        }
    }

    // The same through ingest: in `events` line by line, or in `dead-letters` byte for byte.
    let mut ingest = setting.factory.create(UnitId(0), None).unwrap();
    let positions = setting.factory.inputs().into_iter().map(|topic| Position {
        partition: TopicPartition { topic, partition: 0 },
        offset: 0,
        metadata: String::new(),
    });
    let positions: Vec<Position> = positions.collect();
    let at_end: Vec<TopicPartition> = positions.iter().map(|position| position.partition.clone()).collect();
    let value = Some(bytes::Bytes::copy_from_slice(bytes));
    let record = InRecord {
        topic: Arc::clone(name),
        record: TopicRecord {
            partition: 0,
            offset: 5,
            timestamp_ms: NOW_MS,
            key: None,
            value: value.clone(),
            headers: Vec::new(),
        },
    };
    let mut out = Outputs::default();
    for input in [
        Input::Assigned { positions: &positions, now_ms: NOW_MS },
        Input::Records { records: &[record], now_ms: NOW_MS },
        Input::Drained { at_end: &at_end, now_ms: NOW_MS },
        Input::Drained { at_end: &at_end, now_ms: NOW_MS + 60_000 },
    ] {
        ingest.step(input, &mut out).unwrap();
    }
    let refused: Vec<_> =
        out.records.iter().filter(|record| record.topic == setting.names.dead_letters).collect();
    let events = out.records.iter().filter(|record| record.topic == setting.names.events);
    let events = events
        .filter(|record| matches!(Protobuf::decode(record.value.as_ref().unwrap()), Ok(Entry::Event(_))));
    match refused.as_slice() {
        [] => assert!(count > 0 && events.count() == count, "every line once"),
        [letter] => assert!(events.count() == 0 && letter.value == value, "byte for byte"),
        _ => panic!("refused {} times", refused.len()),
    }
}

/// What everything after ingest relies on.
fn canonical(event: &Event, (line, lines): (u32, u32)) {
    assert!((EARLIEST_MS..LATEST_MS).contains(&event.event_time_ms));
    assert!(event.value.is_finite() && event.value >= 0.0 && event.quantity > 0);
    assert!(event.user.starts_with("k1-") && event.user.len() == 35 && !event.item.is_empty());
    assert_eq!((event.origin.line, event.origin.lines), (line, lines));
    let written = Protobuf::to_vec(&Entry::Event(Box::new(event.clone())));
    let back: Entry = Protobuf::decode(&written.clone().into()).expect("a canonical event decodes");
    assert_eq!(Protobuf::to_vec(&back), written);
}

fn item(setting: &Setting, bytes: &[u8]) {
    let mut catalogue = Catalogue::new(&setting.config);
    let (key, value) = bytes.split_at(bytes.len().min(2));
    let [key, value] = [key, value].map(|part| Some(bytes::Bytes::copy_from_slice(part)));
    let record = TopicRecord { partition: 0, offset: 0, timestamp_ms: 0, key, value, headers: Vec::new() };
    let _ = catalogue.apply(&record);
    assert!(catalogue.len() <= 1);
}

fn metadata(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match Watermark::from_metadata(text) {
        Ok(mut watermark) => {
            assert_eq!(Watermark::from_metadata(&watermark.to_metadata()), Ok(watermark));
            watermark.late_by_ms(NOW_MS);
            watermark.observe(NOW_MS, 60_000);
        }
        Err(bad) => assert!(bad.text.len() <= 256),
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let view = RawEvent {
        kind: "view".into(),
        event_id: Some("e-1".into()),
        event_time: NOW_MS,
        user_id: "u-1".into(),
        item_id: Some("i-1".into()),
        campaign_id: Some("c-1".into()),
        category: Some("k".into()),
        placement: Some("top".into()),
        context: Some("{\"slot\":1}".into()),
        price: Some(9.5),
        currency: Some("EUR".into()),
        numbers: [("discount".to_owned(), 0.25)].into(),
        ..RawEvent::default()
    };
    let click = RawEvent { kind: "cart".into(), view_id: Some("e-1".into()), ..view.clone() };
    let line = OrderLine { item_id: "i-2".into(), price: 3.0, quantity: Some(2), ..OrderLine::default() };
    let order = RawEvent {
        kind: "purchase".into(),
        item_id: None,
        price: None,
        lines: vec![line.clone(), OrderLine { brand: Some("b".into()), ..line }],
        ..view.clone()
    };
    let mut seeds: Vec<Vec<u8>> = [(0, &view), (2, &click), (4, &order), (0, &click)]
        .map(|(what, event)| [&[what][..], &Json::to_vec(event)].concat())
        .into();
    for text in [
        "\x01{\"u\":{\"id\":\"u\",\"i\":7},\"t\":\"2023-11-14T22:13:20.5+01:00\",\"p\":1e3,\"a\":{\"b\":2},\"n\":-0.5}",
        "\x05{\"t\":1700000000000,\"u\":{\"id\":3},\"o\":{\"lines\":[{\"item_id\":\"x\",\"price\":2,\"quantity\":3}]}}",
        "\x0c{}{\"item_id\":\"i\",\"category\":\"k\",\"brand\":null,\"price\":2.5,\"embedding\":[0.5,-1]}",
        "\x0ew1,1699999880000,1700000000000",
    ] {
        seeds.push(text.into());
    }
    seeds
}
