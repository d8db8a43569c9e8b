//! The cross layers for sixteen rows, and their slopes.

use super::gradient::{layer_backward, layer_forward};
use crate::network::lanes::Lane;
use crate::network::{Dense, KernelClass};

/// What each cross gave.
pub(super) struct Crossed {
    hidden: Vec<Lane>,
    change: Vec<Lane>,
    values: Vec<Lane>,
}

/// Memory for crosses of pairs of layers.
pub(super) fn memory(layers: &[Dense]) -> Vec<Crossed> {
    let zeros = |layer: &Dense| vec![Lane::ZERO; layer.outputs];
    let pairs = layers.as_chunks::<2>().0.iter();
    pairs.map(|[down, up]| Crossed { hidden: zeros(down), change: zeros(up), values: zeros(up) }).collect()
}

/// From tokens to what the MLP reads.
pub(super) fn forward<'a>(
    class: KernelClass,
    layers: &[Dense],
    start: &'a [Lane],
    crossed: &'a mut [Crossed],
) -> &'a [Lane] {
    for (number, [down, up]) in layers.as_chunks::<2>().0.iter().enumerate() {
        let (before, after) = crossed.split_at_mut(number);
        let read = before.last().map_or(start, |before| &before.values);
        let Crossed { hidden, change, values } = &mut after[0];
        layer_forward(class, down, false, read, hidden);
        layer_forward(class, up, false, hidden, change);
        values.copy_from_slice(read);
        add_products(start, change, values);
    }
    crossed.last().map_or(start, |last| &last.values)
}

/// From the slopes at what the MLP reads to those of the tokens, in their place.
pub(super) fn backward(
    class: KernelClass,
    layers: &[Dense],
    start: &[Lane],
    crossed: &[Crossed],
    slopes: &mut [Lane],
) {
    let mut of_start = vec![Lane::ZERO; start.len()];
    let mut of_read = vec![Lane::ZERO; start.len()];
    for ([down, up], crossed) in layers.as_chunks::<2>().0.iter().zip(crossed).rev() {
        let mut of_change = vec![Lane::ZERO; start.len()];
        add_products(slopes, start, &mut of_change);
        add_products(slopes, &crossed.change, &mut of_start);
        let mut of_hidden = vec![Lane::ZERO; crossed.hidden.len()];
        layer_backward(class, up, None, &of_change, &mut of_hidden);
        layer_backward(class, down, None, &of_hidden, &mut of_read);
        add(&of_read, slopes);
    }
    add(&of_start, slopes);
}

fn add_products(a: &[Lane], b: &[Lane], sums: &mut [Lane]) {
    for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
        for ((sum, a), b) in sum.0.iter_mut().zip(a.0).zip(b.0) {
            *sum += a * b;
        }
    }
}

fn add(x: &[Lane], sums: &mut [Lane]) {
    for (sum, x) in sums.iter_mut().zip(x) {
        for (sum, x) in sum.0.iter_mut().zip(x.0) {
            *sum += x;
        }
    }
}
