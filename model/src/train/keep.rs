//! The best weights so far. Of the tables, only rows that training has touched are copied: the
//! others are as they were.

use super::touched::Touched;
use crate::network::{Dense, Weights};

/// A copy of the best weights.
#[derive(Debug, Clone, Default)]
pub(super) struct Kept {
    /// Everything but the tables; none before the first validation.
    pub(super) dense: Option<(Vec<f32>, Vec<Dense>)>,
    /// Best values of the rows touched, by slot; what a row held before it was touched, where that
    /// was after the best.
    pub(super) rows: Vec<f32>,
    /// Slots moved since the best, each once.
    moved: Vec<u32>,
    is_moved: Vec<bool>,
}

impl Kept {
    /// As it was read from a checkpoint: every row counts as moved.
    pub(super) fn restored(dense: Option<(Vec<f32>, Vec<Dense>)>, rows: Vec<f32>, width: usize) -> Self {
        let count = rows.len() / width;
        Self { dense, rows, moved: (0..count as u32).collect(), is_moved: vec![true; count] }
    }

    /// Notes that the rows in `slots` are about to be moved; those named for the first time still
    /// have in `tables` what they held before.
    pub(super) fn before(&mut self, tables: &[f32], width: usize, touched: &Touched, slots: &[u32]) {
        for &row in &touched.rows()[self.is_moved.len()..] {
            self.rows.extend_from_slice(&tables[row as usize * width..(row as usize + 1) * width]);
            self.is_moved.push(false);
        }
        for &slot in slots {
            if !std::mem::replace(&mut self.is_moved[slot as usize], true) {
                self.moved.push(slot);
            }
        }
    }

    /// Keeps `weights`: they are the best.
    pub(super) fn keep(&mut self, weights: &Weights, width: usize, touched: &Touched) {
        match &mut self.dense {
            Some((front, layers)) => {
                front.copy_from_slice(&weights.front);
                layers.clone_from(&weights.layers);
            }
            None => self.dense = Some((weights.front.clone(), weights.layers.clone())),
        }
        for slot in self.moved.drain(..) {
            let row = touched.rows()[slot as usize] as usize;
            let slot = slot as usize;
            self.rows[slot * width..(slot + 1) * width]
                .copy_from_slice(&weights.tables[row * width..(row + 1) * width]);
            self.is_moved[slot] = false;
        }
    }

    /// Turns `weights` back into the best; false where none were kept.
    pub(super) fn restore(&self, weights: &mut Weights, width: usize, touched: &Touched) -> bool {
        let Some((front, layers)) = &self.dense else { return false };
        weights.front.copy_from_slice(front);
        weights.layers.clone_from(layers);
        for (&row, values) in touched.rows().iter().zip(self.rows.chunks_exact(width)) {
            weights.tables[row as usize * width..(row as usize + 1) * width].copy_from_slice(values);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    #[test]
    fn it_gives_back_what_a_whole_copy_would() {
        let (rows, width) = (50, 4);
        let mut random = Random::new(1, "kept");
        let mut weights = Weights {
            front: vec![0.5; 8],
            tables: (0..rows * width).map(|_| random.symmetric(1.0)).collect(),
            layers: vec![Dense { weight: vec![1.0; 6], bias: vec![0.0; 3], inputs: 2, outputs: 3 }],
        };
        let mut touched = Touched::new(rows);
        let mut kept = Kept::default();
        let mut whole = None;
        for step in 0..40 {
            let mut named: Vec<u32> = (0..rows as u32).collect();
            random.shuffle(&mut named);
            named.truncate(3);
            let slots = touched.name(&named);
            kept.before(&weights.tables, width, &touched, &slots);
            for &row in &named {
                weights.tables[row as usize * width] += 1.0;
            }
            weights.front[0] += 1.0;
            weights.layers[0].bias[1] -= 1.0;
            if [3, 4, 17].contains(&step) {
                kept.keep(&weights, width, &touched);
                whole = Some(weights.clone());
            }
            if step == 20 {
                kept = Kept::restored(kept.dense, kept.rows, width);
            }
        }
        assert!(kept.restore(&mut weights, width, &touched));
        assert_eq!(Some(weights.clone()), whole);
        assert!(!Kept::default().restore(&mut weights, width, &Touched::new(rows)));
    }
}
