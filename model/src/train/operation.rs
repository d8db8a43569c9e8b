//! The network's front as one candle operation, forward and backward: the rows of a batch in
//! parallel, gradients summed over fixed chunks in a fixed order, so that threads change nothing.

use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{CpuStorage, CustomOp2, Layout as Strides, Result, Shape, Storage, Tensor, bail};
use rayon::prelude::*;

use super::batch::Batch;
use crate::encode::Statistics;
use crate::network::backward::{Gradients, Transposed, embed_backward};
use crate::network::block::{self, BlockGradients, GROUP, Prepared, Values};
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

/// Memory of the block's passes, used again from step to step: made anew it would be zeroed, and
/// fetched page by page, each time.
#[derive(Debug, Default)]
pub(crate) struct Workspace {
    spare: Mutex<Vec<Memory>>,
}

#[derive(Debug)]
struct Memory {
    values: Values,
    gradients: BlockGradients,
    rows: Vec<f32>,
}

impl Workspace {
    /// Calls `f` with memory that no one else uses meanwhile.
    fn with<T>(&self, layout: &Layout, f: impl FnOnce(&mut Memory) -> T) -> T {
        let lock = || self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        let spare = lock().pop();
        let mut memory = spare.unwrap_or_else(|| Memory {
            values: Values::new(layout),
            gradients: BlockGradients::new(layout),
            rows: vec![0.0; GROUP * layout.outputs()],
        });
        let result = f(&mut memory);
        lock().push(memory);
        result
    }
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

/// A chunk's gradients.
struct Part<const D: usize> {
    parameters: Vec<[f32; D]>,
    ids: Vec<[f32; D]>,
    behaviours: Vec<[f32; D]>,
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
        let mut out = vec![0.0; self.batch.len() * width];
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
    ) -> Part<D> {
        let width = self.layout.outputs();
        let (first, end) = (chunk * CHUNK, ((chunk + 1) * CHUNK).min(self.batch.len()));
        let ends = self.batch.behaviour_ends();
        let before = |row: usize| if row == 0 { 0 } else { ends[row - 1] };
        let mut part = Part {
            parameters: vec![[0.0; D]; front.parameters.len()],
            ids: vec![[0.0; D]; (end - first) * self.batch.fields()],
            behaviours: vec![[0.0; D]; before(end) - before(first)],
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
                        parameters: &mut part.parameters,
                        ids: &mut part.ids[ids],
                        behaviours: &mut part.behaviours[behaviours],
                    },
                );
            }
        }
        memory.gradients.flush(&self.layout, prepared.query_scale, part.parameters.as_flattened_mut());
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
        let parts: Vec<Part<D>> = (0..self.batch.len().div_ceil(CHUNK))
            .into_par_iter()
            .map(|chunk| {
                self.workspace.with(&self.layout, |memory| {
                    self.backward_chunk(front, &prepared, &transposed, of_output, chunk, memory)
                })
            })
            .collect();
        let mut of_parameters = vec![[0.0_f32; D]; front.parameters.len()];
        for part in &parts {
            for (sum, x) in of_parameters.iter_mut().zip(&part.parameters) {
                add(sum, x);
            }
        }
        let mut of_embeddings = vec![[0.0_f32; D]; front.embeddings.len()];
        // Each thread adds up the embeddings of a range of its own, all in the order of the batch.
        let share = front.embeddings.len().div_ceil(rayon::current_num_threads()).max(1);
        of_embeddings.par_chunks_mut(share).enumerate().for_each(|(number, sums)| {
            self.scatter(&parts, number * share, sums);
        });
        (of_parameters.into_flattened(), of_embeddings.into_flattened())
    }

    /// Adds to `sums`, which begins at embedding `first`.
    fn scatter<const D: usize>(&self, parts: &[Part<D>], first: usize, sums: &mut [[f32; D]]) {
        for (chunk, part) in parts.iter().enumerate() {
            let mut behaviours = part.behaviours.iter();
            for (position, ids) in part.ids.chunks_exact(self.batch.fields()).enumerate() {
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
