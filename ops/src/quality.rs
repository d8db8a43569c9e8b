//! How good predictions were: log loss and AUC beside the base rate's and the truth's own.

use serde::Serialize;

/// Impressions of which predicted and true probability and the outcome are known.
#[derive(Debug, Clone, Default)]
pub struct Quality {
    rows: Vec<(f32, f32, bool)>,
}

/// Most impressions kept, the first ones; enough for three digits.
const MOST: usize = 2_000_000;

/// Log loss in nats per impression, and area under the ROC curve, of three predictors on the same
/// impressions. The log loss of the truth is the least that any model can reach but for noise.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Judgement {
    /// Impressions judged.
    pub impressions: u64,
    /// Share clicked.
    pub click_rate: f64,
    /// The model's.
    pub log_loss: f64,
    /// Always predicting the share clicked.
    pub base_log_loss: f64,
    /// The market's true probabilities.
    pub true_log_loss: f64,
    /// The model's.
    pub auc: f64,
    /// The market's true probabilities.
    pub true_auc: f64,
}

impl Quality {
    /// One impression.
    pub fn add(&mut self, predicted: f64, truth: f64, clicked: bool) {
        if self.rows.len() < MOST {
            self.rows.push((predicted as f32, truth as f32, clicked));
        }
    }

    /// The judgement; `None` without both a click and an impression that was not clicked.
    pub fn judge(&self) -> Option<Judgement> {
        let count = self.rows.len() as f64;
        let clicks = self.rows.iter().filter(|(_, _, clicked)| *clicked).count() as f64;
        if clicks == 0.0 || clicks == count {
            return None;
        }
        let rate = clicks / count;
        let mean = |loss: &dyn Fn(&(f32, f32, bool)) -> f64| self.rows.iter().map(loss).sum::<f64>() / count;
        Some(Judgement {
            impressions: self.rows.len() as u64,
            click_rate: rate,
            log_loss: mean(&|row| log_loss(f64::from(row.0), row.2)),
            base_log_loss: mean(&|row| log_loss(rate, row.2)),
            true_log_loss: mean(&|row| log_loss(f64::from(row.1), row.2)),
            auc: self.auc(|row| row.0),
            true_auc: self.auc(|row| row.1),
        })
    }

    /// Mann-Whitney: the share of (clicked, not clicked) pairs in the right order, ties a half.
    fn auc(&self, score: impl Fn(&(f32, f32, bool)) -> f32) -> f64 {
        let mut sorted: Vec<(f32, bool)> = self.rows.iter().map(|row| (score(row), row.2)).collect();
        sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
        let (mut below, mut area, mut clicks) = (0.0, 0.0, 0.0);
        for tie in sorted.chunk_by(|a, b| a.0 == b.0) {
            let clicked = tie.iter().filter(|(_, clicked)| *clicked).count() as f64;
            let other = tie.len() as f64 - clicked;
            area += clicked * (below + other / 2.0);
            below += other;
            clicks += clicked;
        }
        area / (clicks * below)
    }
}

fn log_loss(p: f64, clicked: bool) -> f64 {
    let p = p.clamp(1e-12, 1.0 - 1e-12);
    if clicked { -p.ln() } else { -(1.0 - p).ln() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed setup is a failed test")]
    use super::*;

    #[test]
    fn agrees_with_closed_forms() {
        let mut quality = Quality::default();
        assert_eq!(quality.judge(), None);
        for (predicted, truth, clicked) in
            [(0.5, 0.9, true), (0.5, 0.2, false), (0.5, 0.1, false), (0.5, 0.8, true)]
        {
            quality.add(predicted, truth, clicked);
        }
        let judged = quality.judge().unwrap();
        assert_eq!((judged.impressions, judged.click_rate), (4, 0.5));
        assert_eq!((judged.auc, judged.true_auc), (0.5, 1.0));
        assert!(
            (judged.log_loss - 2f64.ln()).abs() < 1e-9 && (judged.base_log_loss - 2f64.ln()).abs() < 1e-9
        );
        let truth = -(0.9f64.ln() + 0.8f64.ln() + 0.8f64.ln() + 0.9f64.ln()) / 4.0;
        assert!((judged.true_log_loss - truth).abs() < 1e-6);
    }
}
