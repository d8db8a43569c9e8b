//! Hourly sums by campaign and currency: written when the clock passes the hour, and again, with
//! a higher revision, when events behind the clock have changed it.
//!
//! Knows one partition; the query adds the partitions up.

use std::collections::btree_map::Entry;
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
    /// Whether it stands in `due` or `changed`.
    waits: bool,
}

/// The hours of a partition that can still change.
#[derive(Debug, Clone, Default)]
pub(crate) struct Hours {
    cells: BTreeMap<i64, BTreeMap<(u32, u32), Sums>>,
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
        let sums = match self.cells.entry(hour_ms).or_default().entry((campaign, currency)) {
            Entry::Occupied(held) => {
                texts.release(currency);
                held.into_mut()
            }
            Entry::Vacant(place) => {
                texts.retain(campaign);
                place.insert(Sums::default())
            }
        };
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
        if !sums.waits {
            sums.waits = true;
            let set = if end_ms > clock_ms { &mut self.due } else { &mut self.changed };
            set.insert((hour_ms, campaign, currency));
        }
        true
    }

    /// The clock has moved.
    pub(crate) fn advance(&mut self, clock_ms: i64, horizon_ms: i64, texts: &mut Interner) {
        self.due.append(&mut self.changed);
        while let Some(mut hour) = self.cells.first_entry() {
            if (hour.key() + HOUR_MS).saturating_add(horizon_ms) > clock_ms {
                break;
            }
            while let Some(cell) = hour.get_mut().first_entry() {
                if cell.get().waits {
                    return;
                }
                let (campaign, currency) = *cell.key();
                cell.remove();
                texts.release(campaign);
                texts.release(currency);
            }
            hour.remove();
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
        let sums = self.cells.get_mut(&hour_ms)?.get_mut(&(campaign, currency))?;
        sums.waits = false;
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
        self.cells.values().map(BTreeMap::len).sum()
    }

    pub(crate) fn write(&self, out: &mut Writer) {
        out.len(self.len());
        for (&hour_ms, cells) in &self.cells {
            for (&(campaign, currency), sums) in cells {
                write_key(&(hour_ms, campaign, currency), out);
                out.uint(u64::from(sums.written));
                out.uint(sums.impressions);
                out.uint(sums.clicks);
                out.uint(sums.purchases);
                out.uint(sums.refunds);
                out.f64(sums.revenue);
            }
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
            let (hour_ms, campaign, currency) = read_key(input, texts)?;
            let sums = Sums {
                written: input.id()?,
                impressions: input.uint()?,
                clicks: input.uint()?,
                purchases: input.uint()?,
                refunds: input.uint()?,
                revenue: input.f64()?,
                waits: false,
            };
            hours.cells.entry(hour_ms).or_default().insert((campaign, currency), sums);
        }
        for set in [&mut hours.due, &mut hours.changed] {
            for _ in 0..input.len()? {
                let key @ (hour_ms, campaign, currency) = read_key(input, texts)?;
                let cell =
                    hours.cells.get_mut(&hour_ms).and_then(|cells| cells.get_mut(&(campaign, currency)));
                cell.ok_or_else(|| input.damaged())?.waits = true;
                set.insert(key);
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
