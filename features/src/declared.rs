//! The cores of one partition whose log declares: the one in force, and those of declarations that come
//! later in it.
//!
//! A vector is made by the declarations in force at its view. What these read of the past is what they
//! make of the log from its beginning; what was decided in it (labels, repeats, sums of hours) was decided
//! by those in force when it was. So where a declaration comes, the state goes over as it is where it would be
//! the same under the new one; else the new one's core must have been folded beside the old one's, and
//! where it was not, the fold begins anew with what is known now.

use std::collections::BTreeMap;
use std::sync::Arc;

use runtime::spill::{SpillError, Spills};
use schemas::{Control, Declaration, Entry, Place};

use crate::config::Config;
use crate::core::Core;
use crate::out::{Counts, Silent, Sink};
use crate::plan::{DeclarationError, Plan};
use crate::snapshot::declared_in;
use crate::wire::SnapshotError;

/// Declarations that cannot be followed.
#[derive(Debug, thiserror::Error)]
pub enum NotFollowed {
    /// The text of none, or of a newer build's.
    #[error("the text of declarations cannot be read: {0} (fatal: upgrade first)")]
    Text(#[from] serde_json::Error),
    /// They make no sense.
    #[error(transparent)]
    Meaning(#[from] DeclarationError),
    /// They differ in what the log itself is written by.
    #[error(
        "features.{0} cannot change where a log has begun: {1} (fatal: leave it, or begin a new deployment with \
         another kafka.prefix and storage.root)"
    )]
    Fixed(&'static str, &'static str),
    /// The state could not be taken over.
    #[error(transparent)]
    State(#[from] SnapshotError),
    /// There is no place for users out of memory.
    #[error(transparent)]
    Spill(#[from] SpillError),
}

/// Declarations as a log names them: by the fingerprint of their text.
#[derive(Debug, Clone)]
pub struct Declarations {
    fingerprint: u64,
    text: Arc<str>,
    plan: Arc<Plan>,
}

impl Declarations {
    /// Those of a config.
    ///
    /// # Errors
    /// Declarations that make no sense.
    pub fn of(config: &Config) -> Result<Self, NotFollowed> {
        let text = config.to_json()?;
        let plan = Arc::new(Plan::compile(config)?);
        Ok(Self { fingerprint: Declaration::fingerprint_of(&text), text: text.into(), plan })
    }

    /// Those that a text holds.
    ///
    /// # Errors
    /// Another text, and declarations that make no sense.
    pub fn read(text: &str) -> Result<Self, NotFollowed> {
        let plan = Arc::new(Plan::compile(&Config::from_json(text)?)?);
        Ok(Self { fingerprint: Declaration::fingerprint_of(text), text: text.into(), plan })
    }

    /// Those in force where a snapshot of [`Declared`] was taken.
    ///
    /// # Errors
    /// Bytes that are no such snapshot, or a newer build's.
    pub fn in_snapshot(bytes: &[u8]) -> Result<Self, NotFollowed> {
        Self::read(declared_in(bytes)?)
    }

    /// Their name.
    pub fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    /// The text that holds them.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What they come to.
    pub fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }

    /// The record that puts them in force.
    pub fn record(&self) -> Declaration {
        Declaration { fingerprint: self.fingerprint, text: self.text.to_string() }
    }

    /// Whether they may come into force after others.
    ///
    /// # Errors
    /// [`NotFollowed::Fixed`]: what differs, and why it may not.
    pub fn may_follow(&self, before: &Self) -> Result<(), NotFollowed> {
        let (old, new) = (&before.plan, &self.plan);
        if old.config.aggregate_horizon != new.config.aggregate_horizon {
            return Err(NotFollowed::Fixed("aggregate_horizon", "the merge has closed hours by it"));
        }
        if old.config.shared_tile != new.config.shared_tile {
            return Err(NotFollowed::Fixed("shared_tile", "versions are sums of tiles of that width"));
        }
        if !new.config.numbers.starts_with(&old.config.numbers) {
            return Err(NotFollowed::Fixed("numbers", "events have them in that order; more may follow"));
        }
        if (old.shares() || new.shares()) && old.shared_layout() != new.shared_layout() {
            let why = "other shared entities would be counted, and of those versions know nothing before";
            return Err(NotFollowed::Fixed("entities", why));
        }
        Ok(())
    }

    /// Their plan, with what decides as others have it.
    fn deciding_as(&self, other: &Self) -> Result<Arc<Plan>, DeclarationError> {
        if self.fingerprint == other.fingerprint {
            return Ok(Arc::clone(&self.plan));
        }
        Plan::compile(&self.plan.config.deciding_as(&other.plan.config)).map(Arc::new)
    }
}

/// A fold that reads the past by one set of declarations throughout, and decides (labels, repeats, sums of
/// hours) by those that the log has in force.
#[derive(Debug)]
pub struct Reading {
    by: Declarations,
    /// Name of those that it decides by.
    deciding: u64,
    core: Core,
}

impl Reading {
    /// The fold of nothing; `first` is in force before the log declares anything.
    ///
    /// # Errors
    /// Declarations that make no sense.
    pub fn new(by: &Declarations, first: &Declarations, partition: i32) -> Result<Self, NotFollowed> {
        let core = Core::new(by.deciding_as(first)?, partition);
        Ok(Self { by: by.clone(), deciding: first.fingerprint, core })
    }

    /// The core.
    pub fn core(&self) -> &Core {
        &self.core
    }

    /// Folds one entry.
    ///
    /// # Errors
    /// Declarations in it that cannot be followed.
    pub fn step(&mut self, entry: &Entry, place: Place, out: &mut impl Sink) -> Result<(), NotFollowed> {
        if let Entry::Control(Control::Declared(record)) = entry
            && record.fingerprint != self.deciding
        {
            let next = Declarations::read(&record.text)?;
            self.core = self.core.under(self.by.deciding_as(&next)?, None)?;
            self.deciding = next.fingerprint;
        }
        self.core.step(entry, place, out);
        Ok(())
    }
}

/// The fold of one partition under what its log declares.
#[derive(Debug)]
pub struct Declared {
    in_force: Declarations,
    core: Core,
    /// Whether the core has taken another's place since an image was begun: what has changed since the last
    /// whole one is not known.
    is_other: bool,
    /// Where users of the core in force go out of memory, if they do.
    spills: Option<Spills>,
    /// Folds whose declarations come into force later, by the offset where they do.
    coming: BTreeMap<i64, Reading>,
}

impl Declared {
    /// The fold of nothing. `first` is in force before the log declares anything, `coming` is what it is known
    /// to declare, by offset.
    ///
    /// # Errors
    /// Declarations that make no sense.
    pub fn new(
        first: &Declarations,
        coming: &BTreeMap<i64, Declarations>,
        partition: i32,
        spills: Option<&Spills>,
    ) -> Result<Self, NotFollowed> {
        let reading = |(offset, declarations): (&i64, &Declarations)| {
            Ok::<_, NotFollowed>((*offset, Reading::new(declarations, first, partition)?))
        };
        let coming = coming.iter().map(reading).collect::<Result<_, _>>()?;
        let spill = spills.map(Spills::open).transpose()?;
        let mut core = Core::spilling(Arc::clone(&first.plan), partition, spill);
        core.declared = Arc::clone(&first.text);
        Ok(Self { in_force: first.clone(), core, is_other: false, spills: spills.cloned(), coming })
    }

    /// The core in force.
    pub fn core(&self) -> &Core {
        &self.core
    }

    /// The declarations in force.
    pub fn in_force(&self) -> &Declarations {
        &self.in_force
    }

    /// Whether cores are folded whose declarations have not come yet.
    pub fn awaits(&self) -> bool {
        !self.coming.is_empty()
    }

    /// Folds one entry. `Some`: it declares what no core has been folded for; nothing was changed, and the fold
    /// must begin anew with this among what comes.
    ///
    /// # Errors
    /// Declarations that cannot be followed.
    pub fn step(
        &mut self,
        entry: &Entry,
        place: Place,
        out: &mut impl Sink,
    ) -> Result<Option<Declarations>, NotFollowed> {
        if let Entry::Control(Control::Declared(record)) = entry
            && record.fingerprint != self.in_force.fingerprint
        {
            let next = Declarations::read(&record.text)?;
            next.may_follow(&self.in_force)?;
            if !self.follow(&next, place.offset)? {
                return Ok(Some(next));
            }
        }
        self.core.step(entry, place, out);
        for reading in self.coming.values_mut() {
            reading.step(entry, place, &mut Silent)?;
        }
        Ok(None)
    }

    /// Goes over to other declarations; `false` where no core has been folded for them.
    fn follow(&mut self, next: &Declarations, offset: i64) -> Result<bool, NotFollowed> {
        let reading = self.coming.remove(&offset);
        let is_kept = self.in_force.plan.state_fingerprint() == next.plan.state_fingerprint();
        let core = match &reading {
            Some(reading) => &reading.core,
            None if is_kept => &self.core,
            None => return Ok(false),
        };
        let spill = self.spills.as_ref().map(Spills::open).transpose()?;
        let mut core = core.under(Arc::clone(&next.plan), spill)?;
        core.counts = self.core.counts;
        core.declared = Arc::clone(&next.text);
        (self.core, self.in_force, self.is_other) = (core, next.clone(), true);
        Ok(true)
    }

    /// What has been done by the core in force and those before it.
    pub fn counts(&self) -> Counts {
        self.core.counts()
    }

    /// The state as bytes; none while cores are folded for what comes: then it is what the log makes again.
    pub fn snapshot(&self) -> Option<Vec<u8>> {
        if self.awaits() {
            return None;
        }
        Some(self.core.snapshot())
    }

    /// [`Core::begin_image`]; a whole one in any case where the core is another than when the last was begun.
    pub fn begin_image(&mut self, whole: bool) {
        self.core.begin_image(whole || std::mem::take(&mut self.is_other));
    }

    /// [`Core::next_part`].
    pub fn next_part(&mut self, bytes: usize) -> Option<Vec<u8>> {
        self.core.next_part(bytes)
    }

    /// [`Core::take_failure`].
    pub fn take_failure(&mut self) -> Option<SpillError> {
        self.core.take_failure()
    }

    /// The fold as it was when the snapshot was taken.
    ///
    /// # Errors
    /// As [`Core::restore`], and declarations that this build cannot read.
    pub fn restore(partition: i32, bytes: &[u8], spills: Option<&Spills>) -> Result<Self, NotFollowed> {
        let in_force = Declarations::in_snapshot(bytes)?;
        let spill = spills.map(Spills::open).transpose()?;
        let core = Core::restore_with(Arc::clone(&in_force.plan), partition, bytes, spill)?;
        Ok(Self { in_force, core, is_other: false, spills: spills.cloned(), coming: BTreeMap::new() })
    }

    /// [`Core::look_ahead`] of the core in force.
    pub fn look_ahead(&mut self, entries: &[Entry; crate::core::AHEAD]) {
        self.core.look_ahead(entries);
    }
}
