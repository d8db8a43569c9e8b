//! I3: one prediction per vector, recomputed to the bit from the vector and the model it names.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use schemas::{Codec, FeatureVector, Json, Prediction, Protobuf};
use scorer::{FALLBACK_VERSION, Fallback, Loaded, Scorer, Vector};
use serde_json::json;

use super::log::{Cut, Range, scan};
use super::{Options, Outcome, compare};
use crate::context::Context;

/// Predictions recomputed at once.
const BATCH: usize = 512;

struct Scored {
    vector: Option<(FeatureVector, i64)>,
    due: bool,
    predictions: u32,
}

pub(super) fn check(context: &Context, cut: &Cut, options: Options) -> Result<Outcome> {
    let mut outcome = Outcome::new("I3", "one prediction per vector, recomputed to the bit");
    let names = &context.names;
    let due = cut.of(&names.feature_vectors);
    let vectors = Range::whole(context, &names.feature_vectors)?;
    for (partition, begin) in vectors.begin.iter().enumerate() {
        if *begin > 0 {
            outcome.out_of_scope(format!(
                "{}[{partition}] below offset {begin}: cut by retention",
                vectors.topic
            ));
        }
    }
    let mut models = Models::new(context);
    let (mut checked, mut repeats, mut recomputed) = (0u64, 0u64, 0u64);
    // One partition of vectors in memory at a time; the predictions are keyed by campaign, so all of
    // their partitions are read for each.
    for partition in 0..vectors.begin.len() {
        let mut scored: BTreeMap<i64, Scored> = BTreeMap::new();
        scan(context, &vectors.only(partition), |record| {
            let value = record.record.value.clone().unwrap_or_default();
            let vector: FeatureVector =
                Protobuf::decode(&value).with_context(|| compare::place(&record.topic, &record.record))?;
            let offset = vector.place.offset;
            let due = record.record.offset < due.get(partition).copied().unwrap_or(0);
            let vector = options.recompute.then_some((vector, record.record.offset));
            scored.insert(offset, Scored { vector, due, predictions: 0 });
            Ok(())
        })?;
        let mut waiting: BTreeMap<(String, String), Vec<Prediction>> = BTreeMap::new();
        scan(context, &Range::whole(context, &names.predictions)?, |record| {
            let value = record.record.value.clone().unwrap_or_default();
            let prediction: Prediction =
                Json::decode(&value).with_context(|| compare::place(&record.topic, &record.record))?;
            if prediction.place.partition != partition as i32 {
                return Ok(());
            }
            let Some(slot) = scored.get_mut(&prediction.place.offset) else {
                outcome.differs(format!(
                    "{}: of {}, which has no vector",
                    compare::place(&record.topic, &record.record),
                    prediction.place
                ));
                return Ok(());
            };
            slot.predictions += 1;
            if options.recompute {
                let batch = waiting
                    .entry((prediction.model_version.clone(), prediction.model_checksum.clone()))
                    .or_default();
                batch.push(prediction);
                if batch.len() >= BATCH {
                    recomputed += models.recompute(batch, &scored, &mut outcome);
                }
            }
            Ok(())
        })?;
        for batch in waiting.values_mut() {
            recomputed += models.recompute(batch, &scored, &mut outcome);
        }
        for (offset, slot) in &scored {
            let place = || format!("vector of {}[{partition}] offset {offset}", names.events);
            checked += u64::from(slot.due);
            match slot.predictions {
                0 if slot.due => outcome.differs(format!("{}: has no prediction", place())),
                0 | 1 => {}
                _ if context.at_least_once() => repeats += 1,
                n => outcome.differs(format!("{}: has {n} predictions", place())),
            }
        }
    }
    if checked > 0 {
        outcome.checked(format!("{checked} vectors have their prediction"));
    }
    if repeats > 0 {
        outcome.checked(format!("{repeats} repeats (delivery is at-least-once)"));
    }
    if recomputed > 0 {
        outcome.checked(format!("{recomputed} predictions recomputed to the bit"));
    }
    for ((version, _), model) in &models.loaded {
        if let Err(error) = model {
            outcome.out_of_scope(format!("predictions of model {version}: {error}"));
        }
    }
    Ok(outcome)
}

/// The models that predictions name, by version and checksum, loaded once each.
struct Models<'a> {
    context: &'a Context,
    scorer: Scorer,
    loaded: BTreeMap<(String, String), Result<Option<Loaded>, String>>,
}

impl<'a> Models<'a> {
    fn new(context: &'a Context) -> Self {
        let config = &context.config.scorer;
        let fallback = Fallback::new(&config.fallback, &context.vector_schema);
        Self { context, scorer: Scorer::new(config, fallback), loaded: BTreeMap::new() }
    }

    /// Scores the batch again; empties it. How many could be.
    fn recompute(
        &mut self,
        batch: &mut Vec<Prediction>,
        scored: &BTreeMap<i64, Scored>,
        outcome: &mut Outcome,
    ) -> u64 {
        let stored = std::mem::take(batch);
        let Some(first) = stored.first() else { return 0 };
        let named = (first.model_version.clone(), first.model_checksum.clone());
        let context = self.context;
        let model = self.loaded.entry(named).or_insert_with_key(|(version, checksum)| {
            if version == FALLBACK_VERSION {
                return Ok(None);
            }
            let uri = context.registry().uri(version);
            Loaded::read(&context.store, &uri, version, checksum).map(Some).map_err(|e| e.to_string())
        });
        let Ok(model) = model else { return 0 };
        let known = stored.into_iter().filter_map(|prediction| {
            let (vector, offset) = scored.get(&prediction.place.offset)?.vector.clone()?;
            Some((prediction, Vector { vector, offset }))
        });
        let (stored, vectors): (Vec<_>, Vec<_>) = known.unzip();
        let again = self.scorer.score(model.as_ref(), &vectors, 0);
        for (stored, mut again) in stored.iter().zip(again) {
            again.scored_ms = stored.scored_ms;
            if Json::to_vec(stored) != Json::to_vec(&again) {
                let what = compare::difference(&json!(stored), &json!(again))
                    .unwrap_or_else(|| "the same fields in other bytes".to_owned());
                outcome.differs(format!("prediction {} of {}: {what}", stored.prediction_id, stored.place));
            }
        }
        stored.len() as u64
    }
}
