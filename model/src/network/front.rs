//! From an encoded row to the weighted field tokens that the MLP reads: embeddings, behaviours,
//! self-attention with residual and norm, attention pooling. One row at a time.
//!
//! Pooling weighs the tokens and keeps them apart (token t times T * weight of t) rather than
//! adding them up: the MLP can still form their sum, and loses nothing where it should not.

use super::kernel::{add, axpy, dot, exp, multiversion, times};
use super::layout::{AUXILIARY, Layout};
use super::sequence;
use crate::encode::{EncodedBehaviour, Row, Statistics};

/// Tokens computed side by side in the attention scores.
pub(crate) const LANES: usize = 16;
/// Added to the mean square of a token before it divides: a token near zero stays near zero, so
/// that an embedding that has learned nothing says nothing.
pub(crate) const NORM_FLOOR: f32 = 0.01;

/// What the front reads beside a row.
#[derive(Clone, Copy)]
pub(crate) struct Front<'a, const D: usize> {
    pub(crate) layout: &'a Layout,
    pub(crate) statistics: &'a Statistics,
    /// Parameters, in rows.
    pub(crate) parameters: &'a [[f32; D]],
    /// Embeddings, in rows; what a row's ids count.
    pub(crate) embeddings: &'a [[f32; D]],
}

/// One attention layer's intermediate values.
#[derive(Debug, Clone)]
pub(crate) struct LayerTrace<const D: usize> {
    /// 1 / root mean square of each token.
    pub(crate) scale: Vec<f32>,
    pub(crate) normed: Vec<[f32; D]>,
    pub(crate) query: Vec<[f32; D]>,
    pub(crate) key: Vec<[f32; D]>,
    pub(crate) value: Vec<[f32; D]>,
    pub(crate) mixed: Vec<[f32; D]>,
    /// Attention, head by head: \[key]\[query], queries in lanes.
    pub(crate) attention: Vec<[f32; LANES]>,
}

/// All intermediate values of one row: read by the backward pass and by explanations.
#[derive(Debug, Clone)]
pub(crate) struct Trace<const D: usize> {
    /// Tokens before the first layer, then after each.
    pub(crate) tokens: Vec<Vec<[f32; D]>>,
    pub(crate) layers: Vec<LayerTrace<D>>,
    /// Pooling weight of each token; they sum to 1.
    pub(crate) pooling: Vec<f32>,
    /// Past behaviours as vectors.
    pub(crate) behaviours: Vec<[f32; D]>,
    /// What became of them before they were pooled.
    pub(crate) sequence: sequence::Memory<D>,
    /// What they are compared with, and that through the matrix.
    pub(crate) target: [f32; D],
    pub(crate) probe: [f32; D],
    /// Weight of each behaviour; they sum to 1.
    pub(crate) behaviour_weights: Vec<f32>,
    /// Queries, then mixtures, with tokens in lanes: \[dimension]\[block].
    pub(crate) lanes: Vec<[f32; LANES]>,
}

impl<const D: usize> Trace<D> {
    /// For [`embed_row`] alone.
    pub(crate) fn of_embedding(layout: &Layout) -> Self {
        Self {
            tokens: vec![vec![[0.0; D]; layout.tokens.len()]],
            layers: Vec::new(),
            pooling: Vec::new(),
            behaviours: Vec::new(),
            sequence: sequence::Memory::default(),
            target: [0.0; D],
            probe: [0.0; D],
            behaviour_weights: Vec::new(),
            lanes: Vec::new(),
        }
    }

    pub(crate) fn new(layout: &Layout) -> Self {
        let tokens = layout.tokens.len();
        let blocks = tokens.div_ceil(LANES);
        let rows = || vec![[0.0; D]; tokens];
        Self {
            tokens: (0..=layout.layers.len()).map(|_| rows()).collect(),
            layers: layout
                .layers
                .iter()
                .map(|_| LayerTrace {
                    scale: vec![0.0; tokens],
                    normed: rows(),
                    query: rows(),
                    key: rows(),
                    value: rows(),
                    mixed: rows(),
                    attention: vec![[0.0; LANES]; layout.heads * tokens * blocks],
                })
                .collect(),
            pooling: vec![0.0; tokens],
            behaviours: Vec::new(),
            sequence: sequence::Memory::default(),
            target: [0.0; D],
            probe: [0.0; D],
            behaviour_weights: Vec::new(),
            lanes: vec![[0.0; LANES]; D * blocks],
        }
    }
}

multiversion! {
    /// Computes one row's tokens before the first layer, into `trace.tokens[0]`.
    pub(crate) fn embed_row<const D: usize>(
        front: Front<'_, D>, row: Row<'_>, trace: &mut Trace<D>,
    ) = embed::<D>
}

multiversion! {
    /// Computes one row's tokens; `out` takes `layout.outputs()` floats.
    pub(crate) fn forward<const D: usize>(
        front: Front<'_, D>, row: Row<'_>, trace: &mut Trace<D>, out: &mut [f32],
    ) = body::<D>
}

#[inline(always)]
pub(super) fn body<const D: usize>(front: Front<'_, D>, row: Row<'_>, trace: &mut Trace<D>, out: &mut [f32]) {
    let layout = front.layout;
    embed(front, row, trace);
    for layer in 0..layout.layers.len() {
        attend(front, layer, trace);
    }
    let count = layout.tokens.len();
    let tokens = &trace.tokens[layout.layers.len()];
    let out = out.as_chunks_mut::<D>().0;
    if !layout.attention {
        trace.pooling.fill(1.0 / count as f32);
        out[..count].copy_from_slice(tokens);
        return;
    }
    let query = &front.parameters[layout.pool_query];
    let bias = front.parameters[layout.pool_bias..].as_flattened();
    for (token, weight) in trace.pooling.iter_mut().enumerate() {
        *weight = dot(query, &tokens[token]) + bias[token];
    }
    softmax(&mut trace.pooling);
    for (token, out) in out[..count].iter_mut().enumerate() {
        let weight = trace.pooling[token] * count as f32;
        for lane in 0..D {
            out[lane] = weight * tokens[token][lane];
        }
    }
}

/// In place, in one fixed order.
#[inline(always)]
pub(super) fn softmax(values: &mut [f32]) {
    let most = values.iter().copied().fold(f32::MIN, f32::max);
    for value in values.iter_mut() {
        *value = exp(*value - most);
    }
    let mut total = 0.0;
    for value in values.iter() {
        total += value;
    }
    let inverse = 1.0 / total;
    for value in values.iter_mut() {
        *value *= inverse;
    }
}

/// The features of a behaviour beside its ids.
#[inline(always)]
pub(crate) fn auxiliary(behaviour: &EncodedBehaviour) -> [f32; AUXILIARY] {
    let mut features = [0.0; AUXILIARY];
    features[0] = behaviour.age;
    for bit in 0..3 {
        features[1 + bit] = f32::from((behaviour.same >> bit) & 1);
    }
    features[4 + usize::from(behaviour.kind).min(AUXILIARY - 5)] = 1.0;
    features
}

/// Fills the tokens before the first layer.
#[inline(always)]
fn embed<const D: usize>(front: Front<'_, D>, row: Row<'_>, trace: &mut Trace<D>) {
    let Front { layout, statistics, parameters, embeddings } = front;
    let fields = row.ids.len();
    for (field, &id) in row.ids.iter().enumerate() {
        trace.tokens[0][field] = embeddings[id as usize];
    }
    let groups = layout.behaviour_auxiliary - layout.number_bias;
    for group in 0..groups {
        trace.tokens[0][fields + group] = parameters[layout.number_bias + group];
    }
    for (column, (&value, &token)) in row.numbers.iter().zip(&layout.token_of_number).enumerate() {
        let token = &mut trace.tokens[0][token];
        match statistics.standardise(column, value) {
            Some(value) => axpy(token, value, &parameters[layout.number_value + column]),
            None => add(token, &parameters[layout.number_missing + column]),
        }
    }
    if let Some(token) = layout.behaviour_token {
        let pooled = recall(front, row, trace);
        trace.tokens[0][token] = pooled;
    }
    if let Some(token) = layout.content_token {
        let token = &mut trace.tokens[0][token];
        if row.embedding.is_empty() {
            *token = parameters[layout.content_missing];
        } else {
            *token = parameters[layout.content_bias];
            for (position, &value) in row.embedding.iter().enumerate() {
                axpy(token, value, &parameters[layout.content_weight + position]);
            }
        }
    }
}

/// Past behaviours as one token.
#[inline(always)]
fn recall<const D: usize>(front: Front<'_, D>, row: Row<'_>, trace: &mut Trace<D>) -> [f32; D] {
    let Front { layout, parameters, embeddings, .. } = front;
    trace.behaviours.clear();
    trace.behaviour_weights.clear();
    if row.behaviours.is_empty() {
        return parameters[layout.behaviour_empty];
    }
    for behaviour in row.behaviours {
        let mut vector = embeddings[behaviour.rows[0] as usize];
        add(&mut vector, &embeddings[behaviour.rows[1] as usize]);
        add(&mut vector, &embeddings[behaviour.rows[2] as usize]);
        for (position, &feature) in auxiliary(behaviour).iter().enumerate() {
            axpy(&mut vector, feature, &parameters[layout.behaviour_auxiliary + position]);
        }
        trace.behaviours.push(vector);
    }
    trace.sequence.forward(layout.sequence, parameters, &trace.behaviours);
    let states = trace.sequence.states(layout.sequence, &trace.behaviours);
    if layout.behaviours.attends() {
        let mut target = embeddings[row.ids[0] as usize];
        add(&mut target, &embeddings[row.ids[1] as usize]);
        add(&mut target, &embeddings[row.ids[2] as usize]);
        let mut probe = [0.0; D];
        times(&mut probe, &target, &parameters[layout.behaviour_target..]);
        let scores = parameters[layout.behaviour_score..].as_flattened();
        for (behaviour, state) in row.behaviours.iter().zip(states) {
            let mut score = dot(&probe, state);
            for (position, &feature) in auxiliary(behaviour).iter().enumerate() {
                score += feature * scores[position];
            }
            trace.behaviour_weights.push(score);
        }
        softmax(&mut trace.behaviour_weights);
        trace.target = target;
        trace.probe = probe;
    } else {
        trace.behaviour_weights.resize(row.behaviours.len(), 1.0 / row.behaviours.len() as f32);
    }
    let mut pooled = [0.0; D];
    for (weight, state) in trace.behaviour_weights.iter().zip(states) {
        axpy(&mut pooled, *weight, state);
    }
    pooled
}

/// One layer: x + attention(norm(x)).
#[inline(always)]
fn attend<const D: usize>(front: Front<'_, D>, layer: usize, trace: &mut Trace<D>) {
    let layout = front.layout;
    let at = layout.layers[layer];
    let parameters = front.parameters;
    let count = layout.tokens.len();
    let blocks = count.div_ceil(LANES);
    let (before, after) = trace.tokens.split_at_mut(layer + 1);
    let (before, after) = (&before[layer], &mut after[0]);
    let LayerTrace { scale, normed, query, key, value, mixed, attention } = &mut trace.layers[layer];
    for token in 0..count {
        let x = &before[token];
        let inverse = 1.0 / (dot(x, x) / D as f32 + NORM_FLOOR).sqrt();
        scale[token] = inverse;
        let gain = &parameters[at.norm];
        let mut n = [0.0; D];
        for lane in 0..D {
            n[lane] = x[lane] * inverse * gain[lane];
        }
        let (mut q, mut k, mut v) = ([0.0; D], [0.0; D], [0.0; D]);
        for dimension in 0..D {
            axpy(&mut q, n[dimension], &parameters[at.query + dimension]);
            axpy(&mut k, n[dimension], &parameters[at.key + dimension]);
            axpy(&mut v, n[dimension], &parameters[at.value + dimension]);
        }
        normed[token] = n;
        query[token] = q;
        key[token] = k;
        value[token] = v;
    }
    let lanes = &mut trace.lanes;
    into_lanes(query, lanes);
    let head_width = D / layout.heads;
    let shrink = 1.0 / (head_width as f32).sqrt();
    for head in 0..layout.heads {
        let dimensions = head * head_width..(head + 1) * head_width;
        let attention = &mut attention[head * count * blocks..(head + 1) * count * blocks];
        for block in 0..blocks {
            let mut most = [f32::MIN; LANES];
            for token in 0..count {
                let mut scores = [0.0; LANES];
                for dimension in dimensions.clone() {
                    axpy(&mut scores, key[token][dimension], &lanes[dimension * blocks + block]);
                }
                for lane in 0..LANES {
                    scores[lane] *= shrink;
                    most[lane] = if scores[lane] > most[lane] { scores[lane] } else { most[lane] };
                }
                attention[token * blocks + block] = scores;
            }
            let mut total = [0.0; LANES];
            for token in 0..count {
                // Out of memory and back in two loops: else the exponential is not vectorised.
                let mut scores = attention[token * blocks + block];
                for lane in 0..LANES {
                    scores[lane] = exp(scores[lane] - most[lane]);
                }
                attention[token * blocks + block] = scores;
                for lane in 0..LANES {
                    total[lane] += scores[lane];
                }
            }
            for total in &mut total {
                *total = 1.0 / *total;
            }
            for token in 0..count {
                let scores = &mut attention[token * blocks + block];
                for lane in 0..LANES {
                    scores[lane] *= total[lane];
                }
            }
        }
        // The queries of this head's dimensions are read: their place takes the mixtures.
        for dimension in dimensions {
            for block in 0..blocks {
                let mut sum = [0.0; LANES];
                for token in 0..count {
                    axpy(&mut sum, value[token][dimension], &attention[token * blocks + block]);
                }
                lanes[dimension * blocks + block] = sum;
            }
        }
    }
    from_lanes(lanes, mixed);
    for token in 0..count {
        let mut sum = before[token];
        for dimension in 0..D {
            axpy(&mut sum, mixed[token][dimension], &parameters[at.output + dimension]);
        }
        after[token] = sum;
    }
}

/// \[token]\[dimension] to \[dimension]\[block of tokens]; lanes beyond the last token are 0.
#[inline(always)]
pub(super) fn into_lanes<const D: usize>(rows: &[[f32; D]], lanes: &mut [[f32; LANES]]) {
    let blocks = rows.len().div_ceil(LANES);
    for (block, rows) in rows.chunks(LANES).enumerate() {
        for dimension in 0..D {
            let mut lane = [0.0; LANES];
            for (lane, row) in lane.iter_mut().zip(rows) {
                *lane = row[dimension];
            }
            lanes[dimension * blocks + block] = lane;
        }
    }
}

/// The reverse of [`into_lanes`].
#[inline(always)]
pub(super) fn from_lanes<const D: usize>(lanes: &[[f32; LANES]], rows: &mut [[f32; D]]) {
    let blocks = rows.len().div_ceil(LANES);
    for (block, rows) in rows.chunks_mut(LANES).enumerate() {
        for (lane, row) in rows.iter_mut().enumerate() {
            for dimension in 0..D {
                row[dimension] = lanes[dimension * blocks + block][lane];
            }
        }
    }
}
