//! What a step puts out, and what it counts.

use schemas::{Duplicate, EntityTiles, FeatureVector, Label};

use crate::vector::VectorView;

/// Takes the outputs of a step, in order.
pub trait Sink {
    /// Whether it drops all that it is given: then nothing is read and nothing written that only outputs are
    /// made of. The state is the same.
    const DROPS: bool = false;

    /// The vector of a view.
    fn vector(&mut self, vector: &VectorView<'_>);
    /// A label.
    fn label(&mut self, label: &Label);
    /// A dropped duplicate.
    fn duplicate(&mut self, duplicate: Duplicate);
    /// Tiles of shared entities that have closed.
    fn tiles(&mut self, tiles: EntityTiles);
    /// What was counted by the hour since the last.
    fn hours(&mut self, hours: EntityTiles);
}

/// One output.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// To `feature-vectors`.
    Vector(Box<FeatureVector>),
    /// To `labels`.
    Label(Label),
    /// To `duplicates`.
    Duplicate(Duplicate),
    /// To `entity-tiles`.
    Tiles(EntityTiles),
    /// To `entity-tiles`, too.
    Hours(EntityTiles),
}

/// A sink that keeps everything, in order.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Out {
    /// The outputs.
    pub records: Vec<Output>,
}

impl Sink for Out {
    fn vector(&mut self, vector: &VectorView<'_>) {
        self.records.push(Output::Vector(Box::new(vector.to_vector())));
    }

    fn label(&mut self, label: &Label) {
        self.records.push(Output::Label(label.clone()));
    }

    fn duplicate(&mut self, duplicate: Duplicate) {
        self.records.push(Output::Duplicate(duplicate));
    }

    fn tiles(&mut self, tiles: EntityTiles) {
        self.records.push(Output::Tiles(tiles));
    }

    fn hours(&mut self, hours: EntityTiles) {
        self.records.push(Output::Hours(hours));
    }
}

/// Drops everything: for a fold whose outputs have been sent, or are not in force.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Sink for Silent {
    const DROPS: bool = true;

    fn vector(&mut self, _: &VectorView<'_>) {}

    fn label(&mut self, _: &Label) {}

    fn duplicate(&mut self, _: Duplicate) {}

    fn tiles(&mut self, _: EntityTiles) {}

    fn hours(&mut self, _: EntityTiles) {}
}

/// What has been done since the core was made or restored; outputs that are dropped ([`Sink::DROPS`]) are not
/// counted. Not part of the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Events folded, duplicates left out.
    pub events: u64,
    /// Vectors made.
    pub vectors: u64,
    /// Labels written, all revisions.
    pub labels: u64,
    /// Duplicates dropped.
    pub duplicates: u64,
    /// Events behind the clock.
    pub behind_clock: u64,
    /// Of these, events whose hour could no longer be corrected.
    pub uncorrected: u64,
    /// Events whose tile of the shared entities was closed: they change nothing of it.
    pub untiled: u64,
    /// Records of closed tiles written.
    pub tiles: u64,
    /// Records of what was counted by the hour written.
    pub hours: u64,
    /// Versions of shared entities that came into force.
    pub versions: u64,
    /// Vectors that could read no version, where shared entities are declared.
    pub without_version: u64,
    /// Events of a kind that this build does not know: passed over.
    pub unknown_kind: u64,
    /// Ids, clicks and views of a user that were looked at one by one to find repeats and to decide labels:
    /// a few an event, however many the user has.
    pub looked_at: u64,
}
