//! The network's front as one candle operation, forward and backward: the rows of a batch in
//! parallel, gradients summed over fixed chunks in a fixed order, so that threads change nothing.

use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp2, Layout as Strides, Result, Shape, Storage, Tensor, bail};
use rayon::prelude::*;

use super::batch::Batch;
use super::workspace::{Memory, Workspace};
use crate::encode::Statistics;
use crate::network::backward::{Gradients, Transposed, embed_backward};
use crate::network::block::{self, GROUP, Prepared};
use crate::network::front::{Front, Trace, embed_row};
use crate::network::{KernelClass, Layout};
use crate::predict::with_width;

/// Rows whose gradients are summed together: whole groups.
const CHUNK: usize = 4 * GROUP;

/// (parameters, embeddings) to the batch's weighted tokens.
pub(crate) struct FrontOperation {
    pub(crate) batch: Arc<Batch>,
    pub(crate) layout: Arc<Layout>,
    pub(crate) statistics: Arc<Statistics>,
    pub(crate) class: KernelClass,
    /// Memory that outlives the operation.
    pub(crate) workspace: Arc<Workspace>,
}

/// The floats of a contiguous tensor in memory.
pub(super) fn floats<'a>(storage: &'a CpuStorage, strides: &Strides) -> Result<&'a [f32]> {
    let CpuStorage::F32(values) = storage else { bail!("the front computes in f32") };
    match strides.contiguous_offsets() {
        Some((start, end)) => Ok(&values[start..end]),
        None => bail!("the front reads contiguous tensors"),
    }
}

/// The floats of a contiguous tensor in memory.
pub(super) fn cpu_floats<'a>(storage: &'a Storage, strides: &Strides) -> Result<&'a [f32]> {
    match storage {
        Storage::Cpu(storage) => floats(storage, strides),
        _ => bail!("the front computes on CPU"),
    }
}

/// A chunk's gradients, in rows of the token width.
struct Part {
    parameters: Vec<f32>,
    ids: Vec<f32>,
    behaviours: Vec<f32>,
}

impl FrontOperation {
    fn front<'a, const D: usize>(&'a self, parameters: &'a [f32], embeddings: &'a [f32]) -> Front<'a, D> {
        Front {
            layout: &self.layout,
            statistics: &self.statistics,
            parameters: parameters.as_chunks::<D>().0,
            embeddings: embeddings.as_chunks::<D>().0,
        }
    }

    /// The batch's weighted tokens.
    pub(super) fn forward(&self, parameters: &[f32], embeddings: &[f32]) -> Vec<f32> {
        with_width!(self.layout.width, D => self.forward_all::<D>(parameters, embeddings))
    }

    /// Gradients of parameters and embeddings, from those of the weighted tokens.
    pub(super) fn backward(
        &self,
        parameters: &[f32],
        embeddings: &[f32],
        of_output: &[f32],
    ) -> (Vec<f32>, Vec<f32>) {
        with_width!(self.layout.width, D => self.backward_all::<D>(parameters, embeddings, of_output))
    }

    fn forward_all<const D: usize>(&self, parameters: &[f32], embeddings: &[f32]) -> Vec<f32> {
        let front = self.front::<D>(parameters, embeddings);
        let prepared = Prepared::new(&self.layout, parameters);
        let width = self.layout.outputs();
        let mut out = self.workspace.take(self.batch.len() * width);
        out.par_chunks_mut(CHUNK * width).enumerate().for_each(|(chunk, out)| {
            self.workspace.with(&self.layout, |memory| {
                let mut trace = Trace::new(&self.layout);
                for (group, out) in out.chunks_mut(GROUP * width).enumerate() {
                    let first = chunk * CHUNK + group * GROUP;
                    let count = out.len() / width;
                    for (position, tokens) in memory.rows.chunks_exact_mut(width).take(count).enumerate() {
                        embed_row::<D>(self.class, front, self.batch.row(first + position), &mut trace);
                        tokens.copy_from_slice(trace.tokens.as_flattened());
                    }
                    let rows = &memory.rows[..count * width];
                    let values = &mut memory.values;
                    block::gather_rows(self.class, values.shape, rows, &mut values.tokens[0]);
                    block::forward(self.class, &prepared, values, out);
                }
            });
        });
        out
    }

    /// One chunk's gradients.
    fn backward_chunk<const D: usize>(
        &self,
        front: Front<'_, D>,
        prepared: &Prepared,
        transposed: &Transposed<D>,
        of_output: &[f32],
        chunk: usize,
        memory: &mut Memory,
    ) -> Part {
        let width = self.layout.outputs();
        let (first, end) = (chunk * CHUNK, ((chunk + 1) * CHUNK).min(self.batch.len()));
        let ends = self.batch.behaviour_ends();
        let before = |row: usize| if row == 0 { 0 } else { ends[row - 1] };
        let mut part = Part {
            parameters: self.workspace.take_zeros(front.parameters.len() * D),
            ids: self.workspace.take((end - first) * self.batch.fields() * D),
            behaviours: self.workspace.take_zeros((before(end) - before(first)) * D),
        };
        let mut traces: [Trace<D>; GROUP] = std::array::from_fn(|_| Trace::new(&self.layout));
        let mut weights = Vec::new();
        for start in (first..end).step_by(GROUP) {
            let count = (end - start).min(GROUP);
            let rows = &mut memory.rows[..count * width];
            for (position, tokens) in rows.chunks_exact_mut(width).enumerate() {
                let trace = &mut traces[position];
                embed_row::<D>(self.class, front, self.batch.row(start + position), trace);
                tokens.copy_from_slice(trace.tokens.as_flattened());
            }
            let values = &mut memory.values;
            block::gather_rows(self.class, values.shape, rows, &mut values.tokens[0]);
            rows.copy_from_slice(&of_output[start * width..(start + count) * width]);
            block::backward(self.class, prepared, values, &mut memory.gradients, rows);
            for (position, of_tokens) in rows.chunks_exact(width).enumerate() {
                let row = start + position;
                let behaviours = before(row) - before(first)..ends[row] - before(first);
                let ids = (row - first) * self.batch.fields()..(row - first + 1) * self.batch.fields();
                embed_backward::<D>(
                    self.class,
                    front,
                    self.batch.row(row),
                    &traces[position],
                    transposed,
                    of_tokens.as_chunks::<D>().0,
                    &mut weights,
                    &mut Gradients {
                        parameters: part.parameters.as_chunks_mut().0,
                        ids: &mut part.ids.as_chunks_mut().0[ids],
                        behaviours: &mut part.behaviours.as_chunks_mut().0[behaviours],
                    },
                );
            }
        }
        memory.gradients.flush(&self.layout, prepared.query_scale, &mut part.parameters);
        part
    }

    /// Gradients of parameters and embeddings.
    fn backward_all<const D: usize>(
        &self,
        parameters: &[f32],
        embeddings: &[f32],
        of_output: &[f32],
    ) -> (Vec<f32>, Vec<f32>) {
        let front = self.front::<D>(parameters, embeddings);
        let prepared = Prepared::new(&self.layout, parameters);
        let transposed = Transposed::new(&self.layout, front.parameters);
        let parts: Vec<Part> = (0..self.batch.len().div_ceil(CHUNK))
            .into_par_iter()
            .map(|chunk| {
                self.workspace.with(&self.layout, |memory| {
                    self.backward_chunk(front, &prepared, &transposed, of_output, chunk, memory)
                })
            })
            .collect();
        let mut of_parameters = self.workspace.take_zeros(parameters.len());
        for part in &parts {
            for (sum, x) in of_parameters.iter_mut().zip(&part.parameters) {
                *sum += x;
            }
        }
        let mut of_embeddings = self.workspace.take_zeros(embeddings.len());
        // Each thread adds up the embeddings of a range of its own, all in the order of the batch.
        let share = front.embeddings.len().div_ceil(rayon::current_num_threads()).max(1);
        of_embeddings.as_chunks_mut::<D>().0.par_chunks_mut(share).enumerate().for_each(|(number, sums)| {
            self.scatter(&parts, number * share, sums);
        });
        for Part { parameters, ids, behaviours } in parts {
            for buffer in [parameters, ids, behaviours] {
                self.workspace.give(buffer);
            }
        }
        (of_parameters, of_embeddings)
    }

    /// Adds to `sums`, which begins at embedding `first`.
    fn scatter<const D: usize>(&self, parts: &[Part], first: usize, sums: &mut [[f32; D]]) {
        for (chunk, part) in parts.iter().enumerate() {
            let mut behaviours = part.behaviours.as_chunks::<D>().0.iter();
            let ids = part.ids.as_chunks::<D>().0;
            for (position, ids) in ids.chunks_exact(self.batch.fields()).enumerate() {
                let row = self.batch.row(chunk * CHUNK + position);
                for (&id, of_id) in row.ids.iter().zip(ids) {
                    if let Some(sum) = sums.get_mut((id as usize).wrapping_sub(first)) {
                        add(sum, of_id);
                    }
                }
                for (behaviour, of_vector) in row.behaviours.iter().zip(&mut behaviours) {
                    for id in behaviour.rows {
                        if let Some(sum) = sums.get_mut((id as usize).wrapping_sub(first)) {
                            add(sum, of_vector);
                        }
                    }
                }
            }
        }
    }
}

fn add<const D: usize>(sum: &mut [f32; D], x: &[f32; D]) {
    for lane in 0..D {
        sum[lane] += x[lane];
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
        let out = self.forward(parameters, embeddings);
        Ok((CpuStorage::F32(out), Shape::from((self.batch.len(), self.layout.outputs()))))
    }

    fn bwd(
        &self,
        parameters: &Tensor,
        embeddings: &Tensor,
        _out: &Tensor,
        of_output: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let of_output = of_output.contiguous()?;
        let (of_output, out_strides) = of_output.storage_and_layout();
        let (of_parameters, of_embeddings) = {
            let (parameters, parameter_strides) = parameters.storage_and_layout();
            let (embeddings, embedding_strides) = embeddings.storage_and_layout();
            let parameters = cpu_floats(&parameters, parameter_strides)?;
            let embeddings = cpu_floats(&embeddings, embedding_strides)?;
            let of_output = cpu_floats(&of_output, out_strides)?;
            self.backward(parameters, embeddings, of_output)
        };
        Ok((
            Some(Tensor::from_vec(of_parameters, parameters.shape(), parameters.device())?),
            Some(Tensor::from_vec(of_embeddings, embeddings.shape(), embeddings.device())?),
        ))
    }
}
