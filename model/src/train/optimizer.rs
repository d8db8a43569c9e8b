//! `AdamW` and `RMSprop` over plain arrays, their state keyed by name; for tables row by row, so that
//! rows that a batch did not name cost nothing.

use std::collections::BTreeMap;

use crate::config::OptimizerKind;

const FIRST: f32 = 0.9;
const SECOND: f32 = 0.999;
const RMS: f32 = 0.9;
const SMALL: f32 = 1e-8;

/// How large a step is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// Step size.
    pub learning_rate: f32,
    /// Decoupled decay, per step and unit of step size.
    pub weight_decay: f32,
}

/// Running moments of one array's gradient.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct State {
    first: Vec<f32>,
    second: Vec<f32>,
}

/// An optimizer with its state.
#[derive(Debug, Clone)]
pub struct Optimizer {
    kind: OptimizerKind,
    states: BTreeMap<String, State>,
    step: i32,
}

impl Optimizer {
    /// Without any state yet.
    pub const fn new(kind: OptimizerKind) -> Self {
        Self { kind, states: BTreeMap::new(), step: 0 }
    }

    /// Counts a step: call it once before the updates of a batch.
    pub const fn next_step(&mut self) {
        self.step = self.step.saturating_add(1);
    }

    /// Moves `values` against `gradients`.
    pub fn update(&mut self, name: &str, values: &mut [f32], gradients: &[f32], settings: Settings) {
        let length = values.len();
        let rule = self.rule(settings);
        let state = self.state(name, length);
        rule.apply(values, gradients, &mut state.first, &mut state.second);
    }

    /// Moves rows of `width` of `values`: `rows` says which, each at most once, and `gradients`
    /// holds theirs in that order. Rows that are not named keep their values and their state.
    pub fn update_rows(
        &mut self,
        name: &str,
        values: &mut [f32],
        width: usize,
        rows: &[u32],
        gradients: &[f32],
        settings: Settings,
    ) {
        let length = values.len();
        let rule = self.rule(settings);
        let adam = self.kind == OptimizerKind::AdamW;
        let state = self.state(name, length);
        for (&row, gradients) in rows.iter().zip(gradients.chunks_exact(width)) {
            let range = row as usize * width..(row as usize + 1) * width;
            let first = if adam { &mut state.first[range.clone()] } else { &mut [] };
            rule.apply(&mut values[range.clone()], gradients, first, &mut state.second[range]);
        }
    }

    fn state(&mut self, name: &str, length: usize) -> &mut State {
        let adam = self.kind == OptimizerKind::AdamW;
        self.states.entry(name.to_owned()).or_insert_with(|| State {
            first: if adam { vec![0.0; length] } else { Vec::new() },
            second: vec![0.0; length],
        })
    }

    fn rule(&self, settings: Settings) -> Rule {
        let decay = 1.0 - settings.learning_rate * settings.weight_decay;
        // Corrections in double precision: 0.999 to the power of a large step count.
        let correct = |rate: f32| 1.0 - libm::pow(f64::from(rate), f64::from(self.step.max(1)));
        match self.kind {
            OptimizerKind::AdamW => Rule {
                adam: true,
                decay,
                step: (f64::from(settings.learning_rate) / correct(FIRST)) as f32,
                root: (1.0 / correct(SECOND).sqrt()) as f32,
            },
            OptimizerKind::RmsProp => Rule { adam: false, decay, step: settings.learning_rate, root: 1.0 },
        }
    }
}

/// One step's constants.
#[derive(Clone, Copy)]
struct Rule {
    adam: bool,
    decay: f32,
    step: f32,
    root: f32,
}

impl Rule {
    fn apply(self, values: &mut [f32], gradients: &[f32], first: &mut [f32], second: &mut [f32]) {
        if self.adam {
            let state = first.iter_mut().zip(second);
            for ((value, gradient), (first, second)) in values.iter_mut().zip(gradients).zip(state) {
                *first = FIRST * *first + (1.0 - FIRST) * gradient;
                *second = SECOND * *second + (1.0 - SECOND) * gradient * gradient;
                *value = *value * self.decay - self.step * *first / (second.sqrt() * self.root + SMALL);
            }
        } else {
            for ((value, gradient), second) in values.iter_mut().zip(gradients).zip(second) {
                *second = RMS * *second + (1.0 - RMS) * gradient * gradient;
                *value = *value * self.decay - self.step * gradient / (second.sqrt() + SMALL);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: Settings = Settings { learning_rate: 0.1, weight_decay: 0.01 };

    fn close(a: &[f32], b: &[f32]) {
        assert!(a.iter().zip(b).all(|(a, b)| (a - b).abs() < 2e-6), "{a:?} {b:?}");
    }

    /// Reference: the published update rules in double precision, three steps of gradients
    /// (0.5, -1), (0.25, 2), (-0.125, 0.5) from (1, -2) at rate 0.1, decay 0.01.
    fn run(kind: OptimizerKind) -> Vec<f32> {
        let mut optimizer = Optimizer::new(kind);
        let mut values = vec![1.0, -2.0];
        for gradients in [[0.5, -1.0], [0.25, 2.0], [-0.125, 0.5]] {
            optimizer.next_step();
            optimizer.update("w", &mut values, &gradients, SETTINGS);
        }
        values
    }

    fn reference(kind: OptimizerKind) -> Vec<f32> {
        let mut values = [1.0_f64, -2.0];
        let (mut m, mut v) = ([0.0_f64; 2], [0.0_f64; 2]);
        for (t, g) in [[0.5, -1.0], [0.25, 2.0], [-0.125, 0.5]].into_iter().enumerate() {
            for i in 0..2 {
                values[i] -= 0.1 * 0.01 * values[i];
                match kind {
                    OptimizerKind::AdamW => {
                        m[i] = 0.9 * m[i] + 0.1 * g[i];
                        v[i] = 0.999 * v[i] + 0.001 * g[i] * g[i];
                        let m_hat = m[i] / (1.0 - 0.9_f64.powi(t as i32 + 1));
                        let v_hat = v[i] / (1.0 - 0.999_f64.powi(t as i32 + 1));
                        values[i] -= 0.1 * m_hat / (v_hat.sqrt() + 1e-8);
                    }
                    OptimizerKind::RmsProp => {
                        v[i] = 0.9 * v[i] + 0.1 * g[i] * g[i];
                        values[i] -= 0.1 * g[i] / (v[i].sqrt() + 1e-8);
                    }
                }
            }
        }
        values.map(|value| value as f32).to_vec()
    }

    #[test]
    fn steps_are_those_of_the_published_rules() {
        for kind in [OptimizerKind::AdamW, OptimizerKind::RmsProp] {
            close(&run(kind), &reference(kind));
        }
    }

    #[test]
    fn rows_move_alone_and_as_a_whole_array_would() {
        for kind in [OptimizerKind::AdamW, OptimizerKind::RmsProp] {
            let (mut all, mut some) = (Optimizer::new(kind), Optimizer::new(kind));
            let (mut whole, mut table) = (vec![1.0, -2.0], vec![9.0, 9.0, 1.0, -2.0, 7.0, 7.0]);
            for gradients in [[0.5, -1.0], [0.25, 2.0]] {
                all.next_step();
                some.next_step();
                all.update("w", &mut whole, &gradients, SETTINGS);
                some.update_rows("t", &mut table, 2, &[1], &gradients, SETTINGS);
            }
            assert_eq!(table, [9.0, 9.0, whole[0], whole[1], 7.0, 7.0]);
        }
    }
}
