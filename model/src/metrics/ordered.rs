//! Judged predictions in descending order of probability, and every figure in one pass over them:
//! once as they are, and once for each resample of a bootstrap.

use super::{BUCKETS, Figures, Judged, entropy, log_loss};

/// One prediction, with what does not change between resamples.
#[derive(Debug, Clone, Copy)]
struct Line {
    weight: f64,
    probability: f64,
    loss: f64,
    positive: bool,
    /// The next one has another probability.
    last_of_tie: bool,
    /// Bucket of equal width.
    width: u8,
    /// Bucket of equal weight.
    mass: u8,
}

/// Predictions, most likely first; equal ones in the order given.
#[derive(Debug)]
pub(super) struct Ordered {
    lines: Vec<Line>,
    /// Which of the given predictions each line is.
    given: Vec<u32>,
}

impl Ordered {
    pub(super) fn new(judged: &[Judged]) -> Self {
        let mut order: Vec<(u32, &Judged)> = (0..).zip(judged).collect();
        order.sort_by(|(_, a), (_, b)| b.probability.total_cmp(&a.probability));
        let total: f64 = judged.iter().map(|one| f64::from(one.weight)).sum();
        let (mut before, mut mass) = (0.0, 0);
        let mut lines: Vec<Line> = Vec::with_capacity(order.len());
        for tied in order.chunk_by(|(_, a), (_, b)| a.probability == b.probability) {
            // Equal predictions stay together, in the bucket in which the first of them falls.
            if total > 0.0 {
                mass = ((before / total * BUCKETS as f64) as u8).min(BUCKETS as u8 - 1);
            }
            for (at, (_, one)) in tied.iter().enumerate() {
                let probability = f64::from(one.probability);
                before += f64::from(one.weight);
                lines.push(Line {
                    weight: f64::from(one.weight),
                    probability,
                    loss: log_loss(one.probability, one.positive),
                    positive: one.positive,
                    last_of_tie: at + 1 == tied.len(),
                    width: ((probability * BUCKETS as f64) as u8).min(BUCKETS as u8 - 1),
                    mass,
                });
            }
        }
        Self { lines, given: order.into_iter().map(|(given, _)| given).collect() }
    }

    /// Which of the given predictions line `at` is.
    pub(super) fn given(&self, at: usize) -> usize {
        self.given[at] as usize
    }

    pub(super) const fn len(&self) -> usize {
        self.lines.len()
    }

    /// Weighted share of positives; `None` without weight.
    pub(super) fn base_rate(&self) -> Option<f64> {
        let total: f64 = self.lines.iter().map(|line| line.weight).sum();
        let positive: f64 = self.lines.iter().filter(|line| line.positive).map(|line| line.weight).sum();
        (total > 0.0).then(|| positive / total)
    }

    /// The figures when line `i` counts `times(i)` times its weight; what reaches `threshold` is
    /// taken as said to happen.
    pub(super) fn figures(&self, threshold: f64, times: impl Fn(usize) -> f64) -> Figures {
        let (mut total, mut predicted, mut loss) = (0.0, 0.0, 0.0);
        let mut width = [0.0_f64; BUCKETS];
        let mut mass = [0.0_f64; BUCKETS];
        // Of all before the present tie, and of the tie.
        let (mut above, mut below) = (0.0_f64, 0.0_f64);
        let (mut up, mut down) = (0.0_f64, 0.0_f64);
        let (mut won, mut precision) = (0.0_f64, 0.0_f64);
        let mut said = (0.0_f64, 0.0_f64);
        for (at, line) in self.lines.iter().enumerate() {
            let weight = times(at) * line.weight;
            let happened = if line.positive { weight } else { 0.0 };
            total += weight;
            predicted += weight * line.probability;
            loss += weight * line.loss;
            let off = weight * line.probability - happened;
            width[usize::from(line.width)] += off;
            mass[usize::from(line.mass)] += off;
            up += happened;
            down += weight - happened;
            if line.last_of_tie {
                won += down * (above + up / 2.0);
                above += up;
                below += down;
                if up > 0.0 {
                    precision += up * above / (above + below);
                }
                if line.probability >= threshold {
                    said = (above, below);
                }
                (up, down) = (0.0, 0.0);
            }
        }
        if total <= 0.0 {
            return Figures::default();
        }
        let ratio = |part: f64, whole: f64| (whole > 0.0).then(|| part / whole);
        let base_rate = above / total;
        let base_log_loss = entropy(base_rate);
        let (true_positive, false_positive) = said;
        Figures {
            base_rate: Some(base_rate),
            mean_prediction: Some(predicted / total),
            log_loss: Some(loss / total),
            base_log_loss: Some(base_log_loss),
            normalised_entropy: ratio(loss / total, base_log_loss),
            auc: ratio(won, above * below),
            pr_auc: ratio(precision, above),
            calibration_error: Some(width.iter().map(|off| off.abs()).sum::<f64>() / total),
            calibration_error_equal_mass: Some(mass.iter().map(|off| off.abs()).sum::<f64>() / total),
            accuracy: Some((true_positive + below - false_positive) / total),
            precision: ratio(true_positive, true_positive + false_positive),
            recall: ratio(true_positive, above),
            f1: ratio(2.0 * true_positive, above + true_positive + false_positive),
        }
    }

    /// Calls `see` with the threshold and the weight of positives and of negatives that reach it,
    /// for every threshold that tells something apart, falling.
    pub(super) fn thresholds(&self, mut see: impl FnMut(f64, f64, f64)) {
        let (mut positive, mut negative) = (0.0, 0.0);
        for line in &self.lines {
            *(if line.positive { &mut positive } else { &mut negative }) += line.weight;
            if line.last_of_tie {
                see(line.probability, positive, negative);
            }
        }
    }
}
