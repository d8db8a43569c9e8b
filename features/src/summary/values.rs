//! Quantiles of values: the values while there are few, then how many there are by their first bits.
//!
//! A bucket holds the values that begin with the same sign, exponent and 6 bits of the fraction: it is at
//! most 1/64 of its values wide, and its middle is off by less than 1/128. Counts are integers, so that no
//! order of adding changes one, and no logarithm is taken that one C library has otherwise than the next.

use crate::wire::{Reader, SnapshotError, Writer};

/// Bits of a value that are not told apart.
const CUT: u32 = 17;
/// Values of a list at most.
const FEW: usize = 32;

/// Values that can be added to others, in any order.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Values {
    /// The values as [`ordered`] has them.
    Few(Vec<u32>),
    /// Buckets, ascending, and how many values are in each.
    Many(Vec<(u16, u32)>),
}

impl Default for Values {
    fn default() -> Self {
        Self::Few(Vec::new())
    }
}

/// Bits that ascend as values do.
fn ordered(value: f32) -> u32 {
    let bits = value.to_bits();
    if bits >> 31 == 1 { !bits } else { bits | 1 << 31 }
}

fn value_of(ordered: u32) -> f32 {
    f32::from_bits(if ordered >> 31 == 1 { ordered ^ 1 << 31 } else { !ordered })
}

fn count(buckets: &mut Vec<(u16, u32)>, bucket: u16, more: u32) {
    match buckets.binary_search_by_key(&bucket, |(bucket, _)| *bucket) {
        Ok(at) => buckets[at].1 = buckets[at].1.saturating_add(more),
        Err(at) => buckets.insert(at, (bucket, more)),
    }
}

impl Values {
    /// Adds one, and keeps a list however long it becomes.
    pub(crate) fn add(&mut self, value: f32) {
        self.push(ordered(value));
    }

    fn push(&mut self, ordered: u32) {
        match self {
            Self::Few(values) => values.push(ordered),
            Self::Many(buckets) => count(buckets, (ordered >> CUT) as u16, 1),
        }
    }

    fn spread(&mut self) {
        if let Self::Few(values) = self {
            let mut buckets = Vec::new();
            for value in values.iter() {
                count(&mut buckets, (value >> CUT) as u16, 1);
            }
            *self = Self::Many(buckets);
        }
    }

    /// Makes a list that has become long buckets.
    pub(crate) fn bound(&mut self) {
        if matches!(self, Self::Few(values) if values.len() > FEW) {
            self.spread();
        }
    }

    /// Brings a list into the order of its values: then equal values are equal bytes.
    pub(crate) fn sort(&mut self) {
        if let Self::Few(values) = self {
            values.sort_unstable();
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        matches!(self, Self::Few(values) if values.is_empty())
    }

    /// Adds another's. A list of this one becomes buckets where the other has them.
    pub(crate) fn merge(&mut self, other: &Self) {
        match other {
            Self::Few(values) => values.iter().for_each(|value| self.push(*value)),
            Self::Many(theirs) => {
                self.spread();
                if let Self::Many(mine) = self {
                    for (bucket, more) in theirs {
                        count(mine, *bucket, *more);
                    }
                }
            }
        }
    }

    /// The least value that at least this share of the values does not exceed; none without values.
    pub(crate) fn quantile(&mut self, level: f64) -> Option<f32> {
        let rank = |len: u64| ((level * len as f64).ceil() as u64).clamp(1, len.max(1));
        match self {
            Self::Few(values) => {
                values.sort_unstable();
                values.get(rank(values.len() as u64) as usize - 1).copied().map(value_of)
            }
            Self::Many(buckets) => {
                let mut left = rank(buckets.iter().map(|(_, count)| u64::from(*count)).sum());
                let bucket = buckets.iter().find(|(_, count)| {
                    let is_here = left <= u64::from(*count);
                    left = left.saturating_sub(u64::from(*count));
                    is_here
                });
                // The middle of the bucket.
                bucket.map(|(bucket, _)| value_of(u32::from(*bucket) << CUT | 1 << (CUT - 1)))
            }
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Few(values) => values.capacity() * 4,
            Self::Many(buckets) => buckets.capacity() * 8,
        }
    }

    pub(crate) fn write(&self, out: &mut Writer) {
        out.bool(matches!(self, Self::Many(_)));
        match self {
            Self::Few(values) => {
                out.len(values.len());
                for value in values {
                    out.u32(*value);
                }
            }
            Self::Many(buckets) => {
                out.len(buckets.len());
                for (bucket, count) in buckets {
                    out.uint(u64::from(*bucket));
                    out.uint(u64::from(*count));
                }
            }
        }
    }

    pub(crate) fn read_from(input: &mut Reader<'_>) -> Result<Self, SnapshotError> {
        if !input.bool()? {
            let values = (0..input.len()?).map(|_| input.u32()).collect::<Result<_, _>>()?;
            return Ok(Self::Few(values));
        }
        let mut buckets: Vec<(u16, u32)> = Vec::new();
        for _ in 0..input.len()? {
            let bucket = u16::try_from(input.id()?).map_err(|_| input.damaged())?;
            if buckets.last().is_some_and(|(last, _)| *last >= bucket) {
                return Err(input.damaged());
            }
            buckets.push((bucket, input.id()?));
        }
        Ok(Self::Many(buckets))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_quantile_is_exact_of_few_and_off_by_less_than_a_128th_of_many(
            values in proptest::collection::vec(prop_oneof![0.01_f32..1e6, -1e3_f32..1e3], 1..200),
            level in 0.01_f64..1.0, cut in any::<prop::sample::Index>(),
        ) {
            let mut sorted = values.clone();
            sorted.sort_by(f32::total_cmp);
            let rank = ((level * values.len() as f64).ceil() as usize).clamp(1, values.len());
            let want = sorted[rank - 1];
            let (mut exact, mut parts) = (Values::default(), [Values::default(), Values::default()]);
            for (at, value) in values.iter().enumerate() {
                exact.add(*value);
                let part = &mut parts[usize::from(at < cut.index(values.len()))];
                part.add(*value);
                part.bound();
            }
            prop_assert_eq!(exact.quantile(level), Some(want));
            let [mut merged, second] = parts.clone();
            merged.merge(&second);
            let [first, mut other] = parts;
            other.merge(&first);
            let got = merged.quantile(level).unwrap_or(f32::NAN);
            prop_assert_eq!(Some(got), other.quantile(level));
            let bound = want.abs() / 128.0 + f32::MIN_POSITIVE;
            prop_assert!((got - want).abs() <= bound, "{} for {}", got, want);
            let mut out = Writer(Vec::new());
            merged.write(&mut out);
            prop_assert_eq!(Values::read_from(&mut Reader::new(&out.0)).ok(), Some(merged));
        }
    }

    #[test]
    fn nothing_has_no_quantile() {
        assert_eq!(Values::default().quantile(0.5), None);
    }
}
