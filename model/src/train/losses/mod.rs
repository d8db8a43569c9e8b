//! Losses as pure functions of logits, each with its slope, in double precision.
//!
//! Knows neither batches nor heads: who calls says which logit is held against what.

mod cross_entropy;
mod delayed;
mod gamma;

pub(crate) use cross_entropy::{binary, smoothed, softmax};
pub(crate) use delayed::{Seen, censored, fake_negative};
pub(crate) use gamma::gamma;

/// log(1 + e^x), finite for every finite x.
fn softplus(x: f64) -> f64 {
    libm::log1p(libm::exp(-x.abs())) + x.max(0.0)
}

/// 1 / (1 + e^-x).
fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + libm::exp(-x))
}
