//! The MLP's layers, packed: panels of columns side by side, row after row of the matrix.
//!
//! Each output is a sum over its inputs in ascending order, whatever the batch: blocks of rows and
//! columns change what is computed together, never the order within an output.

use super::kernel::KernelClass;
use super::lanes::{Lanes, by_class};
use super::weights::Dense;

/// Floats of a register.
const LANES: usize = 16;
/// Registers of a wide panel: with six rows, 24 sums in registers.
const WIDE: usize = 4;
/// Rows computed together on a wide panel, and on a narrow one.
const ROWS: usize = 6;
const NARROW_ROWS: usize = 8;
/// Wide panels computed together for a row that stands alone.
const ABREAST: usize = 4;

/// A layer of the MLP.
#[derive(Debug, Clone)]
pub(crate) struct Packed {
    /// Panel after panel, each with a row of `panel` registers per input.
    weights: Vec<[f32; LANES]>,
    bias: Vec<[f32; LANES]>,
    /// Registers of a panel: [`WIDE`], or 1 for a layer of few outputs.
    panel: usize,
    inputs: usize,
    pub(crate) outputs: usize,
    relu: bool,
}

impl Packed {
    /// Packs a layer; `relu` clamps its outputs at 0.
    pub(crate) fn new(layer: &Dense, relu: bool) -> Self {
        let panel = if layer.outputs <= LANES { 1 } else { WIDE };
        let width = panel * LANES;
        let panels = layer.outputs.div_ceil(width);
        let mut weights = vec![[0.0; LANES]; panels * layer.inputs * panel];
        let flat = weights.as_flattened_mut();
        for (input, row) in layer.weight.chunks_exact(layer.outputs).enumerate() {
            for (number, part) in row.chunks(width).enumerate() {
                let first = (number * layer.inputs + input) * width;
                flat[first..first + part.len()].copy_from_slice(part);
            }
        }
        let mut bias = vec![[0.0; LANES]; panels * panel];
        // A layer without a bias adds 0.
        bias.as_flattened_mut()[..layer.bias.len()].copy_from_slice(&layer.bias);
        Self { weights, bias, panel, inputs: layer.inputs, outputs: layer.outputs, relu }
    }

    /// Packs a layer's matrix the other way round, without its bias: from the gradients of its outputs to
    /// those of its inputs.
    pub(crate) fn transposed(layer: &Dense) -> Self {
        let (inputs, outputs) = (layer.outputs, layer.inputs);
        let panel = if outputs <= LANES { 1 } else { WIDE };
        let width = panel * LANES;
        let panels = outputs.div_ceil(width);
        let mut weights = vec![[0.0; LANES]; panels * inputs * panel];
        let flat = weights.as_flattened_mut();
        for (output, row) in layer.weight.chunks_exact(layer.outputs).enumerate() {
            let first = output / width * inputs * width + output % width;
            for (to, &value) in flat[first..].iter_mut().step_by(width).zip(row) {
                *to = value;
            }
        }
        Self { weights, bias: vec![[0.0; LANES]; panels * panel], panel, inputs, outputs, relu: false }
    }

    /// Rows of `inputs` floats in, rows of `outputs` floats out.
    pub(crate) fn forward(&self, class: KernelClass, x: &[f32], out: &mut [f32]) {
        debug_assert_eq!(x.len() / self.inputs, out.len() / self.outputs);
        forward(class, self, x, out);
    }
}

by_class! {
    fn forward(layer: &Packed, x: &[f32], out: &mut [f32]) = body
}

#[inline(always)]
fn body<V: Lanes>(layer: &Packed, x: &[f32], out: &mut [f32]) {
    if layer.panel == 1 {
        rows::<V, 1, NARROW_ROWS>(layer, x, out);
    } else if x.len() == layer.inputs {
        single::<V>(layer, x, out);
    } else {
        rows::<V, WIDE, ROWS>(layer, x, out);
    }
}

/// Panel by panel, so that each is fetched once for all rows.
#[inline(always)]
fn rows<V: Lanes, const P: usize, const R: usize>(layer: &Packed, x: &[f32], out: &mut [f32]) {
    let panels = layer.weights.chunks_exact(layer.inputs * P).zip(layer.bias.chunks_exact(P));
    for (number, (weights, bias)) in panels.enumerate() {
        let mut inputs = x.chunks_exact(layer.inputs * R);
        let mut outputs = out.chunks_exact_mut(layer.outputs * R);
        for (x, out) in (&mut inputs).zip(&mut outputs) {
            block::<V, P, R>(layer, number, weights, bias, x, out);
        }
        let (x, out) = (inputs.remainder(), outputs.into_remainder());
        let mut inputs = x.chunks_exact(layer.inputs * 2);
        let mut outputs = out.chunks_exact_mut(layer.outputs * 2);
        for (x, out) in (&mut inputs).zip(&mut outputs) {
            block::<V, P, 2>(layer, number, weights, bias, x, out);
        }
        let (x, out) = (inputs.remainder(), outputs.into_remainder());
        if !x.is_empty() {
            block::<V, P, 1>(layer, number, weights, bias, x, out);
        }
    }
}

#[inline(always)]
fn block<V: Lanes, const P: usize, const R: usize>(
    layer: &Packed,
    number: usize,
    weights: &[[f32; LANES]],
    bias: &[[f32; LANES]],
    x: &[f32],
    out: &mut [f32],
) {
    let width = layer.inputs;
    let mut x_rows = [x; R];
    for (row, x_row) in x_rows.iter_mut().enumerate() {
        *x_row = &x[row * width..(row + 1) * width];
    }
    let mut sums = [[V::splat(0.0); P]; R];
    for (input, weights) in weights.as_chunks::<P>().0.iter().enumerate().take(width) {
        let mut w = [V::splat(0.0); P];
        for (w, weights) in w.iter_mut().zip(weights) {
            *w = V::load(weights);
        }
        for (sums, x) in sums.iter_mut().zip(&x_rows) {
            let x = V::splat(x[input]);
            for (sum, &w) in sums.iter_mut().zip(&w) {
                *sum = x.fma(w, *sum);
            }
        }
    }
    for (sums, out) in sums.iter().zip(out.chunks_exact_mut(layer.outputs)) {
        for (part, (&sum, bias)) in sums.iter().zip(bias).enumerate() {
            finish(layer, (number * P + part) * LANES, sum, bias, out);
        }
    }
}

#[inline(always)]
fn single<V: Lanes>(layer: &Packed, x: &[f32], out: &mut [f32]) {
    let stride = layer.inputs * WIDE;
    let panels = layer.weights.len() / stride;
    let mut number = 0;
    while number + ABREAST <= panels {
        let panels = &layer.weights[number * stride..(number + ABREAST) * stride];
        let (p0, rest) = panels.split_at(stride);
        let (p1, rest) = rest.split_at(stride);
        let (p2, p3) = rest.split_at(stride);
        let panels = [p0, p1, p2, p3].map(|panel| panel.as_chunks::<WIDE>().0);
        let mut sums = [[V::splat(0.0); WIDE]; ABREAST];
        let rows = x.iter().zip(panels[0]).zip(panels[1]).zip(panels[2]).zip(panels[3]);
        for ((((&x, w0), w1), w2), w3) in rows {
            let x = V::splat(x);
            for (sums, weights) in sums.iter_mut().zip([w0, w1, w2, w3]) {
                for (sum, weights) in sums.iter_mut().zip(weights) {
                    *sum = x.fma(V::load(weights), *sum);
                }
            }
        }
        for (panel, sums) in sums.iter().enumerate() {
            for (part, &sum) in sums.iter().enumerate() {
                let register = (number + panel) * WIDE + part;
                finish(layer, register * LANES, sum, &layer.bias[register], out);
            }
        }
        number += ABREAST;
    }
    let rest = layer.weights.chunks_exact(stride).zip(layer.bias.chunks_exact(WIDE)).enumerate().skip(number);
    for (number, (weights, bias)) in rest {
        block::<V, WIDE, 1>(layer, number, weights, bias, x, out);
    }
}

/// Adds the bias, clamps, and writes those columns from `first` that exist.
#[inline(always)]
fn finish<V: Lanes>(layer: &Packed, first: usize, sum: V, bias: &[f32; LANES], out: &mut [f32]) {
    let mut sum = sum.add(V::load(bias));
    if layer.relu {
        sum = sum.max(V::splat(0.0));
    }
    let Some(out) = out.get_mut(first..) else { return };
    if let Some(out) = out.first_chunk_mut() {
        sum.store(out);
    } else {
        let mut values = [0.0; LANES];
        sum.store(&mut values);
        out.copy_from_slice(&values[..out.len()]);
    }
}
