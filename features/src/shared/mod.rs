//! Entities that many users share: tiles of one partition, their merge, and the windows that vectors
//! read.
//!
//! A partition adds up what it sees of an entity ([`open::OpenTiles`]) and sends the sums of a tile
//! when its clock has passed it. The merge ([`merge::Merge`]) adds the partitions up when all have
//! closed a tile, and publishes that as a version. A partition adds up versions to windows
//! ([`versions::Versions`]) as they stand in its own log. All sums are integers: no order of adding
//! changes one.
//!
//! Where more is declared of an entity ([`cells::Cells`]), a key's row in a tile has a summary beside its sums,
//! which takes the same way ([`crate::summary::packed`]); what vectors read of it is made of the tiles of a
//! window ([`summed::Summed`]).
//!
//! What is counted by the hour takes the same way ([`hours::OpenHours`]), to be added up over all partitions
//! in the merge ([`aggregates::Aggregates`]) and written for analysts.

pub(crate) mod aggregates;
pub(crate) mod cells;
pub(crate) mod hours;
mod image;
pub(crate) mod key;
pub(crate) mod merge;
pub(crate) mod open;
pub(crate) mod parts;
pub(crate) mod plan;
pub(crate) mod strip;
pub(crate) mod summed;
pub(crate) mod versions;
pub(crate) mod windows;

use std::borrow::Cow;

use schemas::entity::{EntitySums, VALUE_PARTS};
use schemas::{Event, SharedEntity};

use crate::interner::{EMPTY, Interner};
use crate::plan::{CART, CLICK, KINDS, PURCHASE, Plan, REFUND, SHARED_ENTITIES, VIEW};
use crate::totals::value_slot;

// The sums of a record count by kind in the order that the state has.
const _: () = assert!(VIEW == 0 && CLICK == 1 && CART == 2 && PURCHASE == 3 && REFUND == 4 && KINDS == 5);

/// One event more.
fn add(sums: &mut EntitySums, kind: usize, value: f64) {
    sums.counts[kind] = sums.counts[kind].wrapping_add(1);
    if let Some(slot) = value_slot(kind) {
        // A value that no sum can hold becomes the greatest one.
        sums.values[slot] = sums.values[slot].wrapping_add((value * VALUE_PARTS).round() as i64);
    }
}

/// Between the two keys of a pair.
const PAIRED: char = '\u{1f}';

/// Which of the shared entity's keys an event belongs to; empty for none.
fn key_of(event: &Event, entity: usize) -> Cow<'_, str> {
    Cow::Borrowed(match SharedEntity::ALL[entity] {
        SharedEntity::Item => &event.item,
        SharedEntity::Campaign => &event.campaign,
        SharedEntity::Category => &event.category,
        SharedEntity::Brand => &event.brand,
        SharedEntity::Placement => &event.placement,
        SharedEntity::ItemPlacement => return pair(&event.item, &event.placement),
        SharedEntity::CampaignPlacement => return pair(&event.campaign, &event.placement),
        SharedEntity::None => "",
    })
}

fn pair<'a>(first: &str, second: &str) -> Cow<'a, str> {
    if first.is_empty() || second.is_empty() {
        return Cow::Borrowed("");
    }
    Cow::Owned(format!("{first}{PAIRED}{second}"))
}

/// Whether an event's key is not among its item, campaign and category.
fn has_own_text(entity: SharedEntity) -> bool {
    !matches!(
        entity,
        SharedEntity::Item | SharedEntity::Campaign | SharedEntity::Category | SharedEntity::None
    )
}

/// Numbers of the texts of an event's keys, [`EMPTY`] for a key that it has not or that nothing is
/// declared of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Keys([u32; SHARED_ENTITIES]);

impl Keys {
    /// Of these numbers, item, campaign and category are the event's; each of the others takes a use of
    /// its text until [`Keys::release`].
    pub(crate) fn of(event: &Event, ids: [u32; 3], plan: &Plan, texts: &mut Interner) -> Self {
        let mut keys = [EMPTY; SHARED_ENTITIES];
        for (entity, key) in
            keys.iter_mut().enumerate().filter(|(entity, _)| !plan.shared[*entity].is_empty())
        {
            *key = match SharedEntity::ALL[entity] {
                SharedEntity::Item => ids[0],
                SharedEntity::Campaign => ids[1],
                SharedEntity::Category => ids[2],
                _ => texts.intern(&key_of(event, entity)),
            };
        }
        Self(keys)
    }

    /// Whether the event has such a key.
    pub(crate) fn has(self, entity: usize) -> bool {
        self.0[entity] != EMPTY
    }

    /// Gives back the uses that [`Keys::of`] took.
    pub(crate) fn release(self, texts: &mut Interner) {
        for (entity, key) in SharedEntity::ALL.iter().zip(self.0) {
            if has_own_text(*entity) {
                texts.release(key);
            }
        }
    }
}
