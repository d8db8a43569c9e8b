//! How far two orders of the same things agree.

/// Ranks from 1, ties sharing the mean of theirs.
fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
    let mut ranks = vec![0.0; values.len()];
    let mut first = 0;
    while first < order.len() {
        let mut last = first;
        while last + 1 < order.len() && values[order[last + 1]] == values[order[first]] {
            last += 1;
        }
        for &at in &order[first..=last] {
            ranks[at] = (first + last) as f64 / 2.0 + 1.0;
        }
        first = last + 1;
    }
    ranks
}

/// Spearman's rank correlation, ties by mean ranks: -1 to 1. `None` where one side has only ties.
///
/// # Panics
/// In debug builds, if the sides differ in length.
pub fn spearman(a: &[f64], b: &[f64]) -> Option<f64> {
    debug_assert_eq!(a.len(), b.len());
    let (a, b) = (ranks(a), ranks(b));
    let mean = f64::midpoint(a.len() as f64, 1.0);
    let (mut both, mut left, mut right) = (0.0, 0.0, 0.0);
    for (a, b) in a.iter().zip(&b) {
        both += (a - mean) * (b - mean);
        left += (a - mean) * (a - mean);
        right += (b - mean) * (b - mean);
    }
    (left > 0.0 && right > 0.0).then(|| both / (left * right).sqrt())
}

/// Kendall's tau-b: -1 to 1. `None` where one side has only ties.
///
/// # Panics
/// In debug builds, if the sides differ in length.
pub fn kendall(a: &[f64], b: &[f64]) -> Option<f64> {
    debug_assert_eq!(a.len(), b.len());
    let (mut agree, mut left, mut right) = (0.0, 0.0, 0.0);
    for i in 0..a.len() {
        for j in 0..i {
            let x = (a[i] > a[j]) as i32 - (a[i] < a[j]) as i32;
            let y = (b[i] > b[j]) as i32 - (b[i] < b[j]) as i32;
            agree += f64::from(x * y);
            left += f64::from(x * x);
            right += f64::from(y * y);
        }
    }
    (left > 0.0 && right > 0.0).then(|| agree / (left * right).sqrt())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn as_scipy_says() {
        // scipy.stats.spearmanr and kendalltau of these.
        let (a, b) = ([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [2.0, 1.0, 4.0, 3.0, 6.0, 5.0]);
        assert!((spearman(&a, &b).unwrap() - 0.828_571_428_6).abs() < 1e-9);
        assert!((kendall(&a, &b).unwrap() - 0.6).abs() < 1e-12);
        assert_eq!(spearman(&a, &a), Some(1.0));
        let back: Vec<f64> = a.iter().rev().copied().collect();
        assert_eq!((spearman(&a, &back), kendall(&a, &back)), (Some(-1.0), Some(-1.0)));
        assert_eq!((spearman(&a, &[1.0; 6]), kendall(&[1.0; 6], &a)), (None, None));
    }
}
