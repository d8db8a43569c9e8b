//! Convolution over neighbouring behaviours, centred, with zeros beyond both ends:
//! `y[t] = x[t] + ReLU(b + Σ over k of x[t + k - K / 2] W[k])`.

use crate::config::NetworkConfig;
use crate::network::kernel::{axpy, back, outer, times};
use crate::network::layout::{Rows, Start};

/// First rows of the parameters.
#[derive(Debug, Clone, Copy)]
pub(crate) struct At {
    /// One matrix per place of the kernel.
    pub(crate) weight: usize,
    pub(crate) bias: usize,
    /// Places of the kernel; odd.
    pub(crate) kernel: usize,
}

impl At {
    pub(super) fn new(rows: &mut Rows, config: &NetworkConfig) -> Self {
        let (width, kernel) = (config.width, config.cnn_kernel);
        Self {
            weight: rows.take("cnn.weight", kernel * width, Start::Matrix { inputs: kernel * width }),
            bias: rows.take("cnn.bias", 1, Start::Zero),
            kernel,
        }
    }

    /// The neighbours of `position` and the first rows of their matrices.
    #[inline(always)]
    fn neighbours(self, position: usize, count: usize, width: usize) -> impl Iterator<Item = (usize, usize)> {
        (0..self.kernel).filter_map(move |place| {
            let neighbour = (position + place).checked_sub(self.kernel / 2)?;
            (neighbour < count).then_some((neighbour, self.weight + place * width))
        })
    }
}

/// By position.
#[derive(Debug, Clone, Default)]
pub(super) struct Memory<const D: usize> {
    /// Before the residual, after `ReLU`.
    clamped: Vec<[f32; D]>,
}

impl<const D: usize> Memory<D> {
    #[inline(always)]
    pub(super) fn forward(
        &mut self,
        at: At,
        parameters: &[[f32; D]],
        vectors: &[[f32; D]],
        states: &mut Vec<[f32; D]>,
    ) {
        self.clamped.clear();
        for (position, vector) in vectors.iter().enumerate() {
            let mut sum = parameters[at.bias];
            for (neighbour, matrix) in at.neighbours(position, vectors.len(), D) {
                times(&mut sum, &vectors[neighbour], &parameters[matrix..]);
            }
            for value in &mut sum {
                *value = if *value > 0.0 { *value } else { 0.0 };
            }
            self.clamped.push(sum);
            axpy(&mut sum, 1.0, vector);
            states.push(sum);
        }
    }

    #[inline(always)]
    pub(super) fn backward(
        &self,
        at: At,
        parameters: &[[f32; D]],
        vectors: &[[f32; D]],
        of_states: &mut [[f32; D]],
        of_parameters: &mut [[f32; D]],
    ) {
        // The residual's part stays in place; the rest is added once all have been read.
        let mut of_vectors = of_states.to_vec();
        for (position, clamped) in self.clamped.iter().enumerate() {
            let mut of_sum = of_states[position];
            for lane in 0..D {
                if clamped[lane] <= 0.0 {
                    of_sum[lane] = 0.0;
                }
            }
            axpy(&mut of_parameters[at.bias], 1.0, &of_sum);
            for (neighbour, matrix) in at.neighbours(position, vectors.len(), D) {
                outer(&mut of_parameters[matrix..matrix + D], &vectors[neighbour], &of_sum);
                back(&mut of_vectors[neighbour], &of_sum, &parameters[matrix..matrix + D]);
            }
        }
        of_states.copy_from_slice(&of_vectors);
    }
}
