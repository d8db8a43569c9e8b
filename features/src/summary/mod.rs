//! What is read of a user's past beyond counts and sums by kind: other aggregations, filters, sessions, and
//! pairs of the user with an item, a brand or a placement.
//!
//! All of it is read from the events that are held one by one, and is exact then. Older events of a user
//! with many are added up in tiles ([`tiles::Tiles`]) by parts that merge ([`Part`]). Nothing is kept and
//! nothing is read where nothing of it is declared.
//!
//! What users share is made of the same parts ([`packed`]): whole numbers all, so that no order of partitions
//! changes one.

mod decay;
mod hll;
pub(crate) mod packed;
pub(crate) mod plan;
pub(crate) mod read;
mod stat;
mod tally;
pub(crate) mod tiles;
mod values;

use crate::wire::{Reader, SnapshotError, Writer};

use decay::{Weights, half_to};
use hll::Distinct;
use plan::{Reading, What};
use stat::Stat;
use tally::Tally;
use values::Values;

/// One event as parts take it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct One {
    pub(crate) time_ms: i64,
    pub(crate) value: f64,
    /// Hash of the text that is told apart or tallied; 0 where there is none.
    pub(crate) hash: u64,
}

/// How events stand in the log to those that they are added to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// Before all of them.
    Before,
    /// Behind all of them.
    Behind,
    /// There is no order that is the same in every run: they are of other partitions.
    None,
}

/// What is known of some events, and can be added to what is known of others.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Part {
    Stat(Stat),
    /// Events weighed by age as of a time; the half life is the cell's.
    Decayed {
        weight: f64,
        at_ms: i64,
        half_life_ms: i64,
    },
    /// The same in whole parts of an event, of what users share.
    Weights(Weights),
    Distinct(Distinct),
    Tally(Tally),
    Values(Values),
}

impl Part {
    /// Of no event, as of a time.
    pub(crate) fn new(what: What, at_ms: i64) -> Self {
        match what {
            What::Stat => Self::Stat(Stat::default()),
            What::Decayed { half_life_ms } => Self::Decayed { weight: 0.0, at_ms, half_life_ms },
            What::Distinct(_) => Self::Distinct(Distinct::default()),
            What::Top(_) => Self::Tally(Tally::default()),
            What::Values => Self::Values(Values::default()),
        }
    }

    /// Adds an event.
    pub(crate) fn add(&mut self, one: &One, order: Order) {
        match self {
            Self::Stat(stat) => stat.merge(&Stat::of(one.time_ms, one.value), order),
            Self::Decayed { weight, at_ms, half_life_ms } => {
                let other = (1.0, one.time_ms);
                (*weight, *at_ms) = weighed((*weight, *at_ms), other, *half_life_ms);
            }
            Self::Weights(weights) => weights.add(one.time_ms),
            Self::Distinct(set) if one.hash != 0 => set.add(one.hash),
            Self::Tally(tally) if one.hash != 0 => tally.add(one.hash),
            Self::Values(values) if one.value != 0.0 => values.add(one.value as f32),
            Self::Distinct(_) | Self::Tally(_) | Self::Values(_) => {}
        }
    }

    /// Bounds what it takes, at the price of being exact.
    pub(crate) fn bound(&mut self) {
        match self {
            Self::Distinct(set) => set.bound(),
            Self::Tally(tally) => tally.bound(),
            Self::Values(values) => values.bound(),
            Self::Stat(_) | Self::Decayed { .. } | Self::Weights(_) => {}
        }
    }

    /// Adds what is known of other events.
    pub(crate) fn merge(&mut self, other: &Self, order: Order) {
        match (self, other) {
            (Self::Stat(mine), Self::Stat(theirs)) => mine.merge(theirs, order),
            (
                Self::Decayed { weight, at_ms, half_life_ms },
                Self::Decayed { weight: theirs, at_ms: their_ms, .. },
            ) => (*weight, *at_ms) = weighed((*weight, *at_ms), (*theirs, *their_ms), *half_life_ms),
            (Self::Weights(mine), Self::Weights(theirs)) => mine.merge(theirs),
            (Self::Distinct(mine), Self::Distinct(theirs)) => mine.merge(theirs),
            (Self::Tally(mine), Self::Tally(theirs)) => mine.merge(theirs),
            (Self::Values(mine), Self::Values(theirs)) => mine.merge(theirs),
            // Parts of one cell are of one kind.
            _ => debug_assert!(false, "parts of different cells"),
        }
    }

    /// A number; none where it is missing. `read` says of when and of which text.
    pub(crate) fn number(&mut self, reading: Reading, at_ms: i64, hash: u64) -> Option<f64> {
        match (self, reading) {
            (Self::Stat(stat), Reading::Count) => Some(f64::from(stat.count)),
            (Self::Stat(stat), Reading::Sum) => Some(stat.sum),
            (Self::Stat(stat), Reading::Mean) => stat.mean(),
            (Self::Stat(stat), Reading::Min) => stat.min(),
            (Self::Stat(stat), Reading::Max) => stat.max(),
            (Self::Stat(stat), Reading::Variance) => stat.variance(),
            (Self::Stat(stat), Reading::First) => stat.first(),
            (Self::Stat(stat), Reading::Last) => stat.last(),
            (Self::Stat(stat), Reading::Gap) => stat.gap_s(),
            (Self::Stat(stat), Reading::Age) => {
                (stat.count > 0).then(|| at_ms.saturating_sub(stat.last_ms) as f64 / 1_000.0)
            }
            (Self::Decayed { weight, .. }, Reading::Decayed) => Some(*weight),
            (Self::Weights(weights), Reading::Decayed) => Some(weights.as_of(at_ms)),
            (Self::Distinct(set), Reading::Distinct) => Some(set.count()),
            (Self::Values(values), Reading::Quantile(level)) => values.quantile(level).map(f64::from),
            (Self::Tally(tally), Reading::Share(before)) => tally.share(before),
            (Self::Tally(tally), Reading::Rank(most)) => {
                tally.rank(hash).filter(|before| *before < most).map(|before| before as f64 + 1.0)
            }
            _ => None,
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        size_of::<Self>()
            + match self {
                Self::Distinct(set) => set.bytes(),
                Self::Tally(tally) => tally.bytes(),
                Self::Values(values) => values.bytes(),
                Self::Stat(_) | Self::Decayed { .. } | Self::Weights(_) => 0,
            }
    }

    fn write(&self, out: &mut Writer) {
        match self {
            Self::Stat(stat) => stat.write(out),
            Self::Decayed { weight, at_ms, .. } => {
                out.f64(*weight);
                out.int(*at_ms);
            }
            Self::Weights(weights) => weights.write(0, out),
            Self::Distinct(set) => set.write(out),
            Self::Tally(tally) => tally.write(out),
            Self::Values(values) => values.write(out),
        }
    }

    fn read_from(what: What, input: &mut Reader<'_>) -> Result<Self, SnapshotError> {
        Ok(match what {
            What::Stat => Self::Stat(Stat::read_from(input)?),
            What::Decayed { half_life_ms } => {
                Self::Decayed { weight: input.f64()?, at_ms: input.time_or_never()?, half_life_ms }
            }
            What::Distinct(_) => Self::Distinct(Distinct::read_from(input)?),
            What::Top(_) => Self::Tally(Tally::read_from(input)?),
            What::Values => Self::Values(Values::read_from(input)?),
        })
    }
}

/// Two weights together, as of the later of their times.
fn weighed(a: (f64, i64), b: (f64, i64), half_life_ms: i64) -> (f64, i64) {
    let at_ms = a.1.max(b.1);
    let as_of = |(weight, of_ms): (f64, i64)| {
        let age_ms = at_ms.saturating_sub(of_ms);
        if age_ms == 0 { weight } else { weight * half_to(age_ms as f64 / half_life_ms as f64) }
    };
    (as_of(a) + as_of(b), at_ms)
}
