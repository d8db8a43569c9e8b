//! Integrated gradients, taken at the field tokens: from those of an empty row, straight to those of
//! the row. A column's part is the mean gradient along the way times what the column adds to its
//! token, so that the parts of all columns sum to the difference of the two logits.

#![expect(
    clippy::inline_always,
    reason = "a body is compiled with a class's instructions only where it is inlined into that class's function"
)]

use super::{Explanation, cross};
use crate::config::{BehaviourEncoder, HeadKind};
use crate::encode::Row;
use crate::network::Dense;
use crate::network::block::{BlockGradients, GROUP, Prepared, Values, backward, forward, gather_rows};
use crate::network::front::{Trace, embed_row};
use crate::network::kernel::{dot, sigmoid};
use crate::network::lanes::{Lane, Lanes, by_class};
use crate::predict::Model;

use super::removal::without_behaviours;

/// Inputs of a layer computed together.
const ABREAST: usize = 8;

/// Each column's and each behaviour's part in the click's logit, against an empty row's, from
/// `steps` points on the way: the squares of the middles of as many equal stretches. Gradients
/// change most near the empty row, whose tokens are small: there the points are dense.
pub(super) fn integrate<const D: usize>(model: &Model, rows: &[Row<'_>], steps: usize) -> Vec<Explanation> {
    let layout = &model.layout;
    let steps = steps.max(1);
    let width = layout.outputs();
    let front = model.front::<D>();
    let prepared = Prepared::new(layout, &model.weights.front);
    let (crosses, hidden) = model.weights.layers.split_at(layout.cross_layers());
    let mut memory = Memory {
        values: Values::new(layout),
        gradients: BlockGradients::new(layout),
        crossed: cross::memory(crosses),
        layers: hidden.iter().map(|layer| vec![Lane::ZERO; layer.outputs]).collect(),
        slopes: [Vec::new(), Vec::new()],
    };
    let mut trace = Trace::<D>::new(layout);
    embed_row::<D>(model.class, front, model.nothing().row(), &mut trace);
    let from = trace.tokens.clone();
    let ends: Vec<Vec<[f32; D]>> = rows
        .iter()
        .map(|row| {
            embed_row::<D>(model.class, front, *row, &mut trace);
            trace.tokens.clone()
        })
        .collect();

    // Roots of all points of all rows, sixteen at a time; a lane's bits are its own.
    let mut slopes = vec![vec![0.0; width]; rows.len()];
    let points: Vec<(usize, f32)> = (0..rows.len())
        .flat_map(|row| (0..steps).map(move |step| (row, (step as f32 + 0.5) / steps as f32)))
        .collect();
    for group in points.chunks(GROUP) {
        let mut tokens: Vec<f32> = Vec::with_capacity(group.len() * width);
        for &(row, root) in group {
            let share = root * root;
            let (from, to) = (from.as_flattened(), ends[row].as_flattened());
            tokens.extend(from.iter().zip(to).map(|(from, to)| from + share * (to - from)));
        }
        token_gradients(model, &prepared, &mut memory, &mut tokens);
        for (&(row, root), gradient) in group.iter().zip(tokens.chunks_exact(width)) {
            let weight = 2.0 * root / steps as f32;
            for (sum, gradient) in slopes[row].iter_mut().zip(gradient) {
                *sum += weight * gradient;
            }
        }
    }
    rows.iter()
        .zip(&ends)
        .zip(&slopes)
        .map(|((row, to), slopes)| {
            share_out::<D>(model, row, &from, to, slopes.as_chunks::<D>().0, &mut trace)
        })
        .collect()
}

/// Parts of columns and behaviours from the mean gradient of the tokens.
fn share_out<const D: usize>(
    model: &Model,
    row: &Row<'_>,
    from: &[[f32; D]],
    to: &[[f32; D]],
    slopes: &[[f32; D]],
    trace: &mut Trace<D>,
) -> Explanation {
    let layout = &model.layout;
    let front = model.front::<D>();
    let along = |token: usize, a: &[f32; D], b: &[f32; D]| dot(&slopes[token], b) - dot(&slopes[token], a);
    let mut columns: Vec<f32> = row
        .numbers
        .iter()
        .zip(&layout.token_of_number)
        .enumerate()
        .map(|(column, (&value, &token))| match model.statistics.standardise(column, value) {
            None => 0.0,
            Some(value) => {
                let added = dot(&slopes[token], &front.parameters[layout.number_value + column]) * value;
                added - dot(&slopes[token], &front.parameters[layout.number_missing + column])
            }
        })
        .collect();
    columns.extend(
        super::removal::tokens_of_columns(layout).map(|token| along(token, &from[token], &to[token])),
    );
    let behaviours = match layout.behaviour_token {
        None => Vec::new(),
        Some(token) => without_each::<D>(model, row, token, from, trace)
            .iter()
            .map(|without| along(token, without, &to[token]))
            .collect(),
    };
    Explanation { columns, behaviours }
}

/// What the behaviours' token would be without each of them.
pub(super) fn without_each<const D: usize>(
    model: &Model,
    row: &Row<'_>,
    token: usize,
    from: &[[f32; D]],
    trace: &mut Trace<D>,
) -> Vec<[f32; D]> {
    let front = model.front::<D>();
    let alone = row.behaviours.len() == 1;
    match model.layout.behaviours {
        _ if alone => vec![from[token]],
        // A mixture of the behaviours: the others keep their proportions.
        BehaviourEncoder::Mean | BehaviourEncoder::TargetAttention => {
            embed_row::<D>(model.class, front, *row, trace);
            let pooled = trace.tokens[token];
            let mixed = trace.behaviour_weights.iter().zip(&trace.behaviours);
            mixed
                .map(|(&weight, behaviour)| {
                    // Beside one of weight 1 the others are nothing, whatever their proportions.
                    let left = (1.0 - weight).max(1e-6);
                    std::array::from_fn(|at| (pooled[at] - weight * behaviour[at]) / left)
                })
                .collect()
        }
        _ => (0..row.behaviours.len())
            .map(|position| {
                let without = without_behaviours(row, &[position]);
                embed_row::<D>(model.class, front, without.row(), trace);
                trace.tokens[token]
            })
            .collect(),
    }
}

struct Memory {
    values: Values,
    /// The parameters' gradients in it are not read.
    gradients: BlockGradients,
    /// What crosses gave for sixteen rows.
    crossed: Vec<cross::Crossed>,
    /// Outputs of each layer of the MLP for them.
    layers: Vec<Vec<Lane>>,
    slopes: [Vec<Lane>; 2],
}

/// Turns tokens of up to sixteen rows into the gradients of their click's logits.
fn token_gradients(model: &Model, prepared: &Prepared, memory: &mut Memory, tokens: &mut [f32]) {
    let class = model.class;
    let width = model.layout.outputs();
    let Memory { values, gradients, crossed, layers, slopes } = memory;
    gather_rows(class, values.shape, tokens, &mut values.tokens[0]);
    let mut out = vec![0.0; tokens.len()];
    forward(class, prepared, values, &mut out);
    let mut inputs = vec![Lane::ZERO; width];
    for (lane, row) in out.chunks_exact(width).enumerate() {
        for (input, &value) in inputs.iter_mut().zip(row) {
            input.0[lane] = value;
        }
    }
    let (crosses, dense) = model.weights.layers.split_at(model.layout.cross_layers());
    let read = cross::forward(class, crosses, &inputs, crossed);
    let hidden = dense.len() - 1;
    for (number, layer) in dense[..hidden].iter().enumerate() {
        let (before, after) = layers.split_at_mut(number);
        let read = before.last().map_or(read, |before| before);
        layer_forward(class, layer, true, read, &mut after[0]);
    }
    let [slope, next] = slopes;
    let head = model.config.network.head;
    let (before, after) = layers.split_at_mut(hidden);
    let outputs = &mut after[0];
    if head == HeadKind::Softmax {
        let read = before.last().map_or(read, |before| before);
        layer_forward(class, &dense[hidden], false, read, outputs);
    }
    click_slopes(head, outputs);
    slope.clear();
    slope.resize(dense[hidden].inputs, Lane::ZERO);
    layer_backward(class, &dense[hidden], None, outputs, slope);
    for number in (0..hidden).rev() {
        next.clear();
        next.resize(dense[number].inputs, Lane::ZERO);
        layer_backward(class, &dense[number], Some(&layers[number]), slope, next);
        std::mem::swap(slope, next);
    }
    cross::backward(class, crosses, &inputs, crossed, slope);
    for (lane, row) in tokens.chunks_exact_mut(width).enumerate() {
        for (value, slope) in row.iter_mut().zip(slope.iter()) {
            *value = slope.0[lane];
        }
    }
    backward(class, prepared, values, gradients, tokens);
}

/// Turns the network's outputs into the slopes of the click's log odds (the first of [`crate::predict::Outputs`]) at each of
/// them: of a click's own logit it is 1; of a softmax, the share of each outcome with a click among these,
/// less that of each without among those.
fn click_slopes(head: HeadKind, outputs: &mut [Lane]) {
    let mut slopes = [Lane([1.0; GROUP]), Lane::ZERO, Lane::ZERO];
    if let (HeadKind::Softmax, [click, both, purchase, ..]) = (head, &*outputs) {
        for lane in 0..GROUP {
            let of_click = sigmoid(click.0[lane] - both.0[lane]);
            slopes[0].0[lane] = of_click;
            slopes[1].0[lane] = 1.0 - of_click;
            slopes[2].0[lane] = -sigmoid(purchase.0[lane]);
        }
    }
    outputs.fill(Lane::ZERO);
    for (output, slope) in outputs.iter_mut().zip(slopes) {
        *output = slope;
    }
}

by_class! {
    /// A layer for sixteen rows; `relu` clamps its outputs at 0.
    pub(super) fn layer_forward(layer: &Dense, relu: bool, inputs: &[Lane], outputs: &mut [Lane]) = layer_forward_body
}

by_class! {
    /// From the slopes of a layer's outputs to those of its inputs; `clamped` are its outputs, where
    /// they were clamped.
    pub(super) fn layer_backward(
        layer: &Dense, clamped: Option<&[Lane]>, slopes: &[Lane], of_inputs: &mut [Lane],
    ) = layer_backward_body
}

#[inline(always)]
fn layer_forward_body<V: Lanes>(layer: &Dense, relu: bool, inputs: &[Lane], outputs: &mut [Lane]) {
    outputs.fill(Lane::ZERO);
    for (output, &bias) in outputs.iter_mut().zip(&layer.bias) {
        output.0 = [bias; 16];
    }
    // Several inputs at a time, so that outputs go to memory and back less often.
    let (some, rest) = inputs.as_chunks::<ABREAST>();
    let (weights, rest_weights) = layer.weight.split_at(some.len() * ABREAST * layer.outputs);
    for (inputs, weights) in some.iter().zip(weights.chunks_exact(ABREAST * layer.outputs)) {
        let inputs = inputs.map(|input| V::load(&input.0));
        for (at, output) in outputs.iter_mut().enumerate() {
            let mut sum = V::load(&output.0);
            for number in 0..ABREAST {
                sum = V::splat(weights[number * layer.outputs + at]).fma(inputs[number], sum);
            }
            sum.store(&mut output.0);
        }
    }
    for (input, weights) in rest.iter().zip(rest_weights.chunks_exact(layer.outputs)) {
        let input = V::load(&input.0);
        for (output, &weight) in outputs.iter_mut().zip(weights) {
            V::splat(weight).fma(input, V::load(&output.0)).store(&mut output.0);
        }
    }
    if relu {
        for output in outputs {
            V::load(&output.0).max(V::splat(0.0)).store(&mut output.0);
        }
    }
}

#[inline(always)]
fn layer_backward_body<V: Lanes>(
    layer: &Dense,
    clamped: Option<&[Lane]>,
    slopes: &[Lane],
    of_inputs: &mut [Lane],
) {
    let mut slopes = slopes.to_vec();
    for (slope, output) in slopes.iter_mut().zip(clamped.unwrap_or_default()) {
        for (slope, &output) in slope.0.iter_mut().zip(&output.0) {
            if output <= 0.0 {
                *slope = 0.0;
            }
        }
    }
    // Several sums at a time, so that none waits for itself.
    let (some, rest) = of_inputs.as_chunks_mut::<ABREAST>();
    let (weights, rest_weights) = layer.weight.split_at(some.len() * ABREAST * layer.outputs);
    for (of_inputs, weights) in some.iter_mut().zip(weights.chunks_exact(ABREAST * layer.outputs)) {
        let mut sums = [V::splat(0.0); ABREAST];
        for (at, slope) in slopes.iter().enumerate() {
            let slope = V::load(&slope.0);
            for number in 0..ABREAST {
                sums[number] = V::splat(weights[number * layer.outputs + at]).fma(slope, sums[number]);
            }
        }
        for (of_input, sum) in of_inputs.iter_mut().zip(sums) {
            sum.store(&mut of_input.0);
        }
    }
    for (of_input, weights) in rest.iter_mut().zip(rest_weights.chunks_exact(layer.outputs)) {
        let mut sum = V::splat(0.0);
        for (slope, &weight) in slopes.iter().zip(weights) {
            sum = V::splat(weight).fma(V::load(&slope.0), sum);
        }
        sum.store(&mut of_input.0);
    }
}
