//! Entities that many users share: tiles of one partition, their merge, and the versions that
//! vectors read.
//!
//! A partition adds up what it sees of an entity ([`open::OpenTiles`]) and sends the sums of a tile
//! when its clock has passed it. The merge ([`merge::Merge`]) publishes windows over all partitions
//! as of a tile boundary when all have closed it. A partition reads them ([`versions::Versions`])
//! from its own log, where they are marked. All sums are integers: no order of adding changes one.

pub(crate) mod keyed;
pub(crate) mod merge;
pub(crate) mod numbers;
pub(crate) mod open;
pub(crate) mod versions;

use schemas::EntityTile;
use schemas::entity::VALUE_PARTS;

use crate::plan::{CART, CLICK, KINDS, PURCHASE, REFUND, VIEW};
use crate::totals::value_slot;
use crate::wire::{Reader, SnapshotError, Writer};

/// Counts by kind, and values of views, purchases and refunds in parts of a unit. Sums of values
/// wrap at 9.2e14 units, so that adding stays the same in any order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Sums {
    pub(crate) counts: [u64; KINDS],
    pub(crate) values: [i64; 3],
}

impl Sums {
    /// One event more.
    pub(crate) fn add(&mut self, kind: usize, value: f64) {
        self.counts[kind] += 1;
        if let Some(slot) = value_slot(kind) {
            // A value that no sum can hold becomes the greatest one.
            self.values[slot] = self.values[slot].wrapping_add((value * VALUE_PARTS).round() as i64);
        }
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.counts.iter_mut().zip(other.counts) {
            *mine = mine.wrapping_add(theirs);
        }
        for (mine, theirs) in self.values.iter_mut().zip(other.values) {
            *mine = mine.wrapping_add(theirs);
        }
    }

    /// The reverse of [`Self::merge`].
    pub(crate) fn take(&mut self, other: &Self) {
        for (mine, theirs) in self.counts.iter_mut().zip(other.counts) {
            *mine = mine.wrapping_sub(theirs);
        }
        for (mine, theirs) in self.values.iter_mut().zip(other.values) {
            *mine = mine.wrapping_sub(theirs);
        }
    }

    fn of(tile: &EntityTile) -> Self {
        let mut sums = Self::default();
        sums.counts[VIEW] = tile.views;
        sums.counts[CLICK] = tile.clicks;
        sums.counts[CART] = tile.carts;
        sums.counts[PURCHASE] = tile.purchases;
        sums.counts[REFUND] = tile.refunds;
        sums.values = [tile.view_value, tile.purchase_value, tile.refund_value];
        sums
    }

    fn into_tile(self, partition: i32, tile_ms: i64, entity: i32, key: &str) -> EntityTile {
        let [view_value, purchase_value, refund_value] = self.values;
        EntityTile {
            partition,
            tile_ms,
            entity,
            key: key.to_owned(),
            views: self.counts[VIEW],
            clicks: self.counts[CLICK],
            carts: self.counts[CART],
            purchases: self.counts[PURCHASE],
            refunds: self.counts[REFUND],
            view_value,
            purchase_value,
            refund_value,
        }
    }

    fn write(&self, out: &mut Writer) {
        for count in self.counts {
            out.uint(count);
        }
        for value in self.values {
            out.int(value);
        }
    }

    fn read_from(input: &mut Reader<'_>) -> Result<Self, SnapshotError> {
        let mut sums = Self::default();
        for count in &mut sums.counts {
            *count = input.uint()?;
        }
        for value in &mut sums.values {
            *value = input.int()?;
        }
        Ok(sums)
    }
}
