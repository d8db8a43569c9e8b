//! The attention of rows: as it pools the tokens, or rolled out through the layers.

use super::Explanation;
use super::removal::tokens_of_columns;
use crate::encode::Row;
use crate::network::block::{GROUP, Prepared, Values, forward, gather_rows};
use crate::network::front::{Trace, embed_row};
use crate::predict::Model;

/// Weights of columns and behaviours, as shares of 1; `rollout` follows the layers too.
pub(super) fn weigh<const D: usize>(model: &Model, rows: &[Row<'_>], rollout: bool) -> Vec<Explanation> {
    let layout = &model.layout;
    let count = layout.tokens.len();
    let prepared = Prepared::new(layout, &model.weights.front);
    let mut values = Values::new(layout);
    let mut trace = Trace::<D>::new(layout);
    let mut explained = Vec::with_capacity(rows.len());
    let width = layout.outputs();
    for group in rows.chunks(GROUP) {
        let mut tokens = vec![0.0; group.len() * width];
        let mut of_behaviours = Vec::with_capacity(group.len());
        for (row, tokens) in group.iter().zip(tokens.chunks_exact_mut(width)) {
            embed_row::<D>(model.class, model.front::<D>(), *row, &mut trace);
            tokens.copy_from_slice(trace.tokens.as_flattened());
            of_behaviours.push(if layout.behaviour_token.is_some() {
                trace.behaviour_weights.clone()
            } else {
                Vec::new()
            });
        }
        gather_rows(model.class, values.shape, &tokens, &mut values.tokens[0]);
        forward(model.class, &prepared, &mut values, &mut tokens);
        for (lane, (row, behaviours)) in group.iter().zip(of_behaviours).enumerate() {
            let mut weights: Vec<f32> = (0..count)
                .map(|token| {
                    let weight = if layout.attention { values.pooling[token].0[lane] } else { 1.0 };
                    weight / count as f32
                })
                .collect();
            if rollout {
                for layer in (0..layout.layers.len()).rev() {
                    weights = through(&values, layer, lane, &weights);
                }
            }
            explained.push(Explanation { columns: by_column(model, row, &weights), behaviours });
        }
    }
    explained
}

/// Weights of a layer's outputs as weights of its inputs: half of each stays where it is (the
/// residual), half goes where the heads attend to in the mean.
fn through(values: &Values, layer: usize, lane: usize, weights: &[f32]) -> Vec<f32> {
    let view = values.shape.by_head();
    let saved = &values.layers[layer];
    let mut before: Vec<f32> = weights.iter().map(|weight| 0.5 * weight).collect();
    for head in 0..view.parts {
        for (query, &weight) in weights.iter().enumerate() {
            let q = view.row(&saved.query, head, query);
            // The queries carry the scale and the change to powers of 2.
            let scores: Vec<f32> = (0..weights.len())
                .map(|key| {
                    let k = view.row(&saved.key, head, key);
                    q.iter().zip(k).map(|(q, k)| q.0[lane] * k.0[lane]).sum::<f32>()
                })
                .collect();
            let most = scores.iter().copied().fold(f32::MIN, f32::max);
            let powers: Vec<f32> = scores.iter().map(|score| libm::exp2f(score - most)).collect();
            let total: f32 = powers.iter().sum();
            let share = 0.5 * weight / (view.parts as f32 * total);
            for (before, power) in before.iter_mut().zip(powers) {
                *before += share * power;
            }
        }
    }
    before
}

/// Weights of columns from those of tokens: a token of several numbers shares its weight out by how
/// much each moved it.
fn by_column(model: &Model, row: &Row<'_>, tokens: &[f32]) -> Vec<f32> {
    let layout = &model.layout;
    let moved: Vec<f32> =
        row.numbers.iter().enumerate().map(|(column, &value)| model.moved(column, value)).collect();
    let mut total = vec![(0.0_f32, 0.0_f32); tokens.len()];
    for (&moved, &token) in moved.iter().zip(&layout.token_of_number) {
        total[token].0 += moved;
        total[token].1 += 1.0;
    }
    let numbers = moved.iter().zip(&layout.token_of_number).map(|(&moved, &token)| {
        let (sum, count) = total[token];
        tokens[token] * if sum > 0.0 { moved / sum } else { 1.0 / count }
    });
    numbers.chain(tokens_of_columns(layout).map(|token| tokens[token])).collect()
}
