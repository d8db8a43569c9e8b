//! Hourly sums by campaign and currency: written when the clock passes the hour, and again, with
//! a higher revision, when events behind the clock have changed it.
//!
//! Knows one partition; the query adds the partitions up.

use std::collections::{BTreeMap, BTreeSet};

use schemas::{Aggregate, Event, Kind};

use crate::interner::Interner;
use crate::wire::{Reader, SnapshotError, Writer};

const HOUR_MS: i64 = 3_600_000;

/// Hour, campaign, currency.
type Key = (i64, u32, u32);

#[derive(Debug, Clone, PartialEq, Default)]
struct Sums {
    /// Times written.
    written: u32,
    impressions: u64,
    clicks: u64,
    purchases: u64,
    refunds: u64,
    revenue: f64,
}

/// The hours of a partition that can still change.
#[derive(Debug, Clone, Default)]
pub(crate) struct Hours {
    cells: BTreeMap<Key, Sums>,
    /// To be written once the clock has passed the hour.
    due: BTreeSet<Key>,
    /// Closed ones that have changed: due at the clock's next move.
    changed: BTreeSet<Key>,
}

impl Hours {
    /// Adds an event up; `false` if its hour can no longer be corrected.
    pub(crate) fn add(
        &mut self,
        event: &Event,
        campaign: u32,
        clock_ms: i64,
        horizon_ms: i64,
        texts: &mut Interner,
    ) -> bool {
        let hour_ms = event.event_time_ms.div_euclid(HOUR_MS) * HOUR_MS;
        let end_ms = hour_ms + HOUR_MS;
        if end_ms.saturating_add(horizon_ms) <= clock_ms {
            return false;
        }
        let currency = texts.intern(&event.currency);
        let key = (hour_ms, campaign, currency);
        if self.cells.contains_key(&key) {
            texts.release(currency);
        } else {
            texts.retain(campaign);
        }
        let sums = self.cells.entry(key).or_default();
        match event.kind_or_unknown() {
            Kind::View => sums.impressions += 1,
            Kind::Click | Kind::Cart => sums.clicks += 1,
            Kind::Purchase => {
                sums.purchases += 1;
                sums.revenue += event.value;
            }
            Kind::Refund => {
                sums.refunds += 1;
                sums.revenue -= event.value;
            }
            Kind::Unknown => {}
        }
        if end_ms > clock_ms {
            self.due.insert(key);
        } else if !self.due.contains(&key) {
            self.changed.insert(key);
        }
        true
    }

    /// The clock has moved.
    pub(crate) fn advance(&mut self, clock_ms: i64, horizon_ms: i64, texts: &mut Interner) {
        self.due.append(&mut self.changed);
        while let Some(entry) = self.cells.first_entry() {
            let key @ (hour_ms, campaign, currency) = *entry.key();
            if (hour_ms + HOUR_MS).saturating_add(horizon_ms) > clock_ms || self.due.contains(&key) {
                break;
            }
            entry.remove();
            texts.release(campaign);
            texts.release(currency);
        }
    }

    /// The next row that is due.
    pub(crate) fn pop_due(&mut self, clock_ms: i64, partition: i32, texts: &Interner) -> Option<Aggregate> {
        let &key = self.due.first()?;
        let (hour_ms, campaign, currency) = key;
        if hour_ms + HOUR_MS > clock_ms {
            return None;
        }
        self.due.remove(&key);
        let sums = self.cells.get_mut(&key)?;
        let revision = sums.written;
        sums.written += 1;
        Some(Aggregate {
            partition,
            campaign: texts.text(campaign).to_owned(),
            hour_ms,
            revision,
            impressions: sums.impressions,
            clicks: sums.clicks,
            purchases: sums.purchases,
            refunds: sums.refunds,
            revenue: sums.revenue,
            currency: texts.text(currency).to_owned(),
        })
    }

    pub(crate) fn len(&self) -> usize {
        self.cells.len()
    }

    pub(crate) fn write(&self, out: &mut Writer) {
        out.len(self.cells.len());
        for (key, sums) in &self.cells {
            write_key(key, out);
            out.uint(u64::from(sums.written));
            out.uint(sums.impressions);
            out.uint(sums.clicks);
            out.uint(sums.purchases);
            out.uint(sums.refunds);
            out.f64(sums.revenue);
        }
        for set in [&self.due, &self.changed] {
            out.len(set.len());
            for key in set {
                write_key(key, out);
            }
        }
    }

    pub(crate) fn read_from(input: &mut Reader<'_>, texts: usize) -> Result<Self, SnapshotError> {
        let mut hours = Self::default();
        for _ in 0..input.len()? {
            let key = read_key(input, texts)?;
            let sums = Sums {
                written: input.id()?,
                impressions: input.uint()?,
                clicks: input.uint()?,
                purchases: input.uint()?,
                refunds: input.uint()?,
                revenue: input.f64()?,
            };
            hours.cells.insert(key, sums);
        }
        for set in [&mut hours.due, &mut hours.changed] {
            for _ in 0..input.len()? {
                set.insert(read_key(input, texts)?);
            }
        }
        Ok(hours)
    }
}

fn write_key(&(hour_ms, campaign, currency): &Key, out: &mut Writer) {
    out.int(hour_ms);
    out.uint(u64::from(campaign));
    out.uint(u64::from(currency));
}

fn read_key(input: &mut Reader<'_>, texts: usize) -> Result<Key, SnapshotError> {
    let key = (input.int()?, input.id()?, input.id()?);
    if key.1 as usize >= texts || key.2 as usize >= texts { Err(input.damaged()) } else { Ok(key) }
}
