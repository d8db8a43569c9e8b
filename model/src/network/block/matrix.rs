//! Products of small matrices over sixteen rows, in tiles of registers.

use super::{TILE, View};
use crate::network::lanes::{Lane, Lanes};

/// A tile of sums.
pub(super) type Tile<V> = [[V; TILE]; TILE];

#[inline(always)]
pub(super) fn zero<V: Lanes>() -> Tile<V> {
    [[V::splat(0.0); TILE]; TILE]
}

/// Every token times a matrix: `to[t] = from[t] W`, or, with `add`, that more than `to` is. `W` has a row
/// per dimension of `from`, with a column per dimension of `to`.
#[inline(always)]
pub(super) fn project<V: Lanes>(
    from: &[Lane],
    from_view: View,
    weights: &[f32],
    to: &mut [Lane],
    to_view: View,
    add: bool,
) {
    let stride = to_view.parts * to_view.width;
    for token in (0..to_view.tokens).step_by(TILE) {
        for part in 0..to_view.parts {
            for first in (0..to_view.width).step_by(TILE) {
                let column = part * to_view.width + first;
                let mut sums = zero::<V>();
                if add {
                    for i in 0..TILE {
                        let at = to_view.at(part, token + i) + first;
                        for j in 0..TILE {
                            sums[i][j] = V::load(&to[at + j].0);
                        }
                    }
                }
                for from_part in 0..from_view.parts {
                    let x: [&[Lane]; TILE] =
                        [0, 1, 2, 3].map(|i: usize| from_view.row(from, from_part, token + i));
                    let rows = &weights[from_part * from_view.width * stride..];
                    for (d, row) in rows.chunks_exact(stride).take(from_view.width).enumerate() {
                        let w = &row[column..column + TILE];
                        let x = [
                            V::load(&x[0][d].0),
                            V::load(&x[1][d].0),
                            V::load(&x[2][d].0),
                            V::load(&x[3][d].0),
                        ];
                        for j in 0..TILE {
                            let w = V::splat(w[j]);
                            for i in 0..TILE {
                                sums[i][j] = x[i].fma(w, sums[i][j]);
                            }
                        }
                    }
                }
                for i in 0..TILE {
                    let at = to_view.at(part, token + i) + first;
                    for j in 0..TILE {
                        sums[i][j].store(&mut to[at + j].0);
                    }
                }
            }
        }
    }
}

/// A matrix's gradient: adds to `gradient` (a row per dimension of `from`, a column per dimension of
/// `of_to`) the sum over tokens of their outer products.
#[inline(always)]
pub(super) fn outer<V: Lanes>(
    gradient: &mut [Lane],
    from: &[Lane],
    from_view: View,
    of_to: &[Lane],
    to_view: View,
) {
    let stride = to_view.parts * to_view.width;
    for from_part in 0..from_view.parts {
        let from = from_view.part(from, from_part);
        for from_first in (0..from_view.width).step_by(TILE) {
            let row = from_part * from_view.width + from_first;
            for part in 0..to_view.parts {
                let of_to = to_view.part(of_to, part);
                for first in (0..to_view.width).step_by(TILE) {
                    let column = part * to_view.width + first;
                    let mut sums = zero::<V>();
                    for i in 0..TILE {
                        for j in 0..TILE {
                            sums[i][j] = V::load(&gradient[(row + i) * stride + column + j].0);
                        }
                    }
                    let tokens = from.chunks_exact(from_view.width).zip(of_to.chunks_exact(to_view.width));
                    for (x, y) in tokens {
                        let x = &x[from_first..from_first + TILE];
                        let y = &y[first..first + TILE];
                        let y = [V::load(&y[0].0), V::load(&y[1].0), V::load(&y[2].0), V::load(&y[3].0)];
                        for i in 0..TILE {
                            let x = V::load(&x[i].0);
                            for j in 0..TILE {
                                sums[i][j] = x.fma(y[j], sums[i][j]);
                            }
                        }
                    }
                    for i in 0..TILE {
                        for j in 0..TILE {
                            sums[i][j].store(&mut gradient[(row + i) * stride + column + j].0);
                        }
                    }
                }
            }
        }
    }
}

/// Scores of a tile of queries with every key: `scores[i][key] = queries[i] . keys[key]`.
#[inline(always)]
pub(super) fn scores<V: Lanes>(
    queries: [&[Lane]; TILE],
    keys: &[Lane],
    width: usize,
    scores: &mut [Vec<Lane>; TILE],
) {
    for (block, keys) in keys.chunks_exact(width * TILE).enumerate() {
        let (k0, rest) = keys.split_at(width);
        let (k1, rest) = rest.split_at(width);
        let (k2, k3) = rest.split_at(width);
        let mut sums = zero::<V>();
        for d in 0..width {
            let q = [
                V::load(&queries[0][d].0),
                V::load(&queries[1][d].0),
                V::load(&queries[2][d].0),
                V::load(&queries[3][d].0),
            ];
            let k = [V::load(&k0[d].0), V::load(&k1[d].0), V::load(&k2[d].0), V::load(&k3[d].0)];
            for i in 0..TILE {
                for j in 0..TILE {
                    sums[i][j] = q[i].fma(k[j], sums[i][j]);
                }
            }
        }
        for i in 0..TILE {
            for j in 0..TILE {
                sums[i][j].store(&mut scores[i][block * TILE + j].0);
            }
        }
    }
}

/// Mixtures of a tile of queries: adds to `sums`, four dimensions from `first`, the sum over tokens of
/// `weights[i][token] * values[token]`.
#[inline(always)]
pub(super) fn mix<V: Lanes>(
    weights: [&[Lane]; TILE],
    values: &[Lane],
    width: usize,
    first: usize,
    mut sums: Tile<V>,
) -> Tile<V> {
    let [w0, w1, w2, w3] = weights;
    let rows = values.chunks_exact(width).zip(w0).zip(w1).zip(w2).zip(w3);
    for ((((value, w0), w1), w2), w3) in rows {
        let value = &value[first..first + TILE];
        let w = [V::load(&w0.0), V::load(&w1.0), V::load(&w2.0), V::load(&w3.0)];
        for j in 0..TILE {
            let value = V::load(&value[j].0);
            for i in 0..TILE {
                sums[i][j] = w[i].fma(value, sums[i][j]);
            }
        }
    }
    sums
}

/// The transpose of [`mix`]: adds `weights[i][token] * rows[i]` to each token of `sums`, over a tile of
/// queries.
#[inline(always)]
pub(super) fn spread<V: Lanes>(
    weights: [&[Lane]; TILE],
    rows: [&[Lane]; TILE],
    sums: &mut [Lane],
    width: usize,
) {
    let [w0, w1, w2, w3] = weights;
    for first in (0..width).step_by(TILE) {
        let mut x = zero::<V>();
        for i in 0..TILE {
            let row = &rows[i][first..first + TILE];
            for j in 0..TILE {
                x[i][j] = V::load(&row[j].0);
            }
        }
        let tokens = sums.chunks_exact_mut(width).zip(w0).zip(w1).zip(w2).zip(w3);
        for ((((sum, w0), w1), w2), w3) in tokens {
            let sum = &mut sum[first..first + TILE];
            let w = [V::load(&w0.0), V::load(&w1.0), V::load(&w2.0), V::load(&w3.0)];
            for j in 0..TILE {
                let mut total = V::load(&sum[j].0);
                for i in 0..TILE {
                    total = w[i].fma(x[i][j], total);
                }
                total.store(&mut sum[j].0);
            }
        }
    }
}
