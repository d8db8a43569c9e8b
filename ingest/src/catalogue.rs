//! The catalogue: what is known of an item beside its id. JSON records of `items`, by item.
//!
//! Ingest may decide by the catalogue as it is at hand, since it writes down what it decides: the
//! joined fields stand in the event.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use schemas::Event;
use schemas::table::TopicRecord;
use serde::Deserialize;

use crate::Config;

/// What is known of an item. Empty: not given.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Item {
    /// Its category.
    pub category: Box<str>,
    /// Its brand.
    pub brand: Box<str>,
    /// Its price, in the deployment's default currency.
    pub price: Option<f64>,
    /// Its content embedding; empty or of the configured length.
    pub embedding: Box<[f32]>,
}

/// Why a catalogue record was left out. Never stops anything: it is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ItemError {
    /// Not JSON of an item.
    #[error("is not the JSON of an item")]
    Undecodable,
    /// No `item_id` and no key, or one that is too long.
    #[error("names no item, or by too long a name")]
    Id,
    /// A text that is too long.
    #[error("has too long a category or brand")]
    TooLong,
    /// A price that is negative or not finite.
    #[error("has a price that is no price")]
    Price,
    /// An embedding of another length, or one with a number that is not finite.
    #[error("has an embedding that is not of ingest.embedding_length finite numbers")]
    Embedding,
    /// No room.
    #[error("finds no room: ingest.max_items")]
    Full,
}

#[derive(Deserialize)]
struct ItemRecord {
    item_id: Option<Id>,
    category: Option<String>,
    brand: Option<String>,
    price: Option<f64>,
    embedding: Option<Vec<f32>>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Id {
    Text(String),
    Number(u64),
}

impl Id {
    fn into_text(self) -> String {
        match self {
            Self::Text(text) => text,
            Self::Number(number) => number.to_string(),
        }
    }
}

/// All items at hand.
#[derive(Debug, Clone, Default)]
pub struct Catalogue {
    items: HashMap<Box<str>, Item>,
    max_items: usize,
    max_text_bytes: usize,
    embedding_length: usize,
}

impl Catalogue {
    /// Without items.
    pub fn new(config: &Config) -> Self {
        Self {
            items: HashMap::new(),
            max_items: config.max_items,
            max_text_bytes: config.max_text_bytes,
            embedding_length: config.embedding_length,
        }
    }

    /// Takes a record of `items`: its item replaces the one before; a record without a value takes
    /// the item away.
    ///
    /// # Errors
    /// Why it was left out.
    pub fn apply(&mut self, record: &TopicRecord) -> Result<(), ItemError> {
        let key = record.key.as_ref().and_then(|key| std::str::from_utf8(key).ok()).unwrap_or_default();
        let Some(value) = record.value.as_ref().filter(|value| !value.is_empty()) else {
            self.items.remove(key);
            return Ok(());
        };
        let item: ItemRecord = serde_json::from_slice(value).map_err(|_| ItemError::Undecodable)?;
        let id = item.item_id.map_or_else(|| key.to_owned(), Id::into_text);
        if id.is_empty() || id.len() > self.max_text_bytes {
            return Err(ItemError::Id);
        }
        let text = |text: Option<String>| match text {
            Some(text) if text.len() > self.max_text_bytes => Err(ItemError::TooLong),
            text => Ok(text.unwrap_or_default().into_boxed_str()),
        };
        let (category, brand) = (text(item.category)?, text(item.brand)?);
        if item.price.is_some_and(|price| !(0.0..=1e12).contains(&price)) {
            return Err(ItemError::Price);
        }
        let mut embedding = item.embedding.unwrap_or_default();
        if self.embedding_length == 0 {
            embedding.clear();
        } else if !embedding.is_empty()
            && (embedding.len() != self.embedding_length || embedding.iter().any(|x| !x.is_finite()))
        {
            return Err(ItemError::Embedding);
        }
        if self.items.len() >= self.max_items && !self.items.contains_key(id.as_str()) {
            return Err(ItemError::Full);
        }
        let embedding = embedding.into_boxed_slice();
        self.items.insert(id.into(), Item { category, brand, price: item.price, embedding });
        Ok(())
    }

    /// What is known of an item.
    pub fn get(&self, item: &str) -> Option<&Item> {
        self.items.get(item)
    }

    /// Fills the event's empty fields from its item, whose price is returned.
    pub fn join(&self, event: &mut Event) -> Option<f64> {
        let item = self.get(&event.item)?;
        for (field, known) in [(&mut event.category, &item.category), (&mut event.brand, &item.brand)] {
            if field.is_empty() {
                field.push_str(known);
            }
        }
        if event.embedding.is_empty() {
            event.embedding.extend_from_slice(&item.embedding);
        }
        item.price
    }

    /// How many items.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }
}

/// A catalogue that one thread refreshes while workers read it, a batch at a time.
#[derive(Debug, Clone)]
pub struct SharedCatalogue(Arc<RwLock<Catalogue>>);

impl SharedCatalogue {
    /// Shares a catalogue.
    pub fn new(catalogue: Catalogue) -> Self {
        Self(Arc::new(RwLock::new(catalogue)))
    }

    /// To read from; held for one batch.
    pub fn read(&self) -> RwLockReadGuard<'_, Catalogue> {
        // A writer that panicked left whole items behind: each change is one map operation.
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// To apply records to; held briefly.
    pub fn write(&self) -> RwLockWriteGuard<'_, Catalogue> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use bytes::Bytes;

    use super::*;

    fn record(key: &str, value: Option<&str>) -> TopicRecord {
        TopicRecord {
            partition: 0,
            offset: 0,
            timestamp_ms: 0,
            key: Some(Bytes::copy_from_slice(key.as_bytes())),
            value: value.map(|value| Bytes::copy_from_slice(value.as_bytes())),
            headers: Vec::new(),
        }
    }

    #[test]
    fn fills_empty_fields_only() {
        let mut catalogue = Catalogue::new(&Config { embedding_length: 2, ..Config::default() });
        let value =
            r#"{"item_id":7,"category":"shoes","brand":"acme","price":9.5,"embedding":[1,2],"extra":{}}"#;
        catalogue.apply(&record("ignored", Some(value))).unwrap();
        let mut event = Event { item: "7".into(), brand: "given".into(), ..Event::default() };
        assert_eq!(catalogue.join(&mut event), Some(9.5));
        assert_eq!((event.category.as_str(), event.brand.as_str()), ("shoes", "given"));
        assert_eq!(event.embedding, [1.0, 2.0]);
        catalogue.apply(&record("7", None)).unwrap();
        assert!(catalogue.is_empty());
        assert_eq!(catalogue.join(&mut event), None);
    }

    #[test]
    fn bad_items_are_left_out() {
        let config = Config { embedding_length: 1, max_items: 1, ..Config::default() };
        let mut catalogue = Catalogue::new(&config);
        let long = format!(r#"{{"brand":"{}"}}"#, "x".repeat(257));
        for (key, value, expected) in [
            ("a", "[", ItemError::Undecodable),
            ("a", r#"{"price":"1"}"#, ItemError::Undecodable),
            ("", "{}", ItemError::Id),
            ("a", long.as_str(), ItemError::TooLong),
            ("a", r#"{"price":-1}"#, ItemError::Price),
            ("a", r#"{"embedding":[1,2]}"#, ItemError::Embedding),
            ("a", r#"{"embedding":[1e300]}"#, ItemError::Undecodable),
        ] {
            assert_eq!(catalogue.apply(&record(key, Some(value))), Err(expected), "{value}");
        }
        catalogue.apply(&record("a", Some("{}"))).unwrap();
        assert_eq!(catalogue.apply(&record("b", Some("{}"))), Err(ItemError::Full));
        catalogue.apply(&record("a", Some(r#"{"brand":"new"}"#))).unwrap();
        assert_eq!(&*catalogue.get("a").unwrap().brand, "new");
    }
}
