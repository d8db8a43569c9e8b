//! What the network's speed is measured against: floating point operations of a row, and a product
//! of large matrices, whose speed is what this machine can do.

use candle_core::{Device, Tensor};
use rayon::prelude::*;

use crate::config::NetworkConfig;
use crate::network::{Dense, HEADS, KernelClass, Packed};

/// Operations of one row's forward pass. A training step takes three times as many: the backward
/// pass makes two products for each of the forward pass.
///
/// With `T` tokens of width `D`, `L` layers, `C` crosses of rank `R` and an MLP of widths
/// `w0 = T D, w1, .., heads`: `L (2 * 4 T D² + 2 * 2 T² D) + C (2 * 2 T D R) + 2 Σ w(i) w(i+1)`.
/// Softmax, norms and embeddings are not counted.
pub fn flops_per_row(config: &NetworkConfig, tokens: usize) -> f64 {
    let (t, d) = (tokens as f64, config.width as f64);
    let attention = config.layers as f64 * (8.0 * t * d * d + 4.0 * t * t * d);
    let mut inputs = t * d;
    let crosses = config.cross_layers as f64 * 4.0 * inputs * config.cross_rank as f64;
    let mut mlp = 0.0;
    for &outputs in config.mlp.iter().chain([&HEADS]) {
        mlp += 2.0 * inputs * outputs as f64;
        inputs = outputs as f64;
    }
    attention + crosses + mlp
}

/// A product of two square matrices, by the tensor engine or by our own kernels.
pub struct Product {
    a: Tensor,
    b: Tensor,
    rows: Vec<f32>,
    packed: Packed,
    out: Vec<f32>,
    class: KernelClass,
}

impl Product {
    /// Rows and columns of both.
    const SIZE: usize = 1024;
    /// Rows that one thread takes at a time.
    const ROWS: usize = 64;
    /// Operations of a product.
    pub const FLOPS: f64 = 2.0 * (Self::SIZE * Self::SIZE * Self::SIZE) as f64;

    /// Matrices of no interest.
    ///
    /// # Errors
    /// What the tensor engine says.
    pub fn new() -> Result<Self, candle_core::Error> {
        let size = Self::SIZE;
        let values: Vec<f32> = (0..size * size).map(|at| (at % 251) as f32 * 0.01 - 1.0).collect();
        let tensor = || Tensor::from_slice(&values, (size, size), &Device::Cpu);
        let layer = Dense { weight: values.clone(), bias: vec![0.0; size], inputs: size, outputs: size };
        Ok(Self {
            a: tensor()?,
            b: tensor()?,
            packed: Packed::new(&layer, false),
            out: vec![0.0; size * size],
            rows: values,
            class: KernelClass::detect(),
        })
    }

    /// One product by the tensor engine; an entry of it, so that it is not left out.
    ///
    /// # Errors
    /// What the tensor engine says.
    pub fn by_engine(&self) -> Result<f32, candle_core::Error> {
        self.a.matmul(&self.b)?.get(0)?.get(0)?.to_scalar()
    }

    /// One product by our own kernels, on rayon's threads; an entry of it.
    pub fn by_kernels(&mut self) -> f32 {
        let Self { rows, packed, out, class, .. } = self;
        out.par_chunks_mut(Self::ROWS * Self::SIZE)
            .zip(rows.par_chunks(Self::ROWS * Self::SIZE))
            .for_each(|(out, rows)| packed.forward(*class, rows, out));
        out[0]
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn both_ways_give_one_product() {
        let mut product = Product::new().unwrap();
        let (engine, ours) = (product.by_engine().unwrap(), product.by_kernels());
        assert!((engine - ours).abs() < 1e-2 * engine.abs().max(1.0), "{engine} {ours}");
    }

    #[test]
    fn the_network_of_the_notes_takes_what_they_count() {
        #[derive(serde::Deserialize)]
        struct File {
            model: crate::Config,
        }
        let network = toml::from_str::<File>(crate::DEFAULTS).unwrap().model.network;
        // Their roofline: 541 k rows a second at 400 GFLOP/s.
        let rows = 400e9 / flops_per_row(&network, 50);
        assert!((rows - 541e3).abs() < 3e3, "{rows}");
    }
}
