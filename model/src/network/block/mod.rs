//! The attention block, all between the field tokens and the MLP, for sixteen rows at a time: one
//! row in each lane, so that nothing is ever added across lanes and nothing is padded but the last
//! group of a batch.
//!
//! Pooling weighs the tokens and keeps them apart (token t times T * weight of t) rather than
//! adding them up: the MLP can still form their sum, and loses nothing where it should not.
//!
//! A value of sixteen rows is a [`Lane`]. Tokens lie as \[token]\[dimension]; what belongs to heads
//! as \[head]\[token]\[dimension of the head], so that a head's keys are one stretch of L1.

#![expect(
    clippy::needless_range_loop,
    reason = "a kernel's indices name registers; an iterator over them would hide which"
)]

mod backward;
mod forward;
mod matrix;
mod prepared;
mod single;

pub(crate) use backward::{BlockGradients, backward};
pub(crate) use forward::{forward, gather_rows};
pub(crate) use prepared::Prepared;
use prepared::PreparedLayer;
pub(crate) use single::forward_single;

use super::lanes::Lane;
use super::layout::Layout;

/// Rows of a group.
pub(crate) const GROUP: usize = 16;
/// Tokens, queries, keys and dimensions that a kernel keeps in registers at once.
pub(crate) const TILE: usize = 4;

/// How the values of sixteen rows lie: `parts` of `width` dimensions, each over all tokens.
#[derive(Debug, Clone, Copy)]
pub(crate) struct View {
    /// Heads, or 1.
    pub(crate) parts: usize,
    /// Dimensions of a part.
    pub(crate) width: usize,
    /// Tokens, padded to whole tiles.
    pub(crate) tokens: usize,
}

impl View {
    /// Where a token's dimensions of a part begin.
    #[inline(always)]
    pub(crate) const fn at(self, part: usize, token: usize) -> usize {
        (part * self.tokens + token) * self.width
    }

    /// A token's dimensions of a part.
    #[inline(always)]
    pub(crate) fn row(self, values: &[Lane], part: usize, token: usize) -> &[Lane] {
        let first = self.at(part, token);
        &values[first..first + self.width]
    }

    /// All tokens of a part.
    #[inline(always)]
    pub(crate) fn part(self, values: &[Lane], part: usize) -> &[Lane] {
        let length = self.tokens * self.width;
        &values[part * length..(part + 1) * length]
    }
}

/// Shape of the block.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    /// Field tokens.
    pub(crate) tokens: usize,
    /// The same, padded to whole tiles.
    pub(crate) padded: usize,
    /// Width of a token.
    pub(crate) width: usize,
    /// Heads.
    pub(crate) heads: usize,
}

impl Shape {
    pub(crate) fn new(layout: &Layout) -> Self {
        let tokens = layout.tokens.len();
        let padded = tokens.next_multiple_of(TILE);
        Self { tokens, padded, width: layout.width, heads: layout.heads }
    }

    /// Of tokens.
    pub(crate) const fn whole(self) -> View {
        View { parts: 1, width: self.width, tokens: self.padded }
    }

    /// Of queries, keys, values, mixtures.
    pub(crate) const fn by_head(self) -> View {
        View { parts: self.heads, width: self.width / self.heads, tokens: self.padded }
    }

    /// Floats of a row.
    pub(crate) const fn outputs(self) -> usize {
        self.tokens * self.width
    }
}

/// What a layer's forward pass leaves for its backward pass.
#[derive(Debug, Clone)]
pub(crate) struct LayerValues {
    /// 1 / root mean square of each token.
    pub(crate) scale: Vec<Lane>,
    pub(crate) normed: Vec<Lane>,
    /// Times `log2(e) / sqrt(head width)`.
    pub(crate) query: Vec<Lane>,
    pub(crate) key: Vec<Lane>,
    pub(crate) value: Vec<Lane>,
    /// Largest score of each query, and 1 / the sum of its powers; by head.
    pub(crate) most: Vec<Lane>,
    pub(crate) inverse: Vec<Lane>,
    pub(crate) mixed: Vec<Lane>,
}

/// Memory of the forward pass of a group.
#[derive(Debug, Clone)]
pub(crate) struct Values {
    pub(crate) shape: Shape,
    /// Tokens before the first layer, then after each.
    pub(crate) tokens: Vec<Vec<Lane>>,
    pub(crate) layers: Vec<LayerValues>,
    /// Weight of each token, 1 in the mean.
    pub(crate) pooling: Vec<Lane>,
    /// Scores or weights of a tile of queries.
    pub(crate) scores: [Vec<Lane>; TILE],
}

impl Values {
    pub(crate) fn new(layout: &Layout) -> Self {
        let shape = Shape::new(layout);
        let all = || vec![Lane::ZERO; shape.padded * shape.width];
        let one = || vec![Lane::ZERO; shape.padded];
        let heads = || vec![Lane::ZERO; shape.padded * shape.heads];
        Self {
            shape,
            tokens: (0..=layout.layers.len()).map(|_| all()).collect(),
            layers: layout
                .layers
                .iter()
                .map(|_| LayerValues {
                    scale: one(),
                    normed: all(),
                    query: all(),
                    key: all(),
                    value: all(),
                    most: heads(),
                    inverse: heads(),
                    mixed: all(),
                })
                .collect(),
            pooling: one(),
            scores: std::array::from_fn(|_| one()),
        }
    }
}
