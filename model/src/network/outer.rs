//! A layer's matrix gradient: the sum over rows of the outer product of what it read and the
//! gradients of what it gave, tile by tile in registers.
//!
//! Each entry is a sum over the rows in ascending order, whatever part of the matrix is asked for.

use super::lanes::{Lanes, by_class};

/// Floats of a register.
const LANES: usize = 16;
/// Inputs of a tile, and registers of outputs: 24 sums in registers.
const INPUTS: usize = 6;
const REGISTERS: usize = 4;
/// Rows that are taken together, so that what a tile reads stays in L1 and L2.
const ROWS: usize = 256;

by_class! {
    /// Writes rows `first..` of the gradient, as many as `gradient` has room for: `x` holds rows of
    /// `inputs`, `of_y` as many rows of `outputs`.
    pub(crate) fn outer(
        x: &[f32], inputs: usize, of_y: &[f32], outputs: usize, first: usize, gradient: &mut [f32],
    ) = body
}

#[inline(always)]
fn body<V: Lanes>(
    x: &[f32],
    inputs: usize,
    of_y: &[f32],
    outputs: usize,
    first: usize,
    gradient: &mut [f32],
) {
    gradient.fill(0.0);
    for (x, of_y) in x.chunks(ROWS * inputs).zip(of_y.chunks(ROWS * outputs)) {
        let rows = Rows { x, inputs, of_y, outputs };
        let mut column = 0;
        while column + REGISTERS * LANES <= outputs {
            down::<V, REGISTERS>(rows, first, column, gradient);
            column += REGISTERS * LANES;
        }
        while column + LANES <= outputs {
            down::<V, 1>(rows, first, column, gradient);
            column += LANES;
        }
        if column < outputs {
            rest::<V>(rows, first, column, gradient);
        }
    }
}

#[derive(Clone, Copy)]
struct Rows<'a> {
    x: &'a [f32],
    inputs: usize,
    of_y: &'a [f32],
    outputs: usize,
}

/// All inputs of some columns.
#[inline(always)]
fn down<V: Lanes, const R: usize>(rows: Rows<'_>, first: usize, column: usize, gradient: &mut [f32]) {
    let mut tiles = gradient.chunks_exact_mut(INPUTS * rows.outputs);
    let mut input = first;
    for tile in &mut tiles {
        add::<V, R, INPUTS>(rows, input, column, tile);
        input += INPUTS;
    }
    for row in tiles.into_remainder().chunks_exact_mut(rows.outputs) {
        add::<V, R, 1>(rows, input, column, row);
        input += 1;
    }
}

#[inline(always)]
fn add<V: Lanes, const R: usize, const I: usize>(
    rows: Rows<'_>,
    input: usize,
    column: usize,
    tile: &mut [f32],
) {
    let mut sums = [[V::splat(0.0); R]; I];
    for (sums, row) in sums.iter_mut().zip(tile.chunks_exact(rows.outputs)) {
        for (sum, values) in sums.iter_mut().zip(row[column..].as_chunks().0) {
            *sum = V::load(values);
        }
    }
    for (x, of_y) in rows.x.chunks_exact(rows.inputs).zip(rows.of_y.chunks_exact(rows.outputs)) {
        let x = &x[input..input + I];
        let mut y = [V::splat(0.0); R];
        for (y, values) in y.iter_mut().zip(of_y[column..column + R * LANES].as_chunks().0) {
            *y = V::load(values);
        }
        for (sums, &x) in sums.iter_mut().zip(x) {
            let x = V::splat(x);
            for (sum, &y) in sums.iter_mut().zip(&y) {
                *sum = x.fma(y, *sum);
            }
        }
    }
    for (sums, row) in sums.iter().zip(tile.chunks_exact_mut(rows.outputs)) {
        for (sum, values) in sums.iter().zip(row[column..].as_chunks_mut().0) {
            sum.store(values);
        }
    }
}

/// The last columns, fewer than a register holds: sixteen inputs side by side instead.
#[inline(always)]
fn rest<V: Lanes>(rows: Rows<'_>, first: usize, column: usize, gradient: &mut [f32]) {
    let outputs = rows.outputs;
    for column in column..outputs {
        for (number, part) in gradient.chunks_mut(LANES * outputs).enumerate() {
            let input = first + number * LANES;
            let count = part.len() / outputs;
            let mut values = [0.0; LANES];
            for (value, row) in values.iter_mut().zip(part.chunks_exact(outputs)) {
                *value = row[column];
            }
            let mut sum = V::load(&values);
            for (x, of_y) in rows.x.chunks_exact(rows.inputs).zip(rows.of_y.chunks_exact(outputs)) {
                let x = if let Some(x) = x[input..].first_chunk() {
                    V::load(x)
                } else {
                    let mut last = [0.0; LANES];
                    last[..count].copy_from_slice(&x[input..input + count]);
                    V::load(&last)
                };
                sum = x.fma(V::splat(of_y[column]), sum);
            }
            sum.store(&mut values);
            for (value, row) in values.iter().zip(part.chunks_exact_mut(outputs)) {
                row[column] = *value;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::KernelClass;
    use crate::random::Random;

    #[test]
    fn any_part_of_it_is_the_plain_sum() {
        let mut random = Random::new(1, "outer");
        for (count, inputs, outputs) in [(300, 50, 131), (7, 20, 16), (65, 33, 3), (1, 5, 1)] {
            let x: Vec<f32> = (0..count * inputs).map(|_| random.symmetric(1.0)).collect();
            let of_y: Vec<f32> = (0..count * outputs).map(|_| random.symmetric(1.0)).collect();
            let mut truth = vec![0.0_f64; inputs * outputs];
            for (x, of_y) in x.chunks_exact(inputs).zip(of_y.chunks_exact(outputs)) {
                for (at, truth) in truth.iter_mut().enumerate() {
                    *truth += f64::from(x[at / outputs]) * f64::from(of_y[at % outputs]);
                }
            }
            for class in KernelClass::available() {
                let mut whole = vec![9.0; inputs * outputs];
                outer(class, &x, inputs, &of_y, outputs, 0, &mut whole);
                for (ours, truth) in whole.iter().zip(&truth) {
                    assert!((f64::from(*ours) - truth).abs() < 1e-4, "{class} {ours} {truth}");
                }
                let mut part = vec![9.0; (inputs - 3) * outputs];
                outer(class, &x, inputs, &of_y, outputs, 3, &mut part);
                assert_eq!(part, whole[3 * outputs..], "{class}");
            }
        }
    }
}
