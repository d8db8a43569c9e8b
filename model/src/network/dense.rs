//! The MLP's layers, packed for inference: 32 columns side by side, row after row of the matrix.
//!
//! Each output is a sum over its inputs in ascending order, whatever the batch: blocks of rows and
//! columns change what is computed together, never the order within an output.

use super::kernel::{KernelClass, multiversion};
use super::weights::Dense;

/// Columns of a panel.
const PANEL: usize = 32;
/// Rows computed together.
const BLOCK: usize = 4;
/// Panels computed together for a row that stands alone.
const ABREAST: usize = 4;

/// A layer of the MLP.
#[derive(Debug, Clone)]
pub(crate) struct Packed {
    panels: Vec<[f32; PANEL]>,
    bias: Vec<[f32; PANEL]>,
    inputs: usize,
    pub(crate) outputs: usize,
    relu: bool,
}

impl Packed {
    /// Packs a layer; `relu` clamps its outputs at 0.
    pub(crate) fn new(layer: &Dense, relu: bool) -> Self {
        let count = layer.outputs.div_ceil(PANEL).next_multiple_of(ABREAST);
        let mut panels = vec![[0.0; PANEL]; count * layer.inputs];
        let mut bias = vec![[0.0; PANEL]; count];
        for (input, row) in layer.weight.chunks_exact(layer.outputs).enumerate() {
            for (output, &value) in row.iter().enumerate() {
                panels[output / PANEL * layer.inputs + input][output % PANEL] = value;
            }
        }
        for (output, &value) in layer.bias.iter().enumerate() {
            bias[output / PANEL][output % PANEL] = value;
        }
        Self { panels, bias, inputs: layer.inputs, outputs: layer.outputs, relu }
    }

    /// Rows of `inputs` floats in, rows of `outputs` floats out.
    pub(crate) fn forward(&self, class: KernelClass, x: &[f32], out: &mut [f32]) {
        debug_assert_eq!(x.len() / self.inputs, out.len() / self.outputs);
        forward(class, self, x, out);
    }
}

multiversion! {
    fn forward<>(layer: &Packed, x: &[f32], out: &mut [f32]) = body
}

#[inline(always)]
fn body(layer: &Packed, x: &[f32], out: &mut [f32]) {
    let mut inputs = x.chunks_exact(layer.inputs * BLOCK);
    let mut outputs = out.chunks_exact_mut(layer.outputs * BLOCK);
    for (x, out) in (&mut inputs).zip(&mut outputs) {
        block(layer, x, out);
    }
    let rest = inputs.remainder().chunks_exact(layer.inputs);
    for (x, out) in rest.zip(outputs.into_remainder().chunks_exact_mut(layer.outputs)) {
        single(layer, x, out);
    }
}

#[inline(always)]
fn block(layer: &Packed, x: &[f32], out: &mut [f32]) {
    let width = layer.inputs;
    let (x0, rest) = x.split_at(width);
    let (x1, rest) = rest.split_at(width);
    let (x2, x3) = rest.split_at(width);
    for (number, panel) in layer.panels.chunks_exact(width).enumerate() {
        if number * PANEL >= layer.outputs {
            break;
        }
        let mut sums = [[0.0_f32; PANEL]; BLOCK];
        for ((((weights, x0), x1), x2), x3) in panel.iter().zip(x0).zip(x1).zip(x2).zip(x3) {
            for lane in 0..PANEL {
                sums[0][lane] += x0 * weights[lane];
                sums[1][lane] += x1 * weights[lane];
                sums[2][lane] += x2 * weights[lane];
                sums[3][lane] += x3 * weights[lane];
            }
        }
        for (row, sums) in sums.iter().enumerate() {
            finish(layer, number, sums, &mut out[row * layer.outputs..(row + 1) * layer.outputs]);
        }
    }
}

#[inline(always)]
fn single(layer: &Packed, x: &[f32], out: &mut [f32]) {
    let width = layer.inputs;
    for (group, panels) in layer.panels.chunks_exact(width * ABREAST).enumerate() {
        let (p0, rest) = panels.split_at(width);
        let (p1, rest) = rest.split_at(width);
        let (p2, p3) = rest.split_at(width);
        let mut sums = [[0.0_f32; PANEL]; ABREAST];
        for ((((x, w0), w1), w2), w3) in x.iter().zip(p0).zip(p1).zip(p2).zip(p3) {
            for lane in 0..PANEL {
                sums[0][lane] += x * w0[lane];
                sums[1][lane] += x * w1[lane];
                sums[2][lane] += x * w2[lane];
                sums[3][lane] += x * w3[lane];
            }
        }
        for (number, sums) in sums.iter().enumerate() {
            finish(layer, group * ABREAST + number, sums, out);
        }
    }
}

/// Adds the bias, clamps, and writes those columns of a panel that exist.
#[inline(always)]
fn finish(layer: &Packed, panel: usize, sums: &[f32; PANEL], out: &mut [f32]) {
    let bias = &layer.bias[panel];
    let first = panel * PANEL;
    for (lane, out) in out.iter_mut().skip(first).take(PANEL).enumerate() {
        let value = sums[lane] + bias[lane];
        *out = if layer.relu { value.max(0.0) } else { value };
    }
}
