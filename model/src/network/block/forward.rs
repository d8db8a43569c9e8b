//! From tokens to the weighted tokens that the MLP reads.

use super::matrix::{mix, project, scores, zero};
use super::{GROUP, Prepared, PreparedLayer, Shape, TILE, Values};
use crate::network::front::NORM_FLOOR;
use crate::network::lanes::{Lane, Lanes, by_class, exp2};

by_class! {
    /// Tokens of up to sixteen rows, row after row (\[token]\[dimension] each), into `values.tokens[0]`.
    pub(crate) fn gather_rows(shape: Shape, rows: &[f32], tokens: &mut [Lane]) = gather
}

by_class! {
    /// Weighted tokens from `values.tokens[0]`, row after row into `out`.
    pub(crate) fn forward(prepared: &Prepared, values: &mut Values, out: &mut [f32]) = body
}

#[inline(always)]
pub(super) fn gather<V: Lanes>(shape: Shape, rows: &[f32], tokens: &mut [Lane]) {
    let length = shape.outputs();
    let mut first = 0;
    while first + GROUP <= length {
        let mut tile = [V::splat(0.0); GROUP];
        for (tile, row) in tile.iter_mut().zip(rows.chunks_exact(length)) {
            if let Some(row) = row[first..].first_chunk() {
                *tile = V::load(row);
            }
        }
        V::transpose(&mut tile);
        for (token, tile) in tokens[first..first + GROUP].iter_mut().zip(tile) {
            tile.store(&mut token.0);
        }
        first += GROUP;
    }
    for at in first..length {
        for (lane, row) in tokens[at].0.iter_mut().zip(rows.chunks_exact(length)) {
            *lane = row[at];
        }
    }
}

/// The reverse of [`gather`], each value times its token's weight.
#[inline(always)]
pub(super) fn scatter<V: Lanes>(shape: Shape, tokens: &[Lane], weights: Option<&[Lane]>, rows: &mut [f32]) {
    let length = shape.outputs();
    let weigh = |at: usize| {
        let value = V::load(&tokens[at].0);
        match weights {
            Some(weights) => V::load(&weights[at / shape.width].0).mul(value),
            None => value,
        }
    };
    let mut first = 0;
    while first + GROUP <= length {
        let mut tile = [V::splat(0.0); GROUP];
        for (i, tile) in tile.iter_mut().enumerate() {
            *tile = weigh(first + i);
        }
        V::transpose(&mut tile);
        for (tile, row) in tile.iter().zip(rows.chunks_exact_mut(length)) {
            if let Some(row) = row[first..].first_chunk_mut() {
                tile.store(row);
            }
        }
        first += GROUP;
    }
    for at in first..length {
        let mut lane = [0.0; 16];
        weigh(at).store(&mut lane);
        for (lane, row) in lane.iter().zip(rows.chunks_exact_mut(length)) {
            row[at] = *lane;
        }
    }
}

#[inline(always)]
fn body<V: Lanes>(prepared: &Prepared, values: &mut Values, out: &mut [f32]) {
    compute::<V>(prepared, values);
    let tokens = &values.tokens[prepared.layers.len()];
    let weights = (!prepared.pool_query.is_empty()).then_some(&values.pooling[..]);
    scatter::<V>(values.shape, tokens, weights, out);
}

/// All but the output.
#[inline(always)]
pub(super) fn compute<V: Lanes>(prepared: &Prepared, values: &mut Values) {
    for (number, layer) in prepared.layers.iter().enumerate() {
        attend::<V>(layer, number, values);
    }
    if !prepared.pool_query.is_empty() {
        pool::<V>(prepared, values);
    }
}

/// `tokens[n] + attention(norm(tokens[n]))` into `tokens[n + 1]`.
#[inline(always)]
fn attend<V: Lanes>(layer: &PreparedLayer, number: usize, values: &mut Values) {
    let shape = values.shape;
    let (whole, by_head) = (shape.whole(), shape.by_head());
    let (before, after) = values.tokens.split_at_mut(number + 1);
    let (before, after) = (&before[number], &mut after[0]);
    let saved = &mut values.layers[number];
    let share = V::splat(1.0 / shape.width as f32);
    let tokens = before.chunks_exact(shape.width).zip(saved.normed.chunks_exact_mut(shape.width));
    for ((x, normed), scale) in tokens.zip(&mut saved.scale) {
        let mut square = V::splat(0.0);
        for x in x {
            let x = V::load(&x.0);
            square = x.fma(x, square);
        }
        let inverse = V::splat(1.0).div(square.fma(share, V::splat(NORM_FLOOR)).sqrt());
        inverse.store(&mut scale.0);
        for ((x, normed), &gain) in x.iter().zip(normed).zip(&layer.gain) {
            V::load(&x.0).mul(inverse).mul(V::splat(gain)).store(&mut normed.0);
        }
    }
    let projected = [&mut saved.query, &mut saved.key, &mut saved.value];
    for (weights, to) in layer.projections.iter().zip(projected) {
        project::<V>(&saved.normed, whole, weights, to, by_head, false);
    }
    for head in 0..shape.heads {
        let keys = by_head.part(&saved.key, head);
        let of_values = &by_head.part(&saved.value, head)[..shape.tokens * by_head.width];
        for query in (0..shape.padded).step_by(TILE) {
            let queries = [0, 1, 2, 3].map(|i: usize| by_head.row(&saved.query, head, query + i));
            scores::<V>(queries, keys, by_head.width, &mut values.scores);
            let (most, inverse) = exponentials::<V>(shape.tokens, &mut values.scores);
            let at = head * shape.padded + query;
            for i in 0..TILE {
                most[i].store(&mut saved.most[at + i].0);
                inverse[i].store(&mut saved.inverse[at + i].0);
            }
            let weights = [0, 1, 2, 3].map(|i: usize| &values.scores[i][..shape.tokens]);
            for first in (0..by_head.width).step_by(TILE) {
                let sums = mix::<V>(weights, of_values, by_head.width, first, zero());
                for i in 0..TILE {
                    let at = by_head.at(head, query + i) + first;
                    for j in 0..TILE {
                        sums[i][j].mul(inverse[i]).store(&mut saved.mixed[at + j].0);
                    }
                }
            }
        }
    }
    after.copy_from_slice(before);
    project::<V>(&saved.mixed, by_head, &layer.output, after, whole, true);
}

/// Scores of a tile of queries to powers of 2, the largest of each query to 1; gives these largest, and
/// 1 / the powers' sums.
#[inline(always)]
pub(super) fn exponentials<V: Lanes>(
    tokens: usize,
    scores: &mut [Vec<Lane>; TILE],
) -> ([V; TILE], [V; TILE]) {
    let [s0, s1, s2, s3] = scores;
    let (s0, s1, s2, s3) = (&mut s0[..tokens], &mut s1[..tokens], &mut s2[..tokens], &mut s3[..tokens]);
    let mut most = [V::splat(f32::MIN); TILE];
    for (((s0, s1), s2), s3) in s0.iter().zip(&*s1).zip(&*s2).zip(&*s3) {
        most = [
            most[0].max(V::load(&s0.0)),
            most[1].max(V::load(&s1.0)),
            most[2].max(V::load(&s2.0)),
            most[3].max(V::load(&s3.0)),
        ];
    }
    let mut total = [V::splat(0.0); TILE];
    for (((s0, s1), s2), s3) in s0.iter_mut().zip(s1).zip(s2).zip(s3) {
        let s = [s0, s1, s2, s3];
        for i in 0..TILE {
            let weight = exp2(V::load(&s[i].0).sub(most[i]));
            weight.store(&mut s[i].0);
            total[i] = total[i].add(weight);
        }
    }
    let one = V::splat(1.0);
    (most, [one.div(total[0]), one.div(total[1]), one.div(total[2]), one.div(total[3])])
}

/// The tokens' weights: a softmax over their scores, times their number.
#[inline(always)]
fn pool<V: Lanes>(prepared: &Prepared, values: &mut Values) {
    let shape = values.shape;
    let tokens = &values.tokens[prepared.layers.len()];
    let pooling = &mut values.pooling[..shape.tokens];
    let mut most = V::splat(f32::MIN);
    for ((x, weight), &bias) in tokens.chunks_exact(shape.width).zip(&mut *pooling).zip(&prepared.pool_bias) {
        let mut score = V::splat(bias);
        for (x, &query) in x.iter().zip(&prepared.pool_query) {
            score = V::load(&x.0).fma(V::splat(query), score);
        }
        most = most.max(score);
        score.store(&mut weight.0);
    }
    let mut total = V::splat(0.0);
    for weight in &mut *pooling {
        let power = exp2(V::load(&weight.0).sub(most).mul(V::splat(std::f32::consts::LOG2_E)));
        power.store(&mut weight.0);
        total = total.add(power);
    }
    let inverse = V::splat(shape.tokens as f32).div(total);
    for weight in pooling {
        V::load(&weight.0).mul(inverse).store(&mut weight.0);
    }
}
