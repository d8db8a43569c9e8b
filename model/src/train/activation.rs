//! Bias, `ReLU` and dropout of a hidden layer as one candle operation. Candle's own would take four
//! passes, each handed to threads that spin while they wait.

use candle_core::{CpuStorage, CustomOp2, Layout as Strides, Result, Shape, Tensor};
use rayon::prelude::*;

use super::operation::{cpu_floats, floats};

/// Rows whose bias gradients are summed together.
const CHUNK: usize = 64;

/// Which units of a layer are dropped in a step. Counter-based: unit `i` is dropped or not by a hash
/// of its own, so that threads change nothing and no generator's state has to be kept.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Dropout {
    key: u32,
    /// Units whose hash is below it are dropped.
    limit: u32,
    /// What a unit that is kept is multiplied by: the mean stays.
    keep: f32,
}

impl Dropout {
    /// Drops a share of `rate` (0 to less than 1).
    pub(crate) fn new(rate: f32, seed: u64, step: u64, layer: u64) -> Self {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&step.to_le_bytes());
        bytes[8..].copy_from_slice(&layer.to_le_bytes());
        Self {
            key: xxhash_rust::xxh3::xxh3_64_with_seed(&bytes, seed) as u32,
            limit: (f64::from(rate) * 4_294_967_296.0) as u32,
            keep: 1.0 / (1.0 - rate),
        }
    }

    /// Whether nothing is dropped.
    const fn is_none(self) -> bool {
        self.limit == 0
    }

    /// The 32 random bits of unit `index` (the finalizer of `MurmurHash3` over a Weyl sequence).
    #[inline]
    const fn bits(self, index: u32) -> u32 {
        let mut x = index.wrapping_mul(0x9E37_79B9).wrapping_add(self.key);
        x = (x ^ (x >> 16)).wrapping_mul(0x85EB_CA6B);
        x = (x ^ (x >> 13)).wrapping_mul(0xC2B2_AE35);
        x ^ (x >> 16)
    }

    /// Drops units of `values`, the first of which is unit `first` of its layer.
    #[inline]
    pub(crate) fn apply(self, first: u32, values: &mut [f32]) {
        if self.is_none() {
            return;
        }
        for (index, value) in (first..).zip(values) {
            *value *= if self.bits(index) < self.limit { 0.0 } else { self.keep };
        }
    }
}

/// (values, bias) to `max(values + bias, 0)`, some of them dropped.
pub(crate) struct Activation {
    pub(crate) dropout: Dropout,
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
                self.dropout.apply(first as u32, out);
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
        let (out, out_strides) = out.storage_and_layout();
        let out = cpu_floats(&out, out_strides)?;
        let of_out = of_out.contiguous()?;
        let (of_out, of_out_strides) = of_out.storage_and_layout();
        let mut of_values = cpu_floats(&of_out, of_out_strides)?.to_vec();
        let keep = self.dropout.keep;
        let sums: Vec<Vec<f32>> = of_values
            .par_chunks_mut(CHUNK * width)
            .zip(out.par_chunks(CHUNK * width))
            .map(|(of_values, out)| {
                let mut sum = vec![0.0_f32; width];
                for (of_values, out) in of_values.chunks_exact_mut(width).zip(out.chunks_exact(width)) {
                    for ((of_value, out), sum) in of_values.iter_mut().zip(out).zip(&mut sum) {
                        *of_value = if *out > 0.0 { *of_value * keep } else { 0.0 };
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_units_are_dropped_as_asked_and_others_each_step() {
        let count = 100_000;
        let mask = |step, layer| {
            let mut values = vec![1.0_f32; count];
            Dropout::new(0.3, 7, step, layer).apply(0, &mut values);
            values
        };
        let first = mask(0, 0);
        let kept = first.iter().filter(|&&value| value > 0.0).count() as f64 / count as f64;
        assert!((kept - 0.7).abs() < 0.006, "{kept}");
        assert!(first.iter().all(|&value| value == 0.0 || (value - 1.0 / 0.7).abs() < 1e-6));
        for other in [mask(1, 0), mask(0, 1)] {
            let same = first.iter().zip(&other).filter(|(a, b)| a == b).count() as f64 / count as f64;
            // Independent masks agree with probability 0.7² + 0.3².
            assert!((same - 0.58).abs() < 0.006, "{same}");
        }
        // A part of the layer drops what the whole does.
        let mut part = vec![1.0_f32; 100];
        Dropout::new(0.3, 7, 0, 0).apply(500, &mut part);
        assert_eq!(part, first[500..600]);
    }

    #[test]
    fn without_dropout_values_stay() {
        let mut values = [1.5_f32, -2.0];
        Dropout::new(0.0, 7, 0, 0).apply(0, &mut values);
        assert_eq!(values, [1.5, -2.0]);
    }
}
