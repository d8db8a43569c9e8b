//! What drew the attention of a prediction: the weights that pooled its fields and its behaviours.

use std::cmp::Ordering;
use std::sync::Arc;

use super::{Model, Scored};
use crate::encode::Row;
use crate::explain::Method;
use crate::network::front::Trace;
use crate::network::serve::Seen;

/// How much of an explanation is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Explain {
    /// Most fields listed.
    pub fields: usize,
    /// Most behaviours listed.
    pub behaviours: usize,
}

/// A field's share of the attention that pools the fields. A token of several numbers shares its
/// weight out by how much each moved it.
#[derive(Debug, Clone, PartialEq)]
pub struct FieldWeight {
    /// A column of the vector, `behaviours` or `embedding`.
    pub field: Arc<str>,
    /// 0 to 1; all fields' together are 1.
    pub weight: f32,
}

/// A past behaviour's share of the attention over behaviours.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BehaviourWeight {
    /// Position in the vector's behaviours.
    pub index: usize,
    /// 0 to 1; all behaviours' together are 1.
    pub weight: f32,
}

impl Model {
    /// How far a number moved its token.
    pub(crate) fn moved(&self, column: usize, value: f32) -> f32 {
        match self.statistics.standardise(column, value) {
            Some(value) => value.abs() * self.number_norms[column][0],
            None => self.number_norms[column][1],
        }
    }

    /// Predicts rows on this thread, each explained by its attention; `D` is the layout's width.
    pub(super) fn score_rows_of<const D: usize>(&self, rows: &[Row<'_>], explain: Explain) -> Vec<Scored> {
        let front = self.front::<D>();
        let mut logits = vec![0.0; rows.len() * self.engine.outputs()];
        let mut behaviours = Vec::with_capacity(rows.len());
        let mut fields = Vec::with_capacity(rows.len());
        let mut see = |row: usize, seen: Seen<'_, D>| match seen {
            Seen::Embedded(trace) => behaviours.push(top_behaviours(trace, explain.behaviours)),
            Seen::Pooled(pooling) => fields.push(self.top_fields(&rows[row], pooling, explain.fields)),
        };
        self.engine.run(self.class, front, |row| rows[row], &mut logits, Some(&mut see));
        self.outputs(&logits)
            .zip(fields)
            .zip(behaviours)
            .map(|((outputs, fields), behaviours)| Scored {
                probabilities: self.said(outputs),
                fields,
                behaviours,
                method: Method::Attention,
            })
            .collect()
    }

    /// The fields with the largest weights.
    fn top_fields(&self, row: &Row<'_>, pooling: &[f32], most: usize) -> Vec<FieldWeight> {
        if most == 0 {
            return Vec::new();
        }
        let layout = &self.layout;
        let moved = |column: usize, value: f32| self.moved(column, value);
        // How much all numbers of a token moved it.
        let mut total = vec![(0.0_f32, 0.0_f32); layout.tokens.len()];
        for (column, (&value, &token)) in row.numbers.iter().zip(&layout.token_of_number).enumerate() {
            total[token].0 += moved(column, value);
            total[token].1 += 1.0;
        }
        let mut weights: Vec<(f32, usize)> = Vec::with_capacity(row.numbers.len() + 9);
        for (column, (&value, &token)) in row.numbers.iter().zip(&layout.token_of_number).enumerate() {
            let (sum, count) = total[token];
            let share = if sum > 0.0 { moved(column, value) / sum } else { 1.0 / count };
            weights.push((pooling[token] * share, column));
        }
        let numbers = row.numbers.len();
        let others = (0..row.ids.len()).chain(layout.behaviour_token).chain(layout.content_token);
        weights.extend(others.map(|token| (pooling[token], numbers + token)));
        largest(&mut weights, most);
        weights
            .into_iter()
            .map(|(weight, at)| FieldWeight {
                field: Arc::clone(if at < numbers {
                    &self.names[at]
                } else {
                    &self.token_names[at - numbers]
                }),
                weight,
            })
            .collect()
    }
}

/// Keeps the `most` largest, largest first; equal ones by position.
pub(crate) fn largest(weights: &mut Vec<(f32, usize)>, most: usize) {
    let order = |a: &(f32, usize), b: &(f32, usize)| -> Ordering { b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)) };
    if most < weights.len() {
        if most > 0 {
            weights.select_nth_unstable_by(most - 1, order);
        }
        weights.truncate(most);
    }
    weights.sort_unstable_by(order);
}

fn top_behaviours<const D: usize>(trace: &Trace<D>, most: usize) -> Vec<BehaviourWeight> {
    let mut weights: Vec<(f32, usize)> =
        trace.behaviour_weights.iter().enumerate().map(|(index, &weight)| (weight, index)).collect();
    largest(&mut weights, most);
    weights.into_iter().map(|(weight, index)| BehaviourWeight { index, weight }).collect()
}
