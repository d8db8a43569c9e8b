//! Which parts of the state can be kept: those that the new declarations would have shaped as the old ones
//! did.
//!
//! What shapes a part is written down as a text; parts of one text are read and written alike.

use schemas::duration::Millis;

use super::{Fate, Part, StateChange, with_repeats};
use crate::plan::{ENTITIES, Plan, SHARED, SHARED_ENTITIES, USER_CAMPAIGN, USER_CATEGORY};
use crate::summary::tiles::{gaps, reads};

/// Whether the state of an entity, by its place, is what the new declarations would have made of the log.
pub(super) fn is_kept(old: Option<&Plan>, new: &Plan, entity: usize) -> bool {
    old.is_some_and(|old| match entity.checked_sub(SHARED) {
        None => users(old) == users(new),
        Some(at) => windows(old, at) == windows(new, at),
    })
}

/// The parts that either side has, with what becomes of each.
pub(super) fn parts(old: Option<&Plan>, new: &Plan) -> Vec<StateChange> {
    let part = |part, (was, is): (bool, bool), is_kept: bool, reach: Millis| {
        let fate = match (was, is) {
            (false, false) => return None,
            (false, true) => Fate::Added,
            (true, false) => Fate::Removed,
            (true, true) if is_kept => Fate::Kept,
            (true, true) => Fate::Changed,
        };
        let is_read = matches!(fate, Fate::Added | Fate::Changed);
        Some(StateChange { part, fate, reads_back: is_read.then(|| with_repeats(reach, new)) })
    };
    let whole = reach_of_users(new);
    let keeps = old.is_some_and(|old| users(old) == users(new));
    let mut parts = vec![part(Part::Users, (old.is_some(), true), keeps, whole)];

    let farthest = reach_of_shared(new);
    let keeps = old.is_some_and(|old| old.shared_layout() == new.shared_layout());
    parts.push(part(Part::Tiles, (old.is_some_and(Plan::shares), new.shares()), keeps, farthest));
    for at in 0..SHARED_ENTITIES {
        let has = |plan: &Plan| !plan.shared[at].is_empty();
        let keeps = old.is_some_and(|old| windows(old, at) == windows(new, at));
        parts.push(part(
            Part::Shared(ENTITIES[SHARED + at]),
            (old.is_some_and(has), has(new)),
            keeps,
            reach(new, at),
        ));
    }
    parts.into_iter().flatten().collect()
}

impl Plan {
    /// Fingerprint of what shapes the state: a snapshot of another plan of the same one is read as it is. What
    /// decides on labels, repeats and sums of hours is none of it: that counts from where it changes.
    pub fn state_fingerprint(&self) -> u64 {
        let mut text = users(self);
        let shared = (0..SHARED_ENTITIES).filter(|at| !self.shared[*at].is_empty());
        shared.for_each(|at| text.push_str(&windows(self, at)));
        xxhash_rust::xxh3::xxh3_64(text.as_bytes())
    }
}

/// What shapes users' events: which of them lie one by one and which in tiles, tiles of which widths for how
/// long, which sums are in them, and how much is kept of each event.
fn users(plan: &Plan) -> String {
    let levels: Vec<_> = plan.levels.iter().map(|level| (level.size_ms, level.span_ms)).collect();
    let read: Vec<bool> = (0..levels.len()).map(|at| !plan.summaries.is_empty() && reads(plan, at)).collect();
    format!(
        "{} {} {levels:?} {:?} {:?} {} {:?} {:?} {:?} {read:?}",
        plan.config.exact_events,
        plan.config.last_n,
        gaps(plan).collect::<Vec<_>>(),
        [USER_CAMPAIGN, USER_CATEGORY].map(|at| plan.used[at]),
        plan.is_wide,
        plan.kept_texts,
        plan.config.filters,
        plan.summaries.cells,
    )
}

/// What shapes the windows of a shared entity.
fn windows(plan: &Plan, at: usize) -> String {
    format!("{:016x} {:?}", plan.shared_layout(), plan.shared[at])
}

/// How far back everything reaches, views that wait for a purchase too.
pub(super) fn reach_of_all(plan: &Plan) -> Millis {
    reach_of_users(plan).max(reach_of_shared(plan)).max(plan.config.purchase_window)
}

fn reach_of_users(plan: &Plan) -> Millis {
    let tail = plan.levels.last().map_or(0, |level| level.size_ms);
    Millis(plan.retention().0.saturating_add(tail))
}

fn reach_of_shared(plan: &Plan) -> Millis {
    (0..SHARED_ENTITIES).map(|at| reach(plan, at)).max().unwrap_or_default()
}

/// How far before a version the windows of a shared entity reach.
fn reach(plan: &Plan, at: usize) -> Millis {
    let windows = plan.shared[at].iter().flat_map(|kept| {
        let tiles = kept.sizes.iter().map(|size| size * kept.tile_ms);
        kept.declared.iter().zip(tiles).map(|(window, tile)| window.span_ms().unwrap_or(0) + tile)
    });
    Millis(windows.max().unwrap_or(0))
}
