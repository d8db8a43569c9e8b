//! Strategies for every record, with the values that break things: no text, all floats, the ends
//! of the clock, kinds of newer writers.
#![allow(dead_code, reason = "each test file uses some of it")]

use bytes::Bytes;
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use schemas::entity::{HourRow, RowSummaries, Rows};
use schemas::event::PlacedEvent;
use schemas::prediction::{BehaviourAttention, FieldAttention, Status};
use schemas::table::TopicRecord;
use schemas::vector::{Scale, VectorField};
use schemas::{
    Aggregate, Behaviour, Control, DeadLetter, Declaration, Duplicate, EntitySums, EntityTiles,
    EntityVersion, Event, FeatureVector, HourBlock, Label, LateEvent, ModelAnnouncement, Origin, Place,
    Prediction, Reason, Source, SourceSet, Tick, Ticks, TileBlock, VectorSchema,
};

/// Often empty, sometimes odd.
pub(crate) fn text() -> impl Strategy<Value = String> {
    prop_oneof![Just(String::new()), "[a-z0-9-]{1,12}", any::<String>()]
}

/// Milliseconds that fit a table, and "not known".
pub(crate) fn time() -> impl Strategy<Value = i64> {
    prop_oneof![
        4 => 0..253_402_300_800_000_i64,
        1 => i64::MIN / 1_000 + 1..i64::MAX / 1_000,
        1 => Just(i64::MIN),
    ]
}

/// Milliseconds, and 0 for "none".
fn time_or_zero() -> impl Strategy<Value = i64> {
    prop_oneof![Just(0), 1..253_402_300_800_000_i64]
}

/// Any bits: infinities, every NaN, negative zero.
fn f32s() -> impl Strategy<Value = f32> {
    prop_oneof![any::<u32>().prop_map(f32::from_bits), Just(f32::NAN), Just(-0.0), -1e3_f32..1e3]
}

fn f64s() -> impl Strategy<Value = f64> {
    prop_oneof![any::<u64>().prop_map(f64::from_bits), Just(f64::NAN), Just(-0.0), -1e3_f64..1e3]
}

fn finite32() -> impl Strategy<Value = f32> {
    f32s().prop_filter("JSON has no other", |number| number.is_finite())
}

fn finite64() -> impl Strategy<Value = f64> {
    f64s().prop_filter("JSON has no other", |number| number.is_finite())
}

fn kind() -> impl Strategy<Value = i32> {
    prop_oneof![4 => 0..6, 1 => any::<i32>()]
}

pub(crate) fn place() -> impl Strategy<Value = Place> {
    (any::<i32>(), any::<i64>()).prop_map(|(partition, offset)| Place { partition, offset })
}

pub(crate) fn origin() -> impl Strategy<Value = Origin> {
    (text(), any::<i32>(), any::<i64>(), any::<u32>(), any::<u32>())
        .prop_map(|(topic, partition, offset, line, lines)| Origin { topic, partition, offset, line, lines })
}

pub(crate) fn event() -> impl Strategy<Value = Event> {
    (
        (origin(), kind(), time(), time(), f64s(), any::<u32>()),
        (vec(f32s(), 0..4), vec(f32s(), 0..6)),
        vec(text(), 13),
    )
        .prop_map(|(numbers, lists, texts)| {
            let (origin, kind, event_time_ms, received_ms, value, quantity) = numbers;
            let mut texts = texts.into_iter();
            let mut next = || texts.next().unwrap();
            Event {
                origin,
                kind,
                event_id: next(),
                event_time_ms,
                user: next(),
                item: next(),
                campaign: next(),
                category: next(),
                brand: next(),
                placement: next(),
                device: next(),
                channel: next(),
                view_id: next(),
                request_id: next(),
                context: next(),
                value,
                currency: next(),
                quantity,
                numbers: lists.0,
                embedding: lists.1,
                received_ms,
            }
        })
}

pub(crate) fn placed_event() -> impl Strategy<Value = PlacedEvent> {
    (place(), event()).prop_map(|(place, event)| PlacedEvent { place, event })
}

pub(crate) fn late_event() -> impl Strategy<Value = LateEvent> {
    (event(), time(), any::<i64>()).prop_map(|(event, watermark_ms, late_by_ms)| LateEvent {
        event,
        watermark_ms,
        late_by_ms,
    })
}

fn source() -> impl Strategy<Value = Source> {
    (text(), any::<i32>()).prop_map(|(topic, partition)| Source { topic, partition })
}

pub(crate) fn control() -> impl Strategy<Value = Control> {
    let tick = (source(), any::<i64>(), any::<bool>()).prop_map(|(source, watermark_ms, idle)| Tick {
        source,
        watermark_ms,
        idle,
    });
    prop_oneof![
        vec(tick, 0..4).prop_map(|ticks| Control::Ticks(Ticks { ticks })),
        vec(source(), 0..4).prop_map(|sources| Control::Sources(SourceSet { sources })),
        (any::<i64>(), any::<u64>(), any::<u32>(), any::<bool>(), blocks()).prop_map(
            |(version_ms, layout, part, last, blocks)| {
                Control::Entities(EntityVersion { version_ms, layout, part, last, blocks })
            }
        ),
        text().prop_map(|text| {
            Control::Declared(Declaration { fingerprint: Declaration::fingerprint_of(&text), text })
        }),
    ]
}

fn entity() -> impl Strategy<Value = i32> {
    // One in a while that a newer writer knows.
    0..7_i32
}

fn blocks() -> impl Strategy<Value = Vec<TileBlock>> {
    let numbers = (any::<[u64; 5]>(), any::<[i64; 3]>(), any::<u8>());
    let sums = numbers.prop_map(|(mut counts, mut values, kept)| {
        let dropped = |at: usize| kept & 1 << at == 0;
        counts.iter_mut().enumerate().filter(|(at, _)| dropped(*at)).for_each(|(_, count)| *count = 0);
        values.iter_mut().enumerate().filter(|(at, _)| dropped(5 + at)).for_each(|(_, value)| *value = 0);
        EntitySums { counts, values }
    });
    let rows = btree_map(text(), sums, 1..4).prop_map(|rows| {
        let mut block = Vec::new();
        for (key, sums) in &rows {
            Rows::push(&mut block, key, sums);
        }
        Bytes::from(block)
    });
    let summaries = proptest::option::of(vec(vec(any::<u8>(), 0..200), 3));
    btree_map((time(), entity()), (rows, summaries), 0..4).prop_map(|blocks| {
        let block = |((tile_ms, entity), (rows, of_each)): (_, (Bytes, Option<Vec<Vec<u8>>>))| {
            let mut summaries = Vec::new();
            for (_, summary) in Rows::new(&rows).zip(of_each.iter().flatten()) {
                RowSummaries::push(&mut summaries, summary);
            }
            TileBlock { tile_ms, entity, rows, summaries: summaries.into() }
        };
        blocks.into_iter().map(block).collect()
    })
}

pub(crate) fn entity_tiles() -> impl Strategy<Value = EntityTiles> {
    (any::<i32>(), time(), any::<u64>(), any::<u32>(), any::<bool>(), blocks(), hours()).prop_map(
        |(partition, closed_ms, layout, part, last, blocks, hours)| EntityTiles {
            partition,
            closed_ms,
            layout,
            part,
            last,
            blocks,
            hours,
        },
    )
}

fn hours() -> impl Strategy<Value = Vec<HourBlock>> {
    let row = (vec(text(), 4), any::<[u64; 5]>(), any::<[i64; 2]>()).prop_map(|(texts, counts, values)| {
        let mut texts = texts.into_iter();
        let mut next = || texts.next().unwrap();
        HourRow {
            campaign: next(),
            category: next(),
            item: next(),
            currency: next(),
            views: counts[0],
            clicks: counts[1],
            carts: counts[2],
            purchases: counts[3],
            refunds: counts[4],
            purchase_value: values[0],
            refund_value: values[1],
        }
    });
    let rows = vec(row, 1..4).prop_map(|rows| {
        let mut block = Vec::new();
        for row in rows {
            row.push_to(&mut block);
        }
        Bytes::from(block)
    });
    btree_map(time(), rows, 0..3)
        .prop_map(|hours| hours.into_iter().map(|(hour_ms, rows)| HourBlock { hour_ms, rows }).collect())
}

/// Some of these are names of the table's own columns.
pub(crate) fn vector_schema() -> VectorSchema {
    let names = ["user_views_1h", "price", "user_ctr_7d", "_salience_offset", "clock", "x"];
    let field = |name: &&str| VectorField {
        name: (*name).to_owned(),
        scale: if name.len() > 4 { Scale::Log } else { Scale::Linear },
        doc: format!("What {name} is."),
    };
    VectorSchema { fields: names.iter().map(field).collect() }
}

fn block(numbers: Vec<f32>) -> Bytes {
    numbers.into_iter().flat_map(f32::to_le_bytes).collect()
}

fn behaviour() -> impl Strategy<Value = Behaviour> {
    (text(), text(), text(), kind(), any::<i64>()).prop_map(|(item, campaign, category, kind, age_ms)| {
        Behaviour { item, campaign, category, kind, age_ms }
    })
}

pub(crate) fn vector() -> impl Strategy<Value = FeatureVector> {
    (
        (place(), origin(), time(), time(), time(), f64s(), any::<u64>()),
        (vec(f32s(), vector_schema().fields.len()), vec(f32s(), 0..6), vec(behaviour(), 0..4)),
        vec(text(), 12),
    )
        .prop_map(|(numbers, lists, texts)| {
            let (place, origin, event_time_ms, clock_ms, received_ms, price, entity_version) = numbers;
            let mut texts = texts.into_iter();
            let mut next = || texts.next().unwrap();
            FeatureVector {
                place,
                origin,
                event_id: next(),
                event_time_ms,
                clock_ms,
                received_ms,
                user: next(),
                item: next(),
                campaign: next(),
                category: next(),
                brand: next(),
                placement: next(),
                device: next(),
                channel: next(),
                request_id: next(),
                context: next(),
                price,
                currency: next(),
                fingerprint: vector_schema().fingerprint(),
                values: block(lists.0),
                embedding: block(lists.1),
                behaviours: lists.2,
                entity_version,
            }
        })
}

pub(crate) fn label() -> impl Strategy<Value = Label> {
    (
        (place(), time(), any::<u32>(), time(), time_or_zero(), time_or_zero(), f64s(), f64s()),
        any::<[bool; 4]>(),
        vec(text(), 4),
    )
        .prop_map(|(numbers, flags, texts)| {
            let (place, event_time_ms, revision, clock_ms, click_time_ms, purchase_time_ms, value, refunded) =
                numbers;
            let mut texts = texts.into_iter();
            let mut next = || texts.next().unwrap();
            Label {
                place,
                event_time_ms,
                user: next(),
                item: next(),
                campaign: next(),
                revision,
                clock_ms,
                clicked: flags[0],
                click_time_ms,
                purchased_after_click: flags[1],
                purchased_after_view: flags[2],
                purchase_time_ms,
                value,
                refunded,
                currency: next(),
                matured: flags[3],
            }
        })
}

pub(crate) fn duplicate() -> impl Strategy<Value = Duplicate> {
    (place(), place(), text(), text(), time()).prop_map(|(place, first, event_id, user, event_time_ms)| {
        Duplicate { place, first, event_id, user, event_time_ms }
    })
}

pub(crate) fn aggregate() -> impl Strategy<Value = Aggregate> {
    (vec(text(), 4), time(), any::<u32>(), any::<[u64; 5]>(), any::<i64>()).prop_map(
        |(texts, hour_ms, revision, counts, revenue)| {
            let mut texts = texts.into_iter();
            let mut next = || texts.next().unwrap();
            Aggregate {
                campaign: next(),
                category: next(),
                item: next(),
                currency: next(),
                hour_ms,
                revision,
                impressions: counts[0],
                clicks: counts[1],
                carts: counts[2],
                purchases: counts[3],
                refunds: counts[4],
                revenue,
            }
        },
    )
}

pub(crate) fn prediction() -> impl Strategy<Value = Prediction> {
    let field = (text(), finite32()).prop_map(|(field, weight)| FieldAttention { field, weight });
    let behaviour = (text(), text(), any::<i64>(), finite32())
        .prop_map(|(item, kind, age_ms, weight)| BehaviourAttention { item, kind, age_ms, weight });
    (
        (
            finite32(),
            finite32(),
            finite64(),
            any::<bool>(),
            origin(),
            place(),
            any::<Option<i64>>(),
            any::<u64>(),
        ),
        (time(), time(), time(), time(), time()),
        (vec(field, 0..4), vec(behaviour, 0..4)),
        vec(text(), 14),
    )
        .prop_map(|(numbers, times, lists, texts)| {
            let (p_click, p_purchase, expected_value, scored, origin, place, vector_offset, entity_version) =
                numbers;
            let mut texts = texts.into_iter();
            let mut next = || texts.next().unwrap();
            Prediction {
                version: Prediction::VERSION,
                prediction_id: next(),
                event_id: next(),
                user: next(),
                item: next(),
                campaign: next(),
                placement: next(),
                request_id: next(),
                context: next(),
                p_click,
                p_purchase,
                expected_value,
                currency: next(),
                attention: lists.0,
                behaviours: lists.1,
                valid_until_ms: times.0,
                status: if scored { Status::Scored } else { Status::Fallback },
                model_version: next(),
                model_checksum: next(),
                kernel: next(),
                explanation_method: next(),
                fingerprint: next(),
                origin,
                place,
                vector_offset,
                entity_version,
                event_time_ms: times.1,
                clock_ms: times.2,
                received_ms: times.3,
                scored_ms: times.4,
            }
        })
}

pub(crate) fn dead_letter() -> impl Strategy<Value = DeadLetter> {
    let bytes = || prop::option::of(vec(any::<u8>(), 0..40));
    let reason = prop::sample::select(Reason::ALL);
    ((text(), any::<i32>(), any::<i64>()), (text(), reason, text()), bytes(), bytes()).prop_map(
        |((topic, partition, offset), (stage, reason, message), key, value)| DeadLetter {
            topic,
            partition,
            offset,
            stage,
            reason,
            message,
            key,
            value,
        },
    )
}

pub(crate) fn announcement() -> impl Strategy<Value = ModelAnnouncement> {
    (vec(text(), 5), any::<i64>()).prop_map(|(texts, announced_ms)| {
        let mut texts = texts.into_iter();
        let mut next = || texts.next().unwrap();
        ModelAnnouncement {
            version: ModelAnnouncement::VERSION,
            name: next(),
            model_version: next(),
            uri: next(),
            checksum: next(),
            fingerprint: next(),
            announced_ms,
        }
    })
}

/// A record with that value, at that place.
pub(crate) fn record(place: Place, value: Vec<u8>) -> TopicRecord {
    TopicRecord {
        partition: place.partition,
        offset: place.offset,
        timestamp_ms: 1_767_571_200_000,
        key: None,
        value: Some(value.into()),
        headers: Vec::new(),
    }
}
