//! A row gives back its record, byte for byte; every table's columns are frozen.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::sync::Arc;

use arrow::array::{Array, Date32Array, TimestampMicrosecondArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema};
use arrow::record_batch::RecordBatch;
use common::{record, vector_schema};
use proptest::collection::vec;
use proptest::prelude::*;
use schemas::table::{self, RowEncoder, TableError, TopicRecord};
use schemas::vector::{Scale, VectorField};
use schemas::{
    Codec, Control, DecodeError, Entry, Event, FeatureVector, Json, Label, LateEvent, Place, Protobuf,
    Record, topic,
};

/// Appends all, and finishes; every record must belong.
fn rows(encoder: &mut dyn RowEncoder, records: &[TopicRecord]) -> RecordBatch {
    for record in records {
        assert!(encoder.append(record).unwrap());
    }
    assert_eq!(encoder.len(), records.len());
    let batch = encoder.finish();
    assert!(encoder.is_empty());
    assert_eq!(batch.schema(), encoder.schema());
    batch
}

/// The same rows, read with the types that other readers hand out.
fn disguised(batch: &RecordBatch) -> RecordBatch {
    let (mut fields, mut columns) = (Vec::new(), Vec::new());
    for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
        let data_type = match field.data_type() {
            DataType::Utf8 => DataType::Utf8View,
            DataType::Binary => DataType::LargeBinary,
            DataType::Int32 => DataType::Int64,
            other => other.clone(),
        };
        columns.push(cast(column, &data_type).unwrap());
        fields.push(Field::new(field.name(), data_type, true));
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap()
}

fn places(count: usize) -> Vec<Place> {
    (0..count).map(|row| Place { partition: 3, offset: 1_000 + row as i64 }).collect()
}

macro_rules! gives_back {
    ($($name:ident: $table:ident of $strategy:expr, $codec:ident;)*) => {$(
        proptest! {
            #![proptest_config(ProptestConfig { cases: 64, ..Default::default() })]
            #[test]
            fn $name(originals in vec($strategy, 0..6)) {
                let places = places(originals.len());
                let bytes: Vec<Vec<u8>> = originals.iter().map(|original| $codec::to_vec(original)).collect();
                let records: Vec<_> = places.iter().zip(&bytes).map(|(p, b)| record(*p, b.clone())).collect();
                let mut encoder = table::encoder(table::$table::NAME, &[vector_schema()]).unwrap();
                let batch = rows(encoder.as_mut(), &records);
                prop_assert_eq!(table::positions(&batch).unwrap(), places);
                for batch in [disguised(&batch), batch] {
                    let back = gives_back!(@decode $table, &batch);
                    prop_assert_eq!(back.iter().map(|row| $codec::to_vec(row)).collect::<Vec<_>>(), bytes.clone());
                }
            }
        }
    )*};
    (@decode features, $batch:expr) => { table::features::decode($batch, &[vector_schema()]).unwrap() };
    (@decode $table:ident, $batch:expr) => { table::$table::decode($batch).unwrap() };
}
gives_back! {
    features_give_back_vectors: features of common::vector(), Protobuf;
    labels_give_back_labels: labels of common::label(), Protobuf;
    predictions_give_back_predictions: predictions of common::prediction(), Json;
    late_events_give_back_late_events: late_events of common::late_event(), Protobuf;
    duplicates_give_back_duplicates: duplicates of common::duplicate(), Protobuf;
    aggregates_give_back_aggregates: aggregates of common::aggregate(), Protobuf;
    entity_tiles_give_back_entity_tiles: entity_tiles of common::entity_tiles(), Protobuf;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..Default::default() })]

    /// As where declarations have changed: some numbers are in both, some moved, some new, some gone.
    #[test]
    fn vectors_of_several_schemas_share_a_table(originals in vec((common::vector(), any::<bool>()), 0..6)) {
        let old = vector_schema();
        let (mut new, mut moved) = (old.clone(), old.fields.clone());
        moved.remove(1);
        moved.rotate_left(2);
        moved.push(VectorField { name: "y".into(), scale: Scale::Log, doc: "What y is.".into() });
        new.fields = moved;
        let originals: Vec<FeatureVector> = originals.into_iter().map(|(vector, is_old)| {
            let fingerprint = if is_old { &old } else { &new }.fingerprint();
            FeatureVector { fingerprint, ..vector }
        }).collect();
        let places = places(originals.len());
        let records: Vec<_> =
            places.iter().zip(&originals).map(|(place, vector)| record(*place, Protobuf::to_vec(vector))).collect();
        let schemas = [old.clone(), new.clone()];
        let batch = rows(table::features::encoder(&schemas).as_mut(), &records);
        for batch in [disguised(&batch), batch] {
            let back = table::features::decode(&batch, &schemas).unwrap();
            prop_assert_eq!(
                back.iter().map(Protobuf::to_vec).collect::<Vec<_>>(),
                originals.iter().map(Protobuf::to_vec).collect::<Vec<_>>()
            );
            let stranger = originals.iter().any(|vector| vector.fingerprint == new.fingerprint());
            prop_assert_eq!(table::features::decode(&batch, &schemas[..1]).is_err(), stranger);
            let is_null = |name: &str, row: usize| batch.column_by_name(name).unwrap().is_null(row);
            for (row, vector) in originals.iter().enumerate() {
                let absent = if vector.fingerprint == old.fingerprint() { "y" } else { "number_price" };
                prop_assert!(is_null(absent, row));
            }
        }
    }

    /// Between them, `events` and `control` hold each record of the topic once.
    #[test]
    fn events_and_control_give_back_their_topic(
        entries in vec(prop_oneof![
            common::event().prop_map(|event| Entry::Event(Box::new(event))),
            common::control().prop_map(Entry::Control),
        ], 0..8)
    ) {
        let places = places(entries.len());
        let (mut events, mut control) = (table::events::encoder(), table::control::encoder());
        for (entry, place) in entries.iter().zip(&places) {
            let record = record(*place, Protobuf::to_vec(entry));
            let taken = (events.append(&record).unwrap(), control.append(&record).unwrap());
            prop_assert_eq!(taken, (matches!(entry, Entry::Event(_)), matches!(entry, Entry::Control(_))));
        }
        let events = table::events::decode(&disguised(&events.finish())).unwrap();
        let control = table::control::decode(&disguised(&control.finish())).unwrap();
        let mut back: Vec<(Place, Entry)> = control.into_iter().map(|(p, c)| (p, Entry::Control(c))).collect();
        back.extend(events.into_iter().map(|row| (row.place, Entry::Event(Box::new(row.event)))));
        back.sort_by_key(|(place, _)| *place);
        prop_assert_eq!(back.iter().map(|(place, _)| *place).collect::<Vec<_>>(), places);
        for ((_, back), entry) in back.iter().zip(&entries) {
            prop_assert_eq!(Protobuf::to_vec(back), Protobuf::to_vec(entry));
        }
    }

    #[test]
    fn dead_letters_give_back_dead_letters(letters in vec(common::dead_letter(), 0..6)) {
        let mut encoder = table::dead_letters::encoder();
        let records: Vec<_> = letters.iter().zip(places(letters.len())).map(|(letter, place)| {
            let (key, value, headers) = letter.clone().into_parts();
            TopicRecord { key, value, headers, ..record(place, Vec::new()) }
        }).collect();
        let batch = rows(encoder.as_mut(), &records);
        prop_assert_eq!(table::dead_letters::decode(&disguised(&batch)).unwrap(), letters.clone());
        prop_assert_eq!(table::dead_letters::decode(&batch).unwrap(), letters);
    }
}

#[test]
fn every_table_is_there_once() {
    let schemas = [vector_schema()];
    let mut names: Vec<_> = table::spec().iter().map(|spec| spec.table).collect();
    for spec in table::spec() {
        assert!(table::encoder(spec.table, &schemas).is_some(), "{}", spec.table);
        assert!(topic::Names::new("").all().iter().any(|topic| **topic == *spec.topic));
    }
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), 10);
    assert!(table::encoder("nothing", &schemas).is_none());
    assert!(table::encoder("features", &[]).is_none());
}

#[test]
fn every_column_says_what_it_is_and_has_a_name_that_tables_take() {
    let schemas = [vector_schema()];
    for spec in table::spec() {
        let columns = table::encoder(spec.table, &schemas).unwrap().schema();
        let mut names = std::collections::BTreeSet::new();
        for field in columns.fields() {
            assert!(!field.metadata()["comment"].is_empty(), "{} {}", spec.table, field.name());
            let fine = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
            assert!(field.name().chars().all(fine), "{} {}", spec.table, field.name());
            assert!(names.insert(field.name().clone()), "{} has {} twice", spec.table, field.name());
        }
        for bookkeeping in [table::DATE_COLUMN, table::PARTITION_COLUMN, table::OFFSET_COLUMN] {
            assert!(!columns.field_with_name(bookkeeping).unwrap().is_nullable());
        }
    }
}

#[test]
fn a_row_has_the_day_of_its_event_or_of_its_record() {
    let day = |event_time_ms| {
        let event = LateEvent { event: Event { event_time_ms, ..Event::default() }, ..LateEvent::default() };
        let mut encoder = table::late_events::encoder();
        let batch = rows(encoder.as_mut(), &[record(Place::default(), Protobuf::to_vec(&event))]);
        let dates = batch.column_by_name("date").unwrap();
        dates.as_any().downcast_ref::<Date32Array>().unwrap().value(0)
    };
    assert_eq!(day(0), 0);
    assert_eq!(day(86_400_000 - 1), 0);
    assert_eq!(day(86_400_000), 1);
    // Not known: the record's own, 2026-01-05.
    assert_eq!(day(i64::MIN), 20_458);
    // No calendar holds these: the first and the last day that one does.
    assert_eq!(day(-1), 0);
    assert_eq!(day(i64::MAX / 1_000), 2_932_896);
}

#[test]
fn an_unknown_time_is_null() {
    let vector = FeatureVector { clock_ms: i64::MIN, ..sample_vector() };
    let mut encoder = table::features::encoder(&[vector_schema()]);
    let batch = rows(encoder.as_mut(), &[record(Place::default(), Protobuf::to_vec(&vector))]);
    assert!(batch.column_by_name("clock").unwrap().is_null(0));
    let times = batch.column_by_name("event_time").unwrap();
    assert_eq!(times.as_any().downcast_ref::<TimestampMicrosecondArray>().unwrap().value(0), 5_000);
    let views = batch.column_by_name("user_views_1h").unwrap();
    assert!(views.is_null(0), "a missing number is null");
    let price = batch.column_by_name("number_price").unwrap();
    assert!(!price.is_null(0), "a declared number whose name is taken");
}

fn sample_vector() -> FeatureVector {
    let numbers = [f32::NAN, 1.0, 2.0, 3.0, 4.0, 5.0];
    FeatureVector {
        event_time_ms: 5,
        fingerprint: vector_schema().fingerprint(),
        values: numbers.into_iter().flat_map(f32::to_le_bytes).collect(),
        ..FeatureVector::default()
    }
}

#[test]
fn a_vector_of_other_declarations_is_refused_and_leaves_nothing() {
    let mut encoder = table::features::encoder(&[vector_schema()]);
    let other = FeatureVector { fingerprint: 1, ..sample_vector() };
    let error = encoder.append(&record(Place::default(), Protobuf::to_vec(&other))).unwrap_err();
    assert!(matches!(error, DecodeError::Fingerprint { found: 1, .. }));
    assert!(error.to_string().contains("declarations"), "{error}");
    let short = FeatureVector { values: vec![0; 4].into(), ..sample_vector() };
    assert!(encoder.append(&record(Place::default(), Protobuf::to_vec(&short))).is_err());
    let ragged = FeatureVector { embedding: vec![0; 5].into(), ..sample_vector() };
    assert!(encoder.append(&record(Place::default(), Protobuf::to_vec(&ragged))).is_err());
    assert!(encoder.append(&record(Place::default(), b"\x01\xff".to_vec())).is_err());
    assert!(encoder.append(&TopicRecord { value: None, ..record(Place::default(), Vec::new()) }).is_err());
    assert!(encoder.is_empty());
    let batch = rows(encoder.as_mut(), &[record(Place::default(), Protobuf::to_vec(&sample_vector()))]);
    assert_eq!(batch.num_rows(), 1);

    let mut narrower = vector_schema();
    narrower.fields.pop();
    let error = table::features::decode(&batch, &[narrower]).unwrap_err();
    assert!(matches!(error, TableError::Fingerprint { .. }), "{error}");
}

#[test]
fn rows_that_nobody_wrote_are_named() {
    let mut encoder = table::labels::encoder();
    let batch = rows(encoder.as_mut(), &[record(Place::default(), Protobuf::to_vec(&Label::default()))]);
    let without = batch.project(&[0, 1, 2]).unwrap();
    let error = table::labels::decode(&without).unwrap_err();
    assert!(error.to_string().contains("labels") && error.to_string().contains("absent"), "{error}");
    assert!(table::positions(&without).is_err());

    let mut encoder = table::control::encoder();
    let entry = Entry::Control(Control::Ticks(schemas::Ticks { ticks: Vec::new() }));
    let batch = rows(encoder.as_mut(), &[record(Place::default(), Protobuf::to_vec(&entry))]);
    let kind = batch.schema().index_of("kind").unwrap();
    let mut columns = batch.columns().to_vec();
    columns[kind] = Arc::new(arrow::array::StringArray::from(vec!["erasure"]));
    let error = table::control::decode(&RecordBatch::try_new(batch.schema(), columns).unwrap()).unwrap_err();
    assert!(error.to_string().contains("erasure"), "{error}");
}

#[test]
fn a_time_that_no_table_holds_is_refused() {
    let late = LateEvent { watermark_ms: i64::MAX, ..LateEvent::default() };
    let mut encoder = table::late_events::encoder();
    let error = encoder.append(&record(Place::default(), Protobuf::to_vec(&late))).unwrap_err();
    assert!(matches!(error, DecodeError::Invalid { record: LateEvent::NAME, .. }));
    assert!(encoder.is_empty());
}
