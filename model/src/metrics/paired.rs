//! Two models on the same examples: how much each figure differs, and how far that is noise.

use super::ordered::Ordered;
use super::{Bootstrap, Differences, Judged};

/// Figures of `a` less those of `b`, which are predictions of the same examples in the same order:
/// each resample draws the same of both. Both take what reaches the base rate as said to happen.
pub fn less(a: &[Judged], b: &[Judged], bootstrap: &Bootstrap) -> Differences {
    debug_assert_eq!(a.len(), b.len());
    let (a, b) = (Ordered::new(a), Ordered::new(b));
    let Some(threshold) = a.base_rate() else { return Differences::default() };
    let resampled = bootstrap.resample(a.len(), |times| {
        [&a, &b].map(|one| one.figures(threshold, |at| f64::from(times[one.given(at)])))
    });
    let [a, b] = [&a, &b].map(|one| one.figures(threshold, |_| 1.0));
    Differences::of(&a, &b, &resampled, bootstrap)
}
