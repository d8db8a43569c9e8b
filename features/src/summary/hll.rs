//! How many different things there were: their hashes while there are few, then
//! `HyperLogLog`.
//!
//! As in `HyperLogLog++`, hashes have 64 bits and few of them are a list. What 1,024 registers say is read by
//! Ertl's estimator ("New cardinality estimation algorithms for `HyperLogLog` sketches", 2017), which has no
//! bias to correct by tables at any size; its standard error is 1.04 / sqrt(1,024), 3.3 %. It only adds,
//! multiplies, divides and takes roots, so that it says the same on every processor.

use crate::wire::{Reader, SnapshotError, Writer};

const BITS: u32 = 10;
const REGISTERS: usize = 1 << BITS;
/// Hashes of a list at most: it takes as much as the registers do.
const FEW: usize = REGISTERS / 8;
/// The greatest rank of a register.
const MOST: usize = 64 - BITS as usize + 1;

/// A set that can be added to another, in any order.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Distinct {
    /// Hashes, ascending.
    Few(Vec<u64>),
    /// Per register the greatest rank of a hash.
    Many(Box<[u8; REGISTERS]>),
}

impl Default for Distinct {
    fn default() -> Self {
        Self::Few(Vec::new())
    }
}

impl Distinct {
    /// Adds one by its hash, and keeps a list however long it becomes.
    pub(crate) fn add(&mut self, hash: u64) {
        match self {
            Self::Few(hashes) => {
                if let Err(at) = hashes.binary_search(&hash) {
                    hashes.insert(at, hash);
                }
            }
            Self::Many(registers) => raise(registers, hash),
        }
    }

    /// Makes a list that has become long registers.
    pub(crate) fn bound(&mut self) {
        if let Self::Few(hashes) = self
            && hashes.len() > FEW
        {
            let mut registers = Box::new([0; REGISTERS]);
            for hash in hashes.iter() {
                raise(&mut registers, *hash);
            }
            *self = Self::Many(registers);
        }
    }

    /// Adds another's. A list of this one becomes registers where the other has them.
    pub(crate) fn merge(&mut self, other: &Self) {
        match (&mut *self, other) {
            (_, Self::Few(hashes)) => hashes.iter().for_each(|hash| self.add(*hash)),
            (Self::Many(mine), Self::Many(theirs)) => {
                mine.iter_mut().zip(theirs.iter()).for_each(|(mine, theirs)| *mine = (*mine).max(*theirs));
            }
            (Self::Few(hashes), Self::Many(theirs)) => {
                let mut registers = theirs.clone();
                for hash in hashes.iter() {
                    raise(&mut registers, *hash);
                }
                *self = Self::Many(registers);
            }
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        matches!(self, Self::Few(hashes) if hashes.is_empty())
    }

    /// How many there are, about if there were many.
    pub(crate) fn count(&self) -> f64 {
        match self {
            Self::Few(hashes) => hashes.len() as f64,
            Self::Many(registers) => estimate(registers),
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Few(hashes) => hashes.capacity() * 8,
            Self::Many(_) => REGISTERS,
        }
    }

    pub(crate) fn write(&self, out: &mut Writer) {
        out.bool(matches!(self, Self::Many(_)));
        match self {
            Self::Few(hashes) => {
                out.len(hashes.len());
                for hash in hashes {
                    out.fixed(*hash);
                }
            }
            Self::Many(registers) => out.bytes(&registers[..]),
        }
    }

    pub(crate) fn read_from(input: &mut Reader<'_>) -> Result<Self, SnapshotError> {
        if input.bool()? {
            let registers = <[u8; REGISTERS]>::try_from(input.bytes()?);
            let registers = registers.ok().filter(|all| all.iter().all(|rank| usize::from(*rank) <= MOST));
            return registers.map(|all| Self::Many(Box::new(all))).ok_or_else(|| input.damaged());
        }
        let mut hashes: Vec<u64> = Vec::new();
        for _ in 0..input.len()? {
            let hash = input.fixed()?;
            if hashes.last().is_some_and(|last| *last >= hash) {
                return Err(input.damaged());
            }
            hashes.push(hash);
        }
        Ok(Self::Few(hashes))
    }
}

/// The register that the first bits name holds the place of the first 1 among the others.
fn raise(registers: &mut [u8; REGISTERS], hash: u64) {
    let register = &mut registers[(hash >> (64 - BITS)) as usize];
    let rank = ((hash << BITS | 1 << (BITS - 1)).leading_zeros() + 1) as u8;
    *register = (*register).max(rank);
}

/// Ertl's improved raw estimator.
fn estimate(registers: &[u8; REGISTERS]) -> f64 {
    let mut of_rank = [0_u32; MOST + 1];
    for rank in registers {
        of_rank[usize::from(*rank)] += 1;
    }
    let all = REGISTERS as f64;
    let mut z = all * tau(1.0 - f64::from(of_rank[MOST]) / all);
    for count in of_rank[1..MOST].iter().rev() {
        z = 0.5 * (z + f64::from(*count));
    }
    z += all * sigma(f64::from(of_rank[0]) / all);
    all * all / (2.0 * std::f64::consts::LN_2 * z)
}

fn sigma(x: f64) -> f64 {
    if x >= 1.0 {
        return f64::INFINITY;
    }
    let (mut x, mut y, mut z) = (x, 1.0, x);
    loop {
        x *= x;
        let before = z;
        z += x * y;
        y += y;
        if z <= before {
            return z;
        }
    }
}

fn tau(x: f64) -> f64 {
    if x <= 0.0 || x >= 1.0 {
        return 0.0;
    }
    let (mut x, mut y, mut z) = (x, 1.0, 1.0 - x);
    loop {
        x = x.sqrt();
        let before = z;
        y *= 0.5;
        z -= (1.0 - x) * (1.0 - x) * y;
        if z >= before {
            return z / 3.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hash(of: u64) -> u64 {
        xxhash_rust::xxh3::xxh3_64(&of.to_le_bytes())
    }

    fn of(range: std::ops::Range<u64>) -> Distinct {
        let mut set = Distinct::default();
        range.for_each(|n| {
            set.add(hash(n));
            set.bound();
        });
        set
    }

    #[test]
    fn few_are_exact_and_many_are_within_four_standard_errors() {
        for count in [0, 1, 100, FEW as u64] {
            assert!((of(0..count).count() - count as f64).abs() < 0.5);
        }
        let mut squares = 0.0;
        let cases: Vec<u64> = (0..40).map(|n| 200 * (n + 1) * (n + 1)).collect();
        for &count in &cases {
            let from = count << 20;
            let off = of(from..from + count).count() / count as f64 - 1.0;
            assert!(off.abs() < 4.0 * 0.033, "{count}: off by {off}");
            squares += off * off;
        }
        let error = (squares / cases.len() as f64).sqrt();
        assert!(error < 0.04, "standard error {error}");
    }

    proptest! {
        #[test]
        fn the_order_of_merging_changes_nothing(cuts in proptest::collection::vec(0..3_000_u64, 1..8)) {
            let parts: Vec<Distinct> = cuts.iter().map(|cut| of(cut / 2..*cut)).collect();
            let merged = |order: Vec<&Distinct>| {
                let mut all = Distinct::default();
                for part in order {
                    all.merge(part);
                }
                all
            };
            let all = merged(parts.iter().collect());
            prop_assert_eq!(&all, &merged(parts.iter().rev().collect()));
            let mut out = Writer(Vec::new());
            all.write(&mut out);
            let back = Distinct::read_from(&mut Reader::new(&out.0));
            prop_assert_eq!(back.ok(), Some(all));
            for end in 0..out.0.len().min(64) {
                prop_assert!(Distinct::read_from(&mut Reader::new(&out.0[..end])).is_err());
            }
        }
    }
}
