//! Customers' own logs: JSON lines or CSV, with a mapping of their names to ours.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use chrono::{DateTime, NaiveDateTime};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{Columns, ReplayError, Rows, unreadable};
use crate::feed::{FeedRecord, topic_of};

/// Which of the log's names stand for which of ours.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Mapping {
    /// Our field (`event_time`, `kind`, `user_id`, `item_id`, `campaign_id`, `price`, ...) to the
    /// log's column or JSON field. Fields of the log that are not named here are passed on under
    /// their own names.
    pub fields: BTreeMap<String, String>,
    /// The log's value of `kind` to ours: `addtocart = "cart"`.
    pub kinds: BTreeMap<String, String>,
    /// Our fields that the log lacks, with the value that they always have.
    pub constants: BTreeMap<String, Value>,
    /// How `event_time` is written: `ms`, `s`, `rfc3339`, or a strftime pattern (taken as UTC).
    pub time_format: Option<String>,
}

impl Mapping {
    /// Reads a mapping file.
    ///
    /// # Errors
    /// A file that cannot be read, or is no mapping.
    pub fn load(path: &Path) -> Result<Self, ReplayError> {
        let text =
            fs::read_to_string(path).map_err(|source| ReplayError::Io { path: path.to_owned(), source })?;
        toml::from_str(&text)
            .map_err(|error| ReplayError::Mapping { path: path.to_owned(), what: error.to_string() })
    }

    /// The row in our names; `None` if its time cannot be read.
    fn apply(&self, mut row: Map<String, Value>) -> Option<Map<String, Value>> {
        let mut ours = Map::new();
        for (field, theirs) in &self.fields {
            if let Some(value) = row.remove(theirs)
                && value != Value::String(String::new())
            {
                ours.insert(field.clone(), value);
            }
        }
        for (name, value) in row {
            ours.entry(name).or_insert(value);
        }
        for (field, value) in &self.constants {
            ours.entry(field.clone()).or_insert_with(|| value.clone());
        }
        let kind = ours.get("kind").and_then(Value::as_str).unwrap_or("view").to_owned();
        ours.insert("kind".to_owned(), self.kinds.get(&kind).cloned().unwrap_or(kind).into());
        if let Some(format) = &self.time_format {
            let time = time_ms(ours.get("event_time")?, format)?;
            ours.insert("event_time".to_owned(), time.into());
        }
        Some(ours)
    }
}

fn time_ms(value: &Value, format: &str) -> Option<i64> {
    let number = || value.as_f64().or_else(|| value.as_str()?.parse().ok());
    match format {
        "ms" => number().map(|n| n as i64),
        "s" => number().map(|n| (n * 1000.0) as i64),
        "rfc3339" => DateTime::parse_from_rfc3339(value.as_str()?).ok().map(|t| t.timestamp_millis()),
        pattern => NaiveDateTime::parse_from_str(value.as_str()?, pattern)
            .ok()
            .map(|t| t.and_utc().timestamp_millis()),
    }
}

/// JSON lines; without a mapping each line goes on byte for byte.
pub(super) fn json_lines(path: &Path, reader: Box<dyn Read + Send>, mapping: Option<&Mapping>) -> Rows {
    let mapping = mapping.cloned();
    let path = path.to_owned();
    let mut last_ms = 0;
    let lines = BufReader::new(reader).split(b'\n');
    Box::new(lines.filter_map(move |line| {
        let line = match line {
            Ok(line) if line.iter().all(u8::is_ascii_whitespace) => return None,
            Ok(line) => line,
            Err(source) => return Some(Err(ReplayError::Io { path: path.clone(), source })),
        };
        let object = match serde_json::from_slice::<Value>(&line) {
            Ok(Value::Object(object)) => match &mapping {
                Some(mapping) => mapping.apply(object),
                None => Some(object),
            },
            _ => None,
        };
        let Some(object) = object else {
            let bad = FeedRecord { value: line, ..unreadable("", last_ms) };
            return Some(Ok(bad));
        };
        let value = if mapping.is_some() { to_vec(&object) } else { line };
        Some(Ok(record(&object, value, &mut last_ms)))
    }))
}

/// CSV rows, mapped.
pub(super) fn csv_rows(
    path: &Path,
    reader: Box<dyn Read + Send>,
    mapping: &Mapping,
) -> Result<Rows, ReplayError> {
    let mut csv = csv::ReaderBuilder::new().flexible(true).from_reader(reader);
    let columns = Columns::read(path, &mut csv)?;
    for theirs in mapping.fields.values() {
        columns.require(path, theirs)?;
    }
    let mapping = mapping.clone();
    let path = path.to_owned();
    let mut last_ms = 0;
    Ok(Box::new(csv.into_records().map(move |row| {
        let row = match row {
            Ok(row) => row,
            Err(error) => match error.into_kind() {
                csv::ErrorKind::Io(source) => return Err(ReplayError::Io { path: path.clone(), source }),
                other => return Ok(unreadable(&format!("{other:?}"), last_ms)),
            },
        };
        let object: Map<String, Value> =
            columns.names.iter().zip(&row).map(|(name, value)| (name.clone(), value.into())).collect();
        Ok(match mapping.apply(object) {
            Some(mut object) => {
                typed(&mut object);
                record(&object, to_vec(&object), &mut last_ms)
            }
            None => unreadable(&row.iter().collect::<Vec<_>>().join(","), last_ms),
        })
    })))
}

/// Our fields that are text whatever their values look like.
const TEXT: [&str; 15] = [
    "kind",
    "event_id",
    "user_id",
    "item_id",
    "campaign_id",
    "category",
    "brand",
    "placement",
    "device",
    "channel",
    "view_id",
    "request_id",
    "context",
    "currency",
    "lines",
];

/// CSV knows only text: what is no text field and reads as a number becomes one.
fn typed(object: &mut Map<String, Value>) {
    for (_, value) in object.iter_mut().filter(|(field, _)| !TEXT.contains(&field.as_str())) {
        let Some(text) = value.as_str() else { continue };
        if let Ok(whole) = text.parse::<i64>() {
            *value = whole.into();
        } else if let Some(number) = text.parse::<f64>().ok().filter(|n| n.is_finite()) {
            *value = number.into();
        }
    }
}

fn to_vec(object: &Map<String, Value>) -> Vec<u8> {
    serde_json::to_vec(object).unwrap_or_default()
}

fn record(object: &Map<String, Value>, value: Vec<u8>, last_ms: &mut i64) -> FeedRecord {
    let text = |name: &str| object.get(name).and_then(Value::as_str);
    if let Some(time) = object.get("event_time") {
        *last_ms = time.as_i64().or_else(|| time_ms(time, "rfc3339")).unwrap_or(*last_ms);
    }
    FeedRecord {
        topic: topic_of(text("kind").unwrap_or("view")),
        key: text("user_id").unwrap_or_default().to_owned(),
        value,
        at_ms: *last_ms,
    }
}
