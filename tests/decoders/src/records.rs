//! The records of every topic behind ingest, and their rows in the lake's tables.

use std::cell::RefCell;

use bytes::Bytes;
use schemas::entity::{HourRow, RowSummaries, Rows};
use schemas::prediction::{BehaviourAttention, FieldAttention, Status};
use schemas::table::{self, RowEncoder, TopicRecord};
use schemas::vector::{Scale, VectorField};
use schemas::{
    Aggregate, Codec, Control, DeadLetter, Declaration, Duplicate, EntitySums, EntityTiles, Entry,
    FeatureVector, HourBlock, Json, Label, LateEvent, ModelAnnouncement, Place, Prediction, Protobuf,
    RawEvent, Reason, Record, TileBlock, VectorSchema,
};

use crate::Target;
use crate::stream;

pub const TARGET: Target =
    Target { name: "records", run, seeds, times: 1_024, plus: 512 << 10, cases: 3_000 };

thread_local! {
    /// By name; made once, since a schema costs more than a row.
    static TABLES: RefCell<Vec<(&'static str, Box<dyn RowEncoder>)>> = RefCell::new(
        table::spec()
            .iter()
            .filter_map(|spec| Some((spec.table, table::encoder(spec.table, &[schema()])?)))
            .collect(),
    );
}

/// The schema of the vectors in `features`.
fn schema() -> VectorSchema {
    let field = |name: &str| VectorField { name: name.to_owned(), scale: Scale::Log, doc: String::new() };
    VectorSchema { fields: vec![field("user_views_1h"), field("price")] }
}

/// The first byte says what it is of; the rest is its value.
fn run(data: &[u8]) {
    let Some((&what, bytes)) = data.split_first() else { return };
    let bytes = Bytes::copy_from_slice(bytes);
    match what % 11 {
        0 => again::<Protobuf, Entry>(&bytes, &["events", "control"]),
        1 => again::<Protobuf, LateEvent>(&bytes, &["late_events"]),
        2 => again::<Protobuf, FeatureVector>(&bytes, &["features"]),
        3 => again::<Protobuf, Label>(&bytes, &["labels"]),
        4 => again::<Protobuf, Duplicate>(&bytes, &["duplicates"]),
        5 => again::<Protobuf, Aggregate>(&bytes, &["aggregates"]),
        6 => again::<Protobuf, EntityTiles>(&bytes, &["entity_tiles"]),
        7 => again::<Json, Prediction>(&bytes, &["predictions"]),
        8 => again::<Json, ModelAnnouncement>(&bytes, &[]),
        9 => again::<Json, RawEvent>(&bytes, &[]),
        _ => letter(&bytes),
    }
}

/// What decodes encodes to what decodes equal; and it has a row, or is refused as one.
fn again<C: Codec<T>, T: Record>(bytes: &Bytes, tables: &[&'static str]) {
    let Ok(record) = C::decode(bytes) else { return };
    // Compared as bytes: not a number is not equal to itself.
    let written = Bytes::from(C::to_vec(&record));
    let back =
        C::decode(&written).unwrap_or_else(|error| panic!("{}: written and not read: {error}", T::NAME));
    assert_eq!(C::to_vec(&back), written, "{}", T::NAME);
    rows(bytes, &[], tables);
}

fn rows(value: &Bytes, headers: &[(String, Option<Bytes>)], tables: &[&'static str]) {
    let record = TopicRecord {
        partition: 1,
        offset: 2,
        timestamp_ms: 3,
        key: None,
        value: Some(value.clone()),
        headers: headers.to_vec(),
    };
    TABLES.with_borrow_mut(|encoders| {
        for (_, encoder) in encoders.iter_mut().filter(|(name, _)| tables.contains(name)) {
            let rows = match encoder.append(&record) {
                Ok(is_here) => usize::from(is_here),
                Err(_) => 0,
            };
            assert_eq!(encoder.finish().num_rows(), rows);
        }
    });
}

/// Key, value and headers of a dead letter, one a line.
fn letter(bytes: &Bytes) {
    let mut parts = bytes.split(|byte| *byte == b'\n').map(Bytes::copy_from_slice);
    let (key, value) = (parts.next(), parts.next());
    let names = DeadLetter::headers(&empty_letter());
    let headers: Vec<_> = names.into_iter().map(|(name, _)| (name, parts.next())).collect();
    let Ok(letter) = DeadLetter::from_parts(key.as_ref(), value.as_ref(), &headers) else { return };
    let (key, value, written) = letter.clone().into_parts();
    assert_eq!(DeadLetter::from_parts(key.as_ref(), value.as_ref(), &written).ok(), Some(letter));
    rows(&value.unwrap_or_default(), &written, &["dead_letters"]);
}

fn empty_letter() -> DeadLetter {
    DeadLetter {
        topic: "views".into(),
        partition: 3,
        offset: 41,
        stage: "ingest".into(),
        reason: Reason::WrongType,
        message: "price must be a number".into(),
        key: None,
        value: None,
    }
}

pub(super) fn tiles() -> EntityTiles {
    let sums = EntitySums { counts: [3, 1, 0, 0, 300], values: [0, -5, 70_000] };
    let mut rows = Vec::new();
    for key in ["", "i-1", "i-2"] {
        Rows::push(&mut rows, key, &sums);
    }
    let mut summaries = Vec::new();
    for summary in [&[1, 2, 3][..], &[], &[255; 200]] {
        RowSummaries::push(&mut summaries, summary);
    }
    let block = TileBlock { tile_ms: stream::START_MS, entity: 1, rows: rows.into(), ..TileBlock::default() };
    let mut hours = Vec::new();
    HourRow { item: "i-1".into(), currency: "EUR".into(), views: 7, ..HourRow::default() }
        .push_to(&mut hours);
    EntityTiles {
        partition: 0,
        closed_ms: stream::START_MS + 60_000,
        layout: 9,
        part: 0,
        last: true,
        blocks: vec![block.clone(), TileBlock { entity: 2, summaries: summaries.into(), ..block }],
        hours: vec![HourBlock { hour_ms: stream::START_MS, rows: hours.into() }],
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let place = Place { partition: 1, offset: 700 };
    let entries = stream::entries(&mut crate::dice::Dice(1), 12, 0);
    let event = entries.iter().find_map(|entry| match entry {
        Entry::Event(event) => Some((**event).clone()),
        Entry::Control(_) => None,
    });
    let event = event.unwrap();
    let EntityTiles { blocks, .. } = tiles();
    let version =
        schemas::EntityVersion { version_ms: stream::START_MS, layout: 9, part: 0, last: true, blocks };
    let version = Entry::Control(Control::Entities(version));
    let declared = Entry::Control(Control::Declared(Declaration { fingerprint: 7, text: "{}".into() }));
    let label = Label {
        place,
        event_time_ms: event.event_time_ms,
        user: event.user.clone(),
        clicked: true,
        click_time_ms: event.event_time_ms + 5,
        value: 3.5,
        matured: true,
        ..Label::default()
    };
    let duplicate =
        Duplicate { place, first: place, event_id: "e-1".into(), user: "u".into(), event_time_ms: 7 };
    let aggregate = Aggregate {
        campaign: "c".into(),
        hour_ms: stream::START_MS,
        impressions: 900,
        revenue: -3,
        ..Aggregate::default()
    };
    let prediction = Prediction {
        version: Prediction::VERSION,
        prediction_id: event.origin.id(),
        event_id: "e".into(),
        user: "u".into(),
        item: "i".into(),
        campaign: "c".into(),
        placement: String::new(),
        request_id: String::new(),
        context: "{}".into(),
        p_click: 0.25,
        p_purchase: 1e-6,
        expected_value: 0.5,
        currency: "EUR".into(),
        attention: vec![FieldAttention { field: "item".into(), weight: 0.5 }],
        behaviours: vec![BehaviourAttention {
            item: "i".into(),
            kind: "view".into(),
            age_ms: 9,
            weight: 1.0,
        }],
        valid_until_ms: 9,
        status: Status::Scored,
        model_version: "v000001".into(),
        model_checksum: "00ff".into(),
        kernel: "avx2".into(),
        explanation_method: "attention".into(),
        fingerprint: "0123456789abcdef".into(),
        origin: event.origin.clone(),
        place,
        vector_offset: None,
        entity_version: 5,
        event_time_ms: 6,
        clock_ms: i64::MIN,
        received_ms: 7,
        scored_ms: 8,
    };
    let announcement = ModelAnnouncement {
        version: 1,
        name: "default".into(),
        model_version: "v000001".into(),
        uri: "models/default/versions/v000001/artefact".into(),
        checksum: "00".into(),
        fingerprint: "0123456789abcdef".into(),
        announced_ms: 1,
    };
    let raw = RawEvent {
        user_id: "u".into(),
        lines: vec![schemas::raw::OrderLine::default()],
        numbers: [("x".into(), 0.1)].into(),
        ..RawEvent::default()
    };
    let late = LateEvent { event: event.clone(), watermark_ms: stream::START_MS, late_by_ms: 4 };
    let letter = "key\nvalue\nviews\n3\n41\ningest\nwrong_type\nprice must be a number";
    let mut seeds: Vec<Vec<u8>> =
        entries.iter().chain([&version, &declared]).map(|entry| tagged(0, Protobuf::to_vec(entry))).collect();
    seeds.extend([
        tagged(1, Protobuf::to_vec(&late)),
        tagged(2, Protobuf::to_vec(&vector(&schema(), &[3.0, f32::NAN]))),
        tagged(3, Protobuf::to_vec(&label)),
        tagged(4, Protobuf::to_vec(&duplicate)),
        tagged(5, Protobuf::to_vec(&aggregate)),
        tagged(6, Protobuf::to_vec(&tiles())),
        tagged(7, Json::to_vec(&prediction)),
        tagged(8, Json::to_vec(&announcement)),
        tagged(9, Json::to_vec(&raw)),
        tagged(10, letter.into()),
    ]);
    seeds
}

fn tagged(what: u8, bytes: Vec<u8>) -> Vec<u8> {
    [vec![what], bytes].concat()
}

/// A vector of that schema with two behaviours.
pub(super) fn vector(schema: &VectorSchema, numbers: &[f32]) -> FeatureVector {
    let behaviour = |item: &str| schemas::Behaviour {
        item: item.into(),
        campaign: "c-1".into(),
        kind: 2,
        age_ms: 60_000,
        ..Default::default()
    };
    FeatureVector {
        place: Place { partition: 1, offset: 7 },
        origin: schemas::Origin { topic: "views".into(), partition: 2, offset: 40, line: 0, lines: 1 },
        event_id: "e-1".into(),
        event_time_ms: stream::START_MS,
        clock_ms: stream::START_MS - 1_000,
        received_ms: stream::START_MS + 500,
        user: "u".into(),
        item: "i-1".into(),
        campaign: "c-1".into(),
        category: "k-1".into(),
        price: 20.0,
        currency: "EUR".into(),
        context: "ctx".into(),
        fingerprint: schema.fingerprint(),
        values: numbers.iter().flat_map(|number| number.to_le_bytes()).collect::<Vec<u8>>().into(),
        behaviours: vec![behaviour("i-1"), behaviour("i-2")],
        ..FeatureVector::default()
    }
}
