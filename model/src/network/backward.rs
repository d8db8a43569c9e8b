//! The gradient of the first tokens, one row at a time: reads the row's trace, adds to the gradients
//! of the parameters, writes those of the row's embeddings.

use super::front::{Front, Trace, auxiliary};
use super::kernel::{add, axpy, dot, multiversion, times};
use super::layout::Layout;
use crate::encode::Row;

/// The matrices of the front, transposed once a batch.
pub(crate) struct Transposed<const D: usize> {
    target: Vec<[f32; D]>,
}

impl<const D: usize> Transposed<D> {
    pub(crate) fn new(layout: &Layout, parameters: &[[f32; D]]) -> Self {
        let transpose = |first: usize| -> Vec<[f32; D]> {
            (0..D).map(|i| std::array::from_fn(|j| parameters[first + j][i])).collect()
        };
        Self {
            target: if layout.behaviours.attends() { transpose(layout.behaviour_target) } else { Vec::new() },
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
    /// Adds the gradients of what [`super::front::embed_row`] computed: `of_tokens` are those of the
    /// tokens before the first layer.
    pub(crate) fn embed_backward<const D: usize>(
        front: Front<'_, D>,
        row: Row<'_>,
        trace: &Trace<D>,
        transposed: &Transposed<D>,
        of_tokens: &[[f32; D]],
        weights: &mut Vec<f32>,
        gradients: &mut Gradients<'_, D>,
    ) = embed::<D>
}

/// From the gradient of the first tokens to those of embeddings, numbers and behaviours.
#[inline(always)]
fn embed<const D: usize>(
    front: Front<'_, D>,
    row: Row<'_>,
    trace: &Trace<D>,
    transposed: &Transposed<D>,
    of_tokens: &[[f32; D]],
    weights: &mut Vec<f32>,
    gradients: &mut Gradients<'_, D>,
) {
    let layout = front.layout;
    let fields = row.ids.len();
    gradients.ids.copy_from_slice(&of_tokens[..fields]);
    for group in 0..layout.behaviour_auxiliary - layout.number_bias {
        add(&mut gradients.parameters[layout.number_bias + group], &of_tokens[fields + group]);
    }
    for (column, (&value, &token)) in row.numbers.iter().zip(&layout.token_of_number).enumerate() {
        let of_token = &of_tokens[token];
        match front.statistics.standardise(column, value) {
            Some(value) => axpy(&mut gradients.parameters[layout.number_value + column], value, of_token),
            None => add(&mut gradients.parameters[layout.number_missing + column], of_token),
        }
    }
    if let Some(token) = layout.content_token {
        let of_token = &of_tokens[token];
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
        let of_token = of_tokens[token];
        recall(front, row, trace, transposed, &of_token, weights, gradients);
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
    let target = layout.behaviours.attends();
    let states = trace.sequence.states(layout.sequence, &trace.behaviours);
    let mut of_probe = [0.0; D];
    let mut mean = 0.0;
    of_weights.clear();
    if target {
        for (weight, state) in trace.behaviour_weights.iter().zip(states) {
            let of_weight = dot(of_token, state);
            mean += weight * of_weight;
            of_weights.push(of_weight);
        }
    }
    for (position, behaviour) in row.behaviours.iter().enumerate() {
        let weight = trace.behaviour_weights[position];
        let mut of_state = [0.0; D];
        axpy(&mut of_state, weight, of_token);
        if target {
            let of_score = weight * (of_weights[position] - mean);
            axpy(&mut of_state, of_score, &trace.probe);
            axpy(&mut of_probe, of_score, &states[position]);
            let of_scores = gradients.parameters[layout.behaviour_score..].as_flattened_mut();
            for (of_score_weight, feature) in of_scores.iter_mut().zip(auxiliary(behaviour)) {
                *of_score_weight += of_score * feature;
            }
        }
        gradients.behaviours[position] = of_state;
    }
    trace.sequence.backward(
        layout.sequence,
        front.parameters,
        &trace.behaviours,
        gradients.behaviours,
        gradients.parameters,
    );
    for (behaviour, of_vector) in row.behaviours.iter().zip(&*gradients.behaviours) {
        for (feature, &value) in auxiliary(behaviour).iter().enumerate() {
            axpy(&mut gradients.parameters[layout.behaviour_auxiliary + feature], value, of_vector);
        }
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
