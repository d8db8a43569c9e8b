//! Vectors to predictions: a pure function of the vector, the model and the settings.
//! The wall clock goes into `scored_ms` alone.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt::Write as _;

use model::explain::Method;
use model::{EncodeError, Explain, Scored, Values};
use schemas::prediction::{BehaviourAttention, FieldAttention, Status};
use schemas::{FeatureVector, Kind, Origin, Prediction, VectorSchema};

use crate::config::Config;
use crate::fallback::{self, Fallback};
use crate::loaded::Loaded;
use crate::telemetry;

/// What scoring needs beside the model.
#[derive(Debug, Clone)]
pub struct Scorer {
    fallback: Fallback,
    explain: Explain,
    /// None: the model's own.
    method: Option<Method>,
    micro_batch: usize,
    valid_for_ms: i64,
}

impl Scorer {
    /// From the settings and the base rates.
    pub fn new(config: &Config, fallback: Fallback) -> Self {
        Self {
            fallback,
            explain: Explain { fields: config.top_k, behaviours: config.top_k },
            method: config.explanation.method(),
            micro_batch: config.micro_batch.max(1),
            valid_for_ms: config.valid_for.0,
        }
    }

    /// Most vectors that are scored together; at least 1.
    pub fn micro_batch(&self) -> usize {
        self.micro_batch
    }

    /// As [`Fallback::knows`].
    pub fn knows(&self, fingerprint: u64) -> bool {
        self.fallback.knows(fingerprint)
    }

    /// As [`Fallback::learn`].
    pub fn learn(&mut self, fingerprint: u64, schema: Option<&VectorSchema>) -> bool {
        self.fallback.learn(fingerprint, schema)
    }

    /// The same, explaining by `method` whatever the settings and the model say.
    #[must_use]
    pub fn explaining_by(&self, method: Method) -> Self {
        Self { method: Some(method), ..self.clone() }
    }

    /// Checksum of the base rates' settings, hex: what predictions marked `fallback` name.
    pub fn fallback_checksum(&self) -> &str {
        self.fallback.checksum()
    }

    /// One prediction per vector, in order. Base rates serve where there is no model, and for
    /// vectors that the model cannot read (of another schema, after the declarations changed).
    pub fn score(&self, model: Option<&Loaded>, vectors: &[FeatureVector], now_ms: i64) -> Vec<Prediction> {
        let mut predictions = Vec::new();
        self.score_over(model, vectors, now_ms, &mut predictions);
        predictions
    }

    /// The same, written over other predictions, whose texts keep their memory.
    pub(crate) fn score_over(
        &self,
        model: Option<&Loaded>,
        vectors: &[FeatureVector],
        now_ms: i64,
        predictions: &mut Vec<Prediction>,
    ) {
        predictions.resize_with(vectors.len(), Prediction::default);
        let size = self.micro_batch;
        for (batch, predictions) in vectors.chunks(size).zip(predictions.chunks_mut(size)) {
            for (vector, prediction) in batch.iter().zip(&mut *predictions) {
                self.say_what_of(vector, now_ms, prediction);
            }
            if let Some(loaded) = model {
                self.score_batch(loaded, batch, predictions);
            } else {
                for (vector, prediction) in batch.iter().zip(predictions) {
                    self.by_base_rates(vector, prediction);
                }
            }
        }
    }

    fn score_batch(&self, loaded: &Loaded, batch: &[FeatureVector], predictions: &mut [Prediction]) {
        let is_readable = |vector: &&FeatureVector| vector.fingerprint == loaded.model.schema_fingerprint();
        // All are, but after the declarations have changed.
        let readable = if batch.iter().all(|vector| is_readable(&vector)) {
            Cow::Borrowed(batch)
        } else {
            batch.iter().filter(is_readable).cloned().collect()
        };
        // A batch is predicted whole or not at all; if one vector spoils it, each is tried alone, so
        // that what is said of one does not depend on its company.
        let (scored, spoilt) = match self.predict(loaded, &readable) {
            Ok(scored) => (scored, BTreeSet::new()),
            Err(error) => {
                telemetry::forward_failed(&error);
                self.one_by_one(loaded, &readable)
            }
        };
        let mut scored = scored.into_iter();
        let mut at = 0;
        for (vector, prediction) in batch.iter().zip(predictions) {
            let readable = is_readable(&vector);
            let good = readable && !spoilt.contains(&at);
            at += usize::from(readable);
            let found = if good { scored.next() } else { None };
            match found.filter(is_finite) {
                Some(scored) => self.by_model(loaded, vector, &scored, prediction),
                None => self.by_base_rates(vector, prediction),
            }
        }
    }

    fn predict(&self, loaded: &Loaded, vectors: &[FeatureVector]) -> Result<Vec<Scored>, EncodeError> {
        let method = self.method.unwrap_or_else(|| loaded.model.explanation());
        loaded.model.predict_with(vectors, self.explain, method)
    }

    /// A method's name, where anything is explained.
    fn named(&self, method: Method) -> &'static str {
        let wanted = self.explain.fields > 0 || self.explain.behaviours > 0;
        if wanted { method.as_str() } else { "" }
    }

    /// Predictions of those that can be predicted, and the positions of the others.
    fn one_by_one(&self, loaded: &Loaded, vectors: &[FeatureVector]) -> (Vec<Scored>, BTreeSet<usize>) {
        let mut scored = Vec::with_capacity(vectors.len());
        let mut spoilt = BTreeSet::new();
        for (at, vector) in vectors.iter().enumerate() {
            match self.predict(loaded, std::slice::from_ref(vector)) {
                Ok(mut one) if one.len() == 1 => scored.append(&mut one),
                Ok(_) | Err(_) => {
                    spoilt.insert(at);
                }
            }
        }
        (scored, spoilt)
    }

    fn by_base_rates(&self, vector: &FeatureVector, prediction: &mut Prediction) {
        (prediction.p_click, prediction.p_purchase) = self.fallback.rates(vector);
        prediction.expected_value = expected_value(prediction.p_purchase, vector.price);
        prediction.status = Status::Fallback;
        for (to, from) in [
            (&mut prediction.model_version, fallback::VERSION),
            (&mut prediction.model_checksum, self.fallback.checksum()),
            (&mut prediction.kernel, fallback::KERNEL),
            (&mut prediction.explanation_method, ""),
        ] {
            from.clone_into(to);
        }
        prediction.attention.clear();
        prediction.behaviours.clear();
    }

    fn by_model(
        &self,
        loaded: &Loaded,
        vector: &FeatureVector,
        scored: &Scored,
        prediction: &mut Prediction,
    ) {
        (prediction.p_click, prediction.p_purchase) =
            (scored.probabilities.p_click, scored.probabilities.p_purchase);
        prediction.expected_value = expected_value(prediction.p_purchase, worth(loaded, vector, scored));
        prediction.status = Status::Scored;
        for (to, from) in [
            (&mut prediction.model_version, &*loaded.version),
            (&mut prediction.model_checksum, &*loaded.checksum),
            (&mut prediction.kernel, loaded.model.kernel_class().as_str()),
            (&mut prediction.explanation_method, self.named(scored.method)),
        ] {
            from.clone_into(to);
        }
        prediction.attention.clear();
        prediction.attention.extend(
            scored
                .fields
                .iter()
                .map(|field| FieldAttention { field: field.field.to_string(), weight: field.weight }),
        );
        prediction.behaviours.clear();
        prediction.behaviours.extend(scored.behaviours.iter().filter_map(|seen| {
            let behaviour = vector.behaviours.get(seen.index)?;
            Some(BehaviourAttention {
                item: behaviour.item.clone(),
                kind: Kind::try_from(behaviour.kind).unwrap_or(Kind::Unknown).as_str().to_owned(),
                age_ms: behaviour.age_ms,
                weight: seen.weight,
            })
        }));
    }

    /// Writes what a prediction says of its impression, whoever predicts.
    fn say_what_of(&self, vector: &FeatureVector, now_ms: i64, prediction: &mut Prediction) {
        // Every field by name: one that is added must not keep what was there.
        let Prediction {
            version,
            prediction_id,
            event_id,
            user,
            item,
            campaign,
            placement,
            request_id,
            context,
            currency,
            valid_until_ms,
            fingerprint,
            origin,
            place,
            vector_offset,
            entity_version,
            event_time_ms,
            clock_ms,
            received_ms,
            scored_ms,
            // Of whoever predicts.
            p_click: _,
            p_purchase: _,
            expected_value: _,
            attention: _,
            behaviours: _,
            status: _,
            model_version: _,
            model_checksum: _,
            kernel: _,
            explanation_method: _,
        } = prediction;
        *version = Prediction::VERSION;
        for (to, from) in [
            (event_id, &vector.event_id),
            (user, &vector.user),
            (item, &vector.item),
            (campaign, &vector.campaign),
            (placement, &vector.placement),
            (request_id, &vector.request_id),
            (context, &vector.context),
            (currency, &vector.currency),
        ] {
            to.clone_from(from);
        }
        prediction_id.clear();
        vector.origin.write_id(prediction_id);
        let mut topic = std::mem::take(&mut origin.topic);
        topic.clone_from(&vector.origin.topic);
        *origin = Origin { topic, ..vector.origin };
        fingerprint.clear();
        // Writing to a text does not fail.
        let _ = write!(fingerprint, "{:016x}", vector.fingerprint);
        *valid_until_ms = vector.event_time_ms.saturating_add(self.valid_for_ms);
        (*place, *vector_offset, *entity_version) = (vector.place, None, vector.entity_version);
        (*event_time_ms, *clock_ms) = (vector.event_time_ms, vector.clock_ms);
        (*received_ms, *scored_ms) = (vector.received_ms, now_ms);
    }
}

/// What a purchase is worth: as the model predicts, if it does in the vector's currency; else the price
/// shown.
fn worth(loaded: &Loaded, vector: &FeatureVector, scored: &Scored) -> f64 {
    let same = |values: &&Values| values.currency == vector.currency;
    let predicted = loaded.model.values().filter(same).and(scored.probabilities.value);
    predicted.map_or(vector.price, f64::from)
}

/// `p_purchase` times what a purchase is worth; 0 where that is unknown or no number.
fn expected_value(p_purchase: f32, worth: f64) -> f64 {
    let value = f64::from(p_purchase) * worth;
    if value.is_finite() { value } else { 0.0 }
}

fn is_finite(scored: &Scored) -> bool {
    scored.probabilities.p_click.is_finite() && scored.probabilities.p_purchase.is_finite()
}

#[cfg(test)]
mod tests;
