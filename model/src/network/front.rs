//! From an encoded row to its field tokens, one row at a time: embeddings, numbers, behaviours,
//! content. What comes after them is [`super::block`]'s.

use super::kernel::{add, axpy, dot, exp, multiversion, times};
use super::layout::{AUXILIARY, Layout};
use super::sequence;
use crate::encode::{EncodedBehaviour, Row, Statistics};

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

/// A row's first tokens and what they were computed from: read by the backward pass and by
/// explanations.
#[derive(Debug, Clone)]
pub(crate) struct Trace<const D: usize> {
    /// Tokens before the first attention layer.
    pub(crate) tokens: Vec<[f32; D]>,
    /// Past behaviours as vectors.
    pub(crate) behaviours: Vec<[f32; D]>,
    /// What became of them before they were pooled.
    pub(crate) sequence: sequence::Memory<D>,
    /// What they are compared with, and that through the matrix.
    pub(crate) target: [f32; D],
    pub(crate) probe: [f32; D],
    /// Weight of each behaviour; they sum to 1.
    pub(crate) behaviour_weights: Vec<f32>,
}

impl<const D: usize> Trace<D> {
    pub(crate) fn new(layout: &Layout) -> Self {
        Self {
            tokens: vec![[0.0; D]; layout.tokens.len()],
            behaviours: Vec::new(),
            sequence: sequence::Memory::default(),
            target: [0.0; D],
            probe: [0.0; D],
            behaviour_weights: Vec::new(),
        }
    }
}

multiversion! {
    /// Computes one row's tokens before the first layer, into `trace.tokens`.
    pub(crate) fn embed_row<const D: usize>(
        front: Front<'_, D>, row: Row<'_>, trace: &mut Trace<D>,
    ) = embed::<D>
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
        trace.tokens[field] = embeddings[id as usize];
    }
    let groups = layout.behaviour_auxiliary - layout.number_bias;
    for group in 0..groups {
        trace.tokens[fields + group] = parameters[layout.number_bias + group];
    }
    for (column, (&value, &token)) in row.numbers.iter().zip(&layout.token_of_number).enumerate() {
        let token = &mut trace.tokens[token];
        match statistics.standardise(column, value) {
            Some(value) => axpy(token, value, &parameters[layout.number_value + column]),
            None => add(token, &parameters[layout.number_missing + column]),
        }
    }
    if let Some(token) = layout.behaviour_token {
        let pooled = recall(front, row, trace);
        trace.tokens[token] = pooled;
    }
    if let Some(token) = layout.content_token {
        let token = &mut trace.tokens[token];
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
