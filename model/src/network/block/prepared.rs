//! The block's parameters as its kernels read them: matrices side by side and transposed, made once
//! a batch in training and once a model in serving.

use crate::network::layout::Layout;

/// A layer's parameters.
#[derive(Debug, Clone)]
pub(crate) struct PreparedLayer {
    pub(crate) gain: Vec<f32>,
    /// Query (times [`Prepared::query_scale`]), key and value: `width` rows of `width` each.
    pub(crate) projections: [Vec<f32>; 3],
    /// The same transposed.
    pub(crate) projections_t: [Vec<f32>; 3],
    pub(crate) output: Vec<f32>,
    pub(crate) output_t: Vec<f32>,
}

/// The block's parameters.
#[derive(Debug, Clone)]
pub(crate) struct Prepared {
    pub(crate) layers: Vec<PreparedLayer>,
    /// Empty where tokens are not weighted.
    pub(crate) pool_query: Vec<f32>,
    pub(crate) pool_bias: Vec<f32>,
    /// `log2(e) / sqrt(head width)`: with it in the queries, weights are powers of 2.
    pub(crate) query_scale: f32,
}

impl Prepared {
    /// From the front's parameters, flat.
    pub(crate) fn new(layout: &Layout, parameters: &[f32]) -> Self {
        let width = layout.width;
        let matrix = |first: usize, scale: f32| -> Vec<f32> {
            parameters[first * width..(first + width) * width].iter().map(|value| value * scale).collect()
        };
        let transpose = |matrix: &Vec<f32>| -> Vec<f32> {
            (0..width * width).map(|at| matrix[at % width * width + at / width]).collect()
        };
        let query_scale = std::f32::consts::LOG2_E / ((width / layout.heads) as f32).sqrt();
        let layers = layout
            .layers
            .iter()
            .map(|at| {
                let projections = [matrix(at.query, query_scale), matrix(at.key, 1.0), matrix(at.value, 1.0)];
                let output = matrix(at.output, 1.0);
                PreparedLayer {
                    gain: parameters[at.norm * width..(at.norm + 1) * width].to_vec(),
                    projections_t: [0, 1, 2].map(|which: usize| transpose(&projections[which])),
                    projections,
                    output_t: transpose(&output),
                    output,
                }
            })
            .collect();
        let pool = |first: usize, length: usize| -> Vec<f32> {
            if layout.attention {
                parameters[first * width..first * width + length].to_vec()
            } else {
                Vec::new()
            }
        };
        Self {
            layers,
            pool_query: pool(layout.pool_query, width),
            pool_bias: pool(layout.pool_bias, layout.tokens.len()),
            query_scale,
        }
    }
}
