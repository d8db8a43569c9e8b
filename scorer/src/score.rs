//! Vectors to predictions: a pure function of the vector, the model and the settings.
//! The wall clock goes into `scored_ms` alone.

use std::collections::BTreeSet;

use model::explain::Method;
use model::{EncodeError, Explain, Scored, Values};
use schemas::prediction::{BehaviourAttention, FieldAttention, Status};
use schemas::{FeatureVector, Kind, Prediction, VectorSchema};

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
        let mut predictions = Vec::with_capacity(vectors.len());
        for batch in vectors.chunks(self.micro_batch) {
            match model {
                Some(loaded) => self.score_batch(loaded, batch, now_ms, &mut predictions),
                None => predictions.extend(batch.iter().map(|vector| self.by_base_rates(vector, now_ms))),
            }
        }
        predictions
    }

    fn score_batch(&self, loaded: &Loaded, batch: &[FeatureVector], now_ms: i64, out: &mut Vec<Prediction>) {
        let readable: Vec<FeatureVector> = batch
            .iter()
            .filter(|vector| vector.fingerprint == loaded.model.schema_fingerprint())
            .cloned()
            .collect();
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
        for vector in batch {
            let readable = vector.fingerprint == loaded.model.schema_fingerprint();
            let good = readable && !spoilt.contains(&at);
            at += usize::from(readable);
            let found = if good { scored.next() } else { None };
            out.push(match found.filter(is_finite) {
                Some(scored) => self.by_model(loaded, vector, &scored, now_ms),
                None => self.by_base_rates(vector, now_ms),
            });
        }
    }

    fn predict(&self, loaded: &Loaded, vectors: &[FeatureVector]) -> Result<Vec<Scored>, EncodeError> {
        let method = self.method.unwrap_or_else(|| loaded.model.explanation());
        loaded.model.predict_with(vectors, self.explain, method)
    }

    /// A method's name, where anything is explained.
    fn named(&self, method: Method) -> String {
        let wanted = self.explain.fields > 0 || self.explain.behaviours > 0;
        if wanted { method.as_str().to_owned() } else { String::new() }
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

    fn by_base_rates(&self, vector: &FeatureVector, now_ms: i64) -> Prediction {
        let (p_click, p_purchase) = self.fallback.rates(vector);
        Prediction {
            p_click,
            p_purchase,
            expected_value: expected_value(p_purchase, vector.price),
            status: Status::Fallback,
            model_version: fallback::VERSION.to_owned(),
            model_checksum: self.fallback.checksum().to_owned(),
            kernel: fallback::KERNEL.to_owned(),
            ..self.blank(vector, now_ms)
        }
    }

    fn by_model(&self, loaded: &Loaded, vector: &FeatureVector, scored: &Scored, now_ms: i64) -> Prediction {
        let (p_click, p_purchase) = (scored.probabilities.p_click, scored.probabilities.p_purchase);
        let fields = scored
            .fields
            .iter()
            .map(|field| FieldAttention { field: field.field.to_string(), weight: field.weight })
            .collect();
        let behaviours = scored
            .behaviours
            .iter()
            .filter_map(|seen| {
                let behaviour = vector.behaviours.get(seen.index)?;
                Some(BehaviourAttention {
                    item: behaviour.item.clone(),
                    kind: Kind::try_from(behaviour.kind).unwrap_or(Kind::Unknown).as_str().to_owned(),
                    age_ms: behaviour.age_ms,
                    weight: seen.weight,
                })
            })
            .collect();
        Prediction {
            p_click,
            p_purchase,
            expected_value: expected_value(p_purchase, worth(loaded, vector, scored)),
            attention: fields,
            behaviours,
            status: Status::Scored,
            model_version: loaded.version.clone(),
            model_checksum: loaded.checksum.clone(),
            kernel: loaded.model.kernel_class().as_str().to_owned(),
            explanation_method: self.named(scored.method),
            ..self.blank(vector, now_ms)
        }
    }

    /// What a prediction says of its impression, whoever predicts.
    fn blank(&self, vector: &FeatureVector, now_ms: i64) -> Prediction {
        Prediction {
            version: Prediction::VERSION,
            prediction_id: vector.origin.id(),
            event_id: vector.event_id.clone(),
            user: vector.user.clone(),
            item: vector.item.clone(),
            campaign: vector.campaign.clone(),
            placement: vector.placement.clone(),
            request_id: vector.request_id.clone(),
            context: vector.context.clone(),
            p_click: 0.0,
            p_purchase: 0.0,
            expected_value: 0.0,
            currency: vector.currency.clone(),
            attention: Vec::new(),
            behaviours: Vec::new(),
            valid_until_ms: vector.event_time_ms.saturating_add(self.valid_for_ms),
            status: Status::Fallback,
            model_version: String::new(),
            model_checksum: String::new(),
            kernel: String::new(),
            explanation_method: String::new(),
            fingerprint: format!("{:016x}", vector.fingerprint),
            origin: vector.origin.clone(),
            place: vector.place,
            vector_offset: None,
            entity_version: vector.entity_version,
            event_time_ms: vector.event_time_ms,
            clock_ms: vector.clock_ms,
            received_ms: vector.received_ms,
            scored_ms: now_ms,
        }
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
mod tests {
    #![allow(clippy::unwrap_used)]
    use runtime::store::Store;

    use super::*;
    use crate::config::Explanation;
    use crate::testing::{artefact, artefact_with, base_rates, config, publish, schema, settings, vector};

    fn scorer(schema: &schemas::VectorSchema) -> Scorer {
        Scorer::new(&config(), base_rates(&settings(), schema))
    }

    fn loaded(schema: &schemas::VectorSchema) -> Loaded {
        let store = Store::open("memory://").unwrap();
        let announced = publish(&store, "v000001", schema, &artefact(schema, 1));
        Loaded::read(&store, &announced.uri, &announced.model_version, &announced.checksum).unwrap()
    }

    fn vectors(schema: &schemas::VectorSchema, count: usize) -> Vec<FeatureVector> {
        (0..count)
            .map(|i| {
                let mut vector = vector(schema, &[i as f32, (i % 3) as f32]);
                vector.place.offset = i as i64;
                vector.origin.offset = 1_000 + i as i64;
                vector.campaign = format!("c-{}", i % 4);
                vector.behaviours = (0..i % 4)
                    .map(|at| schemas::Behaviour {
                        item: format!("i-{at}"),
                        campaign: "c-1".into(),
                        category: String::new(),
                        kind: Kind::Click as i32,
                        age_ms: 1_000 * at as i64,
                    })
                    .collect();
                vector
            })
            .collect()
    }

    #[test]
    fn base_rates_serve_until_there_is_a_model() {
        let schema = schema(&["user_views_7d", "user_clicks_7d"]);
        let scorer = scorer(&schema);
        let vectors = vectors(&schema, 600);
        let predictions = scorer.score(None, &vectors, 77);
        assert_eq!(predictions.len(), 600);
        for (at, (prediction, vector)) in predictions.iter().zip(&vectors).enumerate() {
            assert_eq!(prediction.status, Status::Fallback);
            assert_eq!(prediction.model_version, "fallback");
            assert_eq!(prediction.model_checksum, scorer.fallback_checksum());
            assert_eq!(prediction.prediction_id, format!("views:2:{}:0", 1_000 + at));
            assert_eq!(prediction.vector_offset, None);
            assert_eq!(prediction.place, vector.place);
            assert_eq!(prediction.valid_until_ms, 1_000_000 + 30 * 60_000);
            assert_eq!(prediction.expected_value, f64::from(prediction.p_purchase) * 20.0);
        }
        // A function of the vector alone: again, and one by one.
        assert_eq!(predictions, scorer.score(None, &vectors, 77));
        let alone: Vec<_> = vectors.chunks(1).flat_map(|one| scorer.score(None, one, 77)).collect();
        assert_eq!(predictions, alone);
    }

    #[test]
    fn a_model_gives_one_prediction_per_vector_whatever_the_batch() {
        let schema = schema(&["user_views_7d", "user_clicks_7d"]);
        let (scorer, loaded) = (scorer(&schema), loaded(&schema));
        let vectors = vectors(&schema, 700);
        let predictions = scorer.score(Some(&loaded), &vectors, 1);
        assert_eq!(predictions.len(), 700);
        for (prediction, vector) in predictions.iter().zip(&vectors) {
            assert_eq!(prediction.status, Status::Scored);
            assert_eq!(prediction.model_version, "v000001");
            assert_eq!(prediction.model_checksum, loaded.checksum);
            assert_eq!(prediction.place, vector.place);
            assert!((0.0..=1.0).contains(&prediction.p_click));
            assert!(prediction.attention.len() <= 5 && !prediction.attention.is_empty());
            assert!(prediction.behaviours.len() <= vector.behaviours.len());
            for seen in &prediction.behaviours {
                assert!(vector.behaviours.iter().any(|b| b.item == seen.item && seen.kind == "click"));
            }
        }
        let alone: Vec<_> = vectors.chunks(1).flat_map(|one| scorer.score(Some(&loaded), one, 1)).collect();
        assert_eq!(predictions, alone);
        let again = scorer.score(Some(&loaded), &vectors[13..14], 2);
        assert_eq!(Prediction { scored_ms: 1, ..again[0].clone() }, predictions[13]);
    }

    #[test]
    fn explanations_are_by_the_models_method_or_the_one_asked_for() {
        let schema = schema(&["user_views_7d", "user_clicks_7d"]);
        let mut loaded = loaded(&schema);
        let vectors = vectors(&schema, 40);
        let by = |explanation, loaded: &Loaded| {
            let config = Config { explanation, ..config() };
            Scorer::new(&config, base_rates(&settings(), &schema)).score(Some(loaded), &vectors, 1)
        };
        let attention = by(Explanation::Auto, &loaded);
        assert!(attention.iter().all(|prediction| prediction.explanation_method == "attention"));
        let asked = by(Explanation::IntegratedGradients, &loaded);
        loaded.model.explain_by(Method::IntegratedGradients);
        assert_eq!(by(Explanation::Auto, &loaded), asked);
        for (asked, attention) in asked.iter().zip(&attention) {
            assert_eq!(asked.explanation_method, "integrated_gradients");
            assert_eq!((asked.p_click, asked.p_purchase), (attention.p_click, attention.p_purchase));
            assert_eq!(asked.behaviours.len(), attention.behaviours.len());
        }
        assert_eq!(by(Explanation::Attention, &loaded), attention);
        let alone: Vec<_> =
            vectors.chunks(1).flat_map(|one| scorer(&schema).score(Some(&loaded), one, 1)).collect();
        assert_eq!(alone, asked);
    }

    #[test]
    fn vectors_that_the_model_cannot_read_fall_back_alone() {
        let ours = schema(&["user_views_7d", "user_clicks_7d"]);
        let other = schema(&["user_views_7d", "user_carts_7d"]);
        let (scorer, loaded) = (scorer(&ours), loaded(&ours));
        let mut mixed = vectors(&ours, 6);
        mixed[1] = vector(&other, &[1.0, 1.0]);
        // The right fingerprint, and too few numbers: damaged.
        mixed[4].values = mixed[4].values.slice(..4);
        let predictions = scorer.score(Some(&loaded), &mixed, 1);
        let fallback: Vec<usize> = (0..6).filter(|at| predictions[*at].status == Status::Fallback).collect();
        assert_eq!(fallback, [1, 4]);
        let clean = scorer.score(Some(&loaded), &vectors(&ours, 6), 1);
        for at in [0, 2, 3, 5] {
            assert_eq!(predictions[at], clean[at]);
        }
    }

    #[test]
    fn an_unknown_price_is_worth_nothing() {
        assert_eq!(expected_value(0.5, f64::INFINITY), 0.0);
    }

    #[test]
    fn a_predicted_value_takes_the_place_of_the_price_in_its_currency() {
        let schema = schema(&["user_views_7d", "user_clicks_7d"]);
        let made = artefact_with(&schema, 3, |config| config.training.value_weight = 1.0);
        let loaded = Loaded { model: model::Model::load(&made, None).unwrap(), ..loaded(&schema) };
        // What it learned from came without a currency.
        assert_eq!(loaded.model.values().map(|values| values.currency.as_str()), Some(""));
        let mut vectors = vectors(&schema, 20);
        vectors[..10].iter_mut().for_each(|one| one.currency.clear());
        let scorer = scorer(&schema);
        let alone: Vec<FeatureVector> = vectors.clone();
        let said = loaded.model.predict(&alone, Explain { fields: 0, behaviours: 0 }).unwrap();
        for (at, (prediction, said)) in scorer.score(Some(&loaded), &vectors, 1).iter().zip(said).enumerate()
        {
            let value = said.probabilities.value.unwrap();
            assert!((5.0..=50.0).contains(&value), "{value}");
            let worth = if at < 10 { f64::from(value) } else { 20.0 };
            assert_eq!(prediction.expected_value, f64::from(prediction.p_purchase) * worth);
        }
    }
}
