//! What makes few examples go further: rows that differ a little each time they are shown.

use std::sync::Arc;

use super::objective::Mixing;
use crate::config::TrainingConfig;
use crate::encode::{EncodedBehaviour, Encoder, FieldTable, Row};
use crate::network::Layout;
use crate::random::Random;

/// How rows are changed while training.
#[derive(Debug, Clone)]
pub(super) struct Augmentation {
    /// Share of tokens shown as missing.
    drop: f32,
    /// Share of examples of whose behaviours only a run is shown.
    crop: f32,
    /// Columns of each token of numbers.
    columns: Vec<Vec<usize>>,
    /// Share of ids shown as unknown.
    unknown: f32,
    /// The table row that stands for "not given", of each id.
    missing: Vec<u32>,
    /// The one that stands for unknown ids, of each id that has one.
    stranger: Vec<Option<u32>>,
}

impl Augmentation {
    pub(super) fn new(config: &TrainingConfig, encoder: &Encoder, layout: &Layout) -> Self {
        let mut columns = vec![Vec::new(); layout.tokens.len()];
        for (column, &token) in layout.token_of_number.iter().enumerate() {
            columns[token].push(column);
        }
        columns.retain(|columns| !columns.is_empty());
        Self {
            drop: config.feature_dropout,
            crop: config.behaviour_crop,
            columns,
            unknown: config.id_dropout,
            missing: encoder.tables().iter().map(|table| table.first).collect(),
            stranger: encoder.tables().iter().map(FieldTable::unknown).collect(),
        }
    }

    /// The changes of one step.
    pub(super) fn of_step(self: &Arc<Self>, seed: u64, step: u64) -> Augment {
        Augment {
            of: Arc::clone(self),
            random: Random::new(seed, &format!("augment.{step}")),
            numbers: Vec::new(),
            ids: Vec::new(),
            behaviours: Vec::new(),
        }
    }
}

/// Changes the rows of one step, in their order.
pub(super) struct Augment {
    of: Arc<Augmentation>,
    random: Random,
    numbers: Vec<f32>,
    ids: Vec<u32>,
    behaviours: Vec<EncodedBehaviour>,
}

impl Augment {
    /// The row as it is shown in this step.
    ///
    /// Feature dropout takes whole tokens (Volkovs et al. 2017 for recommenders' inputs), so that
    /// what serving shows where something is not given has been seen. Cropping leaves a run of the
    /// behaviours, at least one (Xie et al. 2022). Ids shown as unknown train the row that ids get
    /// which a dictionary does not hold.
    pub(super) fn row<'r>(&'r mut self, row: Row<'r>) -> Row<'r> {
        let Augmentation { drop, crop, columns, unknown, missing, stranger } = &*self.of;
        let mut row = row;
        let mut copied = false;
        if *crop > 0.0 && row.behaviours.len() > 1 && self.random.unit() < *crop {
            let length = 1 + self.random.below(row.behaviours.len());
            let first = self.random.below(row.behaviours.len() - length + 1);
            self.behaviours.clear();
            self.behaviours.extend_from_slice(&row.behaviours[first..first + length]);
            copied = true;
        }
        if *unknown > 0.0 || *drop > 0.0 {
            self.ids.clear();
            self.ids.extend_from_slice(row.ids);
        }
        if *unknown > 0.0 {
            if !copied {
                self.behaviours.clear();
                self.behaviours.extend_from_slice(row.behaviours);
            }
            let past = self.behaviours.iter_mut().map(|behaviour| behaviour.rows.as_mut_slice());
            for ids in past.chain([self.ids.as_mut_slice()]) {
                for ((id, stranger), missing) in ids.iter_mut().zip(stranger).zip(missing) {
                    if let Some(stranger) = stranger
                        && *id != *missing
                        && self.random.unit() < *unknown
                    {
                        *id = *stranger;
                    }
                }
            }
            copied = true;
        }
        if copied {
            row.behaviours = &self.behaviours;
        }
        if *drop > 0.0 {
            self.numbers.clear();
            self.numbers.extend_from_slice(row.numbers);
            for columns in columns {
                if self.random.unit() < *drop {
                    for &column in columns {
                        self.numbers[column] = f32::NAN;
                    }
                }
            }
            for (id, &missing) in self.ids.iter_mut().zip(missing) {
                if self.random.unit() < *drop {
                    *id = missing;
                }
            }
            if self.random.unit() < *drop {
                row.behaviours = &[];
            }
            if self.random.unit() < *drop {
                row.embedding = &[];
            }
            row.numbers = &self.numbers;
        }
        if *unknown > 0.0 || *drop > 0.0 {
            row.ids = &self.ids;
        }
        row
    }
}

/// How the `count` examples of a batch are mixed (manifold mixup, Verma et al. 2019, at what the
/// MLP reads): shares are drawn from Beta(`alpha`, `alpha`), and the larger part is a row's own.
pub(super) fn mixing(alpha: f32, seed: u64, step: u64, count: usize) -> Option<Mixing> {
    if alpha <= 0.0 || count < 2 {
        return None;
    }
    let mut random = Random::new(seed, &format!("mixup.{step}"));
    // Batches are shuffled: any other row is as good as a random one.
    let shift = 1 + random.below(count - 1);
    let shares = (0..count)
        .map(|_| {
            let share = beta(f64::from(alpha), &mut random);
            share.max(1.0 - share) as f32
        })
        .collect();
    Some(Mixing { shift, shares })
}

/// A draw from Beta(`alpha`, `alpha`), `alpha` over 0 to 1 (Jöhnk 1964).
fn beta(alpha: f64, random: &mut Random) -> f64 {
    loop {
        let mut draw = || libm::log(f64::from(random.unit()).max(1e-12)) / alpha;
        let (x, y) = (draw(), draw());
        // In logarithms: a small alpha makes powers of both underflow.
        let most = x.max(y);
        let log_sum = most + libm::log(libm::exp(x - most) + libm::exp(y - most));
        if log_sum <= 0.0 {
            return libm::exp(x - log_sum);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn shares_follow_the_beta_distribution() {
        for alpha in [0.2, 1.0] {
            let mut random = Random::new(1, "beta");
            let draws: Vec<f64> = (0..40_000).map(|_| beta(alpha, &mut random)).collect();
            let mean = draws.iter().sum::<f64>() / draws.len() as f64;
            let square = draws.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / draws.len() as f64;
            // Variance of Beta(a, a): 1 / (4 (2 a + 1)).
            let expected = 1.0 / (4.0 * (2.0 * alpha + 1.0));
            assert!((mean - 0.5).abs() < 0.01 && (square / expected - 1.0).abs() < 0.03, "{mean} {square}");
        }
    }

    #[test]
    fn as_many_known_ids_as_asked_are_shown_as_unknown_and_nothing_else_changes() {
        #[derive(serde::Deserialize)]
        struct File {
            model: crate::Config,
        }
        let mut config = toml::from_str::<File>(crate::DEFAULTS).unwrap().model;
        config.encoder.dictionaries = vec!["item".to_owned()];
        config.training.id_dropout = 0.25;
        let schema = schemas::VectorSchema { fields: Vec::new() };
        let dictionary = crate::encode::Dictionary::new(vec![5, 6, 7]);
        let encoder = Encoder::new(&schema, &config.encoder).with_dictionaries(&[dictionary]);
        let layout = Layout::new(&encoder, &config);
        let augmentation = Arc::new(Augmentation::new(&config.training, &encoder, &layout));
        let (missing, unknown, known) = (0, 1, 3);
        let past = |item| EncodedBehaviour { rows: [item, 70, 90], age: 0.1, kind: 1, same: 0 };
        let behaviours = [past(known), past(missing), past(unknown)];
        let ids = [known, 80, 100, 5_000, 9_000, 9_300, 9_400];
        let row = Row { numbers: &[1.0], ids: &ids, behaviours: &behaviours, embedding: &[] };
        let mut augment = augmentation.of_step(3, 0);
        let (mut own, mut theirs) = (0, 0);
        for _ in 0..8_000 {
            let shown = augment.row(row);
            assert_eq!((shown.numbers, &shown.ids[1..]), (row.numbers, &ids[1..]));
            assert_eq!(shown.behaviours[1..], behaviours[1..]);
            assert_eq!(shown.behaviours[0].rows[1..], behaviours[0].rows[1..]);
            for (id, count) in [(shown.ids[0], &mut own), (shown.behaviours[0].rows[0], &mut theirs)] {
                assert!(id == known || id == unknown);
                *count += u32::from(id == unknown);
            }
        }
        assert!((1_800..2_200).contains(&own) && (1_800..2_200).contains(&theirs), "{own} {theirs}");
    }

    #[test]
    fn a_row_keeps_the_larger_part_of_itself() {
        let mixing = mixing(0.4, 1, 7, 100).into_iter().next();
        assert!(mixing.is_some_and(|mixing| {
            (1..100).contains(&mixing.shift) && mixing.shares.iter().all(|share| (0.5..=1.0).contains(share))
        }));
        assert!(super::mixing(0.0, 1, 7, 100).is_none());
        assert!(super::mixing(0.4, 1, 7, 1).is_none());
    }
}
