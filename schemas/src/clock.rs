//! The event clock of a partition of `events`: a fold of its control records.

use std::collections::BTreeMap;

use crate::{Control, Source};

/// Folds control records into the partition's event time.
///
/// The clock starts when every source of the set has ticked or is recorded idle, and is then the
/// least watermark over the sources that are not idle. It never goes back: a source that wakes
/// behind it does not pull it down. When all sources are idle it goes to the greatest watermark
/// (as Flink's `StatusWatermarkValve` does): no event is on its way that it would have to wait
/// for, and where it ends does not depend on which source fell idle first.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct EventClock {
    // As a list: JSON has no maps by anything but text.
    #[serde(with = "pairs")]
    sources: Option<BTreeMap<Source, Option<State>>>,
    now_ms: Option<i64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
struct State {
    watermark_ms: i64,
    idle: bool,
}

impl EventClock {
    /// Event time, ms; `None` before it has started.
    pub fn now_ms(&self) -> Option<i64> {
        self.now_ms
    }

    /// Whether every source of the set is recorded idle: nothing is on its way.
    pub fn all_idle(&self) -> bool {
        let idle = |state: &Option<State>| state.is_some_and(|state| state.idle);
        self.sources.as_ref().is_some_and(|sources| !sources.is_empty() && sources.values().all(idle))
    }

    /// The state, for a snapshot: each source of the set in order with its watermark, ms, and
    /// whether it is idle (`None` before its first tick), and the clock.
    #[expect(clippy::type_complexity, reason = "plain parts for a snapshot's writer, named above")]
    pub fn parts(&self) -> (Option<Vec<(&Source, Option<(i64, bool)>)>>, Option<i64>) {
        let sources = self.sources.as_ref().map(|sources| {
            sources.iter().map(|(source, state)| (source, state.map(|s| (s.watermark_ms, s.idle)))).collect()
        });
        (sources, self.now_ms)
    }

    /// A clock of these parts, as [`EventClock::parts`] gives them.
    #[expect(clippy::type_complexity, reason = "as `parts`")]
    pub fn from_parts(sources: Option<Vec<(Source, Option<(i64, bool)>)>>, now_ms: Option<i64>) -> Self {
        let state = |(watermark_ms, idle)| State { watermark_ms, idle };
        let sources = sources
            .map(|sources| sources.into_iter().map(|(source, parts)| (source, parts.map(state))).collect());
        Self { sources, now_ms }
    }

    /// Folds one control record; whether the clock moved.
    pub fn fold(&mut self, control: &Control) -> bool {
        match control {
            Control::Sources(set) => {
                let mut old = self.sources.take().unwrap_or_default();
                self.sources =
                    Some(set.sources.iter().map(|s| (s.clone(), old.remove(s).flatten())).collect());
            }
            Control::Ticks(ticks) => {
                let Some(sources) = &mut self.sources else { return false };
                for tick in &ticks.ticks {
                    // A source that the set does not name is a stale ingest's: the set decides.
                    if let Some(slot) = sources.get_mut(&tick.source) {
                        *slot = Some(State { watermark_ms: tick.watermark_ms, idle: tick.idle });
                    }
                }
            }
            Control::Entities(_) | Control::Declared(_) => return false,
        }
        self.advance()
    }

    fn advance(&mut self) -> bool {
        let Some(sources) = &self.sources else { return false };
        if sources.is_empty() || sources.values().any(Option::is_none) {
            return false;
        }
        let states = || sources.values().flatten();
        let least = states().filter(|s| !s.idle).map(|s| s.watermark_ms).min();
        let reached = least.or_else(|| states().map(|s| s.watermark_ms).max());
        match (reached, self.now_ms) {
            // The watermark of a source that has had no event: no time to start from.
            (Some(i64::MIN), None) => return false,
            (Some(reached), None) => self.now_ms = Some(reached),
            (Some(reached), Some(now)) if reached > now => self.now_ms = Some(reached),
            _ => return false,
        }
        true
    }
}

/// The sources as a list of pairs.
mod pairs {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::{Source, State};

    type Sources = Option<BTreeMap<Source, Option<State>>>;

    pub(super) fn serialize<S: Serializer>(sources: &Sources, serializer: S) -> Result<S::Ok, S::Error> {
        sources.as_ref().map(|sources| sources.iter().collect::<Vec<_>>()).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Sources, D::Error> {
        let pairs = Option::<Vec<(Source, Option<State>)>>::deserialize(deserializer)?;
        Ok(pairs.map(|pairs| pairs.into_iter().collect()))
    }
}
