//! One partition through the core: entries in, outputs to a target, a checkpoint now and then.

use std::ops::Range;

use anyhow::Result;
use features::{AHEAD, Core, Sink};
use runtime::shutdown::Shutdown;
use schemas::{Control, Entry, Place};

use super::checkpoint::Checkpoints;
use super::progress::Progress;
use super::versions::Reader;
use crate::history::{Events, History, Stored};

/// Records folded between two checkpoints, per user held: writing a state costs a few percent then.
const RECORDS_PER_USER: usize = 16;

/// Where the outputs of a fold go, and how far it has come there.
pub(super) trait Target: Sink {
    /// Everything before this offset is there for good.
    fn committed(&self) -> i64;

    /// The entry at this offset is folded next.
    fn at(&mut self, offset: i64);

    /// Whether a commit is due.
    fn full(&self) -> bool;

    /// Everything before the offset was folded.
    ///
    /// # Errors
    /// Why an output since then could not be taken.
    fn advance(&mut self, offset: i64) -> Result<()>;

    /// Makes outputs and position last, both or neither.
    fn commit(&mut self) -> Result<()>;
}

/// The fold of one partition, from where it stands.
pub(super) struct Fold<'a> {
    pub(super) core: Core,
    /// Where it stands, and the first offset that is not folded.
    pub(super) offsets: Range<i64>,
    /// The first offset whose event is folded.
    pub(super) begin: i64,
    /// The fold ends when the clock has reached this time, too, ms.
    pub(super) until_ms: i64,
    /// Versions of shared entities in place of those that the log has.
    pub(super) versions: Option<Reader>,
    pub(super) checkpoints: Checkpoints,
    pub(super) progress: &'a Progress,
    pub(super) shutdown: &'a Shutdown,
}

impl Fold<'_> {
    /// Folds to the end, or to a shutdown; what was folded is in the target then.
    pub(super) fn run(mut self, stored: &Stored, target: &mut impl Target) -> Result<()> {
        let partition = self.core.partition();
        let mut history = stored.read(partition, self.offsets.clone(), &Events::From(self.begin))?;
        self.progress.pass(self.offsets.start);
        let mut since = 0;
        let mut entries = Vec::with_capacity(AHEAD);
        let mut places = Vec::with_capacity(AHEAD);
        loop {
            let ended = self.core.clock_ms().is_some_and(|clock| clock >= self.until_ms)
                || !take(&mut history, &mut entries, &mut places)?;
            if ended {
                entries.clear();
                places.clear();
            }
            let next = places.last().map_or(self.offsets.end, |last: &Place| last.offset + 1);
            self.step(&entries, &places, target)?;
            since += entries.len();
            target.advance(next)?;
            self.progress.folded(entries.len() as u64, next - self.offsets.start);
            self.offsets.start = next;
            let stopped = self.progress.is_over() || self.shutdown.is_set();
            if target.full() || ended || stopped {
                target.commit()?;
                if !ended && (stopped || since >= RECORDS_PER_USER * self.core.users()) {
                    self.checkpoints.keep(&self.core, next)?;
                    since = 0;
                }
            }
            if ended || stopped {
                return Ok(());
            }
        }
    }

    fn step(&mut self, entries: &[Entry], places: &[Place], target: &mut impl Target) -> Result<()> {
        if let Ok(entries) = entries.try_into() {
            self.core.look_ahead(entries);
        }
        for (entry, place) in entries.iter().zip(places) {
            target.at(place.offset);
            let Some(versions) = &mut self.versions else {
                self.core.step(entry, *place, target);
                continue;
            };
            let Entry::Control(control) = entry else {
                self.core.step(entry, *place, target);
                continue;
            };
            if !matches!(control, Control::Entities(_)) {
                self.core.step(entry, *place, target);
            }
            // A version is in force as soon as the clock has passed it: as in a deployment that keeps up.
            while let Some(clock) = self.core.clock_ms()
                && let Some(version) = versions.next_to(clock)?
            {
                self.core.step(&Entry::Control(Control::Entities(version)), *place, target);
            }
        }
        Ok(())
    }
}

/// The next entries, at most [`AHEAD`]; `false` at the end.
fn take(history: &mut History, entries: &mut Vec<Entry>, places: &mut Vec<Place>) -> Result<bool> {
    entries.clear();
    places.clear();
    while entries.len() < AHEAD
        && let Some((place, entry)) = history.next()?
    {
        entries.push(entry);
        places.push(place);
    }
    Ok(!entries.is_empty())
}
