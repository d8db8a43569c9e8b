//! The gradient of [`super::front`], one row at a time: reads the row's trace, adds to the
//! gradients of the parameters, writes those of the row's embeddings.

use super::front::{Front, LANES, SLICE, Trace, auxiliary, from_lanes, into_lanes};
use super::kernel::{add, axpy, dot, multiversion};
use super::layout::Layout;
use crate::config::BehaviourEncoder;
use crate::encode::Row;

/// The matrices of the front, transposed once a batch.
pub(crate) struct Transposed<const D: usize> {
    /// Query, key, value and output of each layer.
    layers: Vec<[Vec<[f32; D]>; 4]>,
    target: Vec<[f32; D]>,
}

impl<const D: usize> Transposed<D> {
    pub(crate) fn new(layout: &Layout, parameters: &[[f32; D]]) -> Self {
        let transpose = |first: usize| -> Vec<[f32; D]> {
            (0..D).map(|i| std::array::from_fn(|j| parameters[first + j][i])).collect()
        };
        Self {
            layers: layout
                .layers
                .iter()
                .map(|at| [at.query, at.key, at.value, at.output].map(transpose))
                .collect(),
            target: if layout.behaviours == BehaviourEncoder::TargetAttention {
                transpose(layout.behaviour_target)
            } else {
                Vec::new()
            },
        }
    }
}

/// Memory of the backward pass, reused from row to row.
pub(crate) struct Scratch<const D: usize> {
    tokens: Vec<[f32; D]>,
    mixed: Vec<[f32; D]>,
    query: Vec<[f32; D]>,
    key: Vec<[f32; D]>,
    value: Vec<[f32; D]>,
    mixed_lanes: Vec<[f32; LANES]>,
    query_lanes: Vec<[f32; LANES]>,
    scores: Vec<[f32; LANES]>,
    weights: Vec<f32>,
}

impl<const D: usize> Scratch<D> {
    pub(crate) fn new(layout: &Layout) -> Self {
        let tokens = layout.tokens.len();
        let blocks = tokens.div_ceil(LANES);
        let rows = || vec![[0.0; D]; tokens];
        Self {
            tokens: rows(),
            mixed: rows(),
            query: rows(),
            key: rows(),
            value: rows(),
            mixed_lanes: vec![[0.0; LANES]; D * blocks],
            query_lanes: vec![[0.0; LANES]; D * blocks],
            scores: vec![[0.0; LANES]; tokens * blocks],
            weights: Vec::new(),
        }
    }
}

/// Where gradients go.
pub(crate) struct Gradients<'a, const D: usize> {
    /// Of the parameters: added to.
    pub(crate) parameters: &'a mut [[f32; D]],
    /// Of the embeddings of the row's ids: written.
    pub(crate) ids: &'a mut [[f32; D]],
    /// Of each behaviour's vector, and so of each of its three embeddings: written.
    pub(crate) behaviours: &'a mut [[f32; D]],
}

multiversion! {
    /// Adds the gradients of one row, whose forward pass has left `trace`; `of_output` is the
    /// gradient of what it gave.
    pub(crate) fn backward<const D: usize>(
        front: Front<'_, D>,
        row: Row<'_>,
        trace: &Trace<D>,
        transposed: &Transposed<D>,
        of_output: &[f32],
        scratch: &mut Scratch<D>,
        gradients: &mut Gradients<'_, D>,
    ) = body::<D>
}

#[inline(always)]
fn body<const D: usize>(
    front: Front<'_, D>,
    row: Row<'_>,
    trace: &Trace<D>,
    transposed: &Transposed<D>,
    of_output: &[f32],
    scratch: &mut Scratch<D>,
    gradients: &mut Gradients<'_, D>,
) {
    let layout = front.layout;
    let count = layout.tokens.len();
    let of_output = of_output.as_chunks::<D>().0;
    if layout.attention {
        let tokens = &trace.tokens[layout.layers.len()];
        let scale = count as f32;
        let weights = &mut scratch.weights;
        weights.clear();
        let mut mean = 0.0;
        for token in 0..count {
            let of_weight = scale * dot(&of_output[token], &tokens[token]);
            mean += trace.pooling[token] * of_weight;
            weights.push(of_weight);
        }
        let query = front.parameters[layout.pool_query];
        for token in 0..count {
            let of_score = trace.pooling[token] * (weights[token] - mean);
            let mut sum = [0.0; D];
            axpy(&mut sum, trace.pooling[token] * scale, &of_output[token]);
            axpy(&mut sum, of_score, &query);
            scratch.tokens[token] = sum;
            axpy(&mut gradients.parameters[layout.pool_query], of_score, &tokens[token]);
            gradients.parameters[layout.pool_bias..].as_flattened_mut()[token] += of_score;
        }
    } else {
        scratch.tokens.copy_from_slice(&of_output[..count]);
    }
    for layer in (0..layout.layers.len()).rev() {
        attend(front, layer, trace, transposed, scratch, gradients.parameters);
    }
    embed(front, row, trace, transposed, scratch, gradients);
}

/// Σ over dimensions of `x[d] * rows[d]`: a row vector times a matrix.
#[inline(always)]
fn times<const D: usize>(sum: &mut [f32; D], x: &[f32; D], rows: &[[f32; D]]) {
    for dimension in 0..D {
        axpy(sum, x[dimension], &rows[dimension]);
    }
}

/// Adds Σ over tokens of `x[t]` outer `of_y[t]` to a matrix's gradient.
#[inline(always)]
fn outer<const D: usize>(gradient: &mut [[f32; D]], x: &[[f32; D]], of_y: &[[f32; D]]) {
    for (dimension, gradient) in gradient.iter_mut().enumerate().take(D) {
        let mut sum = *gradient;
        for (x, of_y) in x.iter().zip(of_y) {
            axpy(&mut sum, x[dimension], of_y);
        }
        *gradient = sum;
    }
}

/// Turns the gradient of a layer's output (in `scratch.tokens`) into that of its input.
#[inline(always)]
fn attend<const D: usize>(
    front: Front<'_, D>,
    layer: usize,
    trace: &Trace<D>,
    transposed: &Transposed<D>,
    scratch: &mut Scratch<D>,
    gradients: &mut [[f32; D]],
) {
    let layout = front.layout;
    let at = layout.layers[layer];
    let saved = &trace.layers[layer];
    let [query_t, key_t, value_t, output_t] = &transposed.layers[layer];
    let count = layout.tokens.len();
    let blocks = count.div_ceil(LANES);
    let head_width = D / layout.heads;
    let shrink = 1.0 / (head_width as f32).sqrt();
    for token in 0..count {
        let mut sum = [0.0; D];
        times(&mut sum, &scratch.tokens[token], output_t);
        scratch.mixed[token] = sum;
    }
    outer(&mut gradients[at.output..at.output + D], &saved.mixed, &scratch.tokens);
    into_lanes(&scratch.mixed, &mut scratch.mixed_lanes);
    for head in 0..layout.heads {
        let dimensions = head * head_width..(head + 1) * head_width;
        let attention = &saved.attention[head * count * blocks..(head + 1) * count * blocks];
        for block in 0..blocks {
            let mut inner = [0.0; LANES];
            for token in 0..count {
                let mut of_weight = [0.0; LANES];
                for dimension in dimensions.clone() {
                    let of_mixed = &scratch.mixed_lanes[dimension * blocks + block];
                    axpy(&mut of_weight, saved.value[token][dimension], of_mixed);
                }
                let weight = &attention[token * blocks + block];
                for lane in 0..LANES {
                    inner[lane] += weight[lane] * of_weight[lane];
                }
                scratch.scores[token * blocks + block] = of_weight;
            }
            for token in 0..count {
                let weight = &attention[token * blocks + block];
                let score = &mut scratch.scores[token * blocks + block];
                for lane in 0..LANES {
                    score[lane] = weight[lane] * (score[lane] - inner[lane]) * shrink;
                }
            }
        }
        for dimension in dimensions {
            for block in 0..blocks {
                let mut sum = [0.0; LANES];
                for token in 0..count {
                    let score = &scratch.scores[token * blocks + block];
                    axpy(&mut sum, saved.key[token][dimension], score);
                }
                scratch.query_lanes[dimension * blocks + block] = sum;
            }
        }
        let scores = scratch.scores.as_flattened();
        let attention = attention.as_flattened();
        let slices = D / SLICE;
        let queries = saved.query.as_flattened().as_chunks::<SLICE>().0;
        let of_mixed = scratch.mixed.as_flattened().as_chunks::<SLICE>().0;
        let of_key = scratch.key.as_flattened_mut().as_chunks_mut::<SLICE>().0;
        let of_value = scratch.value.as_flattened_mut().as_chunks_mut::<SLICE>().0;
        for slice in head * head_width / SLICE..(head + 1) * head_width / SLICE {
            for token in 0..count {
                let row = token * blocks * LANES;
                let (mut key, mut value) = ([0.0; SLICE], [0.0; SLICE]);
                for other in 0..count {
                    axpy(&mut key, scores[row + other], &queries[other * slices + slice]);
                    axpy(&mut value, attention[row + other], &of_mixed[other * slices + slice]);
                }
                of_key[token * slices + slice] = key;
                of_value[token * slices + slice] = value;
            }
        }
    }
    from_lanes(&scratch.query_lanes, &mut scratch.query);
    outer(&mut gradients[at.query..at.query + D], &saved.normed, &scratch.query);
    outer(&mut gradients[at.key..at.key + D], &saved.normed, &scratch.key);
    outer(&mut gradients[at.value..at.value + D], &saved.normed, &scratch.value);
    let gain = front.parameters[at.norm];
    for token in 0..count {
        let mut of_normed = [0.0; D];
        times(&mut of_normed, &scratch.query[token], query_t);
        times(&mut of_normed, &scratch.key[token], key_t);
        times(&mut of_normed, &scratch.value[token], value_t);
        let x = &trace.tokens[layer][token];
        let scale = saved.scale[token];
        let of_gain = &mut gradients[at.norm];
        let mut before_gain = [0.0; D];
        for lane in 0..D {
            of_gain[lane] += of_normed[lane] * x[lane] * scale;
            before_gain[lane] = of_normed[lane] * gain[lane];
        }
        let along = dot(&before_gain, x) / D as f32 * (scale * scale * scale);
        let sum = &mut scratch.tokens[token];
        axpy(sum, scale, &before_gain);
        axpy(sum, -along, x);
    }
}

/// From the gradient of the first tokens to those of embeddings, numbers and behaviours.
#[inline(always)]
fn embed<const D: usize>(
    front: Front<'_, D>,
    row: Row<'_>,
    trace: &Trace<D>,
    transposed: &Transposed<D>,
    scratch: &mut Scratch<D>,
    gradients: &mut Gradients<'_, D>,
) {
    let layout = front.layout;
    let fields = row.ids.len();
    gradients.ids.copy_from_slice(&scratch.tokens[..fields]);
    for group in 0..layout.behaviour_auxiliary - layout.number_bias {
        add(&mut gradients.parameters[layout.number_bias + group], &scratch.tokens[fields + group]);
    }
    for (column, (&value, &token)) in row.numbers.iter().zip(&layout.token_of_number).enumerate() {
        let of_token = &scratch.tokens[token];
        match front.statistics.standardise(column, value) {
            Some(value) => axpy(&mut gradients.parameters[layout.number_value + column], value, of_token),
            None => add(&mut gradients.parameters[layout.number_missing + column], of_token),
        }
    }
    if let Some(token) = layout.content_token {
        let of_token = &scratch.tokens[token];
        if row.embedding.is_empty() {
            add(&mut gradients.parameters[layout.content_missing], of_token);
        } else {
            add(&mut gradients.parameters[layout.content_bias], of_token);
            for (position, &value) in row.embedding.iter().enumerate() {
                axpy(&mut gradients.parameters[layout.content_weight + position], value, of_token);
            }
        }
    }
    if let Some(token) = layout.behaviour_token {
        let of_token = scratch.tokens[token];
        recall(front, row, trace, transposed, &of_token, &mut scratch.weights, gradients);
    }
}

/// The gradient of the behaviours' token.
#[inline(always)]
fn recall<const D: usize>(
    front: Front<'_, D>,
    row: Row<'_>,
    trace: &Trace<D>,
    transposed: &Transposed<D>,
    of_token: &[f32; D],
    of_weights: &mut Vec<f32>,
    gradients: &mut Gradients<'_, D>,
) {
    let layout = front.layout;
    if row.behaviours.is_empty() {
        add(&mut gradients.parameters[layout.behaviour_empty], of_token);
        return;
    }
    let target = layout.behaviours == BehaviourEncoder::TargetAttention;
    let mut of_probe = [0.0; D];
    let mut mean = 0.0;
    of_weights.clear();
    if target {
        for (weight, vector) in trace.behaviour_weights.iter().zip(&trace.behaviours) {
            let of_weight = dot(of_token, vector);
            mean += weight * of_weight;
            of_weights.push(of_weight);
        }
    }
    for (position, behaviour) in row.behaviours.iter().enumerate() {
        let weight = trace.behaviour_weights[position];
        let features = auxiliary(behaviour);
        let mut of_vector = [0.0; D];
        axpy(&mut of_vector, weight, of_token);
        if target {
            let of_score = weight * (of_weights[position] - mean);
            axpy(&mut of_vector, of_score, &trace.probe);
            axpy(&mut of_probe, of_score, &trace.behaviours[position]);
            let of_scores = gradients.parameters[layout.behaviour_score..].as_flattened_mut();
            for (of_score_weight, feature) in of_scores.iter_mut().zip(features) {
                *of_score_weight += of_score * feature;
            }
        }
        for (feature, &value) in features.iter().enumerate() {
            axpy(&mut gradients.parameters[layout.behaviour_auxiliary + feature], value, &of_vector);
        }
        gradients.behaviours[position] = of_vector;
    }
    if target {
        for dimension in 0..D {
            let gradient = &mut gradients.parameters[layout.behaviour_target + dimension];
            axpy(gradient, trace.target[dimension], &of_probe);
        }
        let mut of_target = [0.0; D];
        times(&mut of_target, &of_probe, &transposed.target);
        for id in 0..3 {
            add(&mut gradients.ids[id], &of_target);
        }
    }
}
