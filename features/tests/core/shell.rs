//! The core behind the loop's border: what goes where, and that the bytes are the codec's.

use std::sync::Arc;

use bytes::Bytes;
use features::{Config, Core, Out, Output, Sink, VectorView, factory};
use proptest::prelude::*;
use runtime::processor::{InRecord, Input, OutRecord, Outputs, ProcessorFactory, TopicPartition, UnitId};
use schemas::table::TopicRecord;
use schemas::topic::Names;
use schemas::{Codec, Duplicate, EntityTiles, Entry, FeatureVector, Kind, Label, Protobuf};

use crate::common::*;
use crate::summaries::everything;

/// Compares each vector's own encoding to the codec's, and what is written over the vector before.
#[derive(Default)]
struct Compare(usize, FeatureVector);

impl Sink for Compare {
    fn vector(&mut self, vector: &VectorView<'_>) {
        let mut bytes = Vec::new();
        vector.encode(&mut bytes);
        let made = vector.to_vector();
        assert_eq!(bytes, Protobuf::to_vec(&made));
        vector.write(&mut self.1);
        self.1.values = made.values.clone();
        assert_eq!(self.1, made);
        self.0 += 1;
    }
    fn label(&mut self, _: &Label) {}
    fn duplicate(&mut self, _: Duplicate) {}
    fn tiles(&mut self, _: EntityTiles) {}
    fn hours(&mut self, _: EntityTiles) {}
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn a_vectors_bytes_are_the_codecs(moves in moves(60)) {
        let mut core = Core::new(plan(&config()), 3);
        let mut compare = Compare::default();
        for (offset, mut entry) in stream(&moves).into_iter().enumerate() {
            if let Entry::Event(event) = &mut entry && offset % 2 == 0 {
                event.embedding = vec![0.5, -1.0, f32::MAX];
                event.context = "x".repeat(200);
                event.brand = "brand".into();
                event.received_ms = -5;
                event.origin.line = 300;
            }
            core.step(&entry, place(offset), &mut compare);
        }
    }
}

/// An entry as it stands in a partition of `t-events`.
pub(crate) fn record(partition: i32, offset: i64, entry: &Entry) -> InRecord {
    let value = Some(Protobuf::to_vec(entry).into());
    let record = TopicRecord { partition, offset, timestamp_ms: 0, key: None, value, headers: Vec::new() };
    InRecord { topic: "t-events".into(), record }
}

pub(crate) fn records(entries: &[Entry]) -> Vec<InRecord> {
    (0..).zip(entries).map(|(offset, entry)| record(3, offset, entry)).collect()
}

fn value_of(output: &Output) -> (&'static str, Vec<u8>, Option<String>) {
    match output {
        Output::Vector(v) => ("t-feature-vectors", Protobuf::to_vec(&**v), Some(v.user.clone())),
        Output::Label(l) => ("t-labels", Protobuf::to_vec(l), Some(l.user.clone())),
        Output::Duplicate(d) => ("t-duplicates", Protobuf::to_vec(d), Some(d.user.clone())),
        Output::Tiles(t) | Output::Hours(t) => ("t-entity-tiles", Protobuf::to_vec(t), None),
    }
}

#[test]
fn outputs_go_to_the_partition_of_the_input_and_survive_a_restart() {
    check_outputs(&Config::default(), 2 + 1 + 2 + 1 + 1);
}

#[test]
fn one_of_everything_survives_a_restart_after_every_record() {
    // Purchase windows end, too; of entities of the user alone there are no tiles.
    check_outputs(&everything(), 2 + 1 + 4 + 1);
}

/// Vectors, a duplicate, labels, hours, and tiles.
fn check_outputs(config: &Config, count: usize) {
    let view = |id: &str, at: i64| entry(event(Kind::View, id, START + at, "u", "i", "c"));
    let entries = [
        sources(),
        view("v1", 0),
        view("v1", 0),
        entry(event(Kind::Click, "c1", START + 900, "u", "i", "c")),
        view("v2", 1_000),
        tick(START + 100_000_000),
    ];
    let mut want = Out::default();
    let mut core = Core::new(plan(config), 3);
    for (offset, entry) in entries.iter().enumerate() {
        core.step(entry, place(offset), &mut want);
    }
    let want: Vec<OutRecord> = want
        .records
        .iter()
        .map(value_of)
        .map(|(topic, value, key)| OutRecord {
            topic: topic.into(),
            // Tiles of all partitions go to one.
            partition: Some(if topic == "t-entity-tiles" { 0 } else { 3 }),
            key: key.map(Bytes::from),
            value: Some(value.into()),
            headers: Vec::new(),
        })
        .collect();
    assert_eq!(want.len(), count);

    let factory = factory(config, &Names::new("t-")).unwrap();
    assert_eq!(factory.inputs(), ["t-events".into()]);
    assert_eq!(factory.outputs().len(), 4);
    let unit = factory.unit(&TopicPartition { topic: "t-events".into(), partition: 3 });
    let input = records(&entries);
    let mut got = Vec::new();
    let mut snapshot: Option<Vec<u8>> = None;
    for record in &input {
        let mut processor = factory.create(unit, snapshot.as_deref()).unwrap();
        let mut out = Outputs::default();
        let records = std::slice::from_ref(record);
        processor.step(Input::Records { records, now_ms: 1 }, &mut out).unwrap();
        got.append(&mut out.records);
        let image = processor.image().unwrap();
        image.begin(true);
        snapshot = Some(std::iter::from_fn(|| image.next_part(100).unwrap()).flatten().collect());
    }
    assert_eq!(got, want);
}

#[test]
fn what_cannot_be_read_stops_the_service_and_says_where() {
    let factory = factory(&Config::default(), &Names::new("t-")).unwrap();
    let mut processor = factory.create(UnitId(3), None).unwrap();
    let mut bad = records(&[sources()]);
    bad[0].record.value = Some(Bytes::from_static(b"\x09nonsense"));
    let error =
        processor.step(Input::Records { records: &bad, now_ms: 1 }, &mut Outputs::default()).unwrap_err();
    assert!(error.what.contains("3@0"), "{error}");
    assert!(factory.create(UnitId(3), Some(b"nonsense")).is_err());
    let other = Config { last_n: 3, ..Config::default() };
    let other = features::factory(&other, &Names::new("t-")).unwrap();
    assert_ne!(factory.state_fingerprint(), other.state_fingerprint());
    let _: Arc<dyn ProcessorFactory> = Arc::new(other);
}
