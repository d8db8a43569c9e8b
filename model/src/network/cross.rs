//! Cross layers between the tokens and the MLP (DCN-v2, Wang et al. 2021, its low-rank form):
//! `x(l + 1) = x(0) * (x(l) V U + b) + x(l)`, number by number. After `n` of them an output holds
//! products of up to `n + 1` of the first numbers.

use super::kernel::{KernelClass, multiversion};
use super::{Dense, Packed};

/// A cross, packed.
#[derive(Debug, Clone)]
pub(crate) struct Cross {
    /// To the rank.
    pub(crate) down: Packed,
    /// And back.
    pub(crate) up: Packed,
}

impl Cross {
    /// Packs the crosses of pairs of layers.
    pub(crate) fn all(layers: &[Dense]) -> Vec<Self> {
        let pairs = layers.as_chunks::<2>().0;
        pairs
            .iter()
            .map(|[down, up]| Self { down: Packed::new(down, false), up: Packed::new(up, false) })
            .collect()
    }

    /// Some rows: `values` becomes what the next layer reads, `start` is what the first one read.
    /// `hidden` and `change` are filled with what came between.
    pub(crate) fn forward(
        &self,
        class: KernelClass,
        start: &[f32],
        hidden: &mut [f32],
        change: &mut [f32],
        values: &mut [f32],
    ) {
        self.down.forward(class, values, hidden);
        self.up.forward(class, hidden, change);
        add_product(class, start, change, values);
    }
}

multiversion! {
    /// Adds the products of `a` and `b` to `sums`.
    pub(crate) fn add_product<>(a: &[f32], b: &[f32], sums: &mut [f32]) = add_product_body
}

#[inline(always)]
fn add_product_body(a: &[f32], b: &[f32], sums: &mut [f32]) {
    for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
        *sum += a * b;
    }
}

multiversion! {
    /// From the slopes at what a cross gave: of its `change`, by `start`; and of `start`, by `change`, which
    /// are added to `of_start`.
    pub(crate) fn of_product<>(
        slopes: &[f32], start: &[f32], change: &[f32], of_change: &mut [f32], of_start: &mut [f32],
    ) = of_product_body
}

#[inline(always)]
fn of_product_body(
    slopes: &[f32],
    start: &[f32],
    change: &[f32],
    of_change: &mut [f32],
    of_start: &mut [f32],
) {
    let read = slopes.iter().zip(start).zip(change);
    for (((slope, start), change), (of_change, of_start)) in read.zip(of_change.iter_mut().zip(of_start)) {
        *of_change = slope * start;
        *of_start += slope * change;
    }
}

multiversion! {
    /// Adds `x` to `sums`.
    pub(crate) fn add_all<>(x: &[f32], sums: &mut [f32]) = add_all_body
}

#[inline(always)]
fn add_all_body(x: &[f32], sums: &mut [f32]) {
    for (sum, x) in sums.iter_mut().zip(x) {
        *sum += x;
    }
}
