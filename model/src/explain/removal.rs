//! Rows with something taken away or with only something left; ablation.

use super::Explanation;
use crate::encode::{Row, RowBuffer};
use crate::network::Layout;
use crate::predict::Model;

/// Tokens that are columns by themselves, in the order of [`Model::columns`].
pub(super) fn tokens_of_columns(layout: &Layout) -> impl Iterator<Item = usize> + '_ {
    (0..layout.fields()).chain(layout.behaviour_token).chain(layout.content_token)
}

/// A part of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Number(usize),
    Id(usize),
    Behaviours,
    Content,
}

/// What can be taken away from rows of a model, in the order of [`Model::columns`].
pub(super) struct Columns {
    parts: Vec<Part>,
    nothing: RowBuffer,
}

impl Columns {
    pub(super) fn new(model: &Model) -> Self {
        let layout = &model.layout;
        let numbers = (0..layout.token_of_number.len()).map(Part::Number);
        let ids = (0..layout.fields()).map(Part::Id);
        let parts = numbers
            .chain(ids)
            .chain(layout.behaviour_token.map(|_| Part::Behaviours))
            .chain(layout.content_token.map(|_| Part::Content))
            .collect();
        Self { parts, nothing: model.nothing() }
    }

    pub(super) fn len(&self) -> usize {
        self.parts.len()
    }

    /// Columns in which the row differs from nothing.
    pub(super) fn present(&self, row: &Row<'_>) -> Vec<usize> {
        let nothing = self.nothing.row();
        let is_there = |part: &Part| match *part {
            Part::Number(at) => !row.numbers[at].is_nan(),
            Part::Id(at) => row.ids[at] != nothing.ids[at],
            Part::Behaviours => !row.behaviours.is_empty(),
            Part::Content => !row.embedding.is_empty(),
        };
        (0..self.parts.len()).filter(|&column| is_there(&self.parts[column])).collect()
    }

    /// Makes `columns` of `to` what they are in `from`.
    pub(super) fn copy(&self, columns: &[usize], from: &Row<'_>, to: &mut RowBuffer) {
        for &column in columns {
            match self.parts[column] {
                Part::Number(at) => to.numbers[at] = from.numbers[at],
                Part::Id(at) => to.ids[at] = from.ids[at],
                Part::Behaviours => {
                    to.behaviours.clear();
                    to.behaviours.extend_from_slice(from.behaviours);
                }
                Part::Content => {
                    to.embedding.clear();
                    to.embedding.extend_from_slice(from.embedding);
                }
            }
        }
    }

    /// The row without these columns.
    pub(super) fn without(&self, row: &Row<'_>, columns: &[usize]) -> RowBuffer {
        let mut left = RowBuffer::of(row);
        self.copy(columns, &self.nothing.row(), &mut left);
        left
    }

    /// Nothing but these columns of the row.
    pub(super) fn only(&self, row: &Row<'_>, columns: &[usize]) -> RowBuffer {
        let mut left = self.nothing.clone();
        self.copy(columns, row, &mut left);
        left
    }
}

/// The row without the behaviours at these positions.
pub(super) fn without_behaviours(row: &Row<'_>, positions: &[usize]) -> RowBuffer {
    let mut left = RowBuffer::of(row);
    let mut position = 0;
    left.behaviours.retain(|_| {
        position += 1;
        !positions.contains(&(position - 1))
    });
    left
}

/// What the click's logit loses when each column, and each behaviour, is taken away.
pub(super) fn ablate(model: &Model, rows: &[Row<'_>]) -> Vec<Explanation> {
    let columns = Columns::new(model);
    let reads_behaviours = model.layout.behaviour_token.is_some();
    rows.iter()
        .map(|row| {
            let present = columns.present(row);
            let behaviours = if reads_behaviours { row.behaviours.len() } else { 0 };
            let mut changed = vec![RowBuffer::of(row)];
            changed.extend(present.iter().map(|&column| columns.without(row, &[column])));
            changed.extend((0..behaviours).map(|position| without_behaviours(row, &[position])));
            let logits = model.click_logits(&changed);
            let lost: Vec<f32> = logits[1..].iter().map(|logit| logits[0] - logit).collect();
            let mut parts = vec![0.0; columns.len()];
            for (&column, &lost) in present.iter().zip(&lost) {
                parts[column] = lost;
            }
            Explanation { columns: parts, behaviours: lost[present.len()..].to_vec() }
        })
        .collect()
}
