//! Who may train: one at a time, over all instances that share a registry. A lease runs out by
//! itself, so that one that was killed stands in nobody's way for long.
//!
//! ```text
//! models/{name}/lease/00000012.json   the highest number counts; made by put-if-absent
//! ```
//!
//! To take the lease, or to prolong it, is to create the next number; of several that try, one
//! does. Whoever finds a higher number than its own has lost the lease and writes nothing more.
//! The number so is a fencing token: the registry's own records are written only while it is the
//! highest, and the champion pointer, which is created by condition, never by it alone. Clocks of
//! the instances may differ by less than the time the lease lasts.

use runtime::store::Store;
use serde::{Deserialize, Serialize};

use crate::Error;

/// The lease on training the models of one name.
#[derive(Debug, Clone)]
pub struct Leases {
    store: Store,
    name: String,
    lasts_ms: i64,
}

/// A lease that was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    sequence: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Note {
    holder: String,
    /// Wall clock, ms since 1970 UTC; 0 once it was given back.
    until_ms: i64,
}

impl Leases {
    /// Leases on the models called `name`, each of which lasts `lasts_ms` unless prolonged.
    pub fn new(store: Store, name: impl Into<String>, lasts_ms: i64) -> Self {
        Self { store, name: name.into(), lasts_ms }
    }

    /// How long a lease lasts, ms.
    pub const fn lasts_ms(&self) -> i64 {
        self.lasts_ms
    }

    fn folder(&self) -> String {
        format!("models/{}/lease/", self.name)
    }

    fn path(&self, sequence: u64) -> String {
        format!("{}{sequence:08}.json", self.folder())
    }

    /// Numbers there are, ascending.
    async fn numbers(&self) -> Result<Vec<u64>, Error> {
        let prefix = self.folder();
        let paths = self.store.list(&prefix).await?;
        let mut found: Vec<u64> = paths
            .iter()
            .filter_map(|path| path.strip_prefix(&prefix)?.strip_suffix(".json")?.parse().ok())
            .collect();
        found.sort_unstable();
        Ok(found)
    }

    async fn create(&self, sequence: u64, holder: &str, until_ms: i64) -> Result<bool, Error> {
        let note = serde_json::json!(Note { holder: holder.to_owned(), until_ms });
        Ok(self.store.put_new(&self.path(sequence), note.to_string().into()).await?)
    }

    /// Takes the lease.
    ///
    /// # Errors
    /// [`Error::Busy`] while another holds it, or was quicker.
    pub async fn take(&self, holder: &str, now_ms: i64) -> Result<Lease, Error> {
        let numbers = self.numbers().await?;
        let last = numbers.last().copied().unwrap_or(0);
        let held = match numbers.last() {
            Some(&last) => self.note(last).await?,
            None => None,
        };
        if let Some(note) = held.filter(|note| note.until_ms > now_ms) {
            return Err(self.busy(note.holder));
        }
        let sequence = last + 1;
        if !self.create(sequence, holder, now_ms.saturating_add(self.lasts_ms)).await? {
            return Err(self.busy("another".to_owned()));
        }
        // Of numbers that were deleted since we looked, one may have been created anew.
        let lease = Lease { sequence };
        if self.check(&lease).await.is_err() {
            return Err(self.busy("another".to_owned()));
        }
        // The one before stays, so that there always is one.
        for &old in numbers.iter().rev().skip(1) {
            self.store.delete(&self.path(old)).await?;
        }
        Ok(lease)
    }

    /// A damaged note counts as none: its lease cannot be respected, only outnumbered.
    async fn note(&self, sequence: u64) -> Result<Option<Note>, Error> {
        let bytes = self.store.get(&self.path(sequence)).await?;
        Ok(bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
    }

    fn busy(&self, holder: String) -> Error {
        Error::Busy { name: self.name.clone(), holder }
    }

    /// Whether the lease is still ours, whatever the clock says: nobody has taken it since.
    ///
    /// # Errors
    /// [`Error::LeaseLost`] if it is not.
    pub async fn check(&self, lease: &Lease) -> Result<(), Error> {
        match self.numbers().await?.last() {
            Some(&last) if last == lease.sequence => Ok(()),
            _ => Err(Error::LeaseLost { name: self.name.clone() }),
        }
    }

    /// Makes the lease last from now on again.
    ///
    /// # Errors
    /// [`Error::LeaseLost`] if another has it.
    pub async fn prolong(&self, lease: &mut Lease, holder: &str, now_ms: i64) -> Result<(), Error> {
        let sequence = lease.sequence + 1;
        if !self.create(sequence, holder, now_ms.saturating_add(self.lasts_ms)).await? {
            return Err(Error::LeaseLost { name: self.name.clone() });
        }
        self.check(&Lease { sequence }).await?;
        if sequence > 2 {
            self.store.delete(&self.path(sequence - 2)).await?;
        }
        lease.sequence = sequence;
        Ok(())
    }

    /// Gives the lease back. If it was lost meanwhile, nothing happens.
    ///
    /// # Errors
    /// The store's.
    pub async fn give_back(&self, lease: &Lease, holder: &str) -> Result<(), Error> {
        self.create(lease.sequence + 1, holder, 0).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::random::SplitMix;

    fn leases() -> Leases {
        Leases::new(Store::open("memory://").unwrap(), "default", 1_000)
    }

    #[tokio::test]
    async fn one_has_it_until_it_is_given_back_or_runs_out() {
        let leases = leases();
        let mut first = leases.take("a", 0).await.unwrap();
        let busy = leases.take("b", 999).await.unwrap_err();
        assert!(matches!(&busy, Error::Busy { holder, .. } if holder == "a") && busy.is_transient());
        leases.prolong(&mut first, "a", 900).await.unwrap();
        assert!(leases.take("b", 1_500).await.is_err());
        leases.check(&first).await.unwrap();
        leases.give_back(&first, "a").await.unwrap();
        // Killed without giving it back.
        let second = leases.take("b", 1_500).await.unwrap();
        assert!(matches!(leases.check(&first).await, Err(Error::LeaseLost { .. })));
        let mut third = leases.take("c", 2_500).await.unwrap();
        assert!(matches!(leases.check(&second).await, Err(Error::LeaseLost { .. })));
        // The zombie can neither prolong it nor give away what is another's.
        let mut zombie = second.clone();
        assert!(matches!(leases.prolong(&mut zombie, "b", 2_600).await, Err(Error::LeaseLost { .. })));
        leases.give_back(&second, "b").await.unwrap();
        leases.check(&third).await.unwrap();
        leases.prolong(&mut third, "c", 3_000).await.unwrap();
        assert!(leases.numbers().await.unwrap().len() <= 2);
    }

    #[tokio::test]
    async fn of_many_that_try_at_once_one_gets_it() {
        for round in 0..20 {
            let leases = leases();
            let tries = (0..8).map(|at| {
                let leases = leases.clone();
                tokio::spawn(async move { leases.take(&format!("{at}"), round).await.is_ok() })
            });
            let taken = futures::future::join_all(tries).await;
            assert_eq!(taken.into_iter().filter(|taken| *taken.as_ref().unwrap()).count(), 1);
        }
    }

    /// Instances that take, prolong, forget and give back at random, on one simulated clock: no two
    /// ever pass the check at once, and as soon as a lease has run out, somebody can have it.
    #[tokio::test]
    async fn never_two_on_a_simulated_clock() {
        for seed in 0..40 {
            let mut random = SplitMix::new(seed);
            let leases = leases();
            let mut held: Vec<Option<Lease>> = vec![None; 4];
            let (mut now, mut until, mut given_back) = (0_i64, 0_i64, true);
            for _ in 0..120 {
                now += random.below(400) as i64;
                let who = random.below(held.len());
                match random.below(4) {
                    0 | 1 => {
                        let taken = leases.take("x", now).await;
                        assert_eq!(taken.is_ok(), given_back || now >= until, "seed {seed} at {now}");
                        if let Ok(lease) = taken {
                            (held[who], until, given_back) = (Some(lease), now + 1_000, false);
                        }
                    }
                    2 => {
                        if let Some(lease) = &mut held[who]
                            && leases.prolong(lease, "x", now).await.is_ok()
                        {
                            (until, given_back) = (now + 1_000, false);
                        }
                    }
                    _ => {
                        if let Some(lease) = held[who].take() {
                            let ours = leases.check(&lease).await.is_ok();
                            leases.give_back(&lease, "x").await.unwrap();
                            given_back |= ours;
                        }
                    }
                }
                let mut pass = 0;
                for lease in held.iter().flatten() {
                    pass += usize::from(leases.check(lease).await.is_ok());
                }
                assert!(pass <= 1, "seed {seed} at {now}");
            }
        }
    }
}
