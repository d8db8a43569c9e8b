//! Snapshots of the core: exact, versioned, the same bytes for the same state.
//!
//! Everything is written in the order of its numbers or keys; no hash table is. Floating-point
//! sums are kept as they are and never made anew, since another order of adding is another sum.

use std::sync::Arc;

use schemas::EventClock;

use crate::answers::Answers;
use crate::core::Core;
use crate::dedupe::Seen;
use crate::interner::Interner;
use crate::labels::Labels;
use crate::names::Names;
use crate::plan::Plan;
use crate::shared::hours::OpenHours;
use crate::shared::open::OpenTiles;
use crate::shared::versions::Versions;
use crate::subjects::Subjects;
use crate::users::{Extra, Users};
use crate::wire::{Reader, SnapshotError, Writer};

/// Version of the format, and of what the fold makes of the same log.
pub const FORMAT: u8 = 6;
const MAGIC: u64 = u64::from_le_bytes(*b"salience");

impl Core {
    /// The state as bytes.
    pub fn snapshot(&self) -> Vec<u8> {
        let mut out = Writer(Vec::with_capacity(64 + self.users.len() * 256));
        out.fixed(MAGIC);
        out.byte(FORMAT);
        out.fixed(self.plan.state_fingerprint());
        out.int(i64::from(self.partition));
        self.write_clock(&mut out);
        self.texts.write(&mut out);
        self.subjects.write(self.plan.is_wide(), &mut out);
        self.names.write(&mut out);
        out.len(self.users.len());
        let nothing = Extra::default();
        for user in self.users.numbers() {
            self.users.write_history(user, &self.plan, &mut out);
            let extra = self.users.extra(user).unwrap_or(&nothing);
            out.bool(!extra.seen.is_empty() || !extra.answers.is_empty());
            if !extra.seen.is_empty() || !extra.answers.is_empty() {
                extra.seen.write(&mut out);
                extra.answers.write(&mut out);
            }
        }
        self.labels.write(&mut out);
        self.hours.write(&mut out);
        self.tiles.write(&mut out);
        self.versions.write(&self.plan, &mut out);
        out.len(self.hand);
        out.0
    }

    /// A core as it was when the snapshot was taken, by this plan or by another that shapes the state alike.
    ///
    /// # Errors
    /// Bytes that are no snapshot, damaged, or of another format, state or partition.
    pub fn restore(plan: Arc<Plan>, partition: i32, bytes: &[u8]) -> Result<Self, SnapshotError> {
        let mut input = Reader::new(bytes);
        let format = SnapshotError::Format { known: FORMAT };
        if bytes.len() < 9 || input.fixed()? != MAGIC || input.byte()? != FORMAT {
            return Err(format);
        }
        let (found, wanted) = (input.fixed()?, plan.state_fingerprint());
        if found != wanted {
            return Err(SnapshotError::Declarations { found, wanted });
        }
        let found = i32::try_from(input.int()?).map_err(|_| input.damaged())?;
        if found != partition {
            return Err(SnapshotError::Partition { found, wanted: partition });
        }
        let clock = read_clock(&mut input)?;
        let texts = Interner::read(&mut input)?;
        let (subjects, mut used) = Subjects::read_from(&mut input, plan.is_wide(), &texts)?;
        let names = Names::read_from(&mut input)?;
        if input.len()? != names.slots() {
            return Err(input.damaged());
        }
        let mut users = Users::with_room(names.slots());
        let mut scratch = Vec::new();
        for user in users.numbers() {
            users.read_history(user, &mut input, &plan, (&mut used, &subjects), &mut scratch)?;
            if input.bool()? {
                let extra = users.extra_or_new(user);
                extra.seen = Seen::read_from(&mut input)?;
                extra.answers = Answers::read_from(&mut input, &mut used)?;
            }
        }
        let labels = Labels::read_from(&mut input, &mut users, &mut used, &plan)?;
        let hours = OpenHours::read_from(&mut input, &mut used)?;
        let tiles = OpenTiles::read_from(&mut input, &mut used.texts)?;
        let versions = Versions::read_from(&mut input, &mut used.texts, &plan)?;
        let hand = input.uint()? as usize;
        let is_somebody = |user: u32| names.is_used(user) || users.is_empty(user);
        let is_whole =
            hand < users.len() && users.numbers().all(is_somebody) && used.agrees(&texts, &subjects);
        if !is_whole || !input.at_end() {
            return Err(input.damaged());
        }
        let mut core = Self::new(plan, partition);
        core.clock = clock;
        core.texts = texts;
        core.subjects = subjects;
        core.names = names;
        core.users = users;
        core.labels = labels;
        core.hours = hours;
        core.tiles = tiles;
        core.versions = versions;
        core.hand = hand;
        Ok(core)
    }

    fn write_clock(&self, out: &mut Writer) {
        let (sources, now_ms) = self.clock.parts();
        out.bool(now_ms.is_some());
        out.int(now_ms.unwrap_or(0));
        out.bool(sources.is_some());
        let Some(sources) = sources else { return };
        out.len(sources.len());
        for (source, state) in sources {
            out.text(&source.topic);
            out.int(i64::from(source.partition));
            out.bool(state.is_some());
            let (watermark_ms, idle) = state.unwrap_or((0, false));
            out.int(watermark_ms);
            out.bool(idle);
        }
    }
}

fn read_clock(input: &mut Reader<'_>) -> Result<EventClock, SnapshotError> {
    let started = input.bool()?;
    let now_ms = input.time()?;
    let mut sources = None;
    if input.bool()? {
        let mut all = Vec::new();
        for _ in 0..input.len()? {
            let topic = input.text()?.to_owned();
            let partition = i32::try_from(input.int()?).map_err(|_| input.damaged())?;
            let ticked = input.bool()?;
            let state = (input.time_or_never()?, input.bool()?);
            all.push((schemas::Source { topic, partition }, ticked.then_some(state)));
        }
        sources = Some(all);
    }
    Ok(EventClock::from_parts(sources, started.then_some(now_ms)))
}

#[cfg(test)]
mod tests;
