//! Mixes the rows of a matrix, each with another one: manifold mixup as a candle operation, whose
//! shares are no weights.

use candle_core::{CpuStorage, CustomOp1, Layout as Strides, Result, Shape, Tensor};
use rayon::prelude::*;

use super::objective::Mixing;
use super::operation::{cpu_floats, floats};

/// Row `i` becomes `share[i]` of itself and the rest of its partner.
pub(super) struct Mixture(pub(super) Mixing);

impl Mixture {
    pub(super) fn mix(&self, values: &[f32]) -> Vec<f32> {
        let mixing = &self.0;
        let width = values.len() / mixing.shares.len();
        let mut out = vec![0.0_f32; values.len()];
        out.par_chunks_mut(width).enumerate().with_min_len(32).for_each(|(row, out)| {
            let (share, partner) = (mixing.shares[row], mixing.partner(row));
            let own = &values[row * width..(row + 1) * width];
            let other = &values[partner * width..(partner + 1) * width];
            for ((out, own), other) in out.iter_mut().zip(own).zip(other) {
                *out = share * own + (1.0 - share) * other;
            }
        });
        out
    }

    /// The transpose of [`Self::mix`].
    pub(super) fn spread(&self, of_out: &[f32]) -> Vec<f32> {
        let mixing = &self.0;
        let count = mixing.shares.len();
        let width = of_out.len() / count;
        let mut of_values = vec![0.0_f32; of_out.len()];
        of_values.par_chunks_mut(width).enumerate().with_min_len(32).for_each(|(row, of_value)| {
            // The one row whose partner this one is.
            let from = (row + count - mixing.shift) % count;
            let (share, rest) = (mixing.shares[row], 1.0 - mixing.shares[from]);
            let own = &of_out[row * width..(row + 1) * width];
            let other = &of_out[from * width..(from + 1) * width];
            for ((of_value, own), other) in of_value.iter_mut().zip(own).zip(other) {
                *of_value = share * own + rest * other;
            }
        });
        of_values
    }

    /// The same in candle's own operations, for other devices.
    pub(super) fn stock(&self, values: &Tensor) -> Result<Tensor> {
        let mixing = &self.0;
        let count = mixing.shares.len();
        let partners: Vec<u32> = (0..count).map(|row| mixing.partner(row) as u32).collect();
        let partners = Tensor::from_vec(partners, count, values.device())?;
        let shares = Tensor::from_slice(&mixing.shares, (count, 1), values.device())?;
        let others = values.index_select(&partners, 0)?;
        values.broadcast_mul(&shares)? + others.broadcast_mul(&(1.0 - shares)?)?
    }
}

impl CustomOp1 for Mixture {
    fn name(&self) -> &'static str {
        "mixup"
    }

    fn cpu_fwd(&self, values: &CpuStorage, strides: &Strides) -> Result<(CpuStorage, Shape)> {
        Ok((CpuStorage::F32(self.mix(floats(values, strides)?)), strides.shape().clone()))
    }

    fn bwd(&self, values: &Tensor, _out: &Tensor, of_out: &Tensor) -> Result<Option<Tensor>> {
        let of_out = of_out.contiguous()?;
        let (of_out, strides) = of_out.storage_and_layout();
        let of_values = self.spread(cpu_floats(&of_out, strides)?);
        Ok(Some(Tensor::from_vec(of_values, values.shape(), values.device())?))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use candle_core::{Device, Var};

    use super::*;

    #[test]
    fn it_agrees_with_candle_in_values_and_gradients() {
        let mixing = Mixing { shift: 2, shares: vec![0.9, 0.5, 0.7, 1.0, 0.6] };
        let make = |scale: f32| (0..15).map(|at| (at as f32 * scale).sin()).collect::<Vec<f32>>();
        let values = Var::from_vec(make(1.0), (5, 3), &Device::Cpu).unwrap();
        let upstream = Tensor::from_vec(make(0.7), (5, 3), &Device::Cpu).unwrap();
        let mixture = Mixture(mixing);
        let measure = |out: Tensor| {
            let store = (&out * &upstream).unwrap().sum_all().unwrap().backward().unwrap();
            let gradient = store.get(values.as_tensor()).unwrap().flatten_all().unwrap();
            [out.flatten_all().unwrap().to_vec1::<f32>().unwrap(), gradient.to_vec1().unwrap()]
        };
        let theirs = measure(mixture.stock(values.as_tensor()).unwrap());
        let ours = measure(values.apply_op1(mixture).unwrap());
        for (ours, theirs) in ours.iter().flatten().zip(theirs.iter().flatten()) {
            assert!((ours - theirs).abs() < 1e-6, "{ours} {theirs}");
        }
    }
}
