//! The MLP of a training step, forward and backward, on the kernels that serve it: blocks of rows and
//! parts of matrices in parallel, each number a sum in one fixed order, so that threads change
//! nothing.

use rayon::prelude::*;

use super::dropout::Dropout;
use super::workspace::Workspace;
use crate::network::outer::outer;
use crate::network::{Dense, KernelClass, Packed};

/// Rows that one thread takes at a time.
pub(super) const ROWS: usize = 64;
/// Rows of a matrix's gradient that one thread takes at a time, and of one with few.
const INPUTS: usize = 96;
const FEW_INPUTS: usize = 12;

/// Gradients of a layer's weight and bias.
pub(super) type LayerGradients = (Vec<f32>, Vec<f32>);

/// The layers, packed for a step.
pub(super) struct Mlp<'a> {
    class: KernelClass,
    layers: &'a [Dense],
    forward: Vec<Packed>,
    backward: Vec<Packed>,
    /// Of each hidden layer.
    dropout: Vec<Dropout>,
    workspace: &'a Workspace,
}

/// Gradients of the MLP.
pub(super) struct MlpGradients {
    pub(super) layers: Vec<LayerGradients>,
    /// Of what it read.
    pub(super) inputs: Vec<f32>,
}

impl<'a> Mlp<'a> {
    pub(super) fn new(
        class: KernelClass,
        layers: &'a [Dense],
        dropout: Vec<Dropout>,
        workspace: &'a Workspace,
    ) -> Self {
        let hidden = layers.len() - 1;
        let (forward, backward) = rayon::join(
            || layers.iter().enumerate().map(|(number, layer)| Packed::new(layer, number < hidden)).collect(),
            || layers.iter().map(Packed::transposed).collect(),
        );
        Self { class, layers, forward, backward, dropout, workspace }
    }

    /// What each layer gives for rows of `x`; the logits are the last.
    pub(super) fn forward(&self, x: &[f32]) -> Vec<Vec<f32>> {
        let count = x.len() / self.layers[0].inputs;
        let mut all: Vec<Vec<f32>> = Vec::with_capacity(self.layers.len());
        for (number, layer) in self.forward.iter().enumerate() {
            let mut out = self.workspace.take(count * layer.outputs);
            let inputs = self.layers[number].inputs;
            let read = all.last().map_or(x, Vec::as_slice);
            out.par_chunks_mut(ROWS * layer.outputs)
                .zip(read.par_chunks(ROWS * inputs))
                .enumerate()
                .for_each(|(chunk, (out, read))| {
                    layer.forward(self.class, read, out);
                    if let Some(dropout) = self.dropout.get(number) {
                        dropout.apply(self.class, (chunk * ROWS * layer.outputs) as u32, out);
                    }
                });
            all.push(out);
        }
        all
    }

    /// From the slopes at the logits to all gradients; `outputs` is what [`Self::forward`] gave.
    pub(super) fn backward(&self, x: &[f32], outputs: &[Vec<f32>], slopes: Vec<f32>) -> MlpGradients {
        let mut layers = Vec::with_capacity(self.layers.len());
        let mut of_out = slopes;
        for (number, layer) in self.layers.iter().enumerate().rev() {
            let read = if number == 0 { x } else { &outputs[number - 1] };
            let of_weight = weight_gradient(self.class, self.workspace, layer, read, &of_out);
            layers.push((of_weight, column_sums(&of_out, layer.outputs)));
            let packed = &self.backward[number];
            let mut of_read = self.workspace.take(read.len());
            of_read
                .par_chunks_mut(ROWS * layer.inputs)
                .zip(of_out.par_chunks(ROWS * layer.outputs))
                .zip(read.par_chunks(ROWS * layer.inputs))
                .for_each(|((of_read, of_out), read)| {
                    packed.forward(self.class, of_out, of_read);
                    if number > 0 {
                        // What was clamped or dropped is 0, and has no gradient.
                        let keep = self.dropout[number - 1].keep();
                        for (of_read, read) in of_read.iter_mut().zip(read) {
                            *of_read = if *read > 0.0 { *of_read * keep } else { 0.0 };
                        }
                    }
                });
            self.workspace.give(std::mem::replace(&mut of_out, of_read));
        }
        layers.reverse();
        MlpGradients { layers, inputs: of_out }
    }
}

/// Gradient of a layer's matrix, from what it read and the slopes at what it gave.
pub(super) fn weight_gradient(
    class: KernelClass,
    workspace: &Workspace,
    layer: &Dense,
    read: &[f32],
    of_out: &[f32],
) -> Vec<f32> {
    let mut of_weight = workspace.take(layer.weight.len());
    let rows = if layer.inputs < INPUTS { FEW_INPUTS } else { INPUTS };
    of_weight.par_chunks_mut(rows * layer.outputs).enumerate().for_each(|(part, of_weight)| {
        outer(class, read, layer.inputs, of_out, layer.outputs, part * rows, of_weight);
    });
    of_weight
}

/// Sums of rows of `width`: chunks of them, then the chunks in their order.
pub(super) fn column_sums(values: &[f32], width: usize) -> Vec<f32> {
    let parts: Vec<Vec<f32>> = values
        .par_chunks(ROWS * width)
        .map(|rows| {
            let mut sums = vec![0.0_f32; width];
            for row in rows.chunks_exact(width) {
                for (sum, value) in sums.iter_mut().zip(row) {
                    *sum += value;
                }
            }
            sums
        })
        .collect();
    let mut sums = vec![0.0_f32; width];
    for part in &parts {
        for (sum, value) in sums.iter_mut().zip(part) {
            *sum += value;
        }
    }
    sums
}
