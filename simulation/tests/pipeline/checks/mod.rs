//! The invariants, checked from the logs alone, as `salience verify` does.

mod folds;
mod origins;
mod predictions;
mod promises;

use runtime::processor::TopicRecord;
use schemas::{Codec, Entry, Protobuf, Record};
use simulation::Broker;

use crate::run::Ended;

/// How much was checked, to see that it was not nothing.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Checked {
    pub(crate) raw: u64,
    pub(crate) events: u64,
    pub(crate) late: u64,
    pub(crate) dead: u64,
    pub(crate) ticks: u64,
    pub(crate) vectors: u64,
    pub(crate) labels: u64,
    pub(crate) duplicates: u64,
    pub(crate) tiles: u64,
    pub(crate) versions: u64,
    pub(crate) aggregates: u64,
    pub(crate) predictions: u64,
    /// Of the predictions, those that a model made.
    pub(crate) by_models: u64,
    /// Of the lake's tables.
    pub(crate) rows: u64,
}

impl Checked {
    pub(crate) fn named(&self) -> [(&'static str, u64); 14] {
        [
            ("raw", self.raw),
            ("events", self.events),
            ("late", self.late),
            ("dead", self.dead),
            ("ticks", self.ticks),
            ("vectors", self.vectors),
            ("labels", self.labels),
            ("duplicates", self.duplicates),
            ("tiles", self.tiles),
            ("versions", self.versions),
            ("aggregates", self.aggregates),
            ("predictions", self.predictions),
            ("predictions by models", self.by_models),
            ("rows of tables", self.rows),
        ]
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.raw += other.raw;
        self.events += other.events;
        self.late += other.late;
        self.dead += other.dead;
        self.ticks += other.ticks;
        self.vectors += other.vectors;
        self.labels += other.labels;
        self.duplicates += other.duplicates;
        self.tiles += other.tiles;
        self.versions += other.versions;
        self.aggregates += other.aggregates;
        self.predictions += other.predictions;
        self.by_models += other.by_models;
        self.rows += other.rows;
    }
}

/// All of them, of a pipeline that has come to rest.
///
/// # Errors
/// The first difference.
pub(crate) fn check(ended: &mut Ended) -> Result<Checked, String> {
    let mut checked = check_logs(&ended.broker)?;
    checked.rows = ended.lake.check(&ended.broker)?;
    Ok(checked)
}

/// The invariants of the logs alone.
///
/// # Errors
/// The first difference.
pub(crate) fn check_logs(broker: &Broker) -> Result<Checked, String> {
    let mut checked = Checked::default();
    origins::check(broker, &mut checked)?;
    promises::check(broker, &mut checked)?;
    folds::check_features(broker, &mut checked)?;
    folds::check_merge(broker, &mut checked)?;
    predictions::check(broker, &mut checked)?;
    Ok(checked)
}

/// The value of a record of ours.
fn decode<T: Record>(record: &TopicRecord) -> T
where
    Protobuf: Codec<T>,
{
    Protobuf::decode(record.value.as_ref().unwrap()).unwrap()
}

/// The entries of a partition of `events`.
fn entries(broker: &Broker, of: &runtime::processor::TopicPartition) -> Vec<(TopicRecord, Entry)> {
    broker.all(of).into_iter().map(|record| (record.clone(), decode(&record))).collect()
}
