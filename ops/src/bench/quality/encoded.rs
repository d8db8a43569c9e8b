//! Rows as the model reads them: encoded as the trainer does it, dictionaries fitted to the training
//! part.

use std::ops::Range;

use anyhow::Result;
use model::encode::{KeyedSet, Outcome, VocabularyFit};
use model::{EncodedSet, Encoder};
use trainer::split::Parts;

use super::rows::Rows;

/// The parts of a split.
#[derive(Debug)]
pub struct Encoded {
    /// What is learned from.
    pub training: EncodedSet,
    /// What early stopping watches.
    pub validation: EncodedSet,
    /// What is judged.
    pub test: EncodedSet,
}

impl Encoded {
    /// Encodes the rows.
    ///
    /// # Errors
    /// A row that the encoder cannot read.
    pub fn new(rows: &Rows, parts: &Parts, config: &model::Config) -> Result<Self> {
        let plain = Encoder::new(&rows.schema, &config.encoder);
        let mut keyed = KeyedSet::new(&plain);
        for row in &rows.impressions[parts.train.clone()] {
            keyed.push(&plain, &rows.vector(row), Outcome::from(&row.label), 1.0)?;
        }
        let mut fit = VocabularyFit::new(&plain);
        fit.add(&keyed);
        let (encoder, _) = fit.finish();
        let part = |range: &Range<usize>| -> Result<EncodedSet> {
            let mut set = EncodedSet::new(&encoder);
            for row in &rows.impressions[range.clone()] {
                set.push_outcome(&rows.vector(row), Outcome::from(&row.label), 1.0)?;
            }
            Ok(set)
        };
        Ok(Self {
            training: keyed.resolve(&encoder),
            validation: part(&parts.validation)?,
            test: part(&parts.test)?,
        })
    }
}
