//! The categorical fields: their tables, the keys of their ids, the rows of their keys.

use schemas::FeatureVector;

use super::dictionary::Dictionary;
use crate::config::EncoderConfig;

/// Categorical fields that every vector has, in the order of their tokens; behaviours name the
/// first three. `user` follows where `encoder.user_buckets` is not 0.
const FIELDS: [&str; 7] = ["item", "campaign", "category", "brand", "placement", "device", "channel"];
const USER: &str = "user";

/// Row of a table that stands for "not given".
const NOT_GIVEN: u32 = 0;
/// Row of a dictionary's table that stands for every id that it doesn't hold.
const UNKNOWN: u32 = 1;

/// The names of the categorical fields that a config knows.
pub fn field_names() -> impl Iterator<Item = &'static str> {
    FIELDS.into_iter().chain([USER])
}

/// The table of one field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldTable {
    /// Name of the field.
    pub name: &'static str,
    /// Its first row in the matrix of all tables.
    pub first: u32,
    /// Its rows.
    pub rows: u32,
    /// The ids with rows of their own, where it has a dictionary; else ids are hashed.
    pub dictionary: Option<Dictionary>,
}

impl FieldTable {
    /// Row of a key in the matrix of all tables.
    #[inline]
    pub(crate) fn row(&self, key: u64) -> u32 {
        if key == 0 {
            return self.first + NOT_GIVEN;
        }
        match &self.dictionary {
            None => self.first + 1 + ((u128::from(key) * u128::from(self.rows - 1)) >> 64) as u32,
            Some(dictionary) => {
                self.first + dictionary.get(key).map_or(UNKNOWN, |position| UNKNOWN + 1 + position)
            }
        }
    }

    /// The row of unknown ids, where there is one.
    pub fn unknown(&self) -> Option<u32> {
        self.dictionary.is_some().then_some(self.first + UNKNOWN)
    }
}

/// Key of a value of field `field`: a hash; 0 stands for "not given".
#[inline]
pub(super) fn key(field: usize, value: &str) -> u64 {
    if value.is_empty() {
        return 0;
    }
    xxhash_rust::xxh3::xxh3_64_with_seed(value.as_bytes(), field as u64).max(1)
}

/// What a vector says in each field.
pub(super) fn values(vector: &FeatureVector) -> [&str; FIELDS.len() + 1] {
    [
        &vector.item,
        &vector.campaign,
        &vector.category,
        &vector.brand,
        &vector.placement,
        &vector.device,
        &vector.channel,
        &vector.user,
    ]
}

fn buckets(config: &EncoderConfig) -> [u32; FIELDS.len() + 1] {
    [
        config.item_buckets,
        config.campaign_buckets,
        config.category_buckets,
        config.brand_buckets,
        config.placement_buckets,
        config.device_buckets,
        config.channel_buckets,
        config.user_buckets,
    ]
}

/// Ids that the dictionary of field `field` has room for.
pub(super) fn room(config: &EncoderConfig, field: usize) -> usize {
    buckets(config)[field].saturating_sub(UNKNOWN + 1) as usize
}

/// Tables one after the other in one matrix; `dictionaries` by field, none being an empty one.
pub(super) fn tables(config: &EncoderConfig, dictionaries: &[Option<Dictionary>]) -> Vec<FieldTable> {
    let mut first = 0;
    let mut tables = Vec::new();
    for (field, (name, buckets)) in field_names().zip(buckets(config)).enumerate() {
        // Only the last can be off, so that positions are fields.
        if buckets == 0 {
            continue;
        }
        let listed = config.dictionaries.iter().any(|listed| listed == name);
        let dictionary = listed.then(|| dictionaries.get(field).cloned().flatten().unwrap_or_default());
        let rows = match &dictionary {
            Some(dictionary) => dictionary.len() as u32 + UNKNOWN + 1,
            None => buckets,
        };
        tables.push(FieldTable { name, first, rows, dictionary });
        first += rows;
    }
    tables
}
