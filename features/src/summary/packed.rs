//! What is known of one key of a shared entity in one tile, as it goes through the log and lies in the state:
//! the parts of its cells, packed.
//!
//! A summary is a bit per cell that has anything, the lowest of the first byte first, and then the parts of
//! these, times from the tile's start on. One of nothing is no bytes. Equal events are equal bytes, in whatever
//! order they and the partitions came: parts are whole numbers, extremes or sets, and what is bounded is so
//! when all that there is has been added.

use super::decay::Weights;
use super::hll::Distinct;
use super::plan::{Facets, Reading, What};
use super::stat::Stat;
use super::tally::Tally;
use super::values::Values;
use super::{Order, Part};
use crate::wire::{Reader, SnapshotError, Writer};

/// One of the parts of a summary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Packed {
    pub(crate) what: What,
    /// Of a [`What::Stat`]: what is read of it.
    pub(crate) facets: Facets,
}

/// A part of no event, of a tile that ends then.
pub(crate) fn nothing(what: What, end_ms: i64) -> Part {
    match what {
        What::Decayed { half_life_ms } => Part::Weights(Weights::new(half_life_ms, end_ms)),
        _ => Part::new(what, end_ms),
    }
}

impl Part {
    /// Whether nothing is known but that there is nothing.
    fn is_nothing(&self) -> bool {
        match self {
            Self::Stat(stat) => stat.count == 0,
            Self::Decayed { weight, .. } => *weight == 0.0,
            Self::Weights(weights) => weights.is_none(),
            Self::Distinct(set) => set.is_empty(),
            Self::Tally(tally) => tally.is_empty(),
            Self::Values(values) => values.is_empty(),
        }
    }

    fn pack(&mut self, facets: Facets, base_ms: i64, out: &mut Writer) {
        self.bound();
        match self {
            Self::Stat(stat) => stat.pack(facets, base_ms, out),
            Self::Weights(weights) => weights.write(base_ms, out),
            Self::Values(values) => {
                values.sort();
                values.write(out);
            }
            Self::Decayed { .. } | Self::Distinct(_) | Self::Tally(_) => self.write(out),
        }
    }

    fn unpack(packed: Packed, base_ms: i64, input: &mut Reader<'_>) -> Result<Self, SnapshotError> {
        let part = match packed.what {
            What::Stat => Self::Stat(Stat::unpack(packed.facets, base_ms, input)?),
            What::Decayed { half_life_ms } => {
                Self::Weights(Weights::read_from(half_life_ms, base_ms, input)?)
            }
            What::Distinct(_) => Self::Distinct(Distinct::read_from(input)?),
            What::Top(_) => Self::Tally(Tally::read_from(input)?),
            What::Values => Self::Values(Values::read_from(input)?),
        };
        if part.is_nothing() { Err(input.damaged()) } else { Ok(part) }
    }
}

/// Appends the summary of these parts, which are bounded by that.
pub(crate) fn pack(cells: &[Packed], parts: &mut [Part], base_ms: i64, out: &mut Vec<u8>) {
    debug_assert_eq!(cells.len(), parts.len());
    let begin = out.len();
    if parts.iter().all(Part::is_nothing) {
        return;
    }
    out.resize(begin + cells.len().div_ceil(8), 0);
    let mut writer = Writer(std::mem::take(out));
    for (at, (cell, part)) in cells.iter().zip(parts).enumerate() {
        if !part.is_nothing() {
            writer.0[begin + at / 8] |= 1 << (at % 8);
            part.pack(cell.facets, base_ms, &mut writer);
        }
    }
    *out = writer.0;
}

/// The parts of a summary, each with the place of its cell; none for bytes that are no summary.
pub(crate) fn unpack(cells: &[Packed], base_ms: i64, summary: &[u8]) -> Option<Vec<(usize, Part)>> {
    if summary.is_empty() {
        return Some(Vec::new());
    }
    let (mask, rest) = summary.split_at_checked(cells.len().div_ceil(8))?;
    let mut input = Reader::new(rest);
    let mut parts = Vec::new();
    for at in (0..8 * mask.len()).filter(|at| mask[at / 8] >> (at % 8) & 1 == 1) {
        parts.push((at, Part::unpack(*cells.get(at)?, base_ms, &mut input).ok()?));
    }
    (input.at_end() && !parts.is_empty()).then_some(parts)
}

/// A number of a part; none where it is missing. Sums are of whole numbers.
pub(crate) fn number(part: &mut Part, reading: Reading, at_ms: i64, own: u64) -> Option<f64> {
    match (&*part, reading) {
        (Part::Stat(stat), Reading::Sum) => Some(stat.whole_sum()),
        (Part::Stat(stat), Reading::Mean) => stat.whole_mean(),
        _ => part.number(reading, at_ms, own),
    }
}

/// Adds unpacked parts to others, which stay unbounded.
pub(crate) fn merge(into: &mut [Part], parts: &[(usize, Part)]) {
    for (at, part) in parts {
        into[*at].merge(part, Order::None);
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail so")]
mod tests {
    use proptest::prelude::*;

    use super::super::One;
    use super::super::plan::Of;
    use super::*;

    const TILE_MS: i64 = 60_000;
    const BASE_MS: i64 = 1_700_000_040_000;

    /// One of everything, and one of which only the count is read.
    fn cells() -> Vec<Packed> {
        let readings =
            [Reading::Sum, Reading::Variance, Reading::Max, Reading::First, Reading::Last, Reading::Gap];
        let facets =
            readings.into_iter().fold(Facets::default(), |all, reading| all.and(Facets::of(reading)));
        let of = |what, facets| Packed { what, facets };
        let none = Facets::default();
        vec![
            of(What::Stat, facets),
            of(What::Decayed { half_life_ms: 7_000 }, none),
            of(What::Distinct(Of::User), none),
            of(What::Top(Of::Campaign), none),
            of(What::Values, none),
            of(What::Stat, none),
            of(What::Stat, Facets::of(Reading::Age)),
            of(What::Stat, Facets::of(Reading::Mean)),
            of(What::Stat, Facets::of(Reading::First)),
        ]
    }

    fn empty(cells: &[Packed]) -> Vec<Part> {
        cells.iter().map(|cell| nothing(cell.what, BASE_MS + TILE_MS)).collect()
    }

    fn summary<'a>(cells: &[Packed], events: impl Iterator<Item = &'a One>) -> Vec<u8> {
        let mut parts = empty(cells);
        for one in events {
            for part in &mut parts {
                part.add(one, Order::None);
                part.bound();
            }
        }
        packed(cells, parts)
    }

    fn packed(cells: &[Packed], mut parts: Vec<Part>) -> Vec<u8> {
        let mut out = Vec::new();
        pack(cells, &mut parts, BASE_MS, &mut out);
        out
    }

    fn added<'a>(cells: &[Packed], summaries: impl Iterator<Item = &'a Vec<u8>>) -> Vec<u8> {
        let mut parts = empty(cells);
        for summary in summaries {
            merge(&mut parts, &unpack(cells, BASE_MS, summary).unwrap());
        }
        packed(cells, parts)
    }

    proptest! {
        /// Many texts and values, so that lists become registers and buckets, and counters are cut.
        #[test]
        fn equal_events_are_equal_bytes_whatever_came_first(
            events in proptest::collection::vec((0..TILE_MS, -1e9_f64..1e9, 1..400_u64, 0..3_usize), 1..600),
            few in 0..3_u8,
        ) {
            let cells = cells();
            // Some with no more texts than there are counters, and with ties.
            let texts = if few == 0 { 60 } else { 400 };
            let time = |at: i64| if few == 1 { at / 20_000 * 20_000 } else { at };
            let one = |(at, value, text, partition): &(i64, f64, u64, usize)| {
                let hash = xxhash_rust::xxh3::xxh3_64(&(text % texts).to_le_bytes());
                (*partition, One { time_ms: BASE_MS + time(*at), value: *value, hash })
            };
            let events: Vec<(usize, One)> = events.iter().map(one).collect();
            let of = |partition: usize| events.iter().filter(move |(of, _)| *of == partition).map(|(_, one)| one);
            let each = [0, 1, 2].map(|partition| summary(&cells, of(partition)));
            let all = added(&cells, each.iter());
            prop_assert_eq!(&all, &added(&cells, [2, 0, 1].iter().map(|at| &each[*at])));
            prop_assert_eq!(&all, &added(&cells, each.iter().rev()));
            if texts <= 64 {
                prop_assert_eq!(&all, &summary(&cells, events.iter().rev().map(|(_, one)| one)));
            }
            // It comes back as it was, and from another time on.
            let mut parts = unpack(&cells, BASE_MS, &all).unwrap();
            prop_assert_eq!(&all, &added(&cells, [&all].into_iter()));
            let mut other = Vec::new();
            let mut whole = empty(&cells);
            merge(&mut whole, &parts);
            pack(&cells, &mut whole, BASE_MS - 7 * TILE_MS, &mut other);
            let again = unpack(&cells, BASE_MS - 7 * TILE_MS, &other).unwrap();
            for ((at, mine), (_, theirs)) in parts.iter_mut().zip(again) {
                mine.bound();
                prop_assert_eq!(&*mine, &theirs, "cell {}", at);
            }
            for len in 1..all.len() {
                prop_assert!(unpack(&cells, BASE_MS, &all[..len]).is_none(), "{} of {} bytes", len, all.len());
            }
        }
    }

    #[test]
    fn of_no_event_there_are_no_bytes() {
        let cells = cells();
        assert_eq!(summary(&cells, [].iter()), Vec::<u8>::new());
        assert_eq!(unpack(&cells, BASE_MS, &[]), Some(Vec::new()));
        // Bits of cells that there are not, and bits of none.
        assert_eq!(unpack(&cells, BASE_MS, &[0, 4, 1]), None);
        assert_eq!(unpack(&cells, BASE_MS, &[0, 0]), None);
    }
}
