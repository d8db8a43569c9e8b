//! Says in what two records differ: the field, and both values.

use bytes::Bytes;
use schemas::table::TopicRecord;
use schemas::{
    Aggregate, Codec, DecodeError, Duplicate, EntityTiles, Entry, FeatureVector, Label, Protobuf,
    VectorSchema,
};
use serde_json::{Map, Value, json};

use crate::context::Context;

/// The first field in which two values differ, with both.
pub(super) fn difference(stored: &Value, recomputed: &Value) -> Option<String> {
    fn walk(path: &str, a: &Value, b: &Value) -> Option<String> {
        match (a, b) {
            (Value::Object(left), Value::Object(right)) => {
                let names = left.keys().chain(right.keys().filter(|k| !left.contains_key(*k)));
                names.into_iter().find_map(|name| {
                    let under = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                    walk(
                        &under,
                        left.get(name).unwrap_or(&Value::Null),
                        right.get(name).unwrap_or(&Value::Null),
                    )
                })
            }
            (Value::Array(left), Value::Array(right)) if left.len() == right.len() => {
                let pairs = left.iter().zip(right).enumerate();
                pairs.into_iter().find_map(|(at, (a, b))| walk(&format!("{path}[{at}]"), a, b))
            }
            _ if a == b => None,
            _ => Some(format!("{path}: stored {a}, recomputed {b}")),
        }
    }
    walk("", stored, recomputed)
}

/// Two encoded records of one topic that are not the same bytes.
pub(super) fn records(context: &Context, topic: &str, stored: &[u8], recomputed: &[u8]) -> String {
    let both = (value(context, topic, stored), value(context, topic, recomputed));
    match both {
        (Ok(stored), Ok(recomputed)) => {
            difference(&stored, &recomputed).unwrap_or_else(|| "the same fields in other bytes".to_owned())
        }
        (Err(error), _) => format!("stored bytes cannot be read: {error}"),
        (_, Err(error)) => format!("recomputed bytes cannot be read: {error}"),
    }
}

/// A record of features' or of the merge's outputs as named values.
fn value(context: &Context, topic: &str, bytes: &[u8]) -> Result<Value, DecodeError> {
    let bytes = Bytes::copy_from_slice(bytes);
    let names = &context.names;
    Ok(if topic == &*names.feature_vectors {
        let vector: FeatureVector = Protobuf::decode(&bytes)?;
        let schemas = context.vector_schemas().unwrap_or_default();
        let schema = schemas.iter().find(|schema| schema.fingerprint() == vector.fingerprint);
        named(&vector, schema.unwrap_or(&context.vector_schema))
    } else if topic == &*names.labels {
        json!(<Protobuf as Codec<Label>>::decode(&bytes)?)
    } else if topic == &*names.duplicates {
        json!(<Protobuf as Codec<Duplicate>>::decode(&bytes)?)
    } else if topic == &*names.entity_tiles {
        json!(<Protobuf as Codec<EntityTiles>>::decode(&bytes)?)
    } else if topic == &*names.events {
        json!(<Protobuf as Codec<Entry>>::decode(&bytes)?)
    } else {
        json!(<Protobuf as Codec<Aggregate>>::decode(&bytes)?)
    })
}

/// The vector with its numbers under their names; bits where a number has no JSON form.
fn named(vector: &FeatureVector, schema: &VectorSchema) -> Value {
    let mut value = json!(vector);
    let numbers: Map<String, Value> = vector
        .numbers()
        .enumerate()
        .map(|(at, number)| {
            let name = schema.fields.get(at).map_or_else(|| format!("#{at}"), |field| field.name.clone());
            let shown = if number.is_finite() {
                json!(number)
            } else {
                json!(format!("{number} (0x{:08x})", number.to_bits()))
            };
            (name, shown)
        })
        .collect();
    if let Some(object) = value.as_object_mut() {
        object.insert("values".to_owned(), numbers.into());
    }
    value
}

/// The record's event, for a message: its key and offset.
pub(super) fn place(topic: &str, record: &TopicRecord) -> String {
    format!("{topic}[{}] offset {}", record.partition, record.offset)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_first_field_and_both_values() {
        let stored = json!({"a": 1, "b": {"c": [1, 2]}});
        assert_eq!(difference(&stored, &stored), None);
        let other = json!({"a": 1, "b": {"c": [1, 3]}});
        assert_eq!(difference(&stored, &other).as_deref(), Some("b.c[1]: stored 2, recomputed 3"));
        let more = json!({"a": 1, "b": {"c": [1, 2]}, "d": true});
        assert_eq!(difference(&stored, &more).as_deref(), Some("d: stored null, recomputed true"));
    }
}
