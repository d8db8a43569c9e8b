//! Which units of a layer are dropped in a step.

#![expect(
    clippy::inline_always,
    reason = "a body is compiled with a class's instructions only where it is inlined into that class's function"
)]

use crate::network::KernelClass;
use crate::network::kernel::multiversion;

/// Which units of a layer are dropped in a step. Counter-based: unit `i` is dropped or not by a hash
/// of its own, so that threads change nothing and no generator's state has to be kept.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Dropout {
    key: u32,
    /// Units whose hash is below it are dropped.
    limit: u32,
    /// What a unit that is kept is multiplied by: the mean stays.
    keep: f32,
}

impl Dropout {
    /// Drops a share of `rate` (0 to less than 1).
    pub(crate) fn new(rate: f32, seed: u64, step: u64, layer: u64) -> Self {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&step.to_le_bytes());
        bytes[8..].copy_from_slice(&layer.to_le_bytes());
        Self {
            key: xxhash_rust::xxh3::xxh3_64_with_seed(&bytes, seed) as u32,
            limit: (f64::from(rate) * 4_294_967_296.0) as u32,
            keep: 1.0 / (1.0 - rate),
        }
    }

    /// Whether nothing is dropped.
    const fn is_none(self) -> bool {
        self.limit == 0
    }

    /// The 32 random bits of unit `index` (the finalizer of `MurmurHash3` over a Weyl sequence).
    #[inline(always)]
    const fn bits(self, index: u32) -> u32 {
        let mut x = index.wrapping_mul(0x9E37_79B9).wrapping_add(self.key);
        x = (x ^ (x >> 16)).wrapping_mul(0x85EB_CA6B);
        x = (x ^ (x >> 13)).wrapping_mul(0xC2B2_AE35);
        x ^ (x >> 16)
    }

    /// What a unit that is kept is multiplied by.
    pub(crate) const fn keep(self) -> f32 {
        self.keep
    }

    /// Drops units of `values`, the first of which is unit `first` of its layer.
    pub(crate) fn apply(self, class: KernelClass, first: u32, values: &mut [f32]) {
        if !self.is_none() {
            drop_units(class, self, first, values);
        }
    }
}

multiversion! {
    fn drop_units<>(dropout: Dropout, first: u32, values: &mut [f32]) = drop_body
}

#[inline(always)]
fn drop_body(dropout: Dropout, first: u32, values: &mut [f32]) {
    for (index, value) in values.iter_mut().enumerate() {
        let bits = dropout.bits(first.wrapping_add(index as u32));
        *value *= if bits < dropout.limit { 0.0 } else { dropout.keep };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_units_are_dropped_as_asked_and_others_each_step() {
        let count = 100_000;
        let mask = |step, layer| {
            let mut values = vec![1.0_f32; count];
            Dropout::new(0.3, 7, step, layer).apply(KernelClass::detect(), 0, &mut values);
            values
        };
        let first = mask(0, 0);
        let kept = first.iter().filter(|&&value| value > 0.0).count() as f64 / count as f64;
        assert!((kept - 0.7).abs() < 0.006, "{kept}");
        assert!(first.iter().all(|&value| value == 0.0 || (value - 1.0 / 0.7).abs() < 1e-6));
        for other in [mask(1, 0), mask(0, 1)] {
            let same = first.iter().zip(&other).filter(|(a, b)| a == b).count() as f64 / count as f64;
            // Independent masks agree with probability 0.7² + 0.3².
            assert!((same - 0.58).abs() < 0.006, "{same}");
        }
        // A part of the layer drops what the whole does.
        let mut part = vec![1.0_f32; 100];
        Dropout::new(0.3, 7, 0, 0).apply(KernelClass::detect(), 500, &mut part);
        assert_eq!(part, first[500..600]);
    }

    #[test]
    fn without_dropout_values_stay() {
        let mut values = [1.5_f32, -2.0];
        Dropout::new(0.0, 7, 0, 0).apply(KernelClass::detect(), 0, &mut values);
        assert_eq!(values, [1.5, -2.0]);
    }
}
