//! The forward and the backward pass of one training step: from weights and a batch to the
//! gradients of everything that the batch moves. Knows no loss but its slope at the logits, and no
//! optimizer.

use std::sync::Arc;

use candle_core::{Device, Tensor, Var};

use super::activation::{Activation, Dropout};
use super::batch::Batch;
use super::mixture::Mixture;
use super::objective::Mixing;
use super::operation::{FrontOperation, Workspace};
use super::stock;
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

/// Sum of squares in double precision, in eight lanes so that it vectorises.
fn square(values: &[f32]) -> f64 {
    let (chunks, rest) = values.as_chunks::<8>();
    let mut lanes = [0.0_f64; 8];
    for chunk in chunks {
        for (lane, &value) in lanes.iter_mut().zip(chunk) {
            *lane += f64::from(value) * f64::from(value);
        }
    }
    for (lane, &value) in lanes.iter_mut().zip(rest) {
        *lane += f64::from(value) * f64::from(value);
    }
    lanes.iter().sum()
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
        let device = &self.device;
        let front = Var::from_slice(&weights.front, weights.front.len(), device)?;
        let mut gathered = Vec::with_capacity(batch.unique.len() * width);
        for &row in &batch.unique {
            let first = row as usize * width;
            gathered.extend_from_slice(&weights.tables[first..first + width]);
        }
        let rows = Var::from_vec(gathered, (batch.unique.len(), width), device)?;
        let layers = weights
            .layers
            .iter()
            .map(|layer| {
                let weight = Var::from_slice(&layer.weight, (layer.inputs, layer.outputs), device)?;
                Ok((weight, Var::from_slice(&layer.bias, layer.outputs, device)?))
            })
            .collect::<Result<Vec<(Var, Var)>, candle_core::Error>>()?;
        let values = self.forward(batch, step, mixing, &front, &rows, &layers)?;
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
                .map(|(weight, bias)| Ok((take(weight)?, take(bias)?)))
                .collect::<Result<_, candle_core::Error>>()?,
        }))
    }

    /// The heads' logits.
    fn forward(
        &self,
        batch: &Arc<Batch>,
        step: u64,
        mixing: Option<&Mixing>,
        front: &Var,
        rows: &Var,
        layers: &[(Var, Var)],
    ) -> Result<Tensor, candle_core::Error> {
        let mut values = if self.device.is_cpu() {
            let operation = FrontOperation {
                batch: Arc::clone(batch),
                layout: Arc::clone(&self.layout),
                statistics: Arc::clone(&self.statistics),
                class: self.class,
                workspace: Arc::clone(&self.workspace),
            };
            front.apply_op2(rows, operation)?
        } else {
            stock::front(batch, &self.layout, &self.statistics, front.as_tensor(), rows.as_tensor())?
        };
        if let Some(mixing) = mixing {
            let mixture = Mixture(mixing.clone());
            values =
                if self.device.is_cpu() { values.apply_op1(mixture)? } else { mixture.stock(&values)? };
        }
        let hidden = layers.len() - 1;
        for (number, (weight, bias)) in layers.iter().enumerate() {
            values = values.matmul(weight)?;
            if number == hidden {
                values = values.broadcast_add(bias)?;
                break;
            }
            let dropout = Dropout::new(self.dropout, self.seed, step, number as u64);
            values = if self.device.is_cpu() {
                values.apply_op2(bias, Activation { dropout })?
            } else {
                let values = values.broadcast_add(bias)?.relu()?;
                if self.dropout > 0.0 {
                    let mut mask = vec![1.0; values.elem_count()];
                    dropout.apply(0, &mut mask);
                    (&values * Tensor::from_vec(mask, values.shape(), &self.device)?)?
                } else {
                    values
                }
            };
        }
        Ok(values)
    }
}
