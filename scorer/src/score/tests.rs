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
    for (at, (prediction, said)) in scorer.score(Some(&loaded), &vectors, 1).iter().zip(said).enumerate() {
        let value = said.probabilities.value.unwrap();
        assert!((5.0..=50.0).contains(&value), "{value}");
        let worth = if at < 10 { f64::from(value) } else { 20.0 };
        assert_eq!(prediction.expected_value, f64::from(prediction.p_purchase) * worth);
    }
}
