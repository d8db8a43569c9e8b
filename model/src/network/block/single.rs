//! The block for a row that stands alone: its tokens in the lanes. Every value is computed by the
//! same operations in the same order as [`super::forward`] computes it, so that a row's bits do not
//! depend on which of the two it went through.
//!
//! A register holds one dimension of sixteen tokens; what [`View`] calls a token is such a block here.

use super::forward::exponentials;
use super::matrix::{Tile, project, zero};
use super::{GROUP, Prepared, PreparedLayer, Shape, TILE, Values, View};
use crate::network::front::NORM_FLOOR;
use crate::network::lanes::{Lane, Lanes, by_class, exp2};

by_class! {
    /// Weighted tokens from a row's tokens; the weights are left in `values.pooling`, sixteen tokens a
    /// lane.
    pub(crate) fn forward_single(prepared: &Prepared, values: &mut Values, tokens: &[f32], out: &mut [f32]) = body
}

/// The shape with blocks of tokens for tokens.
const fn blocks(shape: Shape) -> usize {
    shape.tokens.div_ceil(GROUP).next_multiple_of(TILE)
}

#[inline(always)]
fn body<V: Lanes>(prepared: &Prepared, values: &mut Values, tokens: &[f32], out: &mut [f32]) {
    let shape = values.shape;
    turn_in::<V>(shape, tokens, &mut values.tokens[0]);
    for (number, layer) in prepared.layers.iter().enumerate() {
        attend::<V>(layer, number, values);
    }
    let last = &values.tokens[prepared.layers.len()];
    if prepared.pool_query.is_empty() {
        turn_out::<V>(shape, last, None, out);
    } else {
        pool::<V>(prepared, shape, last, &mut values.pooling);
        turn_out::<V>(shape, last, Some(&values.pooling), out);
    }
}

/// \[token]\[dimension] to \[block]\[dimension]\[token of the block]; lanes beyond the last token are 0.
#[inline(always)]
fn turn_in<V: Lanes>(shape: Shape, tokens: &[f32], lanes: &mut [Lane]) {
    let width = shape.width;
    for (block, lanes) in lanes.chunks_exact_mut(width).take(blocks(shape)).enumerate() {
        let tokens = tokens.chunks_exact(width).skip(block * GROUP).take(GROUP);
        if width.is_multiple_of(GROUP) {
            for first in (0..width).step_by(GROUP) {
                let mut tile = [V::splat(0.0); GROUP];
                for (tile, token) in tile.iter_mut().zip(tokens.clone()) {
                    if let Some(token) = token[first..].first_chunk() {
                        *tile = V::load(token);
                    }
                }
                V::transpose(&mut tile);
                for (lane, tile) in lanes[first..].iter_mut().zip(tile) {
                    tile.store(&mut lane.0);
                }
            }
        } else {
            for (dimension, lane) in lanes.iter_mut().enumerate() {
                lane.0 = [0.0; GROUP];
                for (lane, token) in lane.0.iter_mut().zip(tokens.clone()) {
                    *lane = token[dimension];
                }
            }
        }
    }
}

/// The reverse of [`turn_in`], each value times its token's weight.
#[inline(always)]
fn turn_out<V: Lanes>(shape: Shape, lanes: &[Lane], weights: Option<&[Lane]>, out: &mut [f32]) {
    let width = shape.width;
    for (block, lanes) in lanes.chunks_exact(width).take(blocks(shape)).enumerate() {
        let out = out.chunks_exact_mut(width).skip(block * GROUP).take(GROUP);
        let weight = weights.map_or(V::splat(1.0), |weights| V::load(&weights[block].0));
        if width.is_multiple_of(GROUP) {
            let mut out: [Option<&mut [f32]>; GROUP] = {
                let mut rows = out;
                std::array::from_fn(|_| rows.next())
            };
            for first in (0..width).step_by(GROUP) {
                let mut tile = [V::splat(0.0); GROUP];
                for (tile, lane) in tile.iter_mut().zip(&lanes[first..]) {
                    *tile = weight.mul(V::load(&lane.0));
                }
                V::transpose(&mut tile);
                for (tile, out) in tile.iter().zip(&mut out) {
                    if let Some(out) = out.as_mut().and_then(|out| out[first..].first_chunk_mut()) {
                        tile.store(out);
                    }
                }
            }
        } else {
            let mut column = [[0.0; GROUP]; GROUP];
            for (column, lane) in column.iter_mut().zip(lanes) {
                weight.mul(V::load(&lane.0)).store(column);
            }
            for (token, out) in out.enumerate() {
                for (out, column) in out.iter_mut().zip(&column) {
                    *out = column[token];
                }
            }
        }
    }
}

#[inline(always)]
fn attend<V: Lanes>(layer: &PreparedLayer, number: usize, values: &mut Values) {
    let shape = values.shape;
    let blocks = blocks(shape);
    let whole = View { parts: 1, width: shape.width, tokens: blocks };
    let by_head = View { parts: shape.heads, width: shape.width / shape.heads, tokens: blocks };
    let (before, after) = values.tokens.split_at_mut(number + 1);
    let (before, after) = (&before[number], &mut after[0]);
    let saved = &mut values.layers[number];
    let share = V::splat(1.0 / shape.width as f32);
    let rows = before.chunks_exact(shape.width).zip(saved.normed.chunks_exact_mut(shape.width));
    for (x, normed) in rows.take(blocks) {
        let mut square = V::splat(0.0);
        for x in x {
            let x = V::load(&x.0);
            square = x.fma(x, square);
        }
        let inverse = V::splat(1.0).div(square.fma(share, V::splat(NORM_FLOOR)).sqrt());
        for ((x, normed), &gain) in x.iter().zip(normed).zip(&layer.gain) {
            V::load(&x.0).mul(inverse).mul(V::splat(gain)).store(&mut normed.0);
        }
    }
    let projected = [&mut saved.query, &mut saved.key, &mut saved.value];
    for (weights, to) in layer.projections.iter().zip(projected) {
        project::<V>(&saved.normed, whole, weights, to, by_head, false);
    }
    let width = by_head.width;
    for head in 0..shape.heads {
        let keys = by_head.part(&saved.key, head);
        let of_values = by_head.part(&saved.value, head);
        for block in (0..blocks).step_by(TILE) {
            let queries = [0, 1, 2, 3].map(|i: usize| by_head.row(&saved.query, head, block + i));
            for key in (0..shape.tokens).step_by(TILE) {
                let sums = scores::<V>(queries, keys, width, key);
                for i in 0..TILE {
                    for j in 0..TILE {
                        // Keys beyond the last, as far as there is room for them, are not read.
                        if let Some(score) = values.scores[i].get_mut(key + j) {
                            sums[i][j].store(&mut score.0);
                        }
                    }
                }
            }
            let (_, inverse) = exponentials::<V>(shape.tokens, &mut values.scores);
            let weights = [0, 1, 2, 3].map(|i: usize| &values.scores[i][..shape.tokens]);
            for first in (0..width).step_by(TILE) {
                let sums = mix::<V>(weights, of_values, width, first);
                for i in 0..TILE {
                    let at = by_head.at(head, block + i) + first;
                    for j in 0..TILE {
                        sums[i][j].mul(inverse[i]).store(&mut saved.mixed[at + j].0);
                    }
                }
            }
        }
    }
    let length = blocks * shape.width;
    after[..length].copy_from_slice(&before[..length]);
    project::<V>(&saved.mixed, by_head, &layer.output, after, whole, true);
}

/// Scores of four blocks of queries with four keys from `first`.
#[inline(always)]
fn scores<V: Lanes>(queries: [&[Lane]; TILE], keys: &[Lane], width: usize, first: usize) -> Tile<V> {
    // A tile of keys lies within one block.
    let keys = &keys[first / GROUP * width..(first / GROUP + 1) * width];
    let lane = first % GROUP;
    let mut sums = zero::<V>();
    let [q0, q1, q2, q3] = queries;
    for ((((key, q0), q1), q2), q3) in keys.iter().zip(q0).zip(q1).zip(q2).zip(q3) {
        let q = [V::load(&q0.0), V::load(&q1.0), V::load(&q2.0), V::load(&q3.0)];
        let key = &key.0[lane..lane + TILE];
        for j in 0..TILE {
            let k = V::splat(key[j]);
            for i in 0..TILE {
                sums[i][j] = q[i].fma(k, sums[i][j]);
            }
        }
    }
    sums
}

/// Mixtures of four blocks of queries in four dimensions from `first`.
#[inline(always)]
fn mix<V: Lanes>(weights: [&[Lane]; TILE], values: &[Lane], width: usize, first: usize) -> Tile<V> {
    let [w0, w1, w2, w3] = weights;
    let mut sums = zero::<V>();
    let weights = w0.iter().zip(w1).zip(w2).zip(w3);
    for (token, (((w0, w1), w2), w3)) in weights.enumerate() {
        let w = [V::load(&w0.0), V::load(&w1.0), V::load(&w2.0), V::load(&w3.0)];
        let block = token / GROUP * width + first;
        let value = &values[block..block + TILE];
        for j in 0..TILE {
            let value = V::splat(value[j].0[token % GROUP]);
            for i in 0..TILE {
                sums[i][j] = w[i].fma(value, sums[i][j]);
            }
        }
    }
    sums
}

#[inline(always)]
fn pool<V: Lanes>(prepared: &Prepared, shape: Shape, tokens: &[Lane], pooling: &mut [Lane]) {
    let count = shape.tokens.div_ceil(GROUP);
    let pooling = &mut pooling[..count];
    let mut most = f32::MIN;
    for (block, (x, weight)) in tokens.chunks_exact(shape.width).zip(&mut *pooling).enumerate() {
        let mut bias = [0.0; GROUP];
        for (bias, &value) in bias.iter_mut().zip(&prepared.pool_bias[block * GROUP..]) {
            *bias = value;
        }
        let mut score = V::load(&bias);
        for (x, &query) in x.iter().zip(&prepared.pool_query) {
            score = V::load(&x.0).fma(V::splat(query), score);
        }
        score.store(&mut weight.0);
        for &score in weight.0.iter().take(shape.tokens - block * GROUP) {
            most = if most > score { most } else { score };
        }
    }
    let mut total = 0.0;
    for (block, weight) in pooling.iter_mut().enumerate() {
        let power = exp2(V::load(&weight.0).sub(V::splat(most)).mul(V::splat(std::f32::consts::LOG2_E)));
        power.store(&mut weight.0);
        for power in weight.0.iter().take(shape.tokens - block * GROUP) {
            total += power;
        }
    }
    let inverse = shape.tokens as f32 / total;
    for weight in pooling {
        V::load(&weight.0).mul(V::splat(inverse)).store(&mut weight.0);
    }
}
