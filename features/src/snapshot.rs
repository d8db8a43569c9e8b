//! Snapshots of the core: exact, versioned, the same bytes for the same state; at once, or chunk by chunk
//! while it goes on to fold.
//!
//! Everything is written in the order of its numbers or keys; no hash table is. Floating-point
//! sums are kept as they are and never made anew, since another order of adding is another sum.

use std::ops::Range;
use std::sync::Arc;

use runtime::spill::Spill;
use schemas::EventClock;

use crate::answers::Answers;
use crate::core::Core;
use crate::dedupe::Seen;
use crate::image::{Chunks, Image, Marks, Part, record};
use crate::interner::Interner;
use crate::labels::Labels;
use crate::names::Names;
use crate::plan::Plan;
use crate::shared::hours::OpenHours;
use crate::shared::open::OpenTiles;
use crate::shared::versions::Versions;
use crate::subjects::Subjects;
use crate::uses::Used;
use crate::wire::{Reader, SnapshotError, Writer};

/// Version of the format, and of what the fold makes of the same log.
pub const FORMAT: u8 = 9;
const MAGIC: u64 = u64::from_le_bytes(*b"salience");

impl Core {
    /// The state as bytes.
    pub fn snapshot(&self) -> Vec<u8> {
        let mut out = Writer(Vec::with_capacity(64 + self.users.len() * 256));
        self.write_head(true, &mut out);
        self.texts.write_all(&mut out);
        self.subjects.write_all(&mut out);
        self.write_all(&mut out);
        self.labels.views.write_all(&mut out);
        self.labels.write_all(&mut out);
        self.hours.write_all(&mut out);
        self.tiles.write_all(&self.plan, &mut out);
        self.versions.write_all(&self.plan, &mut out);
        out.0
    }

    /// Begins an image of the state as it is now: whole, or what has changed since the last whole one was
    /// begun. One that is under way is given up.
    ///
    /// The image is what [`Core::next_part`] gives, part by part, whatever is folded in between. A whole one
    /// is a snapshot, and so is it with changes since behind it.
    pub fn begin_image(&mut self, whole: bool) {
        let mut head = Writer(Vec::new());
        self.write_head(whole, &mut head);
        self.head = head.0;
        self.texts.begin(whole);
        self.subjects.begin(whole);
        self.begin(whole);
        self.labels.views.begin(whole);
        self.labels.begin(whole);
        self.hours.begin(whole);
        self.tiles.begin(whole, &self.plan);
        self.versions.begin(whole, &self.plan);
    }

    /// The next part of the image, of about so many bytes; `None` when all has been given.
    pub fn next_part(&mut self, bytes: usize) -> Option<Vec<u8>> {
        let mut out = Writer(std::mem::take(&mut self.head));
        self.texts.write_on(bytes, &mut out);
        self.subjects.write_on(bytes, &mut out);
        self.write_on(bytes, &mut out);
        self.labels.views.write_on(bytes, &mut out);
        self.labels.write_on(bytes, &mut out);
        self.hours.write_on(bytes, &mut out);
        self.tiles.write_on(bytes, &self.plan, &mut out);
        self.versions.write_on(bytes, &self.plan, &mut out);
        (!out.0.is_empty()).then_some(out.0)
    }

    /// Writes what is not in chunks.
    fn write_head(&self, whole: bool, out: &mut Writer) {
        record(Part::Head, 0, out, |out| {
            out.fixed(MAGIC);
            out.byte(FORMAT);
            out.fixed(self.plan.state_fingerprint());
            out.int(i64::from(self.partition));
            out.bool(whole);
            out.text(&self.declared);
            self.write_clock(out);
            self.texts.write_head(out);
            self.subjects.write_head(out);
            self.names.write_head(out);
            self.labels.write_head(out);
            self.hours.write_head(out);
            self.tiles.write_head(out);
            self.versions.write_head(&self.plan, out);
            out.len(self.hand);
        });
    }

    /// The same state by another plan, which must shape it alike: whatever was derived from the old one is
    /// derived anew.
    pub(crate) fn under(
        &self,
        plan: Arc<Plan>,
        spill: Option<Box<dyn Spill>>,
    ) -> Result<Self, SnapshotError> {
        let mut core = Self::restore_with(plan, self.partition, &self.snapshot(), spill)?;
        core.counts = self.counts;
        Ok(core)
    }

    /// A core as it was when the snapshot was taken, by this plan or by another that shapes the state alike.
    ///
    /// # Errors
    /// Bytes that are no snapshot, damaged, or of another format, state or partition.
    pub fn restore(plan: Arc<Plan>, partition: i32, bytes: &[u8]) -> Result<Self, SnapshotError> {
        Self::restore_with(plan, partition, bytes, None)
    }

    /// The same, where users go out of memory as soon as there is too little.
    ///
    /// # Errors
    /// As [`Core::restore`].
    pub fn restore_with(
        plan: Arc<Plan>,
        partition: i32,
        bytes: &[u8],
        spill: Option<Box<dyn Spill>>,
    ) -> Result<Self, SnapshotError> {
        let format = SnapshotError::Format { known: FORMAT };
        if bytes.first() != Some(&(Part::Head as u8)) {
            return Err(format);
        }
        let image = Image::read(bytes, |head| Ok(check_head(&mut Reader::new(head), &plan, partition)?.0))?;
        let mut head = Reader::new(image.head().ok_or(format)?);
        let (_, declared) = check_head(&mut head, &plan, partition)?;
        let clock = read_clock(&mut head)?;
        let (texts, subjects) = (Interner::read_head(&mut head)?, Subjects::read_head(&mut head)?);
        let texts = Interner::read_from(texts, &image)?;
        let (subjects, mut used) = Subjects::read_from(subjects, &image, plan.is_wide(), &texts)?;
        let (mut names, count) = Names::read_head(&mut head)?;
        let mut core = Self::new(plan, partition);
        (core.clock, core.texts, core.subjects) = (clock, texts, subjects);
        core.declared = declared.into();
        core.spill_to(spill);
        for chunk in image.chunks(Part::Users, 0..count as u64) {
            let (user, mut input) = chunk?;
            let user = user as u32;
            names.read_name(&mut input)?;
            if user as usize == core.users.len() {
                core.users.push();
            }
            core.read_user(user, &mut input, &mut used)?;
            input.end()?;
            core.cool(user);
        }
        if !names.is_sound() {
            return Err(head.damaged());
        }
        core.names = names;
        let plan = Arc::clone(&core.plan);
        core.labels = Labels::read_from(&mut head, &image, &mut core.users, &mut used, &plan)?;
        core.hours = OpenHours::read_from(&mut head, &image, &mut used)?;
        core.tiles = OpenTiles::read_from(&mut head, &image, &mut used.texts, &plan)?;
        core.versions = Versions::read_from(&mut head, &image, &mut used.texts, &plan)?;
        core.hand = head.uint()? as usize;
        let is_somebody = |user: u32| core.names.is_used(user) || core.users.is_empty(user);
        let is_whole = core.hand < core.users.len()
            && (0..core.users.len() as u32).all(is_somebody)
            && used.agrees(&core.texts, &core.subjects);
        if !is_whole || !head.at_end() {
            return Err(head.damaged());
        }
        Ok(core)
    }

    /// Writes what is held of a user, but for the name and open views.
    pub(crate) fn write_user(&self, user: u32, out: &mut Writer) {
        self.users.write_history(user, &self.plan, out);
        let extra =
            self.users.extra(user).filter(|extra| !extra.seen.is_empty() || !extra.answers.is_empty());
        out.bool(extra.is_some());
        if let Some(extra) = extra {
            extra.seen.write(out);
            extra.answers.write(out);
        }
    }

    /// Reads what [`Self::write_user`] wrote, of a user of whom nothing is in memory.
    pub(crate) fn read_user(
        &mut self,
        user: u32,
        input: &mut Reader<'_>,
        used: &mut Used,
    ) -> Result<(), SnapshotError> {
        let known = (&mut *used, &self.subjects);
        self.users.read_history(user, input, &self.plan, known, &mut self.logged)?;
        if input.bool()? {
            let extra = self.users.extra_or_new(user);
            extra.seen = Seen::read_from(input)?;
            extra.answers = Answers::read_from(input, used)?;
        }
        Ok(())
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

/// Users, each with the name.
impl Chunks for Core {
    const PART: Part = Part::Users;

    fn marks(&self) -> &Marks {
        &self.marks
    }

    fn marks_mut(&mut self) -> &mut Marks {
        &mut self.marks
    }

    fn range(&self) -> Range<u64> {
        0..self.users.len() as u64
    }

    fn write_chunk(&self, number: u64, out: &mut Writer) {
        let user = number as u32;
        self.names.write_name(user, out);
        if self.users.is_cold(user) {
            self.write_cold(user, out);
        } else {
            self.write_user(user, out);
        }
    }
}

/// The text of the declarations in force that a snapshot was taken with.
///
/// # Errors
/// Bytes that are no snapshot, or of another format.
pub(crate) fn declared_in(bytes: &[u8]) -> Result<&str, SnapshotError> {
    let format = SnapshotError::Format { known: FORMAT };
    if bytes.first() != Some(&(Part::Head as u8)) {
        return Err(format);
    }
    // The last head says it, of changes without what they are changes of, too.
    let image = Image::read(bytes, |_| Ok(true))?;
    Ok(Start::read(&mut Reader::new(image.head().ok_or(format)?))?.declared)
}

/// Where a head begins.
struct Start<'a> {
    state: u64,
    partition: i32,
    whole: bool,
    declared: &'a str,
}

impl<'a> Start<'a> {
    fn read(head: &mut Reader<'a>) -> Result<Self, SnapshotError> {
        if head.fixed().ok() != Some(MAGIC) || head.byte()? != FORMAT {
            return Err(SnapshotError::Format { known: FORMAT });
        }
        let state = head.fixed()?;
        let partition = i32::try_from(head.int()?).map_err(|_| head.damaged())?;
        Ok(Self { state, partition, whole: head.bool()?, declared: head.text()? })
    }
}

/// Checks where a head begins; whether its image is a whole one, and the declarations in force.
fn check_head<'a>(
    head: &mut Reader<'a>,
    plan: &Plan,
    partition: i32,
) -> Result<(bool, &'a str), SnapshotError> {
    let start = Start::read(head)?;
    let wanted = plan.state_fingerprint();
    if start.state != wanted {
        return Err(SnapshotError::Declarations { found: start.state, wanted });
    }
    if start.partition != partition {
        return Err(SnapshotError::Partition { found: start.partition, wanted: partition });
    }
    Ok((start.whole, start.declared))
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
