//! Bias, `ReLU` and dropout of a hidden layer as one candle operation. Candle's own would take four
//! passes, each handed to threads that spin while they wait.

use candle_core::{CpuStorage, CustomOp2, Layout as Strides, Result, Shape, Tensor};
use rayon::prelude::*;

use super::operation::{floats, tensor_floats};

/// Rows whose bias gradients are summed together.
const CHUNK: usize = 64;

/// (values, bias) to `max(values + bias, 0) * mask`.
pub(crate) struct Activation {
    /// 0 or `keep`, one per value; empty without dropout.
    pub(crate) mask: Vec<f32>,
    /// What a unit that is kept is multiplied by.
    pub(crate) keep: f32,
}

impl CustomOp2 for Activation {
    fn name(&self) -> &'static str {
        "bias-relu-dropout"
    }

    fn cpu_fwd(
        &self,
        values: &CpuStorage,
        value_strides: &Strides,
        bias: &CpuStorage,
        bias_strides: &Strides,
    ) -> Result<(CpuStorage, Shape)> {
        let values = floats(values, value_strides)?;
        let bias = floats(bias, bias_strides)?;
        let width = bias.len();
        let mut out = vec![0.0_f32; values.len()];
        out.par_chunks_mut(CHUNK * width).enumerate().for_each(|(chunk, out)| {
            for (row, out) in out.chunks_exact_mut(width).enumerate() {
                let first = (chunk * CHUNK + row) * width;
                for ((out, value), bias) in out.iter_mut().zip(&values[first..first + width]).zip(bias) {
                    let sum = value + bias;
                    *out = if sum > 0.0 { sum } else { 0.0 };
                }
                if let Some(mask) = self.mask.get(first..first + width) {
                    for (out, mask) in out.iter_mut().zip(mask) {
                        *out *= mask;
                    }
                }
            }
        });
        Ok((CpuStorage::F32(out), value_strides.shape().clone()))
    }

    fn bwd(
        &self,
        values: &Tensor,
        bias: &Tensor,
        out: &Tensor,
        of_out: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let width = bias.elem_count();
        let out = tensor_floats(out)?;
        let mut of_values = tensor_floats(&of_out.contiguous()?)?;
        let sums: Vec<Vec<f32>> = of_values
            .par_chunks_mut(CHUNK * width)
            .zip(out.par_chunks(CHUNK * width))
            .map(|(of_values, out)| {
                let mut sum = vec![0.0_f32; width];
                for (of_values, out) in of_values.chunks_exact_mut(width).zip(out.chunks_exact(width)) {
                    for ((of_value, out), sum) in of_values.iter_mut().zip(out).zip(&mut sum) {
                        *of_value = if *out > 0.0 { *of_value * self.keep } else { 0.0 };
                        *sum += *of_value;
                    }
                }
                sum
            })
            .collect();
        let mut of_bias = vec![0.0_f32; width];
        for sum in &sums {
            for (total, value) in of_bias.iter_mut().zip(sum) {
                *total += value;
            }
        }
        Ok((
            Some(Tensor::from_vec(of_values, values.shape(), values.device())?),
            Some(Tensor::from_vec(of_bias, bias.shape(), bias.device())?),
        ))
    }
}
