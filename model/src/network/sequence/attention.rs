//! Multi-head self-attention over the behaviours, with residual and norm before it, as over the
//! field tokens: `y = x + attention(norm(x)) O`.

use crate::config::NetworkConfig;
use crate::network::front::{NORM_FLOOR, softmax};
use crate::network::kernel::{axpy, back, dot, outer, times};
use crate::network::layout::{Rows, Start};

/// First rows of the parameters.
#[derive(Debug, Clone, Copy)]
pub(crate) struct At {
    pub(crate) norm: usize,
    pub(crate) query: usize,
    pub(crate) key: usize,
    pub(crate) value: usize,
    pub(crate) output: usize,
    pub(crate) heads: usize,
}

impl At {
    pub(super) fn new(rows: &mut Rows, config: &NetworkConfig) -> Self {
        let width = config.width;
        let norm = rows.take("behaviour.attention.norm", 1, Start::One);
        let mut matrix = |name: &str| {
            rows.take(format!("behaviour.attention.{name}"), width, Start::Matrix { inputs: width })
        };
        Self {
            norm,
            query: matrix("query"),
            key: matrix("key"),
            value: matrix("value"),
            output: matrix("output"),
            heads: config.heads,
        }
    }
}

/// By position.
#[derive(Debug, Clone, Default)]
pub(super) struct Memory<const D: usize> {
    /// 1 / root mean square.
    scale: Vec<f32>,
    normed: Vec<[f32; D]>,
    query: Vec<[f32; D]>,
    key: Vec<[f32; D]>,
    value: Vec<[f32; D]>,
    mixed: Vec<[f32; D]>,
    /// \[head]\[query]\[key].
    weights: Vec<f32>,
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
        let count = vectors.len();
        let Self { scale, normed, query, key, value, mixed, weights } = self;
        scale.clear();
        for rows in [&mut *normed, query, key, value, mixed] {
            rows.clear();
        }
        for x in vectors {
            let inverse = 1.0 / (dot(x, x) / D as f32 + NORM_FLOOR).sqrt();
            let mut n = [0.0; D];
            for lane in 0..D {
                n[lane] = x[lane] * inverse * parameters[at.norm][lane];
            }
            let [q, k, v] = [at.query, at.key, at.value].map(|matrix| {
                let mut sum = [0.0; D];
                times(&mut sum, &n, &parameters[matrix..]);
                sum
            });
            scale.push(inverse);
            normed.push(n);
            query.push(q);
            key.push(k);
            value.push(v);
        }
        mixed.resize(count, [0.0; D]);
        weights.clear();
        weights.resize(at.heads * count * count, 0.0);
        let width = D / at.heads;
        let shrink = 1.0 / (width as f32).sqrt();
        for (row, weights) in weights.chunks_exact_mut(count).enumerate() {
            let (head, position) = (row / count, row % count);
            let dimensions = head * width..(head + 1) * width;
            for (weight, key) in weights.iter_mut().zip(&*key) {
                let mut score = 0.0;
                for dimension in dimensions.clone() {
                    score += query[position][dimension] * key[dimension];
                }
                *weight = score * shrink;
            }
            softmax(weights);
            for (weight, value) in weights.iter().zip(&*value) {
                for dimension in dimensions.clone() {
                    mixed[position][dimension] += weight * value[dimension];
                }
            }
        }
        for (x, mixed) in vectors.iter().zip(&*mixed) {
            let mut state = *x;
            times(&mut state, mixed, &parameters[at.output..]);
            states.push(state);
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
        let count = vectors.len();
        let mut of_mixed = vec![[0.0; D]; count];
        for position in 0..count {
            back(&mut of_mixed[position], &of_states[position], &parameters[at.output..at.output + D]);
            let gradient = &mut of_parameters[at.output..at.output + D];
            outer(gradient, &self.mixed[position], &of_states[position]);
        }
        let mut of_query = vec![[0.0; D]; count];
        let mut of_key = vec![[0.0; D]; count];
        let mut of_value = vec![[0.0; D]; count];
        let mut of_weights = vec![0.0; count];
        let width = D / at.heads;
        let shrink = 1.0 / (width as f32).sqrt();
        for (row, weights) in self.weights.chunks_exact(count.max(1)).enumerate() {
            let (head, position) = (row / count, row % count);
            let dimensions = head * width..(head + 1) * width;
            let mut mean = 0.0;
            for (other, of_weight) in of_weights.iter_mut().enumerate() {
                let mut sum = 0.0;
                for dimension in dimensions.clone() {
                    sum += of_mixed[position][dimension] * self.value[other][dimension];
                    of_value[other][dimension] += weights[other] * of_mixed[position][dimension];
                }
                *of_weight = sum;
                mean += weights[other] * sum;
            }
            for (other, of_weight) in of_weights.iter().enumerate() {
                let of_score = weights[other] * (of_weight - mean) * shrink;
                for dimension in dimensions.clone() {
                    of_query[position][dimension] += of_score * self.key[other][dimension];
                    of_key[other][dimension] += of_score * self.query[position][dimension];
                }
            }
        }
        let gain = parameters[at.norm];
        for (position, x) in vectors.iter().enumerate() {
            let mut of_normed = [0.0; D];
            for (matrix, of) in [
                (at.query, &of_query[position]),
                (at.key, &of_key[position]),
                (at.value, &of_value[position]),
            ] {
                outer(&mut of_parameters[matrix..matrix + D], &self.normed[position], of);
                back(&mut of_normed, of, &parameters[matrix..matrix + D]);
            }
            let scale = self.scale[position];
            let mut before_gain = [0.0; D];
            for lane in 0..D {
                of_parameters[at.norm][lane] += of_normed[lane] * x[lane] * scale;
                before_gain[lane] = of_normed[lane] * gain[lane];
            }
            let along = dot(&before_gain, x) / D as f32 * (scale * scale * scale);
            axpy(&mut of_states[position], scale, &before_gain);
            axpy(&mut of_states[position], -along, x);
        }
    }
}
