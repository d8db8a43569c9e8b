//! Precision and recall over thresholds, as `TensorBoard`'s plugin `pr_curves` reads them.

/// Thresholds of a curve, from 0 to 1, both included (the plugin's own default).
pub const THRESHOLDS: usize = 127;

/// The least count that something is divided by (the plugin's own).
const MINIMUM: f64 = 1e-7;

/// Counts and rates at each of [`THRESHOLDS`] thresholds: what is predicted at least as likely as
/// the threshold counts as predicted positive.
#[derive(Debug, Clone, PartialEq)]
pub struct PrCurve {
    /// Rows: true positives, false positives, true negatives, false negatives, precision, recall.
    pub rows: [Vec<f32>; 6],
}

impl PrCurve {
    /// Of predicted probabilities and what happened.
    pub fn of(judged: impl IntoIterator<Item = (f32, bool)>) -> Self {
        let mut counts = [[0.0_f64; THRESHOLDS]; 2];
        for (probability, positive) in judged {
            let at = (f64::from(probability.clamp(0.0, 1.0)) * (THRESHOLDS - 1) as f64).floor() as usize;
            counts[usize::from(positive)][at.min(THRESHOLDS - 1)] += 1.0;
        }
        for counts in &mut counts {
            for at in (0..THRESHOLDS - 1).rev() {
                counts[at] += counts[at + 1];
            }
        }
        let [negative, positive] = counts;
        let column = |of: &dyn Fn(f64, f64) -> f64| -> Vec<f32> {
            positive.iter().zip(&negative).map(|(&tp, &fp)| of(tp, fp) as f32).collect()
        };
        let (all_positive, all_negative) = (positive[0], negative[0]);
        Self {
            rows: [
                column(&|tp, _| tp),
                column(&|_, fp| fp),
                column(&|_, fp| all_negative - fp),
                column(&|tp, _| all_positive - tp),
                column(&|tp, fp| tp / (tp + fp).max(MINIMUM)),
                column(&|tp, _| tp / all_positive.max(MINIMUM)),
            ],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_those_of_comparing_with_each_threshold() {
        let judged: Vec<(f32, bool)> =
            (0..500).map(|at: u32| ((at * 37 % 101) as f32 / 100.0, at.is_multiple_of(3))).collect();
        let curve = PrCurve::of(judged.iter().copied());
        for at in 0..THRESHOLDS {
            // In buckets, as the plugin counts.
            let above = |p: f32| (f64::from(p) * (THRESHOLDS - 1) as f64).floor() as usize >= at;
            let count = |said: bool, came: bool| {
                judged.iter().filter(|(p, positive)| above(*p) == said && *positive == came).count() as f32
            };
            let rows = curve.rows.each_ref().map(|row| row[at]);
            assert_eq!(
                rows[..4],
                [count(true, true), count(true, false), count(false, false), count(false, true)]
            );
        }
        assert_eq!(curve.rows[5][0], 1.0);
    }

    #[test]
    fn one_class_alone_divides_by_nothing() {
        let curve = PrCurve::of([(0.3, false), (f32::NAN, false)]);
        assert!(curve.rows.iter().flatten().all(|value| value.is_finite()));
    }
}
