//! Reads the mapped fields out of one JSON object without building a tree of the rest.
//!
//! `serde_json` rather than a SIMD parser: it checks all of what it skips, skips without recursion
//! and takes customers' bytes in safe code. Everything here is generic over serde's
//! `Deserializer`, so that a measured decision can replace it in one place ([`read`]).

use std::borrow::Cow;
use std::fmt;

use schemas::Reason;
use serde::Deserializer;
use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::Refusal;
use super::mapping::{LINE_FIELDS, Mapping, Names, Target};

/// A field's value, as far as fields can use it.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) enum Value<'a> {
    /// Not in the record.
    #[default]
    Absent,
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool,
    /// A text.
    Text(Cow<'a, str>),
    /// A whole number.
    Int(i64),
    /// A whole number beyond the range of `Int`.
    Large(u64),
    /// Any other number.
    Float(f64),
    /// A list.
    Array,
    /// An object.
    Object,
}

impl Value<'_> {
    /// Its type in messages.
    pub(super) fn type_name(&self) -> &'static str {
        match self {
            Self::Absent => "nothing",
            Self::Null => "null",
            Self::Bool => "a boolean",
            Self::Text(_) => "a text",
            Self::Int(_) | Self::Large(_) => "a whole number",
            Self::Float(_) => "a number",
            Self::Array => "a list",
            Self::Object => "an object",
        }
    }
}

/// One line of an order.
pub(super) type Line<'a> = [Value<'a>; LINE_FIELDS.len()];

/// What stood in `lines`.
#[derive(Debug, Default, PartialEq)]
pub(super) enum Lines<'a> {
    /// Nothing, or `null`.
    #[default]
    Absent,
    /// A list of objects.
    List(Vec<Line<'a>>),
    /// More than the limit.
    TooMany,
    /// No list, or a line that is no object.
    Malformed,
}

/// The mapped fields of a record.
#[derive(Debug, PartialEq)]
pub(super) struct Fields<'a> {
    /// By slot; extra numbers follow.
    pub(super) values: Vec<Value<'a>>,
    /// The order's lines.
    pub(super) lines: Lines<'a>,
}

/// Reads a record.
///
/// # Errors
/// [`Reason::Undecodable`]: not UTF-8, not JSON, not an object, or a field that is given twice.
pub(super) fn read<'a>(bytes: &'a [u8], mapping: &Mapping, max_lines: usize) -> Result<Fields<'a>, Refusal> {
    let undecodable = |what: fmt::Arguments<'_>| Refusal::new(Reason::Undecodable, what);
    let text = std::str::from_utf8(bytes)
        .map_err(|error| undecodable(format_args!("not UTF-8 at byte {}", error.valid_up_to())))?;
    let mut fields = Fields {
        values: std::iter::repeat_with(Value::default).take(mapping.called.len()).collect(),
        lines: Lines::Absent,
    };
    let mut notes = Notes { is_object: false, twice: false };
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let seed = ObjectSeed {
        names: &mapping.record,
        values: &mut fields.values,
        lines: Some(LinesInto { names: &mapping.line, max: max_lines, lines: &mut fields.lines }),
        notes: &mut notes,
    };
    // serde_json's own words are about syntax only: no visitor here refuses a value, so no value
    // is ever quoted in them.
    seed.deserialize(&mut deserializer)
        .and_then(|()| deserializer.end())
        .map_err(|error| undecodable(format_args!("not JSON: {error}")))?;
    if !notes.is_object {
        return Err(undecodable(format_args!("not a JSON object")));
    }
    if notes.twice {
        return Err(undecodable(format_args!("a field is given twice")));
    }
    Ok(fields)
}

/// What was noticed on the way.
struct Notes {
    is_object: bool,
    twice: bool,
}

struct LinesInto<'s, 'a> {
    names: &'s Names,
    max: usize,
    lines: &'s mut Lines<'a>,
}

/// Reads an object's mapped fields; anything that is no object leaves them absent.
struct ObjectSeed<'s, 'a> {
    names: &'s Names,
    values: &'s mut [Value<'a>],
    /// `None` within lines.
    lines: Option<LinesInto<'s, 'a>>,
    notes: &'s mut Notes,
}

impl<'de> DeserializeSeed<'de> for ObjectSeed<'_, 'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

/// Scalars that a visitor has no use for.
macro_rules! ignore_scalars {
    () => {
        fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
            Ok(Self::Value::default())
        }
        fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
            Ok(Self::Value::default())
        }
        fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
            Ok(Self::Value::default())
        }
        fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
            Ok(Self::Value::default())
        }
        fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
            Ok(Self::Value::default())
        }
    };
}

fn skip_seq<'de, A: SeqAccess<'de>>(mut seq: A) -> Result<(), A::Error> {
    while seq.next_element::<IgnoredAny>()?.is_some() {}
    Ok(())
}

fn skip_map<'de, A: MapAccess<'de>>(mut map: A) -> Result<(), A::Error> {
    while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
    Ok(())
}

impl<'de> Visitor<'de> for ObjectSeed<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    ignore_scalars!();

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<(), A::Error> {
        skip_seq(seq)
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        self.notes.is_object = true;
        while let Some(target) = map.next_key_seed(KeySeed(self.names))? {
            match target {
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
                Some(Target::Slot(slot)) => {
                    let value = map.next_value_seed(ValueSeed)?;
                    match self.values.get_mut(*slot) {
                        Some(place @ Value::Absent) => *place = value,
                        _ => self.notes.twice = true,
                    }
                }
                Some(Target::Inside(names)) => map.next_value_seed(ObjectSeed {
                    names,
                    values: self.values,
                    lines: self.lines.as_mut().map(|into| LinesInto {
                        names: into.names,
                        max: into.max,
                        lines: into.lines,
                    }),
                    notes: self.notes,
                })?,
                Some(Target::Lines) => match &mut self.lines {
                    Some(into) => {
                        if *into.lines != Lines::Absent {
                            self.notes.twice = true;
                        }
                        *into.lines = map.next_value_seed(LinesSeed {
                            names: into.names,
                            max: into.max,
                            notes: self.notes,
                        })?;
                    }
                    None => {
                        map.next_value::<IgnoredAny>()?;
                    }
                },
            }
        }
        Ok(())
    }
}

/// Looks a key up without keeping it.
struct KeySeed<'n>(&'n Names);

impl<'n, 'de> DeserializeSeed<'de> for KeySeed<'n> {
    type Value = Option<&'n Target>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'n> Visitor<'_> for KeySeed<'n> {
    type Value = Option<&'n Target>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field name")
    }

    fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
        Ok(self.0.get(key))
    }
}

/// Reads one value; lists and objects are skipped.
struct ValueSeed;

impl<'de> DeserializeSeed<'de> for ValueSeed {
    type Value = Value<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value<'de>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ValueSeed {
    type Value = Value<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Value<'de>, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Value<'de>, E> {
        Ok(Value::Bool)
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value<'de>, E> {
        Ok(Value::Int(number))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value<'de>, E> {
        Ok(i64::try_from(number).map_or(Value::Large(number), Value::Int))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Value<'de>, E> {
        Ok(Value::Float(number))
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Value<'de>, E> {
        Ok(Value::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value<'de>, E> {
        Ok(Value::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Value<'de>, A::Error> {
        skip_seq(seq)?;
        Ok(Value::Array)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Value<'de>, A::Error> {
        skip_map(map)?;
        Ok(Value::Object)
    }
}

/// Reads an order's lines, up to the limit.
struct LinesSeed<'s> {
    names: &'s Names,
    max: usize,
    notes: &'s mut Notes,
}

impl<'de> DeserializeSeed<'de> for LinesSeed<'_> {
    type Value = Lines<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Lines<'de>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for LinesSeed<'_> {
    type Value = Lines<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_unit<E>(self) -> Result<Lines<'de>, E> {
        Ok(Lines::Absent)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Lines<'de>, E> {
        Ok(Lines::Malformed)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Lines<'de>, E> {
        Ok(Lines::Malformed)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Lines<'de>, E> {
        Ok(Lines::Malformed)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Lines<'de>, E> {
        Ok(Lines::Malformed)
    }

    fn visit_str<E>(self, _: &str) -> Result<Lines<'de>, E> {
        Ok(Lines::Malformed)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Lines<'de>, A::Error> {
        skip_map(map)?;
        Ok(Lines::Malformed)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Lines<'de>, A::Error> {
        let mut list = Vec::new();
        let mut malformed = false;
        loop {
            if list.len() == self.max {
                if seq.next_element::<IgnoredAny>()?.is_none() {
                    break;
                }
                skip_seq(seq)?;
                return Ok(Lines::TooMany);
            }
            let mut line = Line::default();
            let mut notes = Notes { is_object: false, twice: false };
            let seed = ObjectSeed { names: self.names, values: &mut line, lines: None, notes: &mut notes };
            if seq.next_element_seed(seed)?.is_none() {
                break;
            }
            self.notes.twice |= notes.twice;
            malformed |= !notes.is_object;
            list.push(line);
        }
        Ok(if malformed { Lines::Malformed } else { Lines::List(list) })
    }
}

#[cfg(test)]
#[path = "json_tests.rs"]
mod tests;
