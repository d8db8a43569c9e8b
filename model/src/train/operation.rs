//! The network's front as one candle operation, forward and backward: the rows of a batch in
//! parallel, gradients summed over fixed chunks in a fixed order, so that threads change nothing.

use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp2, Layout as Strides, Result, Shape, Storage, Tensor, bail};
use rayon::prelude::*;

use super::batch::Batch;
use crate::encode::{FIELDS, Statistics};
use crate::network::backward::{Gradients, Scratch, Transposed, backward};
use crate::network::front::{Front, Trace, forward};
use crate::network::{KernelClass, Layout};
use crate::predict::with_width;

/// Rows whose gradients are summed together.
const CHUNK: usize = 32;

/// (parameters, embeddings) to the batch's weighted tokens.
pub(crate) struct FrontOperation {
    pub(crate) batch: Arc<Batch>,
    pub(crate) layout: Arc<Layout>,
    pub(crate) statistics: Arc<Statistics>,
    pub(crate) class: KernelClass,
}

/// The floats of a contiguous tensor in memory.
pub(super) fn floats<'a>(storage: &'a CpuStorage, strides: &Strides) -> Result<&'a [f32]> {
    let CpuStorage::F32(values) = storage else { bail!("the front computes in f32") };
    match strides.contiguous_offsets() {
        Some((start, end)) => Ok(&values[start..end]),
        None => bail!("the front reads contiguous tensors"),
    }
}

/// A copy of a contiguous tensor's floats.
pub(super) fn tensor_floats(tensor: &Tensor) -> Result<Vec<f32>> {
    let (storage, strides) = tensor.storage_and_layout();
    match &*storage {
        Storage::Cpu(storage) => Ok(floats(storage, strides)?.to_vec()),
        _ => bail!("the front computes on CPU"),
    }
}

impl FrontOperation {
    fn forward_all<const D: usize>(&self, parameters: &[f32], embeddings: &[f32]) -> Vec<f32> {
        let front = Front::<D> {
            layout: &self.layout,
            statistics: &self.statistics,
            parameters: parameters.as_chunks::<D>().0,
            embeddings: embeddings.as_chunks::<D>().0,
        };
        let width = self.layout.outputs();
        let mut out = vec![0.0; self.batch.len() * width];
        out.par_chunks_mut(CHUNK * width).enumerate().for_each_init(
            || Trace::new(&self.layout),
            |trace, (chunk, out)| {
                for (position, out) in out.chunks_exact_mut(width).enumerate() {
                    let row = self.batch.row(chunk * CHUNK + position);
                    forward::<D>(self.class, front, row, trace, out);
                }
            },
        );
        out
    }

    /// Gradients of parameters and embeddings.
    fn backward_all<const D: usize>(
        &self,
        parameters: &[f32],
        embeddings: &[f32],
        of_output: &[f32],
    ) -> (Vec<f32>, Vec<f32>) {
        let front = Front::<D> {
            layout: &self.layout,
            statistics: &self.statistics,
            parameters: parameters.as_chunks::<D>().0,
            embeddings: embeddings.as_chunks::<D>().0,
        };
        let transposed = Transposed::new(&self.layout, front.parameters);
        let width = self.layout.outputs();
        let count = self.batch.len();
        let chunks = count.div_ceil(CHUNK);
        let chunk_parts = |chunk: usize| {
            let (first, end) = (chunk * CHUNK, ((chunk + 1) * CHUNK).min(count));
            let ends = self.batch.behaviour_ends();
            let before = |row: usize| if row == 0 { 0 } else { ends[row - 1] };
            let mut of_parameters = vec![[0.0; D]; front.parameters.len()];
            let mut of_ids = vec![[0.0; D]; (end - first) * FIELDS.len()];
            let mut of_behaviours = vec![[0.0; D]; before(end) - before(first)];
            let (mut trace, mut scratch) = (Trace::new(&self.layout), Scratch::new(&self.layout));
            let mut output = vec![0.0; width];
            for row in first..end {
                let encoded = self.batch.row(row);
                forward::<D>(self.class, front, encoded, &mut trace, &mut output);
                let behaviours = before(row) - before(first)..ends[row] - before(first);
                let mut gradients = Gradients {
                    parameters: &mut of_parameters,
                    ids: &mut of_ids[(row - first) * FIELDS.len()..(row - first + 1) * FIELDS.len()],
                    behaviours: &mut of_behaviours[behaviours],
                };
                backward::<D>(
                    self.class,
                    front,
                    encoded,
                    &trace,
                    &transposed,
                    &of_output[row * width..(row + 1) * width],
                    &mut scratch,
                    &mut gradients,
                );
            }
            (of_parameters, of_ids, of_behaviours)
        };
        let parts: Vec<_> = (0..chunks).into_par_iter().map(chunk_parts).collect();
        let mut of_parameters = vec![[0.0_f32; D]; front.parameters.len()];
        let mut of_embeddings = vec![[0.0_f32; D]; front.embeddings.len()];
        let add = |sum: &mut [f32; D], x: &[f32; D]| {
            for lane in 0..D {
                sum[lane] += x[lane];
            }
        };
        for (chunk, (parameters, ids, behaviours)) in parts.iter().enumerate() {
            for (sum, x) in of_parameters.iter_mut().zip(parameters) {
                add(sum, x);
            }
            let mut behaviours = behaviours.iter();
            for (position, ids) in ids.chunks_exact(FIELDS.len()).enumerate() {
                let row = self.batch.row(chunk * CHUNK + position);
                for (&id, of_id) in row.ids.iter().zip(ids) {
                    add(&mut of_embeddings[id as usize], of_id);
                }
                for (behaviour, of_vector) in row.behaviours.iter().zip(&mut behaviours) {
                    for id in behaviour.rows {
                        add(&mut of_embeddings[id as usize], of_vector);
                    }
                }
            }
        }
        (of_parameters.into_flattened(), of_embeddings.into_flattened())
    }
}

impl CustomOp2 for FrontOperation {
    fn name(&self) -> &'static str {
        "field-attention-front"
    }

    fn cpu_fwd(
        &self,
        parameters: &CpuStorage,
        parameter_strides: &Strides,
        embeddings: &CpuStorage,
        embedding_strides: &Strides,
    ) -> Result<(CpuStorage, Shape)> {
        let parameters = floats(parameters, parameter_strides)?;
        let embeddings = floats(embeddings, embedding_strides)?;
        let out = with_width!(self.layout.width, D => self.forward_all::<D>(parameters, embeddings));
        Ok((CpuStorage::F32(out), Shape::from((self.batch.len(), self.layout.outputs()))))
    }

    fn bwd(
        &self,
        parameters: &Tensor,
        embeddings: &Tensor,
        _out: &Tensor,
        of_output: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let of_output = tensor_floats(&of_output.contiguous()?)?;
        let (of_parameters, of_embeddings) = {
            let (parameters, embeddings) = (tensor_floats(parameters)?, tensor_floats(embeddings)?);
            with_width!(self.layout.width, D => self.backward_all::<D>(&parameters, &embeddings, &of_output))
        };
        Ok((
            Some(Tensor::from_vec(of_parameters, parameters.shape(), parameters.device())?),
            Some(Tensor::from_vec(of_embeddings, embeddings.shape(), embeddings.device())?),
        ))
    }
}
