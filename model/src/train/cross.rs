//! The cross layers of a training step, forward and backward: as the MLP's, blocks of rows and parts of
//! matrices in parallel, each number a sum in one fixed order.

use rayon::prelude::*;

use super::mlp::{LayerGradients, ROWS, column_sums, weight_gradient};
use super::workspace::Workspace;
use crate::network::cross::{Cross, add_all, of_product};
use crate::network::{Dense, KernelClass, Packed};

/// The layers, packed for a step; none where the network has no crosses.
pub(super) struct Crosses<'a> {
    class: KernelClass,
    layers: &'a [[Dense; 2]],
    forward: Vec<Cross>,
    /// Of `down` and of `up`.
    backward: Vec<[Packed; 2]>,
    workspace: &'a Workspace,
}

/// What a cross gave for the rows of a batch.
pub(super) struct Crossed {
    hidden: Vec<f32>,
    change: Vec<f32>,
    /// What the next layer reads.
    pub(super) values: Vec<f32>,
}

impl<'a> Crosses<'a> {
    /// Of pairs of layers.
    pub(super) fn new(class: KernelClass, layers: &'a [Dense], workspace: &'a Workspace) -> Self {
        let pairs = layers.as_chunks::<2>().0;
        Self {
            class,
            layers: pairs,
            forward: Cross::all(layers),
            backward: pairs.iter().map(|pair| pair.each_ref().map(Packed::transposed)).collect(),
            workspace,
        }
    }

    /// What each gives for rows of `x`.
    pub(super) fn forward(&self, x: &[f32]) -> Vec<Crossed> {
        let mut all: Vec<Crossed> = Vec::with_capacity(self.layers.len());
        for (cross, [down, _]) in self.forward.iter().zip(self.layers) {
            let (wide, rank) = (down.inputs, down.outputs);
            let mut hidden = self.workspace.take(x.len() / wide * rank);
            let mut change = self.workspace.take(x.len());
            let mut values = self.workspace.take(x.len());
            let read = all.last().map_or(x, |before| &before.values);
            (
                x.par_chunks(ROWS * wide),
                read.par_chunks(ROWS * wide),
                hidden.par_chunks_mut(ROWS * rank),
                change.par_chunks_mut(ROWS * wide),
                values.par_chunks_mut(ROWS * wide),
            )
                .into_par_iter()
                .for_each(|(x, read, hidden, change, values)| {
                    values.copy_from_slice(read);
                    cross.forward(self.class, x, hidden, change, values);
                });
            all.push(Crossed { hidden, change, values });
        }
        all
    }

    /// From the slopes at what the last gave to the gradients of all layers and of `x`; `crossed` is
    /// what [`Self::forward`] gave, whose memory is taken back.
    pub(super) fn backward(
        &self,
        x: &[f32],
        mut crossed: Vec<Crossed>,
        slopes: Vec<f32>,
    ) -> (Vec<LayerGradients>, Vec<f32>) {
        if crossed.is_empty() {
            return (Vec::new(), slopes);
        }
        let mut layers = Vec::with_capacity(2 * self.layers.len());
        let mut of_out = slopes;
        let mut of_start = self.workspace.take_zeros(x.len());
        let mut of_change = self.workspace.take(x.len());
        while let Some(Crossed { hidden, change, values }) = crossed.pop() {
            let [down, up] = &self.layers[crossed.len()];
            let [of_down, of_up] = &self.backward[crossed.len()];
            let (wide, rank) = (down.inputs, down.outputs);
            let read = crossed.last().map_or(x, |before| &before.values);
            let mut of_hidden = self.workspace.take(hidden.len());
            // What the layer gave is not needed any more: its slopes take its place.
            let mut of_read = values;
            (
                (x.par_chunks(ROWS * wide), change.par_chunks(ROWS * wide), of_out.par_chunks(ROWS * wide)),
                of_change.par_chunks_mut(ROWS * wide),
                of_start.par_chunks_mut(ROWS * wide),
                of_hidden.par_chunks_mut(ROWS * rank),
                of_read.par_chunks_mut(ROWS * wide),
            )
                .into_par_iter()
                .for_each(|((x, change, of_out), of_change, of_start, of_hidden, of_read)| {
                    of_product(self.class, of_out, x, change, of_change, of_start);
                    of_up.forward(self.class, of_change, of_hidden);
                    of_down.forward(self.class, of_hidden, of_read);
                    add_all(self.class, of_out, of_read);
                });
            let bias = column_sums(&of_change, wide);
            layers.push((weight_gradient(self.class, self.workspace, up, &hidden, &of_change), bias));
            layers.push((weight_gradient(self.class, self.workspace, down, read, &of_hidden), Vec::new()));
            for done in [hidden, change, of_hidden, std::mem::replace(&mut of_out, of_read)] {
                self.workspace.give(done);
            }
        }
        of_out
            .par_chunks_mut(ROWS * self.layers[0][0].inputs)
            .zip(of_start.par_chunks(ROWS * self.layers[0][0].inputs))
            .for_each(|(of_out, of_start)| add_all(self.class, of_start, of_out));
        for done in [of_start, of_change] {
            self.workspace.give(done);
        }
        layers.reverse();
        (layers, of_out)
    }
}
