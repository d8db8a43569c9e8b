//! Where training examples come from: blocks that are read as often as they are needed, so that
//! they need not all be in memory.

use std::sync::Arc;

use schemas::FeatureVector;

use crate::encode::{EncodedSet, Encoder, Examples, Outcome, Row};

/// Why a block could not be read.
pub type SourceError = Box<dyn std::error::Error + Send + Sync>;

/// Training examples in blocks.
///
/// Blocks are shuffled, and examples among a few of them: a source whose blocks hold what lay close
/// together in time does well to make them small beside `shuffle_blocks` of them.
pub trait Source: Sync {
    /// What made the rows.
    fn encoder(&self) -> &Encoder;

    /// How many blocks there are.
    fn blocks(&self) -> usize;

    /// Block `number`, from 0: always the same examples in the same order. Called once before the
    /// first epoch and once in each, from a thread that reads ahead.
    ///
    /// # Errors
    /// It could not be read: training ends with that error.
    fn block(&self, number: usize) -> Result<Block<'_>, SourceError>;

    /// A few vectors without anything of a person, for the artefact's golden batch.
    fn samples(&self) -> &[FeatureVector];

    /// ISO 4217 code of the values of purchases, where it is known.
    fn currency(&self) -> Option<&str> {
        None
    }
}

/// Some examples, borrowed or owned.
#[derive(Debug, Clone)]
pub struct Block<'a>(Inner<'a>);

#[derive(Debug, Clone)]
enum Inner<'a> {
    Part(&'a Examples<'a>),
    Whole(Arc<EncodedSet>),
}

impl<'a> From<&'a Examples<'a>> for Block<'a> {
    fn from(examples: &'a Examples<'a>) -> Self {
        Self(Inner::Part(examples))
    }
}

impl From<Arc<EncodedSet>> for Block<'_> {
    fn from(set: Arc<EncodedSet>) -> Self {
        Self(Inner::Whole(set))
    }
}

impl From<EncodedSet> for Block<'_> {
    fn from(set: EncodedSet) -> Self {
        Self(Inner::Whole(Arc::new(set)))
    }
}

impl Block<'_> {
    /// How many examples.
    pub fn len(&self) -> usize {
        match &self.0 {
            Inner::Part(examples) => examples.len(),
            Inner::Whole(set) => set.len(),
        }
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The row at `position`.
    pub fn row(&self, position: usize) -> Row<'_> {
        match &self.0 {
            Inner::Part(examples) => examples.row(position),
            Inner::Whole(set) => set.row(position),
        }
    }

    /// The outcome at `position` and how much it counts.
    pub fn outcome(&self, position: usize) -> (Outcome, f32) {
        match &self.0 {
            Inner::Part(examples) => (examples.outcome(position), examples.weight(position)),
            Inner::Whole(set) => (set.outcomes()[position], set.weights()[position]),
        }
    }
}

/// Examples in memory are one block: all of them are shuffled together.
impl Source for Examples<'_> {
    fn encoder(&self) -> &Encoder {
        self.set().encoder()
    }

    fn blocks(&self) -> usize {
        1
    }

    fn block(&self, _number: usize) -> Result<Block<'_>, SourceError> {
        Ok(Block::from(self))
    }

    fn samples(&self) -> &[FeatureVector] {
        self.set().samples()
    }
}
