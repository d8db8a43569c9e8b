//! Finds the intercepts that give a market its rates.
//!
//! A trial market of the same world runs for a while with guessed intercepts; from its
//! impressions, histories included, better ones follow by bisection; twice.

use crate::truth::{Levels, Outcome, logistic};

/// The intercept at which the mean of `weight * logistic(logit + intercept)` is `wanted`.
fn intercept(pairs: &[(f64, f64)], wanted: f64) -> f64 {
    let (mut low, mut high) = (-20.0, 20.0);
    for _ in 0..50 {
        let middle = f64::midpoint(low, high);
        let sum: f64 = pairs.iter().map(|(weight, logit)| weight * logistic(logit + middle)).sum();
        if sum / (pairs.len() as f64) < wanted {
            low = middle;
        } else {
            high = middle;
        }
    }
    f64::midpoint(low, high)
}

/// Intercepts for impressions with these logits (without intercepts): `click_rate` and
/// `purchase_rate` per impression, `view_through` of the purchases without a click.
pub(crate) fn levels(logits: &[Outcome], click_rate: f64, purchase_rate: f64, view_through: f64) -> Levels {
    let clicks: Vec<_> = logits.iter().map(|l| (1.0, l.click)).collect();
    let click = intercept(&clicks, click_rate);
    let after_click: Vec<_> = logits.iter().map(|l| (logistic(l.click + click), l.conversion)).collect();
    let without: Vec<_> = logits.iter().map(|l| (1.0 - logistic(l.click + click), l.view_through)).collect();
    Levels {
        click,
        conversion: intercept(&after_click, purchase_rate * (1.0 - view_through)),
        view_through: intercept(&without, purchase_rate * view_through),
    }
}
