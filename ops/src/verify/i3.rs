//! I3: one prediction per vector, recomputed to the bit from the vector and the model it names.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result};
use model::explain::Method;
use schemas::{Codec, FeatureVector, Json, Prediction, Protobuf};
use scorer::{FALLBACK_VERSION, Fallback, Loaded, Scorer};
use serde_json::json;

use super::{Options, Outcome, compare};
use crate::context::Context;
use crate::log::{Cursor, Cut, Range, scan_from_the_first};

/// How far a probability may be from that of another kernel class.
const TOLERANCE: f32 = 1e-5;

/// Predictions recomputed at once.
const BATCH: usize = 512;

struct Scored {
    /// With its offset.
    vector: Option<(FeatureVector, i64)>,
    due: bool,
    predictions: u32,
}

pub(super) fn check(context: &Context, cut: &Cut, options: Options) -> Result<Outcome> {
    let says = if options.recompute {
        "one prediction per vector, recomputed to the bit"
    } else {
        "one prediction per vector"
    };
    let mut outcome = Outcome::new("I3", says);
    let names = &context.names;
    let (due, events) = (cut.of(&names.feature_vectors), cut.of(&names.events));
    let vectors = Range::whole(context, &names.feature_vectors)?;
    let predictions = Range::whole(context, &names.predictions)?;
    let mut first = vectors.begin.clone();
    for (partition, first) in first.iter_mut().enumerate().filter(|(_, begin)| **begin > 0) {
        match Cursor::from_the_first(context, &vectors, partition)? {
            Ok(_) => *first = 0,
            Err(why) => outcome.out_of_scope(why),
        }
    }
    let mut predictions_cut = false;
    for partition in 0..predictions.begin.len() {
        if let Err(why) = Cursor::from_the_first(context, &predictions, partition)? {
            predictions_cut = true;
            outcome.out_of_scope(format!("vectors without a prediction: {why}"));
        }
    }
    let mut models = Models::new(context)?;
    let (mut checked, mut repeats, mut recomputed) = (0u64, 0u64, 0u64);
    // One partition of vectors in memory at a time; the predictions are keyed by campaign, so all of
    // their partitions are read for each.
    for (partition, first) in first.into_iter().enumerate() {
        let mut scored: BTreeMap<i64, Scored> = BTreeMap::new();
        scan_from_the_first(context, &vectors, Some(partition), |record| {
            let value = record.record.value.clone().unwrap_or_default();
            let vector: FeatureVector =
                Protobuf::decode(&value).with_context(|| compare::place(&record.topic, &record.record))?;
            let offset = vector.place.offset;
            let due = record.record.offset < due.get(partition).copied().unwrap_or(0);
            let vector = options.recompute.then_some((vector, record.record.offset));
            // At least once, the first of its copies was read first.
            scored.entry(offset).or_insert(Scored { vector, due, predictions: 0 });
            Ok(())
        })?;
        // What no vector is known of is a difference from the first vector that is there to what features have
        // committed: a vector before was cut, one beyond is in flight.
        let first = if first == 0 { Some(0) } else { scored.keys().next().copied() };
        let known = first.map_or(0..0, |first| first..events.get(partition).copied().unwrap_or(0));
        // By version, checksum and method of explanation.
        let mut waiting: BTreeMap<[String; 3], Vec<Prediction>> = BTreeMap::new();
        scan_from_the_first(context, &predictions, None, |record| {
            let value = record.record.value.clone().unwrap_or_default();
            let prediction: Prediction =
                Json::decode(&value).with_context(|| compare::place(&record.topic, &record.record))?;
            if prediction.place.partition != partition as i32 {
                return Ok(());
            }
            let Some(slot) = scored.get_mut(&prediction.place.offset) else {
                if known.contains(&prediction.place.offset) {
                    outcome.differs(format!(
                        "{}: of {}, which has no vector",
                        compare::place(&record.topic, &record.record),
                        prediction.place
                    ));
                }
                return Ok(());
            };
            slot.predictions += 1;
            if options.recompute {
                let named =
                    [&prediction.model_version, &prediction.model_checksum, &prediction.explanation_method];
                let batch = waiting.entry(named.map(String::clone)).or_default();
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
                0 if slot.due && !predictions_cut => {
                    outcome.differs(format!("{}: has no prediction", place()));
                }
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
    for (theirs, ours) in &models.other_kernels {
        outcome
            .checked(format!("those by kernel class {theirs} only to within {TOLERANCE}: here it is {ours}"));
    }
    if models.other_settings > 0 {
        let count = models.other_settings;
        outcome.out_of_scope(format!(
            "the bits of {count} predictions by base rates: scorer.fallback has changed"
        ));
    }
    for ((version, _), model) in &models.loaded {
        if let Err(error) = model {
            outcome.out_of_scope(format!("predictions of model {version}: {error}"));
        }
    }
    Ok(outcome)
}

/// Whether two predictions of different kernel classes say the same.
fn near(stored: &Prediction, again: &Prediction) -> bool {
    let close = |a: f32, b: f32| (a - b).abs() <= TOLERANCE;
    let same = Prediction {
        kernel: stored.kernel.clone(),
        p_click: stored.p_click,
        p_purchase: stored.p_purchase,
        expected_value: stored.expected_value,
        attention: stored.attention.clone(),
        behaviours: stored.behaviours.clone(),
        ..again.clone()
    };
    same == *stored
        && close(stored.p_click, again.p_click)
        && close(stored.p_purchase, again.p_purchase)
        && (stored.expected_value - again.expected_value).abs()
            <= f64::from(TOLERANCE) * stored.expected_value.abs().max(1.0) * 100.0
}

/// The models that predictions name, by version and checksum, loaded once each.
struct Models<'a> {
    context: &'a Context,
    scorer: Scorer,
    loaded: BTreeMap<(String, String), Result<Option<Loaded>, String>>,
    /// Kernel classes of predictions that this machine recomputed with another.
    other_kernels: BTreeSet<(String, String)>,
    /// Predictions by base rates whose settings are not those of now.
    other_settings: u64,
}

impl<'a> Models<'a> {
    fn new(context: &'a Context) -> Result<Self> {
        let config = &context.config.scorer;
        let mut fallback = Fallback::new(&config.fallback);
        let declared = context.vector_schemas()?;
        for schema in declared.iter().chain([&context.vector_schema]) {
            fallback.learn(schema.fingerprint(), Some(schema));
        }
        Ok(Self {
            context,
            scorer: Scorer::new(config, fallback),
            loaded: BTreeMap::new(),
            other_kernels: BTreeSet::new(),
            other_settings: 0,
        })
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
            match Loaded::read(&context.store, &uri, version, checksum) {
                Ok(loaded) => Ok(Some(loaded)),
                Err(error) => {
                    // A model that is there and is not the one named is a broken promise; one that
                    // cannot be had only keeps us from looking.
                    if matches!(error, scorer::Error::Refused { .. }) {
                        outcome.differs(format!("model {version}: {error}"));
                    }
                    Err(error.to_string())
                }
            }
        });
        let Ok(model) = model else { return 0 };
        if first.model_version == FALLBACK_VERSION && first.model_checksum != self.scorer.fallback_checksum()
        {
            self.other_settings += stored.len() as u64;
            return 0;
        }
        let known = stored.into_iter().filter_map(|prediction| {
            let (vector, offset) = scored.get(&prediction.place.offset)?.vector.clone()?;
            Some(((prediction, offset), vector))
        });
        let (stored, vectors): (Vec<_>, Vec<_>) = known.unzip();
        // As it was explained then, whatever the settings say now; before there was a choice, by
        // attention, which was not named.
        let method = stored.first().map(|(first, _)| first.explanation_method.as_str()).unwrap_or_default();
        let scorer = self.scorer.explaining_by(Method::named(method).unwrap_or_default());
        let unnamed = method.is_empty();
        let again = scorer.score(model.as_ref(), &vectors, 0);
        for ((stored, offset), mut again) in stored.iter().zip(again) {
            again.scored_ms = stored.scored_ms;
            if stored.version == 1 {
                (again.version, again.vector_offset) = (1, Some(*offset));
            }
            if unnamed {
                again.explanation_method.clear();
            }
            if again.kernel != stored.kernel {
                self.other_kernels.insert((stored.kernel.clone(), again.kernel.clone()));
                if near(stored, &again) {
                    continue;
                }
            }
            if Json::to_vec(stored) != Json::to_vec(&again) {
                let what = compare::difference(&json!(stored), &json!(again))
                    .unwrap_or_else(|| "the same fields in other bytes".to_owned());
                outcome.differs(format!("prediction {} of {}: {what}", stored.prediction_id, stored.place));
            }
        }
        stored.len() as u64
    }
}
