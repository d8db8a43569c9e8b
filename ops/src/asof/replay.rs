//! The fold of one user's past: from the tables as far as they reach, then from the log; by the declarations that
//! were in force at the view.

use anyhow::{Context as _, Result, bail};
use features::{Core, Declarations, Reading, Sink, VectorView};
use schemas::{
    Codec, Control, Duplicate, EntityTiles, Entry, Event, FeatureVector, Kind, Label, Place, Protobuf,
};

use super::{Options, Past};
use crate::context::Context;
use crate::declared;
use crate::history::{Events, Stored, partitions_of_events};
use crate::log::{Cursor, Range};

/// A vector, and what had arrived before it.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) view: Event,
    pub(super) vector: FeatureVector,
    /// How many events of the journal came before.
    pub(super) arrived: usize,
    /// Where the version in force was marked.
    pub(super) version: Option<Place>,
}

/// A user's past.
pub(super) struct Replay {
    reading: Reading,
    /// What the log declares, and where.
    declared: Vec<(Place, Declarations)>,
    /// The user's events without repeats, in the order of the log.
    pub(super) journal: Vec<Past>,
    /// The last view at or before the time asked for, or the one supposed.
    pub(super) seen: Option<Seen>,
    user: String,
    at_ms: i64,
    /// The version of shared entities that was marked last, and where.
    version: Option<(i64, Place)>,
}

/// Folds the user's partition until its clock has passed the time asked for, by what was in force at the view.
pub(super) fn replay(context: &Context, options: &Options) -> Result<Replay> {
    let first = declared::first_or_own(context)?;
    let mut by = first.clone();
    loop {
        let replay = replay_by(context, options, &by, &first)?;
        // Which view it is does not depend on what is declared: what decides on repeats stands in the log.
        let Some(seen) = &replay.seen else { return Ok(replay) };
        let before = replay.declared.iter().rev().find(|(place, _)| place.offset < seen.vector.place.offset);
        let in_force = before.map_or(&first, |(_, declarations)| declarations).clone();
        if in_force.fingerprint() == by.fingerprint() {
            return Ok(replay);
        }
        by = in_force;
    }
}

fn replay_by(
    context: &Context,
    options: &Options,
    by: &Declarations,
    first: &Declarations,
) -> Result<Replay> {
    let partitions = partitions_of_events(context)?;
    let partition = ingest::partitioner::partition_of(options.pseudonym.as_bytes(), partitions);
    let mut replay = Replay::new(Reading::new(by, first, partition)?, options);
    let stored = Stored::open(context, partitions)?;
    let reached = match &stored {
        Some(stored) if stored.cut(partition)?.is_none() => replay.tables(stored, partition)?,
        _ => 0,
    };
    if !replay.passed() {
        replay.log(context, partition, reached)?;
    }
    if options.supposes() {
        replay.suppose(options)?;
    }
    Ok(replay)
}

impl Replay {
    fn new(reading: Reading, options: &Options) -> Self {
        let Options { pseudonym, at_ms, .. } = options;
        Self {
            reading,
            declared: Vec::new(),
            journal: Vec::new(),
            seen: None,
            user: pseudonym.clone(),
            at_ms: *at_ms,
            version: None,
        }
    }

    pub(super) fn core(&self) -> &Core {
        self.reading.core()
    }

    /// Whether everything that was in time for the time asked for has arrived.
    fn passed(&self) -> bool {
        self.core().clock_ms().is_some_and(|clock| clock > self.at_ms)
    }

    /// Folds what the tables have; the offset to go on from.
    fn tables(&mut self, stored: &Stored, partition: i32) -> Result<i64> {
        let end = stored.ends[partition as usize];
        let mut history = stored.read(partition, 0..end, &Events::Of(self.user.clone()))?;
        while !self.passed()
            && let Some((place, entry)) = history.next()?
        {
            self.step(place, &entry)?;
        }
        Ok(end)
    }

    /// Folds what the log has from an offset on.
    fn log(&mut self, context: &Context, partition: i32, from: i64) -> Result<()> {
        let at = partition as usize;
        let mut range = Range::whole(context, &context.names.events)?.only(at);
        if range.begin[at] > from {
            bail!(
                "{}[{partition}] begins at offset {}, and the tables of events have it up to {from}: what lies \
                 between is gone",
                range.topic,
                range.begin[at]
            );
        }
        range.begin[at] = from;
        let mut cursor = Cursor::new(context, &range, at)?;
        while !self.passed()
            && let Some(record) = cursor.next()?
        {
            let place = record.record.place();
            let entry = Protobuf::decode(&record.record.value.unwrap_or_default())
                .with_context(|| format!("events {place}"))?;
            self.step(place, &entry)?;
        }
        Ok(())
    }

    fn step(&mut self, place: Place, entry: &Entry) -> Result<()> {
        let event = match entry {
            Entry::Event(event) if event.user != self.user => return Ok(()),
            Entry::Event(event) => Some(event),
            Entry::Control(_) => None,
        };
        let mut made = Made::default();
        self.reading.step(entry, place, &mut made).with_context(|| format!("events {place}"))?;
        if let Entry::Control(Control::Declared(declared)) = entry {
            self.declared.push((place, Declarations::read(&declared.text)?));
        }
        if let Entry::Control(Control::Entities(version)) = entry
            && version.last
            && self.version.is_none_or(|(before, _)| version.version_ms > before)
        {
            self.version = Some((version.version_ms, place));
        }
        let Some(event) = event.filter(|_| !made.repeat) else { return Ok(()) };
        if event.event_time_ms > self.at_ms {
            // It says nothing of the past that is asked for; the core reads past it, too.
            return Ok(());
        }
        let newest = self.seen.as_ref().is_none_or(|seen| event.event_time_ms >= seen.view.event_time_ms);
        if let Some(vector) = made.vector.filter(|_| newest) {
            self.see(event, vector);
        }
        if event.kind_or_unknown() != Kind::Unknown {
            let past = Past::of(place, event, self.core().plan());
            self.journal.push(past);
        }
        Ok(())
    }

    fn see(&mut self, view: &Event, vector: FeatureVector) {
        let version = self.version.map(|(_, place)| place);
        self.seen = Some(Seen { view: view.clone(), vector, arrived: self.journal.len(), version });
    }

    /// The vector of a view at the time asked for, of the context given; the rest is the last view's.
    fn suppose(&mut self, options: &Options) -> Result<()> {
        let mut view = self.seen.as_ref().map_or_else(Event::default, |seen| seen.view.clone());
        if let Some(item) = options.item.as_ref().filter(|item| **item != view.item) {
            // What else is known of the item is what the user's last event on it says.
            let known = self.journal.iter().rev().find(|past| past.item == *item);
            view.category = known.map_or_else(String::new, |past| past.category.clone());
            (view.item, view.brand, view.value) = (item.clone(), String::new(), 0.0);
            view.embedding.clear();
        }
        for (field, given) in
            [(&mut view.campaign, &options.campaign), (&mut view.category, &options.category)]
        {
            if let Some(given) = given {
                field.clone_from(given);
            }
        }
        view.kind = Kind::View as i32;
        view.user.clone_from(&self.user);
        view.event_time_ms = self.at_ms;
        // No event has it: else this one could be taken for a repeat.
        "\u{0}as-of".clone_into(&mut view.event_id);
        let place = Place { partition: self.core().partition(), offset: i64::MAX };
        let mut made = Made::default();
        self.reading.step(&Entry::Event(Box::new(view.clone())), place, &mut made)?;
        if let Some(vector) = made.vector {
            self.see(&view, vector);
        }
        Ok(())
    }
}

/// What a step made.
#[derive(Default)]
struct Made {
    vector: Option<FeatureVector>,
    repeat: bool,
}

impl Sink for Made {
    fn vector(&mut self, vector: &VectorView<'_>) {
        self.vector = Some(vector.to_vector());
    }

    fn duplicate(&mut self, _: Duplicate) {
        self.repeat = true;
    }

    fn label(&mut self, _: &Label) {}
    fn hours(&mut self, _: EntityTiles) {}
    fn tiles(&mut self, _: EntityTiles) {}
}
