//! The block's gradient: from that of its output to those of the tokens and of the parameters, the
//! forward pass done again first, since that costs less than fetching what it left from memory.

use super::forward::{compute, gather, scatter};
use super::matrix::{mix, outer, project, scores, spread, zero};
use super::{LayerValues, Prepared, PreparedLayer, Shape, TILE, Values};
use crate::network::lanes::{Lane, Lanes, by_class, exp2};
use crate::network::layout::Layout;

/// Lanes of keys taken together: with as many of values, and gradients of both, half of L1.
const LANES_OF_KEYS: usize = 96;

/// Gradients of a layer's parameters, each lane for its own rows.
#[derive(Debug, Clone)]
struct LayerGradients {
    gain: Vec<Lane>,
    projections: [Vec<Lane>; 3],
    output: Vec<Lane>,
}

/// Gradients of the block's parameters, and the memory of its backward pass.
#[derive(Debug, Clone)]
pub(crate) struct BlockGradients {
    layers: Vec<LayerGradients>,
    pool_query: Vec<Lane>,
    pool_bias: Vec<Lane>,
    /// Of the tokens.
    tokens: Vec<Lane>,
    mixed: Vec<Lane>,
    query: Vec<Lane>,
    key: Vec<Lane>,
    value: Vec<Lane>,
    normed: Vec<Lane>,
    scores: [Vec<Lane>; TILE],
    /// Of the weights of each of a head's queries, under these weights.
    means: Vec<Lane>,
}

impl BlockGradients {
    pub(crate) fn new(layout: &Layout) -> Self {
        let shape = Shape::new(layout);
        let all = || vec![Lane::ZERO; shape.padded * shape.width];
        let lanes = |count: usize| vec![Lane::ZERO; count];
        let matrix = || lanes(shape.width * shape.width);
        Self {
            layers: layout
                .layers
                .iter()
                .map(|_| LayerGradients {
                    gain: lanes(shape.width),
                    projections: [matrix(), matrix(), matrix()],
                    output: matrix(),
                })
                .collect(),
            pool_query: lanes(shape.width),
            pool_bias: lanes(shape.tokens),
            tokens: all(),
            mixed: all(),
            query: all(),
            key: all(),
            value: all(),
            normed: all(),
            scores: std::array::from_fn(|_| lanes(shape.padded)),
            means: lanes(shape.padded),
        }
    }

    /// Adds the sums over the lanes to the gradients of the front's parameters (flat), and begins
    /// anew.
    pub(crate) fn flush(&mut self, layout: &Layout, query_scale: f32, gradients: &mut [f32]) {
        let width = layout.width;
        let mut add = |lanes: &mut [Lane], row: usize, scale: f32| {
            for (lane, gradient) in lanes.iter_mut().zip(&mut gradients[row * width..]) {
                *gradient += scale * sum(&lane.0);
                *lane = Lane::ZERO;
            }
        };
        for (layer, at) in self.layers.iter_mut().zip(&layout.layers) {
            add(&mut layer.gain, at.norm, 1.0);
            let [query, key, value] = &mut layer.projections;
            add(query, at.query, query_scale);
            add(key, at.key, 1.0);
            add(value, at.value, 1.0);
            add(&mut layer.output, at.output, 1.0);
        }
        if layout.attention {
            add(&mut self.pool_query, layout.pool_query, 1.0);
            add(&mut self.pool_bias, layout.pool_bias, 1.0);
        }
    }
}

/// In one fixed tree.
fn sum(lane: &[f32; 16]) -> f32 {
    let mut lane = *lane;
    for half in [8, 4, 2, 1] {
        for at in 0..half {
            lane[at] += lane[at + half];
        }
    }
    lane[0]
}

by_class! {
    /// From the gradients of up to sixteen rows' outputs (row after row) to those of their tokens (the
    /// same way, in place), whose values are in `values.tokens[0]`; the parameters' are added to
    /// `gradients`.
    pub(crate) fn backward(
        prepared: &Prepared, values: &mut Values, gradients: &mut BlockGradients, rows: &mut [f32],
    ) = body
}

#[inline(always)]
fn body<V: Lanes>(
    prepared: &Prepared,
    values: &mut Values,
    gradients: &mut BlockGradients,
    rows: &mut [f32],
) {
    compute::<V>(prepared, values);
    let shape = values.shape;
    let present = rows.len() / shape.outputs();
    gather::<V>(shape, rows, &mut gradients.tokens);
    if present < super::GROUP {
        // Lanes without a row have no gradient, whatever an earlier group left there.
        for lane in &mut gradients.tokens[..shape.outputs()] {
            lane.0[present..].fill(0.0);
        }
    }
    for lane in &mut gradients.tokens[shape.outputs()..] {
        *lane = Lane::ZERO;
    }
    if !prepared.pool_query.is_empty() {
        pool::<V>(prepared, values, gradients);
    }
    for (number, layer) in prepared.layers.iter().enumerate().rev() {
        attend::<V>(layer, number, values, gradients);
    }
    scatter::<V>(shape, &gradients.tokens, None, rows);
}

#[inline(always)]
fn pool<V: Lanes>(prepared: &Prepared, values: &Values, gradients: &mut BlockGradients) {
    let shape = values.shape;
    let tokens = &values.tokens[prepared.layers.len()];
    // The weights are 1 in the mean; those that the softmax gives are that many times smaller.
    let share = V::splat(1.0 / shape.tokens as f32);
    let mut mean = V::splat(0.0);
    let weights = &values.pooling[..shape.tokens];
    let of_weights = &mut gradients.scores[0][..shape.tokens];
    let rows = tokens.chunks_exact(shape.width).zip(gradients.tokens.chunks_exact(shape.width));
    for (((x, of_out), weight), of_weight) in rows.zip(weights).zip(&mut *of_weights) {
        let mut sum = V::splat(0.0);
        for (x, of_out) in x.iter().zip(of_out) {
            sum = V::load(&x.0).fma(V::load(&of_out.0), sum);
        }
        mean = V::load(&weight.0).mul(share).fma(sum, mean);
        sum.store(&mut of_weight.0);
    }
    let rows = tokens.chunks_exact(shape.width).zip(gradients.tokens.chunks_exact_mut(shape.width));
    for ((((x, of_x), weight), of_weight), of_bias) in
        rows.zip(weights).zip(&*of_weights).zip(&mut gradients.pool_bias)
    {
        let weight = V::load(&weight.0);
        let of_score = weight.mul(V::load(&of_weight.0).sub(mean));
        V::load(&of_bias.0).add(of_score).store(&mut of_bias.0);
        let columns = x.iter().zip(of_x).zip(&prepared.pool_query).zip(&mut gradients.pool_query);
        for (((x, of_x), &query), of_query) in columns {
            let of_token = V::splat(query).fma(of_score, V::load(&of_x.0).mul(weight));
            of_token.store(&mut of_x.0);
            V::load(&x.0).fma(of_score, V::load(&of_query.0)).store(&mut of_query.0);
        }
    }
}

/// Turns the gradient of a layer's output (in `gradients.tokens`) into that of its input.
#[inline(always)]
fn attend<V: Lanes>(
    layer: &PreparedLayer,
    number: usize,
    values: &mut Values,
    gradients: &mut BlockGradients,
) {
    let shape = values.shape;
    let (whole, by_head) = (shape.whole(), shape.by_head());
    let saved = &values.layers[number];
    let of_layer = &mut gradients.layers[number];
    project::<V>(&gradients.tokens, whole, &layer.output_t, &mut gradients.mixed, by_head, false);
    outer::<V>(&mut of_layer.output, &saved.mixed, by_head, &gradients.tokens, whole);
    for head in 0..shape.heads {
        heed::<V>(shape, head, saved, &mut values.scores, gradients);
    }
    let of_layer = &mut gradients.layers[number];
    let projected = [&gradients.query, &gradients.key, &gradients.value];
    for (which, of_projected) in projected.into_iter().enumerate() {
        let weights = &layer.projections_t[which];
        project::<V>(of_projected, by_head, weights, &mut gradients.normed, whole, which > 0);
        outer::<V>(&mut of_layer.projections[which], &saved.normed, whole, of_projected, by_head);
    }
    let share = V::splat(1.0 / shape.width as f32);
    let tokens = values.tokens[number].chunks_exact(shape.width).zip(&saved.scale);
    let gradient_rows =
        gradients.normed.chunks_exact(shape.width).zip(gradients.tokens.chunks_exact_mut(shape.width));
    for ((x, scale), (of_normed, of_x)) in tokens.zip(gradient_rows) {
        let scale = V::load(&scale.0);
        let mut along = V::splat(0.0);
        let columns = x.iter().zip(of_normed).zip(&layer.gain).zip(&mut of_layer.gain);
        for (((x, of_normed), &gain), of_gain) in columns {
            let product = V::load(&x.0).mul(V::load(&of_normed.0));
            along = product.fma(V::splat(gain), along);
            product.fma(scale, V::load(&of_gain.0)).store(&mut of_gain.0);
        }
        let along = along.mul(share).mul(scale.mul(scale).mul(scale));
        for (((x, of_normed), &gain), of_x) in x.iter().zip(of_normed).zip(&layer.gain).zip(of_x) {
            let of_scaled = V::load(&of_normed.0).mul(V::splat(gain));
            let sum = of_scaled.fma(scale, V::load(&of_x.0));
            sum.sub(along.mul(V::load(&x.0))).store(&mut of_x.0);
        }
    }
}

/// Gradients of a head's queries, keys and values. Some keys at a time: what belongs to them stays in
/// L1 while all queries pass by.
#[inline(always)]
fn heed<V: Lanes>(
    shape: Shape,
    head: usize,
    saved: &LayerValues,
    weights: &mut [Vec<Lane>; TILE],
    gradients: &mut BlockGradients,
) {
    let by_head = shape.by_head();
    let width = by_head.width;
    let BlockGradients { mixed: of_mixture, query: of_query, key: of_key, value: of_value, .. } = gradients;
    let all = by_head.at(head, 0)..by_head.at(head, shape.padded);
    for sums in [&mut *of_query, of_key, of_value] {
        sums[all.clone()].fill(Lane::ZERO);
    }
    // The mean of the gradients under a query's weights is that of its mixture along the mixture.
    let means = &mut gradients.means;
    let mixtures = of_mixture[all.clone()].chunks_exact(width).zip(saved.mixed[all].chunks_exact(width));
    for ((of_mixed, mixed), to) in mixtures.zip(&mut *means) {
        let mut mean = V::splat(0.0);
        for (of_mixed, mixed) in of_mixed.iter().zip(mixed) {
            mean = V::load(&of_mixed.0).fma(V::load(&mixed.0), mean);
        }
        mean.store(&mut to.0);
    }
    let together = (LANES_OF_KEYS / width / TILE).max(1) * TILE;
    for first in (0..shape.tokens).step_by(together) {
        let count = together.min(shape.tokens - first);
        let at = by_head.at(head, first);
        let padded = at..at + count.next_multiple_of(TILE) * width;
        let keys = at..at + count * width;
        for query in (0..shape.padded).step_by(TILE) {
            let queries = [0, 1, 2, 3].map(|i: usize| by_head.row(&saved.query, head, query + i));
            let of_mixed = [0, 1, 2, 3].map(|i: usize| by_head.row(of_mixture, head, query + i));
            scores::<V>(queries, &saved.key[padded.clone()], width, weights);
            scores::<V>(of_mixed, &saved.value[padded.clone()], width, &mut gradients.scores);
            for i in 0..TILE {
                let number = head * shape.padded + query + i;
                let query = [&saved.most[number], &saved.inverse[number], &means[query + i]];
                weigh::<V>(query, &mut weights[i][..count], &mut gradients.scores[i][..count]);
            }
            let weights = [0, 1, 2, 3].map(|i: usize| &weights[i][..count]);
            let of_scores = [0, 1, 2, 3].map(|i: usize| &gradients.scores[i][..count]);
            for dimension in (0..width).step_by(TILE) {
                let mut sums = zero::<V>();
                for i in 0..TILE {
                    let at = by_head.at(head, query + i) + dimension;
                    for j in 0..TILE {
                        sums[i][j] = V::load(&of_query[at + j].0);
                    }
                }
                let sums = mix::<V>(of_scores, &saved.key[keys.clone()], width, dimension, sums);
                for i in 0..TILE {
                    let at = by_head.at(head, query + i) + dimension;
                    for j in 0..TILE {
                        sums[i][j].store(&mut of_query[at + j].0);
                    }
                }
            }
            spread::<V>(of_scores, queries, &mut of_key[keys.clone()], width);
            spread::<V>(weights, of_mixed, &mut of_value[keys.clone()], width);
        }
    }
}

/// A query's scores to weights, gradients of weights to those of scores to the base of 2.
#[inline(always)]
fn weigh<V: Lanes>(query: [&Lane; 3], weights: &mut [Lane], of_scores: &mut [Lane]) {
    let base = V::splat(std::f32::consts::LN_2);
    let [most, inverse, mean] = query.map(|lane| V::load(&lane.0));
    for (weight, of_score) in weights.iter_mut().zip(of_scores) {
        let share = exp2(V::load(&weight.0).sub(most)).mul(inverse);
        share.store(&mut weight.0);
        share.mul(base).mul(V::load(&of_score.0).sub(mean)).store(&mut of_score.0);
    }
}
