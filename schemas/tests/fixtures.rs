//! Frozen bytes of every record and version, and frozen columns of every table.
//!
//! A fixture is written once, by `SALIENCE_WRITE_FIXTURES=1 cargo test -p schemas --test fixtures`,
//! which never changes one that is there. A failure here means that records already in somebody's
//! topics or tables would be misread: add a version, and a fixture, instead.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::{Path, PathBuf};

use bytes::Bytes;
use schemas::prediction::{BehaviourAttention, FieldAttention, Status};
use schemas::raw::OrderLine;
use schemas::vector::{Scale, VectorField};
use schemas::{
    Aggregate, Behaviour, Codec, Control, DeadLetter, Declaration, Duplicate, EntitySums, EntityTiles,
    EntityVersion, Entry, Event, FeatureVector, Json, Kind, Label, LateEvent, ModelAnnouncement, Origin,
    Place, Prediction, Protobuf, RawEvent, Reason, Record, SharedEntity, Source, SourceSet, Tick, Ticks,
    TileBlock, VectorSchema,
    entity::{HourBlock, HourKey, HourRows, RowSummaries, Rows},
    table,
};
use serde::Serialize;

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name)
}

/// The file's bytes; written first, where it is absent and that was asked for.
fn frozen(name: &str, now: &[u8]) -> Vec<u8> {
    let path = file(name);
    if !path.exists() && std::env::var_os("SALIENCE_WRITE_FIXTURES").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, now).unwrap();
    }
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Checks one record of the version written now: the writer's bytes, and what older bytes mean.
fn check<C: Codec<T>, T: Record + Serialize>(name: &str, extension: &str, record: &T) {
    let stem = format!("{name}/v{}", T::VERSION);
    let written = C::to_vec(record);
    assert_eq!(frozen(&format!("{stem}.{extension}"), &written), written, "{name}: its writer has changed");
    let expected = serde_json::to_vec_pretty(&serde_json::to_value(record).unwrap()).unwrap();
    frozen(&format!("{stem}.expected.json"), &expected);
    for version in T::OLDEST..=T::VERSION {
        let bytes = std::fs::read(file(&format!("{name}/v{version}.{extension}"))).unwrap();
        let expected = std::fs::read(file(&format!("{name}/v{version}.expected.json"))).unwrap();
        let expected: serde_json::Value = serde_json::from_slice(&expected).unwrap();
        let decoded = C::decode(&Bytes::from(bytes)).unwrap();
        assert_eq!(serde_json::to_value(&decoded).unwrap(), expected, "{name} v{version} reads otherwise");
    }
}

fn origin() -> Origin {
    Origin { topic: "purchases".into(), partition: 3, offset: 4_294_967_296, line: 1, lines: 2 }
}

fn event() -> Event {
    Event {
        origin: origin(),
        kind: Kind::Purchase as i32,
        event_id: "p-1".into(),
        event_time_ms: 1_767_571_200_123,
        user: "k1-0123456789abcdef0123456789abcdef".into(),
        item: "item-1".into(),
        campaign: "campaign-2".into(),
        category: "shoes".into(),
        brand: "Ää".into(),
        placement: "top".into(),
        device: "mobile".into(),
        channel: "app".into(),
        view_id: "v-1".into(),
        request_id: "r-1".into(),
        context: "{\"slot\":1}".into(),
        value: 39.98,
        currency: "EUR".into(),
        quantity: 2,
        numbers: vec![1.5, f32::NAN],
        embedding: vec![0.25, -0.5],
        received_ms: 1_767_571_200_456,
    }
}

fn source(partition: i32) -> Source {
    Source { topic: "views".into(), partition }
}

fn schema() -> VectorSchema {
    let field = |name: &str, scale| VectorField { name: name.into(), scale, doc: format!("{name}.") };
    VectorSchema { fields: vec![field("user_views_1h", Scale::Log), field("user_ctr_7d", Scale::Linear)] }
}

fn place() -> Place {
    Place { partition: 5, offset: 77 }
}

#[test]
fn entries_of_events() {
    check::<Protobuf, _>("event", "bin", &Entry::Event(Box::new(event())));
    let sources = SourceSet { sources: vec![source(0), source(1)] };
    check::<Protobuf, _>("sources", "bin", &Entry::Control(Control::Sources(sources)));
    let ticks = vec![
        Tick { source: source(0), watermark_ms: 1_767_571_080_000, idle: false },
        Tick { source: source(1), watermark_ms: i64::MIN, idle: true },
    ];
    check::<Protobuf, _>("ticks", "bin", &Entry::Control(Control::Ticks(Ticks { ticks })));
    let version = EntityVersion {
        version_ms: 1_767_571_200_000,
        layout: 0xfeed,
        part: 1,
        last: true,
        blocks: blocks(),
    };
    check::<Protobuf, _>("entity_version", "bin", &Entry::Control(Control::Entities(version)));
    let text = r#"{"last_n":20}"#.to_owned();
    let declaration = Declaration { fingerprint: Declaration::fingerprint_of(&text), text };
    check::<Protobuf, _>("declaration", "bin", &Entry::Control(Control::Declared(declaration)));
}

fn blocks() -> Vec<TileBlock> {
    let sums = [
        EntitySums { counts: [100, 10, 1, 2, 1], values: [1_999_000, 399_800, -199_900] },
        EntitySums { counts: [1, 0, 0, 0, 0], values: [0; 3] },
    ];
    let block = |entity: SharedEntity, keys: [&str; 2]| {
        let mut rows = Vec::new();
        keys.iter().zip(&sums).for_each(|(key, sums)| Rows::push(&mut rows, key, sums));
        let (entity, summaries) = (entity as i32, Bytes::new());
        TileBlock { tile_ms: 1_767_571_140_000, entity, rows: rows.into(), summaries }
    };
    vec![block(SharedEntity::Item, ["item-1", "item-2"]), block(SharedEntity::Campaign, ["campaign-2", "Ää"])]
}

#[test]
fn entity_tiles() {
    let tiles = EntityTiles {
        partition: 5,
        closed_ms: 1_767_571_200_000,
        layout: 0xfeed,
        part: 0,
        last: true,
        blocks: blocks(),
        hours: Vec::new(),
    };
    check::<Protobuf, _>("entity_tiles", "bin", &tiles);
    let mut summarised = tiles.clone();
    let mut summaries = Vec::new();
    RowSummaries::push(&mut summaries, b"any bytes");
    RowSummaries::push(&mut summaries, b"");
    summarised.blocks[0].summaries = summaries.into();
    check::<Protobuf, _>("entity_tiles_summaries", "bin", &summarised);
    let mut rows = Vec::new();
    let key = HourKey { campaign: "campaign-2", category: "shoes", item: "item-1", currency: "EUR" };
    let sums = EntitySums { counts: [100, 10, 1, 2, 1], values: [0, 399_800, 199_900] };
    HourRows::push(&mut rows, &key, &sums);
    let key = HourKey { campaign: "", category: "Ää", item: "item-2", currency: "" };
    HourRows::push(&mut rows, &key, &EntitySums { counts: [1, 0, 0, 0, 0], values: [0; 3] });
    let hour = HourBlock { hour_ms: 1_767_571_200_000, rows: rows.into() };
    let hours = EntityTiles { layout: EntityTiles::HOURS, blocks: Vec::new(), hours: vec![hour], ..tiles };
    check::<Protobuf, _>("entity_hours", "bin", &hours);
}

#[test]
fn late_events() {
    let late = LateEvent { event: event(), watermark_ms: 1_767_571_260_123, late_by_ms: 60_000 };
    check::<Protobuf, _>("late_event", "bin", &late);
}

#[test]
fn feature_vectors() {
    let block = |numbers: &[f32]| numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
    let vector = FeatureVector {
        place: place(),
        origin: origin(),
        event_id: "v-1".into(),
        event_time_ms: 1_767_571_200_123,
        clock_ms: i64::MIN,
        received_ms: 1_767_571_200_456,
        user: "k1-0123456789abcdef0123456789abcdef".into(),
        item: "item-1".into(),
        campaign: "campaign-2".into(),
        category: "shoes".into(),
        brand: "Ää".into(),
        placement: "top".into(),
        device: "mobile".into(),
        channel: "app".into(),
        request_id: "r-1".into(),
        context: "c".into(),
        price: 19.99,
        currency: "EUR".into(),
        fingerprint: schema().fingerprint(),
        values: block(&[3.0, f32::NAN]),
        embedding: block(&[0.25, -0.5]),
        behaviours: vec![Behaviour {
            item: "item-9".into(),
            campaign: "campaign-1".into(),
            category: "hats".into(),
            kind: Kind::Click as i32,
            age_ms: 60_000,
        }],
        entity_version: 4,
    };
    check::<Protobuf, _>("feature_vector", "bin", &vector);
}

#[test]
fn labels() {
    let label = Label {
        place: place(),
        event_time_ms: 1_767_571_200_123,
        user: "k1-0123456789abcdef0123456789abcdef".into(),
        item: "item-1".into(),
        campaign: "campaign-2".into(),
        revision: 2,
        clock_ms: 1_768_176_000_999,
        clicked: true,
        click_time_ms: 1_767_571_209_000,
        purchased_after_click: true,
        purchased_after_view: false,
        purchase_time_ms: 1_767_574_800_000,
        value: 39.98,
        refunded: 19.99,
        currency: "EUR".into(),
        matured: true,
    };
    check::<Protobuf, _>("label", "bin", &label);
}

#[test]
fn duplicates_and_aggregates() {
    let duplicate = Duplicate {
        place: place(),
        first: Place { partition: 5, offset: 12 },
        event_id: "v-1".into(),
        user: "k1-0123456789abcdef0123456789abcdef".into(),
        event_time_ms: 1_767_571_200_123,
    };
    check::<Protobuf, _>("duplicate", "bin", &duplicate);
    let aggregate = Aggregate {
        campaign: "campaign-2".into(),
        category: "shoes".into(),
        item: "item-1".into(),
        currency: "EUR".into(),
        hour_ms: 1_767_571_200_000,
        revision: 1,
        impressions: 1_000,
        clicks: 100,
        carts: 10,
        purchases: 20,
        refunds: 1,
        revenue: -5_000,
    };
    check::<Protobuf, _>("aggregate", "bin", &aggregate);
}

#[test]
fn predictions() {
    let prediction = Prediction {
        version: Prediction::VERSION,
        prediction_id: origin().id(),
        event_id: "v-1".into(),
        user: "k1-0123456789abcdef0123456789abcdef".into(),
        item: "item-1".into(),
        campaign: "campaign-2".into(),
        placement: "top".into(),
        request_id: "r-1".into(),
        context: "c".into(),
        p_click: 0.1,
        p_purchase: 0.02,
        expected_value: 0.399_800_000_000_000_04,
        currency: "EUR".into(),
        attention: vec![FieldAttention { field: "user_ctr_7d".into(), weight: 0.3 }],
        behaviours: vec![BehaviourAttention {
            item: "item-9".into(),
            kind: "click".into(),
            age_ms: 60_000,
            weight: 0.7,
        }],
        valid_until_ms: 1_767_571_500_123,
        status: Status::Scored,
        model_version: "v000012".into(),
        model_checksum: "af13".into(),
        kernel: "avx512".into(),
        // Written only where it is known, so that predictions of before read and write the same.
        explanation_method: String::new(),
        fingerprint: "0123456789abcdef".into(),
        origin: origin(),
        place: place(),
        vector_offset: None,
        entity_version: 4,
        event_time_ms: 1_767_571_200_123,
        clock_ms: i64::MIN,
        received_ms: 1_767_571_200_456,
        scored_ms: 1_767_571_200_500,
    };
    check::<Json, _>("prediction", "json", &prediction);
}

#[test]
fn model_announcements() {
    let announcement = ModelAnnouncement {
        version: ModelAnnouncement::VERSION,
        name: "default".into(),
        model_version: "v000012".into(),
        uri: "models/default/v000012".into(),
        checksum: "af13".into(),
        fingerprint: "0123456789abcdef".into(),
        announced_ms: 1_767_571_200_000,
    };
    check::<Json, _>("model_announcement", "json", &announcement);
}

#[test]
fn raw_events() {
    let order = RawEvent {
        kind: "purchase".into(),
        event_id: Some("p-1".into()),
        event_time: 1_767_571_200_123,
        user_id: "user-1".into(),
        currency: Some("EUR".into()),
        lines: vec![OrderLine {
            item_id: "item-1".into(),
            price: 19.99,
            quantity: Some(2),
            ..OrderLine::default()
        }],
        numbers: [("dwell_s".to_owned(), 1.5)].into(),
        ..RawEvent::default()
    };
    check::<Json, _>("raw_event", "json", &order);
}

/// A dead letter is a key, a value and headers: frozen as a list of these.
#[test]
fn dead_letters() {
    let letter = DeadLetter {
        topic: "views".into(),
        partition: 3,
        offset: 4_294_967_296,
        stage: "ingest".into(),
        reason: Reason::WrongType,
        message: "user_id is an array".into(),
        key: Some(b"user-1".to_vec()),
        value: Some(vec![0xff, 0x00]),
    };
    let (key, value, headers) = letter.clone().into_parts();
    let text =
        |bytes: &Option<Bytes>| bytes.as_ref().map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    let shown: Vec<_> = headers.iter().map(|(name, value)| (name, text(value))).collect();
    let written = serde_json::to_vec_pretty(&shown).unwrap();
    assert_eq!(frozen("dead_letter/v1.json", &written), written, "the headers have changed");
    let headers: Vec<(String, Option<String>)> =
        serde_json::from_slice(&frozen("dead_letter/v1.json", &[])).unwrap();
    let headers: Vec<_> = headers.into_iter().map(|(name, value)| (name, value.map(Bytes::from))).collect();
    assert_eq!(DeadLetter::from_parts(key.as_ref(), value.as_ref(), &headers).unwrap(), letter);
    let reasons = serde_json::to_vec_pretty(Reason::ALL).unwrap();
    let known: Vec<Reason> = serde_json::from_slice(&frozen("dead_letter/reasons.json", &reasons)).unwrap();
    assert!(known.iter().all(|reason| Reason::ALL.contains(reason)));
}

/// Columns may be added to a table; those that are there keep their name, type and place.
#[test]
fn columns() {
    for spec in table::spec() {
        let columns = table::encoder(spec.table, &[schema()]).unwrap().schema();
        let now: Vec<(&str, String)> =
            columns.fields().iter().map(|f| (f.name().as_str(), f.data_type().to_string())).collect();
        let written = serde_json::to_vec_pretty(&now).unwrap();
        let kept: Vec<(String, String)> =
            serde_json::from_slice(&frozen(&format!("tables/{}.json", spec.table), &written)).unwrap();
        for (name, data_type) in kept {
            let field =
                columns.field_with_name(&name).unwrap_or_else(|_| panic!("{} has lost {name}", spec.table));
            assert_eq!(field.data_type().to_string(), data_type, "{}.{name}", spec.table);
        }
    }
}

/// The hash that names a vector's layout is written into every vector and every model.
#[test]
fn fingerprints() {
    assert_eq!(format!("{:016x}", schema().fingerprint()), FINGERPRINT);
}
const FINGERPRINT: &str = "c27fe9c9b04bee77";
