//! What training examples tell of ids: which get a row of their own in a dictionary, and how many
//! share a hash bucket. Streamed over blocks of training examples alone.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use serde::{Deserialize, Serialize};

use super::dictionary::Dictionary;
use super::distinct::Distinct;
use super::encoder::Encoder;
use super::keyed::KeyedSet;

/// Keys of one hashed field that are counted exactly.
const EXACT: usize = 1 << 20;

/// Keys are hashes already.
#[derive(Default)]
struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(byte);
        }
    }

    fn write_u64(&mut self, key: u64) {
        self.0 = key;
    }
}

/// How often and when last a key was met.
#[derive(Clone, Copy, Default)]
struct Met {
    count: u32,
    last_ms: i64,
}

enum Counting {
    Dictionary(HashMap<u64, Met, BuildHasherDefault<KeyHasher>>),
    Hash(Distinct),
}

/// The ids of one field among the training examples.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FieldIds {
    /// The field.
    pub field: String,
    /// Distinct ids; an estimate (to about 1 %) where not `exact`.
    pub distinct: u64,
    /// Whether every id was counted.
    pub exact: bool,
    /// Rows of its table.
    pub rows: u32,
    /// Of a hashed field: the share of the distinct ids whose bucket is another's too.
    pub collision_rate: Option<f64>,
    /// Of a dictionary: what became of the ids.
    pub dictionary: Option<Admission>,
}

/// What became of the ids of a field with a dictionary.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Admission {
    /// Ids with a row of their own.
    pub admitted: u64,
    /// Ids named too seldom.
    pub rare: u64,
    /// Ids not named lately.
    pub expired: u64,
    /// Ids for which the table had no room.
    pub crowded_out: u64,
    /// Share of all mentions that are trained as unknown.
    pub unknown_share: f64,
}

/// Counts ids as training examples stream by.
pub struct VocabularyFit {
    encoder: Encoder,
    fields: Vec<Counting>,
    latest_ms: i64,
}

impl VocabularyFit {
    /// For the fields of `encoder`, whose own dictionaries don't matter.
    ///
    /// Holds about 30 bytes for each distinct id of a field with a dictionary, and at most 16 MiB
    /// for each hashed field.
    pub fn new(encoder: &Encoder) -> Self {
        let fields = encoder
            .tables()
            .iter()
            .map(|table| {
                if table.dictionary.is_some() {
                    Counting::Dictionary(HashMap::default())
                } else {
                    Counting::Hash(Distinct::new(EXACT))
                }
            })
            .collect();
        Self { encoder: encoder.clone(), fields, latest_ms: i64::MIN }
    }

    /// Counts the ids of a block of training examples, their past behaviours' among them. The
    /// result doesn't depend on the order of blocks.
    pub fn add(&mut self, block: &KeyedSet) {
        for index in 0..block.len() {
            let time_ms = block.times[index];
            self.latest_ms = self.latest_ms.max(time_ms);
            for (field, key, before_ms) in block.mentions(index) {
                if key == 0 {
                    continue;
                }
                match &mut self.fields[field] {
                    Counting::Hash(distinct) => distinct.add(key),
                    Counting::Dictionary(all) => {
                        let met = all.entry(key).or_insert(Met { count: 0, last_ms: i64::MIN });
                        met.count = met.count.saturating_add(1);
                        met.last_ms = met.last_ms.max(time_ms.saturating_sub(before_ms));
                    }
                }
            }
        }
    }

    /// The encoder with its dictionaries, and what there is to say of each field.
    ///
    /// An id is admitted if training examples name it at least `encoder.min_count` times and not
    /// only longer than `encoder.expiry` before the latest of them. Where the table has too little
    /// room, the most frequent are; of equally frequent ones, those with the smaller key.
    pub fn finish(self) -> (Encoder, Vec<FieldIds>) {
        let Self { encoder, fields, latest_ms } = self;
        let config = encoder.config().clone();
        let expiry_ms = config.expiry.0;
        let oldest_ms = if expiry_ms > 0 { latest_ms.saturating_sub(expiry_ms) } else { i64::MIN };
        let mut dictionaries = Vec::with_capacity(fields.len());
        let mut admissions = Vec::with_capacity(fields.len());
        for (field, counting) in fields.iter().enumerate() {
            let Counting::Dictionary(all) = counting else {
                dictionaries.push(None);
                admissions.push(None);
                continue;
            };
            let (mut rare, mut expired) = (0, 0);
            let mut admitted: Vec<(u64, Met)> = Vec::new();
            for (&key, &met) in all {
                if met.count < config.min_count {
                    rare += 1;
                } else if met.last_ms < oldest_ms {
                    expired += 1;
                } else {
                    admitted.push((key, met));
                }
            }
            // Frequent rows lie side by side, which caches like.
            admitted.sort_unstable_by_key(|&(key, met)| (std::cmp::Reverse(met.count), key));
            let room = super::fields::room(&config, field);
            let crowded_out = admitted.len().saturating_sub(room) as u64;
            admitted.truncate(room);
            let mentions: u64 = all.values().map(|met| u64::from(met.count)).sum();
            let known: u64 = admitted.iter().map(|(_, met)| u64::from(met.count)).sum();
            admissions.push(Some(Admission {
                admitted: admitted.len() as u64,
                rare,
                expired,
                crowded_out,
                unknown_share: (mentions - known) as f64 / mentions.max(1) as f64,
            }));
            // Keys of a map are distinct, and 0 is passed over above.
            dictionaries.push(Dictionary::new(admitted.into_iter().map(|(key, _)| key).collect()));
        }
        let encoder = encoder.with_dictionaries(&dictionaries);
        let reports = fields
            .iter()
            .zip(encoder.tables())
            .zip(admissions)
            .map(|((counting, table), dictionary)| {
                let rows = table.rows;
                let (distinct, exact, collision_rate) = match counting {
                    Counting::Dictionary(all) => (all.len() as u64, true, None),
                    Counting::Hash(distinct) => {
                        let bucket = |key| u64::from(table.row(key));
                        let counted = distinct.count(u64::from(rows - 1), bucket);
                        (counted.distinct, counted.exact, Some(counted.collision_rate))
                    }
                };
                FieldIds { field: table.name.to_owned(), distinct, exact, rows, collision_rate, dictionary }
            })
            .collect();
        (encoder, reports)
    }
}
