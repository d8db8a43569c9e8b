//! A tensor's values as a histogram.

use super::proto::Histogram;

/// Buckets between the least and the greatest value.
const BUCKETS: usize = 30;
/// Values that are counted at most; of larger tensors every so-many-th.
const MOST: usize = 1 << 20;

/// Equal buckets from the least to the greatest of the values; those that are no numbers are left
/// out, since no bucket holds them.
pub(super) fn of(values: &[f32]) -> Histogram {
    let stride = values.len().div_ceil(MOST).max(1);
    let finite =
        || values.iter().step_by(stride).filter(|value| value.is_finite()).map(|&value| f64::from(value));
    let (mut min, mut max) = (f64::INFINITY, f64::NEG_INFINITY);
    let (mut num, mut sum, mut sum_squares) = (0.0, 0.0, 0.0);
    for value in finite() {
        min = min.min(value);
        max = max.max(value);
        num += 1.0;
        sum += value;
        sum_squares += value * value;
    }
    if num == 0.0 {
        return Histogram { bucket_limit: vec![0.0], bucket: vec![0.0], ..Histogram::default() };
    }
    let width = (max - min) / BUCKETS as f64;
    if width <= 0.0 {
        return Histogram { min, max, num, sum, sum_squares, bucket_limit: vec![max], bucket: vec![num] };
    }
    let mut bucket = vec![0.0; BUCKETS];
    for value in finite() {
        bucket[(((value - min) / width) as usize).min(BUCKETS - 1)] += 1.0;
    }
    let mut bucket_limit: Vec<f64> = (1..=BUCKETS).map(|at| min + width * at as f64).collect();
    bucket_limit[BUCKETS - 1] = max;
    Histogram { min, max, num, sum, sum_squares, bucket_limit, bucket }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_finite_value_is_in_one_bucket() {
        let values: Vec<f32> = (0..1_000).map(|at| (at as f32 * 0.37).sin()).chain([f32::NAN]).collect();
        let histogram = of(&values);
        assert_eq!(histogram.num, 1_000.0);
        assert_eq!(histogram.bucket.iter().sum::<f64>(), 1_000.0);
        assert!(histogram.bucket_limit.windows(2).all(|pair| pair[0] < pair[1]));
        assert_eq!(histogram.bucket_limit.last(), Some(&histogram.max));
        assert_eq!((histogram.bucket.len(), histogram.bucket_limit.len()), (BUCKETS, BUCKETS));
    }

    #[test]
    fn constants_and_nothing_have_one_bucket() {
        let same = of(&[2.0; 7]);
        assert_eq!((same.bucket, same.bucket_limit), (vec![7.0], vec![2.0]));
        assert_eq!(of(&[]).num, 0.0);
        assert_eq!(of(&[f32::INFINITY]).bucket, vec![0.0]);
    }
}
