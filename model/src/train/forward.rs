//! The forward and the backward pass of one training step: from weights and a batch to the
//! gradients of everything that the batch moves. Knows no loss but its slope at the logits, and no
//! optimizer.
//!
//! On CPU our own kernels do all of it. Candle's graph is left out there: adding up gradients it makes
//! passes over memory on a pool of its own, whose threads spin for a core that ours could use.

use std::sync::Arc;

use candle_core::{Device, Tensor, Var};
use rayon::prelude::*;

use super::batch::Batch;
use super::cross::Crosses;
use super::dropout::Dropout;
use super::mixture::Mixture;
use super::mlp::{Mlp, MlpGradients};
use super::objective::Mixing;
use super::operation::FrontOperation;
use super::stock;
use super::workspace::Workspace;
use crate::encode::Statistics;
use crate::network::{KernelClass, Layout, Weights};

/// Gradients of everything that a batch moved.
pub(crate) struct Gradients {
    /// Of the front's parameters.
    pub(crate) front: Vec<f32>,
    /// Of the embedding rows that the batch read, in the order of [`Batch::unique`].
    pub(crate) rows: Vec<f32>,
    /// Of weight and bias of each layer.
    pub(crate) layers: Vec<(Vec<f32>, Vec<f32>)>,
}

impl Gradients {
    fn parts_mut(&mut self) -> impl Iterator<Item = &mut Vec<f32>> {
        let layers = self.layers.iter_mut().flat_map(|(weight, bias)| [weight, bias]);
        [&mut self.front, &mut self.rows].into_iter().chain(layers)
    }

    /// L2 norm of everything, summed in a fixed order.
    pub(crate) fn norm(&mut self) -> f64 {
        self.parts_mut().map(|part| square(part)).sum::<f64>().sqrt()
    }

    /// Multiplies everything.
    pub(crate) fn scale(&mut self, factor: f32) {
        self.parts_mut().flatten().for_each(|value| *value *= factor);
    }
}

/// Sum of squares in double precision: of parts, in eight lanes so that it vectorises, then of the
/// parts in their order.
fn square(values: &[f32]) -> f64 {
    let of_part = |part: &[f32]| {
        let (chunks, rest) = part.as_chunks::<8>();
        let mut lanes = [0.0_f64; 8];
        for chunk in chunks {
            for (lane, &value) in lanes.iter_mut().zip(chunk) {
                *lane += f64::from(value) * f64::from(value);
            }
        }
        for (lane, &value) in lanes.iter_mut().zip(rest) {
            *lane += f64::from(value) * f64::from(value);
        }
        lanes.iter().sum::<f64>()
    };
    values.par_chunks(1 << 14).map(of_part).collect::<Vec<f64>>().iter().sum()
}

/// Which pass to make.
#[derive(Clone)]
pub(crate) struct Pass {
    pub(crate) device: Device,
    pub(crate) class: KernelClass,
    pub(crate) layout: Arc<Layout>,
    pub(crate) statistics: Arc<Statistics>,
    /// Share of hidden units dropped.
    pub(crate) dropout: f32,
    /// Seed of which units are dropped.
    pub(crate) seed: u64,
    /// Memory used again from step to step.
    pub(crate) workspace: Arc<Workspace>,
}

impl Pass {
    /// Forward, then backward from the slopes that `judge` gives at the logits (rows of as many
    /// floats as the last layer has outputs); `None` where it says that there is nothing to learn.
    ///
    /// Which units are dropped follows from the seed and `step` alone. `mixing` mixes what the MLP
    /// reads.
    pub(crate) fn run<E: From<candle_core::Error>>(
        &self,
        weights: &Weights,
        batch: &Arc<Batch>,
        step: u64,
        mixing: Option<&Mixing>,
        judge: impl FnOnce(&[f32]) -> Result<Option<Vec<f32>>, E>,
    ) -> Result<Option<Gradients>, E> {
        let width = self.layout.width;
        let mut rows = self.workspace.take(batch.unique.len() * width);
        rows.par_chunks_mut(width).zip(&batch.unique).with_min_len(512).for_each(|(to, &row)| {
            let first = row as usize * width;
            to.copy_from_slice(&weights.tables[first..first + width]);
        });
        let mixture = mixing.map(|mixing| Mixture(mixing.clone()));
        if self.device.is_cpu() {
            let gradients = self.fused(weights, batch, step, mixture.as_ref(), &rows, judge);
            self.workspace.give(rows);
            gradients
        } else {
            self.stock(weights, batch, step, mixture.as_ref(), rows, judge)
        }
    }

    /// Takes the memory of gradients back that are no longer needed.
    pub(crate) fn give_back(&self, gradients: Gradients) {
        let Gradients { front, rows, layers } = gradients;
        let layers = layers.into_iter().flat_map(|(weight, bias)| [weight, bias]);
        [front, rows].into_iter().chain(layers).for_each(|buffer| self.workspace.give(buffer));
    }

    fn dropout(&self, step: u64, layers: usize) -> Vec<Dropout> {
        (0..layers as u64 - 1).map(|layer| Dropout::new(self.dropout, self.seed, step, layer)).collect()
    }

    /// On our own kernels.
    fn fused<E>(
        &self,
        weights: &Weights,
        batch: &Arc<Batch>,
        step: u64,
        mixture: Option<&Mixture>,
        rows: &[f32],
        judge: impl FnOnce(&[f32]) -> Result<Option<Vec<f32>>, E>,
    ) -> Result<Option<Gradients>, E> {
        let front = FrontOperation {
            batch: Arc::clone(batch),
            layout: Arc::clone(&self.layout),
            statistics: Arc::clone(&self.statistics),
            class: self.class,
            workspace: Arc::clone(&self.workspace),
        };
        let (crosses, hidden) = weights.layers.split_at(self.layout.cross_layers());
        let dropout = self.dropout(step, hidden.len());
        let crosses = Crosses::new(self.class, crosses, &self.workspace);
        let mlp = Mlp::new(self.class, hidden, dropout, &self.workspace);
        let mut x = front.forward(&weights.front, rows);
        if let Some(mixture) = mixture {
            let mixed = mixture.mix(&x);
            self.workspace.give(std::mem::replace(&mut x, mixed));
        }
        let crossed = crosses.forward(&x);
        let read = crossed.last().map_or(&x, |last| &last.values);
        let outputs = mlp.forward(read);
        let logits = outputs.last().map_or(&[][..], Vec::as_slice);
        let Some(slopes) = judge(logits)? else { return Ok(None) };
        let MlpGradients { layers: of_hidden, inputs } = mlp.backward(read, &outputs, slopes);
        let (mut layers, mut inputs) = crosses.backward(&x, crossed, inputs);
        layers.extend(of_hidden);
        if let Some(mixture) = mixture {
            inputs = mixture.spread(&inputs);
        }
        let (front, rows) = front.backward(&weights.front, rows, &inputs);
        outputs.into_iter().chain([x, inputs]).for_each(|buffer| self.workspace.give(buffer));
        Ok(Some(Gradients { front, rows, layers }))
    }

    /// In candle's own operations, for other devices; what [`Self::fused`] is compared with.
    pub(super) fn stock<E: From<candle_core::Error>>(
        &self,
        weights: &Weights,
        batch: &Arc<Batch>,
        step: u64,
        mixture: Option<&Mixture>,
        rows: Vec<f32>,
        judge: impl FnOnce(&[f32]) -> Result<Option<Vec<f32>>, E>,
    ) -> Result<Option<Gradients>, E> {
        let device = &self.device;
        let front = Var::from_slice(&weights.front, weights.front.len(), device)?;
        let rows = Var::from_vec(rows, (batch.unique.len(), self.layout.width), device)?;
        let layers = weights
            .layers
            .iter()
            .map(|layer| {
                let weight = Var::from_slice(&layer.weight, (layer.inputs, layer.outputs), device)?;
                let bias = (!layer.bias.is_empty()).then_some(&layer.bias);
                let bias = bias.map(|bias| Var::from_slice(bias, layer.outputs, device)).transpose()?;
                Ok((weight, bias))
            })
            .collect::<Result<Vec<(Var, Option<Var>)>, candle_core::Error>>()?;
        let tensor = |var: &Var| var.as_tensor().clone();
        let tensors: Vec<stock::Layer> =
            layers.iter().map(|(weight, bias)| (tensor(weight), bias.as_ref().map(tensor))).collect();
        let (crosses, hidden) = tensors.split_at(self.layout.cross_layers());
        let mut values =
            stock::front(batch, &self.layout, &self.statistics, front.as_tensor(), rows.as_tensor())?;
        if let Some(mixture) = mixture {
            values = mixture.stock(&values)?;
        }
        values = stock::crosses(&values, crosses)?;
        let dropout = self.dropout(step, hidden.len());
        for (number, layer) in hidden.iter().enumerate() {
            values = stock::dense(&values, layer)?;
            let Some(dropout) = dropout.get(number) else { break };
            values = values.relu()?;
            if self.dropout > 0.0 {
                let mut mask = vec![1.0; values.elem_count()];
                dropout.apply(self.class, 0, &mut mask);
                values = (&values * Tensor::from_vec(mask, values.shape(), device)?)?;
            }
        }
        let flat: Vec<f32> = values.flatten_all()?.to_vec1()?;
        let Some(slopes) = judge(&flat)? else { return Ok(None) };
        // The loss's slope at the logits is known in closed form, in double precision: the sum of
        // logits times slopes has the loss's gradient and none of its overflows.
        let surrogate = (&values * Tensor::from_vec(slopes, values.shape(), device)?)?.sum_all()?;
        let mut store = surrogate.backward()?;
        let mut take = |var: &Var| -> Result<Vec<f32>, candle_core::Error> {
            match store.remove(var.as_tensor()) {
                Some(gradient) => gradient.flatten_all()?.to_vec1(),
                None => Ok(vec![0.0; var.elem_count()]),
            }
        };
        Ok(Some(Gradients {
            front: take(&front)?,
            rows: take(&rows)?,
            layers: layers
                .iter()
                .map(|(weight, bias)| {
                    Ok((take(weight)?, bias.as_ref().map(&mut take).transpose()?.unwrap_or_default()))
                })
                .collect::<Result<_, candle_core::Error>>()?,
        }))
    }
}
