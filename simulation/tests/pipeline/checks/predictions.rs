//! I3: one prediction per vector, recomputed to the bit.

use std::collections::BTreeMap;

use ingest::partitioner::partition_of;
use schemas::prediction::Status;
use schemas::{Codec, FeatureVector, Json, Prediction};
use scorer::{Fallback, Scorer};
use simulation::Broker;

use super::{Checked, decode};
use crate::models::of_version;
use crate::pipeline::{PARTS, Parts};

pub(super) fn check(broker: &Broker, checked: &mut Checked) -> Result<(), String> {
    let Parts { names, schema, scorer: config, .. } = &*PARTS;
    let mut fallback = Fallback::new(&config.fallback);
    fallback.learn(schema.fingerprint(), Some(schema));
    let scorer = Scorer::new(config, fallback);
    let mut found = BTreeMap::new();
    let partitions = broker.partitions(&names.predictions);
    for of in &partitions {
        for record in broker.all(of) {
            let value = record.value.clone().unwrap();
            let prediction: Prediction =
                Json::decode(&value).map_err(|error| format!("I3: {of}: {error}"))?;
            let place = prediction.place;
            let key = record.key.clone().unwrap_or_default();
            if key != prediction.campaign || partition_of(&key, partitions.len() as i32) != of.partition {
                return Err(format!("I3: {of} offset {}: under the key {key:?}", record.offset));
            }
            if found.insert(place, (prediction, value)).is_some() {
                return Err(format!("I3: the vector of {place} has a second prediction in {of}"));
            }
        }
    }
    for of in broker.partitions(&names.feature_vectors) {
        for record in broker.all(&of) {
            let vector: FeatureVector = decode(&record);
            let place = vector.place;
            let (stored, bytes) =
                found.remove(&place).ok_or_else(|| format!("I3: the vector of {place} has no prediction"))?;
            let made = scorer.score(
                of_version(&stored.model_version),
                std::slice::from_ref(&vector),
                stored.scored_ms,
            );
            if Json::to_vec(&made[0]) != bytes {
                return Err(format!("I3: {stored:?} is recomputed as {:?}", made[0]));
            }
            checked.predictions += 1;
            checked.by_models += u64::from(stored.status == Status::Scored);
        }
    }
    // Whoever scores them, the scorer's group says that they have been read.
    let group = broker.groups().find(|(name, _)| *name == "scorer").map(|(_, group)| group).unwrap();
    for of in broker.partitions(&names.feature_vectors) {
        let next = group.committed(&of).map_or(0, |(offset, _)| *offset);
        if let Some(unread) = broker.poll(&of, next, 1).first() {
            return Err(format!("I3: the scorer's group has not read {of} offset {}", unread.record.offset));
        }
    }
    match found.keys().next() {
        None => Ok(()),
        Some(place) => Err(format!("I3: there is no vector of {place}")),
    }
}
