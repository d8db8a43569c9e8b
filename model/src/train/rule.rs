//! What an optimizer does to each number: the same operations in the same order on every thread and in
//! every kernel class.

#![expect(
    clippy::inline_always,
    reason = "a body is compiled with a class's instructions only where it is inlined into that class's function"
)]

use rayon::prelude::*;

use crate::config::OptimizerKind;
use crate::network::KernelClass;
use crate::network::kernel::multiversion;

/// Share that stays of Adam's first moment (Kingma and Ba 2015).
pub(super) const FIRST: f32 = 0.9;
/// Share that stays of Adam's second moment.
pub(super) const SECOND: f32 = 0.999;
/// Share that stays of `RMSprop`'s mean square (Tieleman and Hinton 2012).
const RMS: f32 = 0.9;
/// Keeps a division by a root finite.
const SMALL: f32 = 1e-8;
/// The same for Adagrad, whose sum never shrinks.
const SMALL_ADAGRAD: f32 = 1e-10;

/// Floats, and rows, that one thread takes at a time.
const PART: usize = 8_192;
const ROWS: usize = 512;

/// One step's constants.
#[derive(Clone, Copy)]
pub(super) struct Rule {
    pub(super) kind: OptimizerKind,
    pub(super) momentum: f32,
    pub(super) decay: f32,
    pub(super) step: f32,
    pub(super) root: f32,
}

impl Rule {
    /// Element by element, so that threads and registers change nothing. Moments that the rule does
    /// not keep are empty.
    pub(super) fn apply(self, values: &mut [f32], gradients: &[f32], first: &mut [f32], second: &mut [f32]) {
        if values.len() <= PART {
            apply(KernelClass::detect(), self, values, gradients, first, second);
            return;
        }
        let half = values.len() / 2;
        let (values, more_values) = values.split_at_mut(half);
        let (gradients, more_gradients) = gradients.split_at(half);
        let (first, more_first) = first.split_at_mut(half.min(first.len()));
        let (second, more_second) = second.split_at_mut(half.min(second.len()));
        rayon::join(
            || self.apply(values, gradients, first, second),
            || self.apply(more_values, more_gradients, more_first, more_second),
        );
    }
}

multiversion! {
    fn apply<>(
        rule: Rule, values: &mut [f32], gradients: &[f32], first: &mut [f32], second: &mut [f32],
    ) = body
}

#[inline(always)]
fn body(rule: Rule, values: &mut [f32], gradients: &[f32], first: &mut [f32], second: &mut [f32]) {
    let Rule { kind, momentum, decay, step, root } = rule;
    let moved = values.iter_mut().zip(gradients);
    match kind {
        OptimizerKind::AdamW => {
            for ((value, gradient), (first, second)) in moved.zip(first.iter_mut().zip(second)) {
                *first = FIRST * *first + (1.0 - FIRST) * gradient;
                *second = SECOND * *second + (1.0 - SECOND) * gradient * gradient;
                *value = *value * decay - step * *first / (second.sqrt() * root + SMALL);
            }
        }
        OptimizerKind::RmsProp => {
            for ((value, gradient), second) in moved.zip(second) {
                *second = RMS * *second + (1.0 - RMS) * gradient * gradient;
                *value = *value * decay - step * gradient / (second.sqrt() + SMALL);
            }
        }
        OptimizerKind::Adagrad => {
            for ((value, gradient), second) in moved.zip(second) {
                *second += gradient * gradient;
                *value = *value * decay - step * gradient / (second.sqrt() + SMALL_ADAGRAD);
            }
        }
        OptimizerKind::Sgd if momentum > 0.0 => {
            for ((value, gradient), first) in moved.zip(first) {
                *first = momentum * *first + gradient;
                *value = *value * decay - step * *first;
            }
        }
        OptimizerKind::Sgd => {
            for (value, gradient) in moved {
                *value = *value * decay - step * gradient;
            }
        }
    }
}

/// The rows of `all` with these numbers, one after another.
pub(super) fn gather(all: &[f32], width: usize, numbers: &[u32], rows: &mut [f32]) {
    rows.par_chunks_mut(ROWS * width).zip(numbers.par_chunks(ROWS)).for_each(|(rows, numbers)| {
        for (row, &number) in rows.chunks_exact_mut(width).zip(numbers) {
            row.copy_from_slice(&all[number as usize * width..(number as usize + 1) * width]);
        }
    });
}

/// The reverse: each thread puts back the rows of a part of `all`.
pub(super) fn scatter(rows: &[f32], width: usize, numbers: &[u32], all: &mut [f32]) {
    if rows.is_empty() {
        return;
    }
    let share = (all.len() / width).div_ceil(rayon::current_num_threads());
    all.par_chunks_mut(share * width).enumerate().for_each(|(part, all)| {
        for (row, &number) in rows.chunks_exact(width).zip(numbers) {
            let at = (number as usize).wrapping_sub(part * share).wrapping_mul(width);
            if let Some(to) = all.get_mut(at..at.wrapping_add(width)) {
                to.copy_from_slice(row);
            }
        }
    });
}
