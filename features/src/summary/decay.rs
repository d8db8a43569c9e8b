//! Powers of one half, the same on every processor, and events that are weighed by them.

use crate::wire::{Reader, SnapshotError, Writer};

/// Parts of an event that a weight counts in.
const PARTS: f64 = 4_294_967_296.0;

/// Events weighed by age as of a time, in whole parts: no order of adding events as of one time changes it.
/// A weight is off by at most half a part an event, and half a part for each time that it is taken as of
/// another time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Weights {
    parts: u64,
    at_ms: i64,
    half_life_ms: i64,
}

impl Weights {
    /// Of no event, as of a time that none of those to be added is after.
    pub(crate) fn new(half_life_ms: i64, at_ms: i64) -> Self {
        Self { parts: 0, at_ms, half_life_ms }
    }

    pub(crate) fn is_none(&self) -> bool {
        self.parts == 0
    }

    fn left(&self, at_ms: i64) -> f64 {
        half_to(at_ms.saturating_sub(self.at_ms) as f64 / self.half_life_ms as f64)
    }

    /// Adds an event.
    pub(crate) fn add(&mut self, time_ms: i64) {
        let event = Self { at_ms: time_ms, ..*self };
        self.parts = self.parts.saturating_add((PARTS * event.left(self.at_ms)).round() as u64);
    }

    /// Adds others, as of the later of both times.
    pub(crate) fn merge(&mut self, other: &Self) {
        let at_ms = self.at_ms.max(other.at_ms);
        let parts = |of: &Self| {
            if of.at_ms == at_ms { of.parts } else { (of.parts as f64 * of.left(at_ms)).round() as u64 }
        };
        (self.parts, self.at_ms) = (parts(self).saturating_add(parts(other)), at_ms);
    }

    /// The events as of a time, which is not before theirs.
    pub(crate) fn as_of(&self, at_ms: i64) -> f64 {
        self.parts as f64 / PARTS * self.left(at_ms)
    }

    /// Writes it, the time from `base_ms` on.
    pub(crate) fn write(&self, base_ms: i64, out: &mut Writer) {
        out.uint(self.parts);
        out.int(self.at_ms.wrapping_sub(base_ms));
    }

    pub(crate) fn read_from(
        half_life_ms: i64,
        base_ms: i64,
        input: &mut Reader<'_>,
    ) -> Result<Self, SnapshotError> {
        Ok(Self { parts: input.uint()?, at_ms: base_ms.wrapping_add(input.int()?), half_life_ms })
    }
}

/// 2^-x for x of 0 or more, to 1e-15. The platform's own differs in the last bit from one C library to the
/// next.
pub(crate) fn half_to(x: f64) -> f64 {
    // (ln 2)^n / n!, alternating: the series of 2^-f.
    const TERMS: [f64; 19] = {
        let mut terms = [1.0; 19];
        let mut n = 1;
        while n < terms.len() {
            terms[n] = -terms[n - 1] * std::f64::consts::LN_2 / n as f64;
            n += 1;
        }
        terms
    };
    if x >= 1_000.0 {
        return 0.0;
    }
    let whole = x.max(0.0) as u64;
    let part = x.max(0.0) - whole as f64;
    let series = TERMS.iter().rev().fold(0.0, |sum, term| sum * part + term);
    series * f64::from_bits((1_023 - whole) << 52)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_near_the_platforms() {
        for step in 0..30_000 {
            let x = f64::from(step) / 37.0;
            let want = (-x).exp2();
            assert!((half_to(x) - want).abs() <= 4e-15 * want, "{x}");
        }
        assert_eq!([half_to(0.0), half_to(1.0), half_to(3.0), half_to(1e9)], [1.0, 0.5, 0.125, 0.0]);
    }
}
