//! Optimizers over plain arrays, their state keyed by name; for tables row by row, so that rows that
//! no batch has named cost nothing, not even memory for their state.

use std::collections::BTreeMap;

use super::rule::{FIRST, Rule, SECOND, gather, scatter};
use super::touched::Touched;
use super::workspace::Workspace;
use crate::config::OptimizerKind;

/// How large a step is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// Step size.
    pub learning_rate: f32,
    /// Decoupled decay, per step and unit of step size (Loshchilov and Hutter 2019).
    pub weight_decay: f32,
}

/// Running moments of one array's gradient; empty where the rule needs none.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct State {
    first: Vec<f32>,
    second: Vec<f32>,
}

/// An optimizer with its state: SGD with momentum (Sutskever et al. 2013, without Nesterov's look
/// ahead), `RMSprop`, Adagrad (Duchi et al. 2011) or `AdamW`.
#[derive(Debug, Clone, PartialEq)]
pub struct Optimizer {
    kind: OptimizerKind,
    momentum: f32,
    states: BTreeMap<String, State>,
    /// State of table rows, by slot.
    rows: State,
    step: u64,
}

impl Optimizer {
    /// Without any state yet. `momentum` (0 to less than 1) is SGD's.
    pub const fn new(kind: OptimizerKind, momentum: f32) -> Self {
        Self {
            kind,
            momentum,
            states: BTreeMap::new(),
            rows: State { first: Vec::new(), second: Vec::new() },
            step: 0,
        }
    }

    /// Counts a step: call it once before the updates of a batch.
    pub const fn next_step(&mut self) {
        self.step = self.step.saturating_add(1);
    }

    /// Moves `values` against `gradients`.
    pub fn update(&mut self, name: &str, values: &mut [f32], gradients: &[f32], settings: Settings) {
        let rule = self.rule(settings);
        let (first, second) = self.wants();
        let length = values.len();
        if !self.states.contains_key(name) {
            let state = State {
                first: vec![0.0; if first { length } else { 0 }],
                second: vec![0.0; if second { length } else { 0 }],
            };
            self.states.insert(name.to_owned(), state);
        }
        if let Some(state) = self.states.get_mut(name) {
            rule.apply(values, gradients, &mut state.first, &mut state.second);
        }
    }

    /// Moves rows of `width` of the table `values`: `rows` says which, each at most once, `slots`
    /// where `touched` keeps them (as [`Touched::name`] gave them), and `gradients` holds theirs in
    /// that order. Rows that are not named keep their values and their state.
    ///
    /// Rows lie anywhere, so that no two threads may write to them where they are: they are gathered
    /// into memory of `workspace`, moved, and put back.
    #[expect(clippy::too_many_arguments, reason = "a sparse gradient is four arrays")]
    pub(crate) fn update_rows(
        &mut self,
        values: &mut [f32],
        width: usize,
        touched: &Touched,
        rows: &[u32],
        slots: &[u32],
        gradients: &[f32],
        settings: Settings,
        workspace: &Workspace,
    ) {
        let rule = self.rule(settings);
        let (first, second) = self.wants();
        let length = touched.rows().len() * width;
        self.rows.first.resize(if first { length } else { 0 }, 0.0);
        self.rows.second.resize(if second { length } else { 0 }, 0.0);
        let moments = [(first, &mut self.rows.first), (second, &mut self.rows.second)];
        let mut here = workspace.take(rows.len() * width);
        gather(values, width, rows, &mut here);
        let mut of_slots = moments.map(|(wanted, all)| {
            let mut some = workspace.take(if wanted { slots.len() * width } else { 0 });
            gather(all, width, slots, &mut some);
            (all, some)
        });
        let [(_, first), (_, second)] = &mut of_slots;
        rule.apply(&mut here, gradients, first, second);
        scatter(&here, width, rows, values);
        workspace.give(here);
        for (all, some) in of_slots {
            scatter(&some, width, slots, all);
            workspace.give(some);
        }
    }

    /// Which moments the rule keeps.
    fn wants(&self) -> (bool, bool) {
        match self.kind {
            OptimizerKind::AdamW => (true, true),
            OptimizerKind::RmsProp | OptimizerKind::Adagrad => (false, true),
            OptimizerKind::Sgd => (self.momentum > 0.0, false),
        }
    }

    fn rule(&self, settings: Settings) -> Rule {
        let Settings { learning_rate, weight_decay } = settings;
        // Corrections in double precision: 0.999 to the power of a large step count.
        let correct = |rate: f32| 1.0 - libm::pow(f64::from(rate), self.step.max(1) as f64);
        let (step, root) = match self.kind {
            OptimizerKind::AdamW => {
                ((f64::from(learning_rate) / correct(FIRST)) as f32, (1.0 / correct(SECOND).sqrt()) as f32)
            }
            _ => (learning_rate, 1.0),
        };
        Rule {
            kind: self.kind,
            momentum: self.momentum,
            decay: 1.0 - learning_rate * weight_decay,
            step,
            root,
        }
    }

    /// Its state as named arrays, in a fixed order, and the steps counted.
    pub(crate) fn parts(&self) -> (u64, Vec<(String, &[f32])>) {
        let mut parts = vec![
            ("rows.first".to_owned(), self.rows.first.as_slice()),
            ("rows.second".to_owned(), self.rows.second.as_slice()),
        ];
        for (name, state) in &self.states {
            parts.push((format!("first.{name}"), &state.first));
            parts.push((format!("second.{name}"), &state.second));
        }
        (self.step, parts)
    }

    /// The same optimizer with the state that [`Self::parts`] gave; unknown names are passed over.
    pub(crate) fn restore(&mut self, step: u64, parts: impl IntoIterator<Item = (String, Vec<f32>)>) {
        self.step = step;
        for (name, values) in parts {
            match name.as_str() {
                "rows.first" => self.rows.first = values,
                "rows.second" => self.rows.second = values,
                _ => {
                    if let Some(name) = name.strip_prefix("first.") {
                        self.states.entry(name.to_owned()).or_default().first = values;
                    } else if let Some(name) = name.strip_prefix("second.") {
                        self.states.entry(name.to_owned()).or_default().second = values;
                    }
                }
            }
        }
    }
}

impl Optimizer {
    /// Whether its state is of these arrays, of which `length` gives the lengths, and of at most so many
    /// floats of rows: of any other an update would make nonsense.
    pub(crate) fn fits(&self, rows: usize, length: impl Fn(&str) -> Option<usize>) -> bool {
        let (first, second) = self.wants();
        let is_of = |state: &State, length: usize| {
            let want = |wanted: bool| if wanted { length } else { 0 };
            (state.first.len(), state.second.len()) == (want(first), want(second))
        };
        self.rows.first.len().max(self.rows.second.len()) <= rows
            && self.states.iter().all(|(name, state)| length(name).is_some_and(|length| is_of(state, length)))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde::Deserialize;

    use super::*;

    /// Made by `tests/reference/optimizers.py` with `PyTorch`, in double precision.
    const REFERENCE: &str = include_str!("../../tests/reference/optimizers.json");
    /// Furthest from `PyTorch`'s, as a share of the value: we compute in single precision.
    const TOLERANCE: f32 = 2e-5;
    const SETTINGS: Settings = Settings { learning_rate: 0.1, weight_decay: 0.01 };
    const KINDS: [OptimizerKind; 4] =
        [OptimizerKind::AdamW, OptimizerKind::RmsProp, OptimizerKind::Adagrad, OptimizerKind::Sgd];

    #[derive(Deserialize)]
    struct Reference {
        start: Vec<f32>,
        gradients: Vec<Vec<f32>>,
        table: Vec<Vec<f32>>,
        rows: Vec<Vec<u32>>,
        row_gradients: Vec<Vec<Vec<f32>>>,
        cases: Vec<Case>,
    }

    #[derive(Deserialize)]
    struct Case {
        optimizer: OptimizerKind,
        momentum: f32,
        learning_rate: f32,
        weight_decay: f32,
        /// The array after each step.
        dense: Vec<Vec<f32>>,
        /// The table after the last step, without decay; absent where `PyTorch` has no sparse rule.
        sparse: Option<Vec<Vec<f32>>>,
    }

    fn close(ours: &[f32], theirs: &[f32], what: &str) {
        assert_eq!(ours.len(), theirs.len());
        for (a, b) in ours.iter().zip(theirs) {
            assert!((a - b).abs() <= TOLERANCE * b.abs().max(0.1), "{what}: {ours:?} {theirs:?}");
        }
    }

    #[test]
    fn dense_steps_are_those_of_pytorch() {
        let reference: Reference = serde_json::from_str(REFERENCE).unwrap();
        for case in &reference.cases {
            let mut optimizer = Optimizer::new(case.optimizer, case.momentum);
            let settings = Settings { learning_rate: case.learning_rate, weight_decay: case.weight_decay };
            let mut values = reference.start.clone();
            for (gradients, theirs) in reference.gradients.iter().zip(&case.dense) {
                optimizer.next_step();
                optimizer.update("w", &mut values, gradients, settings);
                close(&values, theirs, &format!("{:?} {settings:?}", case.optimizer));
            }
        }
    }

    #[test]
    fn sparse_steps_are_those_of_pytorch() {
        let reference: Reference = serde_json::from_str(REFERENCE).unwrap();
        let mut compared = 0;
        for case in &reference.cases {
            let Some(theirs) = &case.sparse else { continue };
            compared += 1;
            let mut optimizer = Optimizer::new(case.optimizer, case.momentum);
            let settings = Settings { learning_rate: case.learning_rate, weight_decay: 0.0 };
            let width = reference.table[0].len();
            let mut values = reference.table.concat();
            let mut touched = Touched::new(reference.table.len());
            let workspace = Workspace::default();
            for (rows, gradients) in reference.rows.iter().zip(&reference.row_gradients) {
                optimizer.next_step();
                let slots = touched.name(rows);
                let gradients = gradients.concat();
                optimizer.update_rows(
                    &mut values,
                    width,
                    &touched,
                    rows,
                    &slots,
                    &gradients,
                    settings,
                    &workspace,
                );
            }
            close(&values, &theirs.concat(), &format!("{:?}", case.optimizer));
        }
        assert!(compared >= 3, "AdamW, Adagrad and SGD have sparse rules");
    }

    #[test]
    fn rows_move_alone_and_as_a_whole_array_would() {
        for kind in KINDS {
            let (mut all, mut some) = (Optimizer::new(kind, 0.9), Optimizer::new(kind, 0.9));
            let (mut whole, mut table) = (vec![1.0, -2.0], vec![9.0, 9.0, 1.0, -2.0, 7.0, 7.0]);
            let mut touched = Touched::new(3);
            let workspace = Workspace::default();
            for gradients in [[0.5, -1.0], [0.25, 2.0]] {
                all.next_step();
                some.next_step();
                all.update("w", &mut whole, &gradients, SETTINGS);
                let slots = touched.name(&[1]);
                some.update_rows(&mut table, 2, &touched, &[1], &slots, &gradients, SETTINGS, &workspace);
            }
            assert_eq!(table, [9.0, 9.0, whole[0], whole[1], 7.0, 7.0]);
            assert!(some.rows.first.len().max(some.rows.second.len()) <= 2, "state of one row only");
        }
    }

    #[test]
    fn an_optimizer_goes_on_from_its_parts_bit_for_bit() {
        for kind in KINDS {
            let mut touched = Touched::new(2);
            let workspace = Workspace::default();
            let mut step = |optimizer: &mut Optimizer, w: &mut [f32], t: &mut [f32], gradient: f32| {
                optimizer.next_step();
                optimizer.update("w", w, &[gradient, 1.0 - gradient], SETTINGS);
                let slots = touched.name(&[1]);
                optimizer.update_rows(t, 1, &touched, &[1], &slots, &[gradient], SETTINGS, &workspace);
            };
            let mut one = Optimizer::new(kind, 0.9);
            let (mut w, mut t) = ([1.0, 2.0], [3.0, 4.0]);
            step(&mut one, &mut w, &mut t, 0.3);
            step(&mut one, &mut w, &mut t, -0.7);
            let (count, parts) = one.parts();
            let parts: Vec<(String, Vec<f32>)> =
                parts.into_iter().map(|(name, values)| (name, values.to_vec())).collect();
            let mut other = Optimizer::new(kind, 0.9);
            other.restore(count, parts);
            assert_eq!(one, other);
            let (mut w2, mut t2) = (w, t);
            step(&mut one, &mut w, &mut t, 0.1);
            step(&mut other, &mut w2, &mut t2, 0.1);
            assert_eq!(
                (w.map(f32::to_bits), t.map(f32::to_bits)),
                (w2.map(f32::to_bits), t2.map(f32::to_bits))
            );
        }
    }
}
