//! How far the sources of other ingests have come, by their ticks, and how far this one may run ahead of
//! them.
//!
//! A tick goes to every partition of `events`, so one of them tells of all sources. Within one worker the
//! merge keeps order; between workers and instances, which share nothing else, this does. Knows no Kafka.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use schemas::{Control, Source};

/// What was last told of a source.
#[derive(Debug, Clone, Copy)]
struct State {
    watermark_ms: i64,
    idle: bool,
    /// How often something was told of it.
    nth: u64,
}

/// What ticks have told, of all ingests, since this process listens.
#[derive(Debug, Clone, Default)]
pub struct Told {
    sources: BTreeMap<Source, State>,
    /// Whether a worker of this process reads some of the sources and not all: else nobody asks.
    asked: bool,
}

impl Told {
    /// Folds a control record.
    pub fn fold(&mut self, control: &Control) {
        let Control::Ticks(ticks) = control else { return };
        for tick in &ticks.ticks {
            let nth = self.sources.get(&tick.source).map_or(0, |state| state.nth) + 1;
            let state = State { watermark_ms: tick.watermark_ms, idle: tick.idle, nth };
            self.sources.insert(tick.source.clone(), state);
        }
    }

    /// Whether a worker of this process reads only some of the sources.
    pub fn is_asked(&self) -> bool {
        self.asked
    }
}

/// What one thread listens to while workers ask it.
#[derive(Debug, Clone, Default)]
pub struct SharedTold(Arc<RwLock<Told>>);

impl SharedTold {
    /// To ask.
    pub fn read(&self) -> RwLockReadGuard<'_, Told> {
        // A writer that panicked left whole states behind.
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Folds control records.
    pub fn fold<'a>(&self, controls: impl IntoIterator<Item = &'a Control>) {
        let mut told = self.0.write().unwrap_or_else(PoisonError::into_inner);
        controls.into_iter().for_each(|control| told.fold(control));
    }

    /// A worker has its sources: whether they are all that there are.
    pub(crate) fn assigned(&self, all: bool) {
        let mut told = self.0.write().unwrap_or_else(PoisonError::into_inner);
        told.asked |= !all;
    }

    /// Nothing that was told before counts: this process has not listened meanwhile.
    pub fn forget(&self) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).sources.clear();
    }
}

/// What one worker makes of it.
#[derive(Debug, Default)]
pub(crate) struct Skew {
    /// Per source how often something had been told of it, and when it was last told more, ms.
    heard: BTreeMap<Source, (u64, i64)>,
}

impl Skew {
    /// The slowest of the others' sources that may have unread data and its watermark, ms. One of which
    /// nothing was told for `wait_ms` is not waited for: its ingest has stopped, or it cannot be read.
    pub(crate) fn slowest<'a>(
        &mut self,
        told: &'a Told,
        is_own: impl Fn(&Source) -> bool,
        now_ms: i64,
        wait_ms: i64,
    ) -> Option<(&'a Source, i64)> {
        let mut slowest: Option<(&Source, i64)> = None;
        for (source, state) in told.sources.iter().filter(|(source, _)| !is_own(source)) {
            let heard = match self.heard.get_mut(source) {
                Some(heard) => heard,
                None => self.heard.entry(source.clone()).or_insert((0, now_ms)),
            };
            if heard.0 != state.nth {
                *heard = (state.nth, now_ms);
            }
            // A clock that went back must not make it wait for as long as it was wrong.
            let is_heard = (0..wait_ms).contains(&now_ms.saturating_sub(heard.1));
            if is_heard && !state.idle && slowest.is_none_or(|(_, least)| state.watermark_ms < least) {
                slowest = Some((source, state.watermark_ms));
            }
        }
        slowest
    }
}

#[cfg(test)]
mod tests {
    use schemas::{Tick, Ticks};

    use super::*;

    fn source(partition: i32) -> Source {
        Source { topic: "views".into(), partition }
    }

    fn tick(partition: i32, watermark_ms: i64, idle: bool) -> Control {
        Control::Ticks(Ticks { ticks: vec![Tick { source: source(partition), watermark_ms, idle }] })
    }

    #[test]
    fn the_slowest_of_the_others_that_is_awake_and_heard_of_is_waited_for() {
        let (mut told, mut skew) = (Told::default(), Skew::default());
        let mut slowest = |told: &Told, now_ms| {
            let is_own = |source: &Source| source.partition == 0;
            skew.slowest(told, is_own, now_ms, 1_000).map(|(source, mark)| (source.partition, mark))
        };
        assert_eq!(slowest(&told, 0), None, "nothing is known of anybody");
        for control in [tick(0, 5, false), tick(1, 20, false), tick(2, 10, false), tick(3, 1, true)] {
            told.fold(&control);
        }
        assert_eq!(slowest(&told, 100), Some((2, 10)));
        told.fold(&tick(2, 30, false));
        assert_eq!(slowest(&told, 900), Some((1, 20)));
        assert_eq!(slowest(&told, 1_099), Some((1, 20)));
        assert_eq!(slowest(&told, 1_100), Some((2, 30)), "of 1 nothing was told for a second");
        told.fold(&tick(1, 20, false));
        assert_eq!(slowest(&told, 1_101), Some((1, 20)), "it is back, though it has not moved");
        told.fold(&tick(1, 20, true));
        assert_eq!(slowest(&told, 1_102), Some((2, 30)), "idle: it has nothing unread");
        assert_eq!(slowest(&told, -50), None, "a clock that went back waits for nobody");
    }
}
