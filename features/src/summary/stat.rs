//! Counts, sums and extremes of some events.

use std::cmp::Ordering;

use super::Order;
use super::plan::Facets;
use crate::history::NEVER;
use crate::wire::{Reader, SnapshotError, Writer};

/// How many parts of a unit a variance counts values in. So its sums are integers, and no order of adding
/// changes it; a value is off by at most half a part.
const PARTS: f64 = 10_000.0;

/// What is known of some events. A value of 0 is none.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Stat {
    pub(crate) count: u32,
    pub(crate) sum: f64,
    /// Times of the first and the last event, ms.
    pub(crate) first_ms: i64,
    pub(crate) last_ms: i64,
    /// How many have a value.
    valued: u32,
    /// Sums of values and of their squares, in parts.
    parts: i128,
    squares: i128,
    min: f32,
    max: f32,
    /// Times and values of the first and the last event that has one.
    first: (i64, f32),
    last: (i64, f32),
}

impl Default for Stat {
    fn default() -> Self {
        Self {
            count: 0,
            sum: 0.0,
            first_ms: i64::MAX,
            last_ms: NEVER,
            valued: 0,
            parts: 0,
            squares: 0,
            min: f32::INFINITY,
            max: f32::NEG_INFINITY,
            first: (i64::MAX, 0.0),
            last: (NEVER, 0.0),
        }
    }
}

impl Stat {
    /// Of one event.
    pub(crate) fn of(time_ms: i64, value: f64) -> Self {
        let mut stat = Self { count: 1, first_ms: time_ms, last_ms: time_ms, ..Self::default() };
        if value != 0.0 {
            let parts = (value * PARTS).round() as i64;
            stat.sum = value;
            (stat.valued, stat.parts, stat.squares) = (1, parts.into(), i128::from(parts).pow(2));
            let value = value as f32;
            (stat.min, stat.max) = (value, value);
            (stat.first, stat.last) = ((time_ms, value), (time_ms, value));
        }
        stat
    }

    /// Adds those of other events; `order` is that of the log, and decides where times are equal.
    pub(crate) fn merge(&mut self, other: &Self, order: Order) {
        self.count = self.count.saturating_add(other.count);
        self.sum += other.sum;
        self.first_ms = self.first_ms.min(other.first_ms);
        self.last_ms = self.last_ms.max(other.last_ms);
        self.valued = self.valued.saturating_add(other.valued);
        self.parts = self.parts.saturating_add(other.parts);
        self.squares = self.squares.saturating_add(other.squares);
        (self.min, self.max) = (self.min.min(other.min), self.max.max(other.max));
        // Of equal times: whether the other is the lesser, where no log has an order for them.
        let is_less = |mine: (i64, f32), theirs: (i64, f32)| theirs.1.total_cmp(&mine.1) == Ordering::Less;
        let is_first = match order {
            Order::Before => true,
            Order::Behind => false,
            Order::None => is_less(self.first, other.first),
        };
        if other.first.0 < self.first.0 || (is_first && other.first.0 == self.first.0) {
            self.first = other.first;
        }
        let is_last = match order {
            Order::Before => false,
            Order::Behind => true,
            Order::None => is_less(other.last, self.last),
        };
        if other.last.0 > self.last.0 || (is_last && other.last.0 == self.last.0) {
            self.last = other.last;
        }
    }

    fn valued<T>(&self, of: T) -> Option<T> {
        (self.valued > 0).then_some(of)
    }

    pub(crate) fn mean(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum / f64::from(self.count))
    }

    /// The sum in parts, as a value: the same in any order of adding.
    pub(crate) fn whole_sum(&self) -> f64 {
        self.parts as f64 / PARTS
    }

    /// The mean of the same.
    pub(crate) fn whole_mean(&self) -> Option<f64> {
        (self.count > 0).then(|| self.whole_sum() / f64::from(self.count))
    }

    pub(crate) fn min(&self) -> Option<f64> {
        self.valued(f64::from(self.min))
    }

    pub(crate) fn max(&self) -> Option<f64> {
        self.valued(f64::from(self.max))
    }

    pub(crate) fn first(&self) -> Option<f64> {
        self.valued(f64::from(self.first.1))
    }

    pub(crate) fn last(&self) -> Option<f64> {
        self.valued(f64::from(self.last.1))
    }

    /// Mean squared distance from the mean.
    pub(crate) fn variance(&self) -> Option<f64> {
        let count = i128::from(self.valued);
        let exact = || count.checked_mul(self.squares)?.checked_sub(self.parts.checked_mul(self.parts)?);
        let rounded = || count as f64 * self.squares as f64 - (self.parts as f64) * (self.parts as f64);
        let spread = exact().map_or_else(rounded, |spread| spread as f64).max(0.0);
        self.valued(spread / (count as f64 * count as f64) / (PARTS * PARTS))
    }

    /// Mean time from one event to the next, s; none of fewer than two.
    pub(crate) fn gap_s(&self) -> Option<f64> {
        let gaps = self.count.checked_sub(1).filter(|gaps| *gaps > 0)?;
        Some(self.last_ms.saturating_sub(self.first_ms) as f64 / f64::from(gaps) / 1_000.0)
    }

    /// Writes what these facets name, times from `base_ms` on.
    pub(crate) fn pack(&self, facets: Facets, base_ms: i64, out: &mut Writer) {
        out.uint(u64::from(self.count));
        if facets.has(Facets::TIMES) {
            out.int(self.first_ms.wrapping_sub(base_ms));
            out.int(self.last_ms.wrapping_sub(self.first_ms));
        }
        if !facets.has(Facets::VALUES) {
            return;
        }
        out.uint(u64::from(self.valued));
        if self.valued == 0 {
            return;
        }
        if facets.has(Facets::SUM) {
            out.wide(self.parts);
        }
        if facets.has(Facets::SQUARES) {
            out.wide(self.squares);
        }
        if facets.has(Facets::EXTREMES) {
            out.f32(self.min);
            out.f32(self.max);
        }
        for (facet, (time_ms, value)) in [(Facets::FIRST, self.first), (Facets::LAST, self.last)] {
            if facets.has(facet) {
                out.int(time_ms.wrapping_sub(base_ms));
                out.f32(value);
            }
        }
    }

    /// What [`Self::pack`] wrote. What the facets do not name is that of no event.
    pub(crate) fn unpack(
        facets: Facets,
        base_ms: i64,
        input: &mut Reader<'_>,
    ) -> Result<Self, SnapshotError> {
        let mut stat = Self { count: input.id()?, ..Self::default() };
        if facets.has(Facets::TIMES) {
            stat.first_ms = base_ms.wrapping_add(input.int()?);
            stat.last_ms = stat.first_ms.wrapping_add(input.int()?);
        }
        if !facets.has(Facets::VALUES) {
            return Ok(stat);
        }
        stat.valued = input.id()?;
        if stat.valued == 0 {
            return Ok(stat);
        }
        if facets.has(Facets::SUM) {
            stat.parts = input.wide()?;
        }
        if facets.has(Facets::SQUARES) {
            stat.squares = input.wide()?;
        }
        if facets.has(Facets::EXTREMES) {
            (stat.min, stat.max) = (input.f32()?, input.f32()?);
        }
        for (facet, end) in [(Facets::FIRST, &mut stat.first), (Facets::LAST, &mut stat.last)] {
            if facets.has(facet) {
                *end = (base_ms.wrapping_add(input.int()?), input.f32()?);
            }
        }
        Ok(stat)
    }

    pub(crate) fn write(&self, out: &mut Writer) {
        out.uint(u64::from(self.count));
        if self.count == 0 {
            return;
        }
        out.int(self.first_ms);
        out.int(self.last_ms);
        out.uint(u64::from(self.valued));
        if self.valued == 0 {
            return;
        }
        out.f64(self.sum);
        for wide in [self.parts, self.squares] {
            out.fixed(wide as u64);
            out.fixed((wide >> 64) as u64);
        }
        out.f32(self.min);
        out.f32(self.max);
        for (time_ms, value) in [self.first, self.last] {
            out.int(time_ms);
            out.f32(value);
        }
    }

    pub(crate) fn read_from(input: &mut Reader<'_>) -> Result<Self, SnapshotError> {
        let mut stat = Self { count: input.id()?, ..Self::default() };
        if stat.count == 0 {
            return Ok(stat);
        }
        (stat.first_ms, stat.last_ms) = (input.time()?, input.time()?);
        stat.valued = input.id()?;
        if stat.valued == 0 {
            return Ok(stat);
        }
        stat.sum = input.f64()?;
        for wide in [&mut stat.parts, &mut stat.squares] {
            let low = i128::from(input.fixed()?);
            *wide = low | i128::from(input.fixed()? as i64) << 64;
        }
        (stat.min, stat.max) = (input.f32()?, input.f32()?);
        for end in [&mut stat.first, &mut stat.last] {
            *end = (input.time()?, input.f32()?);
        }
        Ok(stat)
    }
}
