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
/// Registers of the panel of a layer with up to 32 outputs: with eight rows, 16 sums.
const MIDDLE: usize = 2;
/// Rows computed together on a wide panel, and on a narrower one.
const ROWS: usize = 6;
const NARROW_ROWS: usize = 8;
/// Rows whose sums are kept while a panel passes by.
const TOGETHER: usize = 64;
/// Inputs of a part of a panel: 32 KiB of a wide one.
const PART: usize = 128;
/// Wide panels computed together for a row that stands alone.
const ABREAST: usize = 4;

/// A layer of the MLP.
#[derive(Debug, Clone)]
pub(crate) struct Packed {
    /// Panel after panel, each with a row of `panel` registers per input.
    weights: Vec<[f32; LANES]>,
    bias: Vec<[f32; LANES]>,
    /// Registers of a panel: [`WIDE`], fewer for a layer of few outputs.
    panel: usize,
    inputs: usize,
    pub(crate) outputs: usize,
    relu: bool,
}

/// The narrowest panel that takes a layer's outputs at once, or the widest.
const fn panel(outputs: usize) -> usize {
    match outputs.div_ceil(LANES) {
        0 | 1 => 1,
        2 => MIDDLE,
        _ => WIDE,
    }
}

impl Packed {
    /// Packs a layer; `relu` clamps its outputs at 0.
    pub(crate) fn new(layer: &Dense, relu: bool) -> Self {
        let panel = panel(layer.outputs);
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
        let panel = panel(outputs);
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
    } else if layer.panel == MIDDLE {
        rows::<V, MIDDLE, NARROW_ROWS>(layer, x, out);
    } else if x.len() == layer.inputs {
        single::<V>(layer, x, out);
    } else {
        rows::<V, WIDE, ROWS>(layer, x, out);
    }
}

/// Panel by panel and, within one, part by part: a part stays in L1 while all rows pass by it.
#[inline(always)]
fn rows<V: Lanes, const P: usize, const R: usize>(layer: &Packed, x: &[f32], out: &mut [f32]) {
    let (inputs, outputs) = (layer.inputs, layer.outputs);
    let mut sums = [[[0.0; LANES]; P]; TOGETHER];
    for (x, out) in x.chunks(TOGETHER * inputs).zip(out.chunks_mut(TOGETHER * outputs)) {
        let sums = &mut sums[..x.len() / inputs];
        let panels = layer.weights.chunks_exact(inputs * P).zip(layer.bias.chunks_exact(P));
        for (number, (weights, bias)) in panels.enumerate() {
            sums.as_flattened_mut().fill([0.0; LANES]);
            for (part, weights) in weights.as_chunks::<P>().0.chunks(PART).enumerate() {
                add_rows::<V, P, R>(x, inputs, part * PART, weights, sums);
            }
            for (sums, out) in sums.iter().zip(out.chunks_exact_mut(outputs)) {
                for (part, (sum, bias)) in sums.iter().zip(bias).enumerate() {
                    finish(layer, (number * P + part) * LANES, V::load(sum), bias, out);
                }
            }
        }
    }
}

/// Adds the products with some inputs, from `first`, of every row.
#[inline(always)]
fn add_rows<V: Lanes, const P: usize, const R: usize>(
    x: &[f32],
    inputs: usize,
    first: usize,
    weights: &[[[f32; LANES]; P]],
    sums: &mut [[[f32; LANES]; P]],
) {
    let mut row = 0;
    while row + R <= sums.len() {
        block::<V, P, R>(&x[row * inputs + first..], inputs, weights, &mut sums[row..]);
        row += R;
    }
    while row + 4 <= sums.len() {
        block::<V, P, 4>(&x[row * inputs + first..], inputs, weights, &mut sums[row..]);
        row += 4;
    }
    while row + 2 <= sums.len() {
        block::<V, P, 2>(&x[row * inputs + first..], inputs, weights, &mut sums[row..]);
        row += 2;
    }
    if row < sums.len() {
        block::<V, P, 1>(&x[row * inputs + first..], inputs, weights, &mut sums[row..]);
    }
}

/// The same of `R` rows, whose sums stay in registers.
#[inline(always)]
fn block<V: Lanes, const P: usize, const R: usize>(
    x: &[f32],
    stride: usize,
    weights: &[[[f32; LANES]; P]],
    sums: &mut [[[f32; LANES]; P]],
) {
    let count = weights.len();
    let mut rows = [x; R];
    let mut registers = [[V::splat(0.0); P]; R];
    for (number, (row, registers)) in rows.iter_mut().zip(&mut registers).enumerate() {
        *row = &x[number * stride..number * stride + count];
        for (register, sum) in registers.iter_mut().zip(&sums[number]) {
            *register = V::load(sum);
        }
    }
    for (input, weights) in weights.iter().enumerate() {
        let mut w = [V::splat(0.0); P];
        for (w, weights) in w.iter_mut().zip(weights) {
            *w = V::load(weights);
        }
        for (registers, row) in registers.iter_mut().zip(&rows) {
            let x = V::splat(row[input]);
            for (register, &w) in registers.iter_mut().zip(&w) {
                *register = x.fma(w, *register);
            }
        }
    }
    for (registers, sums) in registers.iter().zip(sums) {
        for (register, sum) in registers.iter().zip(sums) {
            register.store(sum);
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
        let mut sums = [[[0.0; LANES]; WIDE]];
        block::<V, WIDE, 1>(x, layer.inputs, weights.as_chunks().0, &mut sums);
        for (part, (sum, bias)) in sums[0].iter().zip(bias).enumerate() {
            finish(layer, (number * WIDE + part) * LANES, V::load(sum), bias, out);
        }
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
