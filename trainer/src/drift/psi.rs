//! The population stability index: how far the values of one input have moved. Pure.
//!
//! `PSI = Σ (q - p) ln(q / p)` over bins, where `p` is the share of the reference in a bin and `q`
//! that of the values looked at (N. Siddiqi, "Credit Risk Scorecards", 2006; it is Jeffreys'
//! divergence). The usual reading: below 0.1 nothing has moved, above 0.25 much has. Every bin
//! counts half a value more than it has, so that an empty one is not infinite evidence.
//!
//! Of N and M values of one distribution in B bins, PSI / (1/N + 1/M) follows about a chi-squared
//! distribution with B - 1 degrees of freedom (B. Yurdakul, "Statistical properties of population
//! stability index", 2018): what lies below its far quantile is chance.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

/// Inner edges of a number's bins: deciles.
const DECILES: usize = 10;
/// Ids of a field that are counted by themselves.
const TOP: usize = 10;
/// Normal quantile of chance, 1 in 10,000: tens of inputs are looked at, again and again.
const FAR: f64 = 3.719;

/// How one input has moved.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Shift {
    /// The column or field.
    pub name: String,
    /// Population stability index, 0 or more.
    pub psi: f64,
    /// What chance alone stays below in all but 1 of 10,000 looks.
    pub chance: f64,
}

impl Shift {
    /// Whether it has moved by more than `bound`, and by more than chance.
    pub fn beyond(&self, bound: f64) -> bool {
        self.psi > bound && self.psi > self.chance
    }
}

/// PSI of two histograms over the same bins.
///
/// # Panics
/// In debug builds, if the histograms have not the same bins.
pub fn psi(name: &str, reference: &[u64], latest: &[u64]) -> Shift {
    debug_assert_eq!(reference.len(), latest.len());
    let bins = reference.len() as f64;
    let (n, m) = (total(reference), total(latest));
    let share = |count: u64, all: f64| (count as f64 + 0.5) / (all + 0.5 * bins);
    let psi = reference
        .iter()
        .zip(latest)
        .map(|(&p, &q)| {
            let (p, q) = (share(p, n), share(q, m));
            (q - p) * (q / p).ln()
        })
        .sum();
    let chance = if n > 0.0 && m > 0.0 { (1.0 / n + 1.0 / m) * far_quantile(bins - 1.0) } else { f64::MAX };
    Shift { name: name.to_owned(), psi, chance }
}

fn total(counts: &[u64]) -> f64 {
    counts.iter().sum::<u64>() as f64
}

/// The far quantile of a chi-squared distribution (Wilson and Hilferty's approximation, 1931).
fn far_quantile(freedom: f64) -> f64 {
    if freedom <= 0.0 {
        return 0.0;
    }
    let spread = 2.0 / (9.0 * freedom);
    freedom * (1.0 - spread + FAR * spread.sqrt()).powi(3)
}

/// A number's values in bins that the reference's deciles bound; missing ones have their own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Numbers {
    /// The column.
    pub name: String,
    /// Upper bounds of all bins but the last, ascending, each in its bin.
    pub edges: Vec<f32>,
    /// Values of each bin, then missing ones.
    pub counts: Vec<u64>,
}

impl Numbers {
    /// Bins bounded by the deciles of `values`; equal deciles make one bound. NaN is missing.
    pub fn fit(name: &str, values: &[f32]) -> Self {
        let mut sorted: Vec<f32> = values.iter().copied().filter(|value| !value.is_nan()).collect();
        sorted.sort_unstable_by(f32::total_cmp);
        let mut edges: Vec<f32> = (1..DECILES)
            .filter_map(|decile| {
                sorted.get((sorted.len() * decile / DECILES).min(sorted.len().saturating_sub(1))).copied()
            })
            .collect();
        edges.dedup();
        let mut fitted = Self { name: name.to_owned(), edges, counts: Vec::new() };
        fitted.counts = fitted.count(values);
        fitted
    }

    /// The values by bin.
    fn count(&self, values: &[f32]) -> Vec<u64> {
        let mut counts = vec![0; self.edges.len() + 2];
        for value in values {
            let bin = if value.is_nan() {
                self.edges.len() + 1
            } else {
                self.edges.partition_point(|edge| edge < value)
            };
            counts[bin] += 1;
        }
        counts
    }

    /// How far `values` have moved from those it was fitted to.
    pub fn shift(&self, values: &[f32]) -> Shift {
        psi(&self.name, &self.counts, &self.count(values))
    }
}

/// A field's ids: the most frequent by themselves, the others together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ids {
    /// The field.
    pub name: String,
    /// The most frequent ids, as rows of the embedding table; most frequent first.
    pub top: Vec<u32>,
    /// How often each came, then all others.
    pub counts: Vec<u64>,
}

impl Ids {
    /// Counts the ids of a field.
    pub fn fit(name: &str, ids: &[u32]) -> Self {
        let mut counted: HashMap<u32, u64> = HashMap::new();
        for &id in ids {
            *counted.entry(id).or_default() += 1;
        }
        let mut by_count: Vec<(u64, u32)> = counted.into_iter().map(|(id, count)| (count, id)).collect();
        by_count.sort_unstable_by_key(|&(count, id)| (std::cmp::Reverse(count), id));
        by_count.truncate(TOP);
        let mut fitted = Self {
            name: name.to_owned(),
            top: by_count.into_iter().map(|(_, id)| id).collect(),
            counts: Vec::new(),
        };
        fitted.counts = fitted.count(ids);
        fitted
    }

    fn count(&self, ids: &[u32]) -> Vec<u64> {
        let position: HashMap<u32, usize> = self.top.iter().enumerate().map(|(at, &id)| (id, at)).collect();
        let mut counts = vec![0; self.top.len() + 1];
        for id in ids {
            counts[position.get(id).copied().unwrap_or(self.top.len())] += 1;
        }
        counts
    }

    /// How far `ids` have moved from those it was fitted to.
    pub fn shift(&self, ids: &[u32]) -> Shift {
        psi(&self.name, &self.counts, &self.count(ids))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::SplitMix;

    fn uniform(rows: usize, seed: u64) -> Vec<f32> {
        let mut random = SplitMix::new(seed);
        (0..rows).map(|_| (random.next() >> 40) as f32 / (1 << 24) as f32).collect()
    }

    #[test]
    fn follows_the_formula() {
        // By hand, with half a value more in each bin: p = 30.5/101, 70.5/101; q = 50.5/101, 50.5/101.
        let shift = psi("x", &[30, 70], &[50, 50]);
        let (p, q) = (30.5 / 101.0, 50.5 / 101.0_f64);
        let wanted = (q - p) * (q / p).ln() + (p - q) * ((1.0 - q) / (1.0 - p)).ln();
        assert!((shift.psi - wanted).abs() < 1e-12, "{shift:?}");
        // The 0.9999 quantile of chi-squared with 1 degree of freedom is 15.137, with 9 it is 33.720
        // (scipy.stats.chi2.ppf); the approximation is above it, by 7 % at worst.
        let quantile = shift.chance / (2.0 / 100.0);
        assert!((15.137..1.08 * 15.137).contains(&quantile), "{quantile}");
        assert!((33.720..1.02 * 33.720).contains(&far_quantile(9.0)), "{}", far_quantile(9.0));
    }

    #[test]
    fn equal_histograms_have_not_moved_and_it_is_symmetric() {
        for seed in 0..50 {
            let mut random = SplitMix::new(seed);
            let bins = 1 + random.below(12);
            let a: Vec<u64> = (0..bins).map(|_| random.below(1_000) as u64).collect();
            let b: Vec<u64> = (0..bins).map(|_| random.below(1_000) as u64).collect();
            assert_eq!(psi("x", &a, &a).psi, 0.0);
            let (there, back) = (psi("x", &a, &b), psi("x", &b, &a));
            assert!(there.psi >= 0.0 && (there.psi - back.psi).abs() < 1e-9, "seed {seed}");
        }
    }

    #[test]
    fn chance_stays_below_its_bound_and_a_real_shift_does_not() {
        let reference = Numbers::fit("x", &uniform(5_000, 1));
        let by_chance = (0..300).filter(|&seed| {
            let shift = reference.shift(&uniform(500, 100 + seed));
            shift.psi > shift.chance
        });
        assert!(by_chance.count() <= 1);
        let moved: Vec<f32> = uniform(500, 7).into_iter().map(|x| 0.4 + 0.6 * x).collect();
        assert!(reference.shift(&moved).beyond(0.25));
    }

    #[test]
    fn bins_are_deciles_and_missing_values_have_their_own() {
        let values: Vec<f32> = (0..1_000_u16).map(f32::from).collect();
        let fitted = Numbers::fit("x", &values);
        assert_eq!(fitted.edges.len(), 9);
        assert!(fitted.counts[..10].iter().all(|&count| (99..=101).contains(&count)), "{fitted:?}");
        assert_eq!(fitted.counts[10], 0);
        let half_missing: Vec<f32> =
            values.iter().map(|&x| if (x as u32).is_multiple_of(2) { f32::NAN } else { x }).collect();
        assert!(fitted.shift(&half_missing).beyond(0.25));
        // A number that never varied, and one that was never there.
        let flat = Numbers::fit("x", &[3.0; 100]);
        assert_eq!(flat.shift(&[3.0; 50]).psi.partial_cmp(&0.05), Some(std::cmp::Ordering::Less));
        assert!(flat.shift(&[4.0; 50]).beyond(0.25));
        let absent = Numbers::fit("x", &[f32::NAN; 100]);
        assert!(absent.edges.is_empty() && absent.shift(&[1.0; 100]).beyond(0.25));
    }

    #[test]
    fn ids_by_their_shares() {
        let mut random = SplitMix::new(2);
        let ids: Vec<u32> = (0..4_000).map(|_| random.below(8).min(random.below(40)) as u32).collect();
        let fitted = Ids::fit("campaign", &ids);
        assert_eq!(fitted.counts.iter().sum::<u64>(), 4_000);
        assert!(!fitted.shift(&ids[..2_000]).beyond(0.1));
        let new: Vec<u32> = (0..2_000).map(|at| if at % 2 == 0 { 77 } else { ids[at] }).collect();
        assert!(fitted.shift(&new).beyond(0.25));
    }
}
