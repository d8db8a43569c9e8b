//! The fold of the scorer: vectors in, predictions out. It has no state but the model served.

use std::sync::Arc;

use runtime::pages::Pages;
use runtime::processor::{
    InRecord, Input, OutRecord, Outputs, Processor, ProcessorFactory, StepError, TopicPartition, UnitId,
};
use schemas::{Codec, FeatureVector, Json, Prediction, VectorSchema};

use crate::config::Config;
use crate::fallback::Fallback;
use crate::score::Scorer;
use crate::slot::Slot;
use crate::telemetry;

/// Finds the vector schema of a fingerprint; `None`: nobody has declared it. What it finds must be the same
/// whenever it is asked.
pub type Lookup = Arc<dyn Fn(u64) -> Result<Option<VectorSchema>, String> + Send + Sync>;

/// Makes one processor per partition of `feature-vectors`.
#[derive(Clone)]
pub struct Factory {
    scorer: Scorer,
    lookup: Lookup,
    slot: Slot,
    vectors: Arc<str>,
    predictions: Arc<str>,
}

impl Factory {
    /// A factory whose processors serve the model in `slot`.
    pub fn new(config: &Config, lookup: Lookup, names: &schemas::topic::Names, slot: Slot) -> Self {
        Self {
            scorer: Scorer::new(config, Fallback::new(&config.fallback)),
            lookup,
            slot,
            vectors: Arc::clone(&names.feature_vectors),
            predictions: Arc::clone(&names.predictions),
        }
    }
}

impl ProcessorFactory for Factory {
    fn inputs(&self) -> Vec<Arc<str>> {
        vec![Arc::clone(&self.vectors)]
    }

    fn outputs(&self) -> Vec<Arc<str>> {
        vec![Arc::clone(&self.predictions)]
    }

    fn unit(&self, partition: &TopicPartition) -> UnitId {
        UnitId(partition.partition.unsigned_abs())
    }

    fn create(&self, _unit: UnitId, _snapshot: Option<&[u8]>) -> Result<Box<dyn Processor>, StepError> {
        Ok(Box::new(Partition {
            scorer: self.scorer.clone(),
            lookup: Arc::clone(&self.lookup),
            slot: self.slot.clone(),
            predictions: Arc::clone(&self.predictions),
            vectors: Vec::new(),
            made: Vec::new(),
            pages: Pages::default(),
        }))
    }
}

/// One partition of `feature-vectors`.
struct Partition {
    scorer: Scorer,
    lookup: Lookup,
    slot: Slot,
    predictions: Arc<str>,
    /// Those of the last batch, or of a larger one, and what was made of it.
    vectors: Vec<FeatureVector>,
    made: Vec<Prediction>,
    pages: Pages,
}

impl Processor for Partition {
    fn step(&mut self, input: Input<'_>, out: &mut Outputs) -> Result<(), StepError> {
        let Input::Records { records, now_ms } = input else { return Ok(()) };
        telemetry::batch(records.len());
        // One model for the whole step: a swap in between serves the next.
        let model = self.slot.get();
        // A batch at a time: its vectors are still in the cache when its predictions are written.
        for batch in records.chunks(self.scorer.micro_batch()) {
            self.read(batch)?;
            let Self { scorer, vectors, made, pages, predictions, .. } = &mut *self;
            scorer.score_over(model.as_deref(), &vectors[..batch.len()], now_ms, made);
            count(made);
            out.records.extend(made.iter().map(|prediction| OutRecord {
                topic: Arc::clone(predictions),
                partition: None,
                key: Some(pages.put(prediction.campaign.as_bytes())),
                value: Some(pages.write(|out| Json::encode(prediction, out))),
                headers: Vec::new(),
            }));
        }
        Ok(())
    }
}

impl Partition {
    /// Reads vectors over those of the last batch, and learns their schemas.
    fn read(&mut self, records: &[InRecord]) -> Result<(), StepError> {
        if self.vectors.len() < records.len() {
            self.vectors.resize_with(records.len(), FeatureVector::default);
        }
        for (at, record) in records.iter().enumerate() {
            read(record, &mut self.vectors[at])?;
            self.learn(self.vectors[at].fingerprint)?;
        }
        Ok(())
    }

    /// Looks up the schema of vectors where it has not met it yet.
    fn learn(&mut self, fingerprint: u64) -> Result<(), StepError> {
        if self.scorer.knows(fingerprint) {
            return Ok(());
        }
        let schema = (self.lookup)(fingerprint).map_err(|error| {
            StepError::new(format_args!("the vector schema {fingerprint:016x} cannot be looked up: {error}"))
        })?;
        if !self.scorer.learn(fingerprint, schema.as_ref()) {
            telemetry::priors_only(fingerprint);
        }
        Ok(())
    }
}

fn read(record: &InRecord, into: &mut FeatureVector) -> Result<(), StepError> {
    let at = || format!("{} offset {}", record.topic_partition(), record.record.offset);
    let value = record
        .record
        .value
        .as_ref()
        .ok_or_else(|| StepError::new(format_args!("{}: a tombstone is no feature vector", at())))?;
    into.read(value).map_err(|error| StepError::new(format_args!("{}: {error}", at())))
}

fn count(predictions: &[Prediction]) {
    use schemas::prediction::Status::{Fallback, Scored};
    let scored = predictions.iter().filter(|p| p.status == Scored).count() as u64;
    for (status, count) in [(Scored, scored), (Fallback, predictions.len() as u64 - scored)] {
        if count > 0 {
            telemetry::predictions(status, count);
        }
    }
}
