//! Weights that stay as they are (`training.frozen`).

use std::ops::Range;

use super::TrainError;
use super::forward::Gradients;
use super::state::rows;
use crate::encode::Encoder;
use crate::network::Layout;

/// Which weights stay.
#[derive(Debug, Clone, Default)]
pub(super) struct Frozen {
    names: Vec<String>,
    /// Rows of tables that stay.
    table_rows: Vec<Range<u32>>,
}

/// Whether `name` is `pattern`, or goes on with a dot after it.
fn matches(name: &str, pattern: &str) -> bool {
    name.strip_prefix(pattern).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

impl Frozen {
    /// The weights that `names` name.
    ///
    /// # Errors
    /// A name that no weight of the network has.
    pub(super) fn new(
        names: &[String],
        layout: &Layout,
        encoder: &Encoder,
        layers: usize,
    ) -> Result<Self, TrainError> {
        let tables: Vec<(String, Range<u32>)> = encoder
            .tables()
            .iter()
            .map(|table| (format!("table.{}", table.name), table.first..table.first + table.rows))
            .collect();
        let all = || {
            let segments = layout.segments.iter().map(|segment| segment.name.clone());
            let layers = (0..layers).map(move |number| layout.layer_name(number, layers));
            segments.chain(tables.iter().map(|(name, _)| name.clone())).chain(layers)
        };
        for pattern in names {
            if !all().any(|name| matches(&name, pattern)) {
                return Err(TrainError::Frozen { name: pattern.clone(), known: all().collect() });
            }
        }
        let table_rows = tables
            .iter()
            .filter(|(name, _)| names.iter().any(|pattern| matches(name, pattern)))
            .map(|(_, rows)| rows.clone())
            .collect();
        Ok(Self { names: names.to_vec(), table_rows })
    }

    /// Whether the weights called `name` stay.
    pub(super) fn holds(&self, name: &str) -> bool {
        self.names.iter().any(|pattern| matches(name, pattern))
    }

    fn holds_row(&self, row: u32) -> bool {
        self.table_rows.iter().any(|rows| rows.contains(&row))
    }

    /// The rows that move, with their slots and gradients; `None` where all do.
    pub(super) fn moving_rows(
        &self,
        unique: &[u32],
        slots: &[u32],
        gradients: &[f32],
        width: usize,
    ) -> Option<(Vec<u32>, Vec<u32>, Vec<f32>)> {
        if self.table_rows.is_empty() {
            return None;
        }
        let mut moving = (Vec::new(), Vec::new(), Vec::new());
        for ((&row, &slot), gradients) in unique.iter().zip(slots).zip(gradients.chunks_exact(width)) {
            if !self.holds_row(row) {
                moving.0.push(row);
                moving.1.push(slot);
                moving.2.extend_from_slice(gradients);
            }
        }
        Some(moving)
    }

    /// Takes what stays out of the gradients, so that it does not count in their length.
    pub(super) fn clear(&self, gradients: &mut Gradients, unique: &[u32], layout: &Layout) {
        if self.names.is_empty() {
            return;
        }
        let width = layout.width;
        for segment in &layout.segments {
            if self.holds(&segment.name) {
                gradients.front[rows(segment.first, segment.rows, width)].fill(0.0);
            }
        }
        if !self.table_rows.is_empty() {
            for (&row, gradients) in unique.iter().zip(gradients.rows.chunks_exact_mut(width)) {
                if self.holds_row(row) {
                    gradients.fill(0.0);
                }
            }
        }
        let count = gradients.layers.len();
        for (number, (weight, bias)) in gradients.layers.iter_mut().enumerate() {
            if self.holds(&layout.layer_name(number, count)) {
                weight.fill(0.0);
                bias.fill(0.0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_match_whole_or_from_the_left() {
        assert!(matches("attention.0.query", "attention"));
        assert!(matches("attention.0.query", "attention.0.query"));
        assert!(!matches("attention.0.query", "attention.0.que"));
        assert!(!matches("mlp.10", "mlp.1"));
    }
}
