//! What training examples tell of ids: which get a row of their own in a dictionary, and how many
//! share a hash bucket. Streamed over blocks of training examples alone.

use std::cmp::Reverse;

use serde::{Deserialize, Serialize};

use super::dictionary::Dictionary;
use super::distinct::Distinct;
use super::encoder::Encoder;
use super::frequent::{Frequent, Met};
use super::keyed::KeyedSet;

/// Keys of one hashed field that are counted exactly.
const EXACT: usize = 1 << 20;

/// Ids of a field with a dictionary that are counted at a time: so many times its rows, and no fewer
/// than are counted exactly of a hashed field.
const PER_ROW: usize = 4;

enum Counting {
    Dictionary(Frequent),
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
    /// Share of all mentions that are trained as unknown; at most, where some were missed.
    pub unknown_share: f64,
    /// Mentions of an id that may have been missed, at most: 0 where every id was counted.
    #[serde(default)]
    pub missed: u64,
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
    /// Holds at most 16 MiB for each field, and at most four ids of 50 bytes for each row of a
    /// dictionary (or 2^20 ids, whichever is more). A run that is resumed counts again.
    pub fn new(encoder: &Encoder) -> Self {
        let fields = encoder
            .tables()
            .iter()
            .enumerate()
            .map(|(field, table)| {
                if table.dictionary.is_some() {
                    let rows = super::fields::room(encoder.config(), field);
                    Counting::Dictionary(Frequent::new(rows.saturating_mul(PER_ROW).max(EXACT), EXACT))
                } else {
                    Counting::Hash(Distinct::new(EXACT))
                }
            })
            .collect();
        Self { encoder: encoder.clone(), fields, latest_ms: i64::MIN }
    }

    /// Counts the ids of a block of training examples, their past behaviours' among them. The
    /// result doesn't depend on the order of blocks, but for fields of more ids than are counted at a
    /// time.
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
                    Counting::Dictionary(frequent) => {
                        frequent.add(key, time_ms.saturating_sub(before_ms));
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
    ///
    /// Of a field with more ids than are counted at a time, mentions may have been missed, of each id
    /// at most [`Admission::missed`] and at most half of what a row of the
    /// dictionary would have if all mentions were shared out alike. No id is admitted that was named too seldom, and
    /// none is passed over that was named so many times oftener than is asked for.
    pub fn finish(self) -> (Encoder, Vec<FieldIds>) {
        let Self { encoder, fields, latest_ms } = self;
        let config = encoder.config().clone();
        let expiry_ms = config.expiry.0;
        let oldest_ms = if expiry_ms > 0 { latest_ms.saturating_sub(expiry_ms) } else { i64::MIN };
        let mut dictionaries = Vec::with_capacity(fields.len());
        let mut admissions = Vec::with_capacity(fields.len());
        for (field, counting) in fields.iter().enumerate() {
            let Counting::Dictionary(frequent) = counting else {
                dictionaries.push(None);
                admissions.push(None);
                continue;
            };
            let mut expired = 0;
            let mut admitted: Vec<(u64, Met)> = Vec::new();
            for (key, met) in frequent.iter() {
                if met.count < config.min_count {
                    continue;
                }
                if met.last_ms < oldest_ms {
                    expired += 1;
                } else {
                    admitted.push((key, met));
                }
            }
            // Frequent rows lie side by side, which caches like.
            admitted.sort_unstable_by_key(|&(key, met)| (Reverse(met.count), key));
            let room = super::fields::room(&config, field);
            let crowded_out = admitted.len().saturating_sub(room) as u64;
            admitted.truncate(room);
            let common = admitted.len() as u64 + expired + crowded_out;
            let known: u64 = admitted.iter().map(|(_, met)| u64::from(met.count)).sum();
            admissions.push(Some(Admission {
                admitted: admitted.len() as u64,
                rare: frequent.distinct().0.saturating_sub(common),
                expired,
                crowded_out,
                unknown_share: (frequent.met() - known) as f64 / frequent.met().max(1) as f64,
                missed: u64::from(frequent.missed()),
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
                    Counting::Dictionary(frequent) => {
                        let (distinct, exact) = frequent.distinct();
                        (distinct, exact, None)
                    }
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
