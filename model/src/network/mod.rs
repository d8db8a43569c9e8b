//! The network: field tokens, attention, crosses, MLP, three heads. Its weights, its own forward pass.
//!
//! The forward pass is plain code over the weights, one row at a time in one fixed order of
//! additions, so that a row's bits depend neither on its batch nor on threads. Training runs the
//! same front (`front.rs`) inside a candle operation.

#![expect(
    clippy::inline_always,
    reason = "a body is compiled with a class's instructions only where it is inlined into that class's function"
)]

pub(crate) mod backward;
pub(crate) mod block;
pub(crate) mod cross;
mod dense;
pub(crate) mod front;
pub(crate) mod kernel;
pub(crate) mod lanes;
pub(crate) mod layout;
pub(crate) mod outer;
pub(crate) mod sequence;
pub(crate) mod serve;
mod weights;

pub use kernel::KernelClass;
pub use weights::{Dense, Weights, WeightsError};

pub(crate) use dense::Packed;
pub(crate) use layout::Layout;
pub(crate) use weights::with_dictionaries;

/// Outputs of the network: logits of a click, of a purchase given a click, of one given none.
pub const HEADS: usize = 3;
