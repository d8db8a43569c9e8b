//! Explanations of a small trained network on made-up impressions.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::sync::OnceLock;

use super::*;
use crate::encode::{EncodedSet, Encoder};
use crate::network::front::{Trace, embed_row};
use crate::train::{Job, train};
use crate::{Artefact, Config, HeadKind, synthetic};

fn trained() -> &'static (EncodedSet, Model) {
    static TRAINED: OnceLock<(EncodedSet, Model)> = OnceLock::new();
    TRAINED.get_or_init(|| learn(HeadKind::MultiTask))
}

fn learn(head: HeadKind) -> (EncodedSet, Model) {
    let mut config: Config = synthetic::defaults(crate::DEFAULTS);
    config.encoder.item_buckets = 1_024;
    config.encoder.content_embedding = 4;
    config.network.layers = 2;
    config.network.head = head;
    config.training.max_epochs = 3;
    let schema = synthetic::schema(2);
    let mut set = EncodedSet::new(&Encoder::new(&schema, &config.encoder));
    for made in synthetic::make(&schema, 6_000, 4, 1) {
        set.push(&made.vector, &made.label, 1.0).unwrap();
    }
    let (training, validation) = (set.select(0..5_000), set.select(5_000..6_000));
    let model = train(Job::new(&training, &validation, &config), &mut ()).unwrap().model;
    (set, model)
}

#[test]
fn integrated_gradients_sum_to_the_difference_of_the_logits() {
    let (set, model) = trained();
    sum_to_the_difference(set, model);
}

#[test]
fn a_softmax_is_explained_by_the_log_odds_of_a_click() {
    let (set, mut model) = learn(HeadKind::Softmax);
    // They are what is published, where nothing stretches them.
    model.calibration = crate::calibrate::Calibration::default();
    let examples = set.select(5_000..5_080);
    let odds = model.click_logits(&examples.rows().map(|row| RowBuffer::of(&row)).collect::<Vec<_>>());
    for (odds, said) in odds.iter().zip(model.predict_examples(&examples).unwrap()) {
        assert!((crate::network::kernel::sigmoid(*odds) - said.p_click).abs() < 1e-6);
    }
    sum_to_the_difference(&set, &model);
}

fn sum_to_the_difference(set: &EncodedSet, model: &Model) {
    let examples = set.select(5_000..5_080);
    let logits = model.click_logits(&examples.rows().map(|row| RowBuffer::of(&row)).collect::<Vec<_>>());
    let nothing = model.click_logits(&[model.nothing()])[0];
    let errors = |steps: usize| -> Vec<(f32, f32)> {
        let explained = model.explain_examples(&examples, Method::IntegratedGradients, steps).unwrap();
        let sums = explained.iter().map(|one| one.columns.iter().sum::<f32>());
        sums.zip(&logits)
            .map(|(sum, logit)| ((sum - (logit - nothing)).abs(), (logit - nothing).abs()))
            .collect()
    };
    // Within 1 % of the difference; where there is hardly any, within a thousandth of a logit.
    for (error, difference) in errors(256) {
        assert!(error <= 0.01 * difference + 0.001, "{error} of {difference}");
    }
    // As published, with few steps: of use for ranks, and still nearly complete.
    let published = errors(PUBLISHED_STEPS);
    let total = |part: fn(&(f32, f32)) -> f32| published.iter().map(part).sum::<f32>();
    assert!(total(|one| one.0) < 0.15 * total(|one| one.1), "{published:?}");
}

#[test]
fn integrated_gradients_go_through_crosses() {
    let (set, model) = trained();
    let mut config = model.config.clone();
    (config.network.cross_layers, config.network.cross_rank) = (2, 3);
    let mut weights = model.weights.clone();
    let mut random = crate::random::Random::new(1, "crosses");
    let wide = model.layout.outputs();
    let mut layer = |inputs: usize, outputs: usize, biases: usize| crate::network::Dense {
        weight: (0..inputs * outputs).map(|_| random.symmetric(1.0 / (inputs as f32).sqrt())).collect(),
        bias: (0..biases).map(|_| random.symmetric(0.2)).collect(),
        inputs,
        outputs,
    };
    weights.layers =
        (0..2).flat_map(|_| [layer(wide, 3, 0), layer(3, wide, wide)]).chain(weights.layers).collect();
    let crossed = Model::new(model.encoder.clone(), config, model.statistics.clone(), weights);
    let examples = set.select(5_000..5_040);
    let buffers: Vec<RowBuffer> = examples.rows().map(|row| RowBuffer::of(&row)).collect();
    let (with, without) = (crossed.click_logits(&buffers), model.click_logits(&buffers));
    assert!(with.iter().zip(&without).any(|(with, without)| (with - without).abs() > 0.1));
    let nothing = crossed.click_logits(&[crossed.nothing()])[0];
    let explained = crossed.explain_examples(&examples, Method::IntegratedGradients, 512).unwrap();
    for (one, logit) in explained.iter().zip(&with) {
        let (sum, difference) = (one.columns.iter().sum::<f32>(), logit - nothing);
        assert!((sum - difference).abs() <= 0.01 * difference.abs() + 0.001, "{sum} of {difference}");
    }
}

#[test]
fn what_is_not_there_has_no_part() {
    let (set, model) = trained();
    let columns = model.columns();
    let examples = set.select(5_000..5_100);
    for method in [Method::IntegratedGradients, Method::Ablation] {
        let explained = model.explain_examples(&examples, method, 8).unwrap();
        for (row, one) in examples.rows().zip(&explained) {
            assert_eq!(one.columns.len(), columns.len());
            assert_eq!(one.behaviours.len(), row.behaviours.len());
            for (value, part) in row.numbers.iter().zip(&one.columns) {
                assert!(!value.is_nan() || *part == 0.0);
            }
            let of = |name: &str| one.columns[columns.iter().position(|column| &**column == name).unwrap()];
            assert!(!row.behaviours.is_empty() || of("behaviours") == 0.0);
            assert!(!row.embedding.is_empty() || of("embedding") == 0.0);
        }
    }
}

#[test]
fn leaving_a_behaviour_out_is_encoding_the_row_without_it() {
    let (set, model) = trained();
    assert_eq!(model.layout.behaviours, crate::config::BehaviourEncoder::TargetAttention);
    let token = model.layout.behaviour_token.unwrap();
    with_width!(model.layout.width, D => {
        let mut trace = Trace::<D>::new(&model.layout);
        let mut checked = 0;
        for row in set.select(5_000..5_050).rows().filter(|row| row.behaviours.len() > 1) {
            let nothing = vec![[0.0; D]; model.layout.tokens.len()];
            let without = gradient::without_each::<D>(model, &row, token, &nothing, &mut trace);
            for (position, without) in without.iter().enumerate() {
                let left = removal::without_behaviours(&row, &[position]);
                embed_row::<D>(model.class, model.front::<D>(), left.row(), &mut trace);
                for (a, b) in without.iter().zip(&trace.tokens[token]) {
                    assert!((a - b).abs() < 1e-4, "{a} {b}");
                    checked += 1;
                }
            }
        }
        assert!(checked > 1_000);
    });
}

#[test]
fn ablation_is_what_prediction_loses() {
    let (set, model) = trained();
    let examples = set.select(5_000..5_003);
    let explained = model.explain_examples(&examples, Method::Ablation, 1).unwrap();
    let device = model.columns().iter().position(|column| &**column == "device").unwrap();
    for (row, one) in examples.rows().zip(&explained) {
        let mut without = RowBuffer::of(&row);
        without.ids[5] = model.nothing().ids[5];
        let logits = model.click_logits(&[RowBuffer::of(&row), without]);
        assert_eq!(one.columns[device], logits[0] - logits[1]);
    }
}

#[test]
fn shares_sum_to_one_and_rollout_follows_the_layers() {
    let (set, model) = trained();
    let examples = set.select(5_000..5_050);
    let attention = model.explain_examples(&examples, Method::Attention, 1).unwrap();
    let rollout = model.explain_examples(&examples, Method::Rollout, 1).unwrap();
    for one in attention.iter().chain(&rollout) {
        let total: f32 = one.columns.iter().sum();
        assert!((total - 1.0).abs() < 1e-4, "{total}");
        assert!(one.columns.iter().all(|weight| *weight >= 0.0));
    }
    assert!(
        attention.iter().zip(&rollout).all(|(a, r)| a.columns != r.columns && a.behaviours == r.behaviours)
    );
    // With no layer between, rollout is the pooling itself.
    let mut flat = model.clone();
    flat.config.network.layers = 0;
    flat.layout.layers.clear();
    let examples = set.select(5_000..5_010);
    assert_eq!(
        flat.explain_examples(&examples, Method::Rollout, 1).unwrap(),
        flat.explain_examples(&examples, Method::Attention, 1).unwrap()
    );
}

#[test]
fn an_explanation_does_not_depend_on_its_company() {
    let (_, model) = trained();
    let explain = Explain { fields: 6, behaviours: 4 };
    let vectors: Vec<FeatureVector> =
        synthetic::make(&synthetic::schema(2), 150, 4, 9).into_iter().map(|made| made.vector).collect();
    for method in Method::ALL {
        let alone: Vec<_> = vectors
            .iter()
            .flat_map(|vector| model.predict_with(std::slice::from_ref(vector), explain, method).unwrap())
            .collect();
        assert!(alone.iter().all(|one| one.method == method && one.fields.len() == 6));
        for batch in [2, 5, 17, 150] {
            let together: Vec<_> = vectors
                .chunks(batch)
                .flat_map(|vectors| model.predict_with(vectors, explain, method).unwrap())
                .collect();
            assert_eq!(alone, together, "{method:?}, batches of {batch}");
        }
        // The probabilities are the same however they are explained.
        let plain = model.predict(&vectors, explain).unwrap();
        assert!(alone.iter().zip(&plain).all(|(a, b)| a.probabilities == b.probabilities));
    }
}

#[test]
fn faithfulness_tells_methods_from_chance_and_is_kept_in_the_artefact() {
    let (set, model) = trained();
    let options = Options { rows: 100, max_passes: 1_000.0, resamples: 200, seed: 3 };
    let measured = measure(model, &set.select(5_000..6_000), options).unwrap();
    assert_eq!(measured.rows, 100);
    for method in [Method::IntegratedGradients, Method::Ablation] {
        let of = measured.of(method).unwrap();
        assert!(of.deletion_gain.low > 0.0 && of.score.low > 0.0, "{of:?}");
        assert!(of.behaviour_gain.unwrap().low > 0.0, "{of:?}");
        assert!(of.deletion[0] > measured.random[0][0] && of.insertion[0] < measured.random[1][0]);
    }
    let best = measured.methods.iter().map(|of| of.score.mean).fold(0.0, f64::max);
    assert!(measured.of(measured.published).unwrap().score.mean >= 0.9 * best, "{measured:?}");
    assert_eq!(measured.agreement.len(), 6);
    assert!(measured.agreement.iter().all(|pair| (-1.0..=1.0).contains(&pair.spearman)));
    assert!(measured.in_words().contains(measured.published.as_str().replace('_', " ").as_str()));
    // Equal to the bit when measured again; never dearer than allowed.
    assert_eq!(measured, measure(model, &set.select(5_000..6_000), options).unwrap());
    let cheap = measure(model, &set.select(5_000..6_000), Options { max_passes: 0.0, ..options }).unwrap();
    assert_eq!(cheap.published, Method::Attention);

    let mut explained = model.clone();
    explained.explain_by(Method::Ablation);
    let artefact = Artefact::build(&explained, &[], &serde_json::Value::Null).unwrap();
    assert_eq!(Model::load(&artefact, None).unwrap().explanation(), Method::Ablation);
    // What was trained before there was a choice is explained by attention.
    assert_eq!(
        Model::load(&Artefact::build(model, &[], &serde_json::Value::Null).unwrap(), None)
            .unwrap()
            .explanation(),
        Method::Attention
    );
}

#[test]
fn importance_is_the_mean_of_explanations() {
    let (set, model) = trained();
    let examples = set.select(5_000..5_300);
    let found = importance(model, &examples, 100).unwrap();
    assert_eq!((found.rows, found.columns.len()), (100, model.columns().len()));
    assert!((found.tokens.iter().map(|token| token.1).sum::<f64>() - 1.0).abs() < 1e-4);
    // Behaviours' shares of each row make one; fewer rows have many.
    let whole: f64 = found.behaviours.iter().map(|(rows, share)| *rows as f64 * share).sum();
    assert!((whole - found.behaviours[0].0 as f64).abs() < 1e-3, "{:?}", found.behaviours);
    assert!(found.behaviours.is_sorted_by(|a, b| a.0 >= b.0));
    let all = model.explain_examples(&examples, Method::Ablation, 0).unwrap();
    let every_third = all.iter().step_by(3).map(|row| f64::from(row.columns[0]));
    assert!((found.columns[0].ablation_signed - every_third.sum::<f64>() / 100.0).abs() < 1e-9);
    let none = importance(model, &set.select(0..0), 100).unwrap();
    assert_eq!((none.rows, none.tokens.len(), none.columns[0].ablation), (0, 0, 0.0));
}
