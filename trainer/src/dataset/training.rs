//! Training examples as training reads them: a block at a time, from disk.

use model::{Block, Encoder, Source, SourceError};
use schemas::FeatureVector;

use crate::spill::Blocks;

/// Training examples on disk. Every block is an even sample of them.
#[derive(Debug, Clone, Copy)]
pub struct Training<'a> {
    /// Where they are.
    pub blocks: &'a Blocks,
    encoder: &'a Encoder,
    samples: &'a [FeatureVector],
    /// Of the values of purchases; empty where it is not known.
    currency: &'a str,
    /// So many of so many examples.
    share: Option<(usize, usize)>,
}

impl<'a> Training<'a> {
    /// The blocks with the ids' rows of `encoder`, which reads vectors as what they were made by;
    /// `samples` are a few vectors for the golden batch.
    pub const fn new(blocks: &'a Blocks, encoder: &'a Encoder, samples: &'a [FeatureVector]) -> Self {
        Self { blocks, encoder, samples, currency: "", share: None }
    }

    /// The same with purchases valued in `currency`.
    #[must_use]
    pub(super) const fn in_currency(mut self, currency: &'a str) -> Self {
        self.currency = currency;
        self
    }

    /// About `rows` of them: an even sample.
    #[must_use]
    pub fn thinned(mut self, rows: usize) -> Self {
        let all = self.blocks.rows();
        self.share = (rows < all).then_some((rows, all));
        self
    }
}

impl Source for Training<'_> {
    fn encoder(&self) -> &Encoder {
        self.encoder
    }

    fn blocks(&self) -> usize {
        self.blocks.len()
    }

    fn block(&self, number: usize) -> Result<Block<'_>, SourceError> {
        let mut block = self.blocks.read(number)?;
        if let Some(share) = self.share {
            block = block.thinned(share);
        }
        Ok(Block::from(block.resolve(self.encoder)))
    }

    fn samples(&self) -> &[FeatureVector] {
        self.samples
    }

    fn currency(&self) -> Option<&str> {
        Some(self.currency)
    }
}
