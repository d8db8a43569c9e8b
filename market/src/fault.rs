//! Bad records: what a pipeline must refuse without stopping.

use schemas::{RawEvent, topic};
use serde_json::{Value, json};

use crate::dice::Dice;
use crate::emission::Fault;
use crate::record;

/// A bad record's topic and value.
pub(crate) struct Bad {
    pub(crate) topic: &'static str,
    pub(crate) value: Vec<u8>,
}

/// The topics and what they take.
const TOPICS: [(&str, &str); 3] =
    [(topic::VIEWS, "view"), (topic::CLICKS, "click"), (topic::PURCHASES, "purchase")];
const PURCHASE: usize = 2;

/// Makes a record with that fault, as of that time.
pub(crate) fn bad(fault: Fault, user: usize, number: u64, at_ms: i64, dice: &mut Dice) -> Bad {
    let which = dice.below(TOPICS.len());
    let (topic, value) = match fault {
        Fault::Future => {
            // Beyond what a replay may jump (6 h), too.
            let ahead = dice.between_ms(12 * 3_600_000, 10 * 86_400_000);
            (TOPICS[which].0, record::json(&template(which, user, number, at_ms + ahead)))
        }
        Fault::WrongType => wrong_type(which, &template(which, user, number, at_ms), dice),
        Fault::Huge => huge(which, &template(which, user, number, at_ms), dice),
        // Duplicates and late records are good ones; nobody asks for a bad one of these.
        Fault::Garbage | Fault::Duplicate | Fault::Late | Fault::OutOfOrder => {
            (TOPICS[which].0, garbage(&template(which, user, number, at_ms), dice))
        }
    };
    Bad { topic, value }
}

/// A record with nothing wrong yet.
fn template(which: usize, user: usize, number: u64, at_ms: i64) -> RawEvent {
    RawEvent {
        kind: TOPICS[which].1.into(),
        event_id: Some(format!("x-{number:010}")),
        event_time: at_ms,
        user_id: record::user_id(user),
        item_id: Some("item-00000".into()),
        campaign_id: Some("campaign-000".into()),
        price: Some(10.0),
        quantity: Some(1),
        currency: Some("EUR".into()),
        ..RawEvent::default()
    }
}

/// The record with one field changed (`None`: taken out).
fn with(event: &RawEvent, field: &str, value: Option<Value>) -> Vec<u8> {
    let mut object = match serde_json::to_value(event) {
        Ok(Value::Object(object)) => object,
        _ => serde_json::Map::new(),
    };
    match value {
        Some(value) => object.insert(field.to_owned(), value),
        None => object.remove(field),
    };
    record::json(&object)
}

fn wrong_type(which: usize, event: &RawEvent, dice: &mut Dice) -> (&'static str, Vec<u8>) {
    let topic = TOPICS[which].0;
    match dice.below(9) {
        0 => (topic, with(event, "event_time", Some(json!("yesterday")))),
        1 => (topic, with(event, "event_time", Some(json!(true)))),
        2 => (topic, with(event, "event_time", None)),
        3 => (topic, with(event, "user_id", Some(json!(["user"])))),
        4 => (topic, with(event, "user_id", None)),
        5 => (topic, with(event, "item_id", Some(json!({ "id": 1 })))),
        6 => (topic, with(event, "item_id", None)),
        7 => (topic, with(event, "kind", Some(json!("teleport")))),
        // Only where it is bought must a price be a price.
        _ => {
            let order = RawEvent { kind: TOPICS[PURCHASE].1.into(), ..event.clone() };
            (TOPICS[PURCHASE].0, with(&order, "price", Some(json!("cheap"))))
        }
    }
}

fn huge(which: usize, event: &RawEvent, dice: &mut Dice) -> (&'static str, Vec<u8>) {
    let topic = TOPICS[which].0;
    let order = RawEvent { kind: TOPICS[PURCHASE].1.into(), ..event.clone() };
    match dice.below(5) {
        0 => (topic, with(event, "item_id", Some(json!("9".repeat(70_000))))),
        1 => (topic, with(event, "user_id", Some(json!("u".repeat(20_000))))),
        2 => (topic, with(event, "event_time", Some(json!(i64::MAX)))),
        3 => (TOPICS[PURCHASE].0, with(&order, "price", Some(json!(1e300)))),
        _ => (TOPICS[PURCHASE].0, with(&order, "quantity", Some(json!(u64::MAX)))),
    }
}

fn garbage(event: &RawEvent, dice: &mut Dice) -> Vec<u8> {
    match dice.below(6) {
        0 => {
            let mut bytes = vec![0; 8 + dice.below(200)];
            dice.fill(&mut bytes);
            // No UTF-8 begins so: not JSON by chance.
            bytes[0] = 0xff;
            bytes
        }
        1 => {
            let mut bytes = record::json(event);
            bytes.truncate(1 + dice.below(bytes.len() - 1));
            bytes
        }
        2 => b"[1,2,3]".to_vec(),
        3 => Vec::new(),
        4 => b"2026-01-05,user-1,view,item-9".to_vec(),
        _ => vec![b'['; 2_000 + dice.below(2_000)],
    }
}
