//! What the reader takes, skips and refuses.
#![allow(clippy::unwrap_used)]
use std::collections::BTreeMap;

use super::super::mapping::{line_slot, slot};
use super::*;

fn mapping() -> Mapping {
    let fields =
        [("user_id".to_owned(), "who.is.it".to_owned()), ("lines".to_owned(), "order.rows".to_owned())];
    Mapping::new(&BTreeMap::from(fields), &["scroll".to_owned()]).unwrap()
}

fn read_text(text: &str) -> Result<Fields<'_>, Refusal> {
    read(text.as_bytes(), &mapping(), 2)
}

#[test]
fn reads_mapped_fields_and_nothing_else() {
    let text = r#"{"kind":"view","other":{"a":[1,{"b":2}]},"who":{"x":1,"is":{"it":"\u00fc"}},
        "event_time":-5,"price":1e3,"quantity":18446744073709551615,"scroll":null,"brand":[],"device":{}}"#;
    let fields = read_text(text).unwrap();
    assert_eq!(fields.values[slot::KIND], Value::Text("view".into()));
    assert_eq!(fields.values[slot::USER_ID], Value::Text("ü".into()));
    assert_eq!(fields.values[slot::EVENT_TIME], Value::Int(-5));
    assert_eq!(fields.values[slot::PRICE], Value::Float(1000.0));
    assert_eq!(fields.values[slot::QUANTITY], Value::Large(u64::MAX));
    assert_eq!(fields.values[slot::NUMBERS], Value::Null);
    assert_eq!(fields.values[slot::BRAND], Value::Array);
    assert_eq!(fields.values[slot::DEVICE], Value::Object);
    assert_eq!(fields.values[slot::ITEM_ID], Value::Absent);
    assert_eq!(fields.lines, Lines::Absent);
}

#[test]
fn reads_lines_up_to_the_limit() {
    let fields = read_text(r#"{"order":{"rows":[{"item_id":"a"},{"price":1}]}}"#).unwrap();
    let Lines::List(lines) = fields.lines else { panic!("no list") };
    assert_eq!(lines[0][line_slot::ITEM_ID], Value::Text("a".into()));
    assert_eq!(lines[1][line_slot::PRICE], Value::Int(1));
    for (rows, expected) in [
        ("[{},{},{}]", Lines::TooMany),
        ("[{},1]", Lines::Malformed),
        ("7", Lines::Malformed),
        ("{}", Lines::Malformed),
        ("null", Lines::Absent),
        ("[]", Lines::List(Vec::new())),
    ] {
        let text = format!(r#"{{"order":{{"rows":{rows}}}}}"#);
        assert_eq!(read_text(&text).unwrap().lines, expected, "{rows}");
    }
}

#[test]
fn what_is_no_object_is_undecodable() {
    for text in [
        "",
        "{",
        "[]",
        "7",
        "\"user-17\"",
        "nul",
        "{}{}",
        "{\"a\":01}",
        "{\"a\":NaN}",
        "{'a':1}",
        "{\"kind\":\"a\",\"kind\":\"a\"}",
        "{\"order\":{\"rows\":[{\"price\":1,\"price\":2}]}}",
        "{\"price\":1e999}",
    ] {
        let refusal = read_text(text).unwrap_err();
        assert_eq!(refusal.reason, Reason::Undecodable, "{text}");
        assert!(!refusal.message.contains("user-17"), "{}", refusal.message);
    }
    assert!(read(b"{\"a\":\"\xff\"}", &mapping(), 2).is_err());
}

#[test]
fn deep_nesting_neither_overflows_nor_is_built() {
    for open in ["[", "{\"a\":", "{\"kind\":", "{\"who\":", "{\"order\":{\"rows\":[{\"brand\":"] {
        let text = open.repeat(200_000);
        assert!(read_text(&text).is_err());
    }
    let deep = format!("{{\"x\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(read_text(&deep).is_ok(), "an unmapped field may be anything");
}
