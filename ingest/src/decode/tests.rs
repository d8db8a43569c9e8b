//! Records that must be taken, records that must be refused, and anything at all.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use bytes::Bytes;
use proptest::prelude::*;
use schemas::table::TopicRecord;
use schemas::{RawEvent, raw::OrderLine};
use serde_json::{Value as Json, json};

use super::*;
use crate::PseudonymKey;

const T: i64 = 1_569_888_000_000;

fn decoder(config: &Config) -> Decoder {
    let key = PseudonymKey::new("k1", vec![7; 32]).unwrap();
    Decoder::new(config, Pseudonymizer::new(&key)).unwrap()
}

fn config() -> Config {
    Config { numbers: vec!["scroll".into(), "dwell".into()], max_lines: 3, ..Config::default() }
}

fn place(kind: RawTopic) -> RawPlace<'static> {
    RawPlace { kind, topic: "raw", partition: 2, offset: 9, timestamp_ms: 77 }
}

fn decode(kind: RawTopic, value: &Json) -> Result<Events, Refusal> {
    let bytes = serde_json::to_vec(value).unwrap();
    decoder(&config()).decode(place(kind), Some(&bytes), &Catalogue::new(&config()))
}

fn one(kind: RawTopic, value: &Json) -> Event {
    match decode(kind, value).unwrap() {
        Events::One(event) => *event,
        Events::Lines(_) => panic!("one event expected"),
    }
}

fn reason(kind: RawTopic, value: &Json) -> Reason {
    decode(kind, value).unwrap_err().reason
}

/// The smallest view, with `changes` over it (null takes a field away).
fn view(changes: &Json) -> Json {
    let mut base = json!({"event_time": T, "user_id": "person-4711", "item_id": "i1"});
    for (name, value) in changes.as_object().unwrap() {
        base[name] = value.clone();
    }
    base
}

#[test]
fn a_whole_view() {
    let raw = RawEvent {
        kind: "view".into(),
        event_id: Some("e1".into()),
        event_time: T,
        user_id: "person-4711".into(),
        item_id: Some("i1".into()),
        campaign_id: Some("c1".into()),
        category: Some("shoes".into()),
        brand: Some("acme".into()),
        placement: Some("top".into()),
        device: Some("phone".into()),
        channel: Some("app".into()),
        request_id: Some("r1".into()),
        context: Some("opaque".into()),
        price: Some(9.5),
        currency: Some("usd".into()),
        numbers: [("scroll".to_owned(), 0.5), ("unknown".to_owned(), 3.0)].into(),
        ..RawEvent::default()
    };
    let event = one(RawTopic::Views, &serde_json::to_value(&raw).unwrap());
    let key = PseudonymKey::new("k1", vec![7; 32]).unwrap();
    let expected = Event {
        origin: Origin { topic: "raw".into(), partition: 2, offset: 9, line: 0, lines: 1 },
        kind: Kind::View as i32,
        event_id: "e1".into(),
        event_time_ms: T,
        user: Pseudonymizer::new(&key).pseudonym("person-4711"),
        item: "i1".into(),
        campaign: "c1".into(),
        category: "shoes".into(),
        brand: "acme".into(),
        placement: "top".into(),
        device: "phone".into(),
        channel: "app".into(),
        view_id: String::new(),
        request_id: "r1".into(),
        context: "opaque".into(),
        value: 9.5,
        currency: "USD".into(),
        quantity: 1,
        numbers: Vec::new(),
        embedding: Vec::new(),
        received_ms: 77,
    };
    assert_eq!(event.numbers[0], 0.5);
    assert_eq!(event.numbers[1].to_bits(), 0x7fc0_0000);
    assert_eq!(Event { numbers: Vec::new(), ..event }, expected);
}

#[test]
fn forms_of_one_value() {
    assert_eq!(one(RawTopic::Views, &view(&json!({"event_time": "2019-10-01T00:00:00Z"}))).event_time_ms, T);
    assert_eq!(one(RawTopic::Views, &view(&json!({"event_time": T as f64}))).event_time_ms, T);
    assert_eq!(one(RawTopic::Views, &view(&json!({"item_id": 17}))).item, "17");
    assert_eq!(one(RawTopic::Views, &view(&json!({"item_id": u64::MAX}))).item, u64::MAX.to_string());
    assert_eq!(one(RawTopic::Views, &view(&json!({"kind": ""}))).kind, Kind::View as i32);
    assert_eq!(one(RawTopic::Clicks, &view(&json!({"kind": "cart"}))).kind, Kind::Cart as i32);
    assert_eq!(one(RawTopic::Clicks, &view(&json!({"price": 3}))).value, 0.0, "clicks have no value");
    assert_eq!(one(RawTopic::Views, &view(&json!({"currency": null}))).currency, "EUR");
    let purchase = one(RawTopic::Purchases, &view(&json!({"price": 2.5, "quantity": 2.0})));
    assert_eq!((purchase.kind, purchase.value, purchase.quantity), (Kind::Purchase as i32, 5.0, 2));
    assert_eq!(
        one(RawTopic::Purchases, &view(&json!({"price": 1, "kind": "refund"}))).kind,
        Kind::Refund as i32
    );
    let negative_zero = one(RawTopic::Views, &view(&json!({"price": -0.0})));
    assert!(negative_zero.value.is_sign_positive());
}

#[test]
fn refusals_by_reason() {
    use RawTopic::{Clicks, Purchases, Views};
    let long = "x".repeat(257);
    for (kind, changes, expected) in [
        (Views, json!({"user_id": null}), Reason::MissingField),
        (Views, json!({"user_id": ""}), Reason::MissingField),
        (Views, json!({"item_id": null}), Reason::MissingField),
        (Views, json!({"event_time": null}), Reason::MissingField),
        (Purchases, json!({}), Reason::MissingField),
        (Views, json!({"user_id": true}), Reason::WrongType),
        (Views, json!({"user_id": {"id": 1}}), Reason::WrongType),
        (Views, json!({"user_id": 1.5}), Reason::WrongType),
        (Views, json!({"item_id": ["a"]}), Reason::WrongType),
        (Views, json!({"price": "12"}), Reason::WrongType),
        (Views, json!({"price": "NaN"}), Reason::WrongType),
        (Views, json!({"scroll": "deep"}), Reason::WrongType),
        (Views, json!({"event_time": false}), Reason::WrongType),
        (Views, json!({"currency": "EURO"}), Reason::WrongType),
        (Views, json!({"kind": 1}), Reason::WrongType),
        (Views, json!({"kind": "seen"}), Reason::UnknownKind),
        (Views, json!({"kind": "click"}), Reason::UnknownKind),
        (Clicks, json!({"kind": "unknown"}), Reason::UnknownKind),
        (Purchases, json!({"kind": "cart"}), Reason::UnknownKind),
        (Views, json!({"event_time": 1_569_888_000}), Reason::InvalidTime),
        (Views, json!({"event_time": u64::MAX}), Reason::InvalidTime),
        (Views, json!({"event_time": i64::MIN}), Reason::InvalidTime),
        (Views, json!({"event_time": 1e300}), Reason::InvalidTime),
        (Views, json!({"event_time": 1.5}), Reason::InvalidTime),
        (Views, json!({"event_time": "yesterday"}), Reason::InvalidTime),
        (Views, json!({"event_time": "1569888000000"}), Reason::InvalidTime),
        (Views, json!({"price": -1}), Reason::InvalidNumber),
        (Views, json!({"price": 1e300}), Reason::InvalidNumber),
        (Purchases, json!({"price": 1e12, "quantity": 2}), Reason::InvalidNumber),
        (Purchases, json!({"price": 1, "quantity": 0}), Reason::InvalidNumber),
        (Purchases, json!({"price": 1, "quantity": 1.5}), Reason::InvalidNumber),
        (Purchases, json!({"price": 1, "quantity": -1}), Reason::InvalidNumber),
        (Views, json!({"scroll": 1e300}), Reason::InvalidNumber),
        (Views, json!({"user_id": long}), Reason::TooLong),
        (Views, json!({"context": long}), Reason::TooLong),
        (Views, json!({"brand": long}), Reason::TooLong),
        (Views, json!({"lines": [{"item_id": "a", "price": 1}]}), Reason::InvalidLines),
        (Purchases, json!({"lines": [{"item_id": "a", "price": 1}]}), Reason::InvalidLines),
        (Purchases, json!({"item_id": null, "lines": []}), Reason::InvalidLines),
        (Purchases, json!({"item_id": null, "lines": [{}, {}, {}, {}]}), Reason::InvalidLines),
        (Purchases, json!({"item_id": null, "lines": "a"}), Reason::WrongType),
        (Purchases, json!({"item_id": null, "lines": [1]}), Reason::WrongType),
        (
            Purchases,
            json!({"item_id": null, "lines": [{"item_id": "a", "price": 1}, {"price": 1}]}),
            Reason::MissingField,
        ),
        (
            Purchases,
            json!({"item_id": null, "lines": [{"item_id": "a", "price": -1}]}),
            Reason::InvalidNumber,
        ),
    ] {
        assert_eq!(reason(kind, &view(&changes)), expected, "{changes}");
    }
    let decoder = decoder(&Config { max_record_bytes: 10, ..Config::default() });
    let empty = Catalogue::default();
    for (value, expected) in [
        (None, Reason::Empty),
        (Some(&b""[..]), Reason::Empty),
        (Some(b"[1,2,3,4,5,6]"), Reason::TooLarge),
        (Some(b"[1]"), Reason::Undecodable),
        (Some(b"\xff\xfe"), Reason::Undecodable),
    ] {
        let refusal = decoder.decode(place(Views), value, &empty).unwrap_err();
        assert_eq!(refusal.reason, expected, "{value:?}");
    }
}

#[test]
fn an_order_becomes_an_event_per_line() {
    let line = |item: &str, price, quantity, campaign: Option<&str>| OrderLine {
        item_id: item.into(),
        price,
        quantity,
        campaign_id: campaign.map(Into::into),
        category: Some("c".into()),
        brand: None,
    };
    let raw = RawEvent {
        kind: "purchase".into(),
        event_id: Some("order-1".into()),
        event_time: T,
        user_id: "person-4711".into(),
        campaign_id: Some("whole".into()),
        lines: vec![line("a", 1.5, Some(2), None), line("b", 4.0, None, Some("own"))],
        ..RawEvent::default()
    };
    let Events::Lines(events) = decode(RawTopic::Purchases, &serde_json::to_value(&raw).unwrap()).unwrap()
    else {
        panic!("lines expected");
    };
    let seen: Vec<_> = events
        .iter()
        .map(|e| (e.item.as_str(), e.campaign.as_str(), e.value, e.quantity, e.origin.line, e.origin.lines))
        .collect();
    assert_eq!(seen, [("a", "whole", 3.0, 2, 0, 2), ("b", "own", 4.0, 1, 1, 2)]);
    assert!(events.iter().all(|e| e.event_id == "order-1" && e.category == "c" && e.user == events[0].user));
}

#[test]
fn the_catalogue_fills_in() {
    let mut catalogue = Catalogue::new(&config());
    let item = TopicRecord {
        partition: 0,
        offset: 0,
        timestamp_ms: 0,
        key: Some(Bytes::from_static(b"i1")),
        value: Some(Bytes::from_static(br#"{"category":"shoes","price":20}"#)),
        headers: Vec::new(),
    };
    catalogue.apply(&item).unwrap();
    let bytes = serde_json::to_vec(&view(&json!({"quantity": 2}))).unwrap();
    for (kind, value) in [(RawTopic::Views, 20.0), (RawTopic::Purchases, 40.0), (RawTopic::Clicks, 0.0)] {
        let Events::One(event) = decoder(&config()).decode(place(kind), Some(&bytes), &catalogue).unwrap()
        else {
            panic!("one event expected");
        };
        assert_eq!((event.category.as_str(), event.value), ("shoes", value));
    }
}

/// Any JSON, shallow.
fn any_json() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        any::<i64>().prop_map(Json::from),
        any::<u64>().prop_map(Json::from),
        any::<f64>().prop_map(|x| if x.is_finite() { Json::from(x) } else { Json::Null }),
        (T - 1000..T + 1000).prop_map(Json::from),
        ".{0,20}".prop_map(Json::from),
        prop_oneof![Just("view"), Just("click"), Just("purchase"), Just("EUR")].prop_map(Json::from),
        (250_usize..300).prop_map(|n| Json::from("x".repeat(n))),
    ];
    leaf.prop_recursive(3, 24, 6, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(Json::from),
            proptest::collection::hash_map(any_name(), inner, 0..6).prop_map(Json::from_iter),
        ]
    })
}

fn any_name() -> impl Strategy<Value = String> {
    prop_oneof![
        proptest::sample::select(&super::super::mapping::FIELDS[..]).prop_map(str::to_owned),
        Just("scroll".to_owned()),
        ".{0,8}",
    ]
}

fn any_topic() -> impl Strategy<Value = RawTopic> {
    proptest::sample::select(&RawTopic::ALL[..])
}

/// What holds of every answer.
fn check(answer: Result<Events, Refusal>) -> Result<(), TestCaseError> {
    match answer {
        Ok(events) => {
            let events = match events {
                Events::One(event) => vec![*event],
                Events::Lines(events) => events,
            };
            prop_assert!(!events.is_empty());
            for (line, event) in events.iter().enumerate() {
                prop_assert_eq!(
                    (event.origin.line as usize, event.origin.lines as usize),
                    (line, events.len())
                );
                prop_assert_ne!(event.kind_or_unknown(), Kind::Unknown);
                prop_assert!((EARLIEST_MS..LATEST_MS).contains(&event.event_time_ms));
                prop_assert_eq!(event.event_time_ms, events[0].event_time_ms);
                prop_assert!(event.user.starts_with("k1-") && event.user.len() == 35);
                prop_assert!(!event.item.is_empty() && event.item.len() <= 256 && event.context.len() <= 256);
                prop_assert!((0.0..=1e12).contains(&event.value) && event.quantity >= 1);
                prop_assert_eq!(event.currency.len(), 3);
                prop_assert_eq!(event.numbers.len(), 2);
            }
        }
        Err(refusal) => {
            prop_assert!(!refusal.message.is_empty() && refusal.message.len() < 512);
            prop_assert!(!refusal.message.contains("4711"), "{}", refusal.message);
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn any_bytes_are_answered(kind in any_topic(), bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        check(decoder(&config()).decode(place(kind), Some(&bytes), &Catalogue::default()))?;
    }

    #[test]
    fn any_json_is_answered(kind in any_topic(), value in any_json()) {
        check(decode(kind, &value))?;
    }

    #[test]
    fn a_changed_view_is_answered(
        kind in any_topic(),
        changes in proptest::collection::hash_map(any_name(), any_json(), 0..4),
    ) {
        check(decode(kind, &view(&Json::from_iter(changes))))?;
    }

    /// A person's id in the wrong place, or a record cut anywhere, does not show in the message.
    #[test]
    fn no_message_names_a_person(
        kind in any_topic(),
        field in proptest::sample::select(&super::super::mapping::FIELDS[..]),
        cut in 0_usize..200,
        number in any::<bool>(),
    ) {
        let value = view(&if number { json!({field: 4711}) } else { json!({field: "person-4711"}) });
        check(decode(kind, &value))?;
        let mut bytes = serde_json::to_vec(&value).unwrap();
        bytes.truncate(cut);
        check(decoder(&config()).decode(place(kind), Some(&bytes), &Catalogue::default()))?;
        let text = serde_json::to_vec("person-4711").unwrap();
        check(decoder(&config()).decode(place(kind), Some(&text), &Catalogue::default()))?;
    }
}
