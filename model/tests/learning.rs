//! The choices of `[model.training]` from outside: what they change, and that predictions stay
//! probabilities.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod synthetic;

use model::config::{Calibrate, NetworkKind, OptimizerKind, ScheduleKind, StopHead, StopMetric};
use model::{Config, EncodedSet, Encoder, HeadMetrics, Job, TrainError, Trained, train};

const TRAINING: usize = 8_000;

fn defaults() -> Config {
    let mut config: Config = synthetic::defaults(model::DEFAULTS);
    config.encoder.item_buckets = 1024;
    config.network.width = 8;
    config.network.heads = 1;
    config.network.mlp = vec![32];
    (config.training.batch_size, config.training.min_steps_per_epoch) = (256, 0);
    config.training.max_epochs = 6;
    // What the network itself says is looked at here.
    config.encoder.user_buckets = 0;
    config.calibration.method = Calibrate::None;
    config
}

fn made(config: &Config) -> EncodedSet {
    let schema = synthetic::schema(1);
    let mut set = EncodedSet::new(&Encoder::new(&schema, &config.encoder));
    for made in synthetic::make(&schema, TRAINING + 4_000, 0, 1) {
        set.push(&made.vector, &made.label, 1.0).unwrap();
    }
    set
}

fn run(set: &EncodedSet, config: &Config) -> Result<Trained, TrainError> {
    let (training, validation) = (set.select(0..TRAINING), set.select(TRAINING..set.len()));
    train(Job::new(&training, &validation, config), &mut ())
}

/// How far the mean prediction is from the share of positives, as a part of it.
fn off(metrics: &HeadMetrics) -> f64 {
    metrics.mean_prediction.unwrap() / metrics.base_rate.unwrap() - 1.0
}

#[test]
fn thinned_negatives_and_weighted_positives_leave_probabilities_calibrated() {
    let base = defaults();
    let set = made(&base);
    let mut thinned = base.clone();
    thinned.training.negative_rate = 0.2;
    let mut weighted = base.clone();
    weighted.training.positive_weight = 5.0;
    for (config, share) in [(&thinned, 0.6), (&weighted, 1.0)] {
        let trained = run(&set, config).unwrap();
        let click = &trained.validation.click;
        assert!(off(click).abs() < 0.08, "{click:?}");
        assert!(click.calibration_error.unwrap() < 0.05, "{click:?}");
        assert!(click.normalised_entropy.unwrap() < 0.97, "{click:?}");
        let conversion = &trained.validation.conversion;
        assert!(off(conversion).abs() < 0.15, "{conversion:?}");
        // Fewer steps an epoch: four fifths of the impressions without a click are left out.
        let steps = trained.history.steps as f64;
        let epochs = trained.history.validations.last().unwrap().epoch + 1;
        let whole = TRAINING.div_ceil(config.training.batch_size) * epochs;
        assert!(steps <= share * whole as f64, "{steps} of {whole}");
    }
}

#[test]
fn every_optimizer_and_schedule_learns() {
    let mut config = defaults();
    // The default is meant for the default's rate: with rates ten times that, it would hold weights at 0.
    config.training.weight_decay = 0.01;
    let set = made(&config);
    for (optimizer, rate, schedule) in [
        (OptimizerKind::AdamW, 0.003, ScheduleKind::Cosine),
        (OptimizerKind::RmsProp, 0.003, ScheduleKind::Constant),
        (OptimizerKind::Adagrad, 0.05, ScheduleKind::Cosine),
        (OptimizerKind::Sgd, 0.1, ScheduleKind::Cosine),
    ] {
        config.training.optimizer = optimizer;
        config.training.learning_rate = rate;
        config.training.embedding_learning_rate = rate;
        config.training.schedule = schedule;
        config.training.warmup_steps = 10;
        let click = run(&set, &config).unwrap().validation.click;
        assert!(click.normalised_entropy.unwrap() < 0.96, "{optimizer:?}: {click:?}");
    }
}

#[test]
fn label_smoothing_draws_predictions_from_the_edges() {
    let mut config = defaults();
    let set = made(&config);
    let spread = |config: &Config| {
        let trained = run(&set, config).unwrap();
        let said = trained.model.predict_examples(&set.select(TRAINING..set.len())).unwrap();
        let mean = said.iter().map(|one| f64::from(one.p_click)).sum::<f64>() / said.len() as f64;
        said.iter().map(|one| (f64::from(one.p_click) - mean).powi(2)).sum::<f64>() / said.len() as f64
    };
    let sharp = spread(&config);
    config.training.label_smoothing = 0.3;
    assert!(spread(&config) < 0.8 * sharp);
}

#[test]
fn frozen_weights_stay_and_the_others_move() {
    let mut config = defaults();
    (config.network.cross_layers, config.network.cross_rank) = (2, 4);
    config.training.max_epochs = 2;
    let set = made(&config);
    let parent = run(&set, &config).unwrap().model;
    config.training.frozen = ["table.item", "attention", "cross.0", "mlp.0"].map(str::to_owned).to_vec();
    let (training, validation) = (set.select(0..TRAINING), set.select(TRAINING..set.len()));
    // The first validation's weights may be the parent's best; one step is enough to move others.
    let job = Job::new(&training, &validation, &config).with_parent(Some(&parent)).with_seed(7);
    let child = train(job, &mut ()).unwrap().model;
    let (before, after) = (parent.weights(), child.weights());
    let table = set.encoder().tables().iter().find(|table| table.name == "item").unwrap();
    let width = config.network.width;
    let items = table.first as usize * width..(table.first + table.rows) as usize * width;
    assert_eq!(before.tables[items.clone()], after.tables[items.clone()]);
    assert_ne!(before.tables[items.end..], after.tables[items.end..]);
    // Two crosses of two layers each, a hidden layer, the heads.
    for (number, stays) in [true, true, false, false, true, false].into_iter().enumerate() {
        assert_eq!(before.layers[number] == after.layers[number], stays, "layer {number}");
    }
    assert_ne!(before.front, after.front, "what is not attention moves");
    config.training.frozen = vec!["tabel".to_owned()];
    let told = run(&set, &config).unwrap_err().to_string();
    assert!(told.contains("\"tabel\"") && told.contains("\"table.item\""), "{told}");
}

/// Clicks follow the product of two numbers, each of which alone says nothing.
#[test]
fn crosses_learn_a_product_that_a_small_mlp_does_not() {
    let mut config = defaults();
    config.network.kind = NetworkKind::Mlp;
    config.network.mlp = vec![2];
    config.network.dropout = 0.0;
    let schema = synthetic::schema(1);
    let mut set = EncodedSet::new(&Encoder::new(&schema, &config.encoder));
    let mut dice = synthetic::Dice(3);
    for mut made in synthetic::make(&schema, TRAINING + 4_000, 0, 1) {
        let values: Vec<f32> = schemas::vector::floats(&made.vector.values).collect();
        let [.., rate, hour] = values[..] else { unreachable!() };
        let logit = 5.0 * f64::from(rate) * (f64::from(hour) - 11.5) / 11.5;
        made.label.clicked = dice.unit() < 1.0 / (1.0 + (-logit).exp());
        set.push(&made.vector, &made.label, 1.0).unwrap();
    }
    let entropy = |crosses: usize| {
        let mut config = config.clone();
        config.network.cross_layers = crosses;
        run(&set, &config).unwrap().validation.click.normalised_entropy.unwrap()
    };
    let (without, with) = (entropy(0), entropy(2));
    assert!(with < 0.85 && without > with + 0.05, "{without} without, {with} with");
}

#[test]
fn it_stops_by_the_metric_that_is_asked_for() {
    let mut config = defaults();
    let set = made(&config);
    config.training.learning_rate = 0.01;
    config.training.max_epochs = 10;
    config.training.stop_metric = StopMetric::Auc;
    config.training.stop_head = StopHead::Purchase;
    let trained = run(&set, &config).unwrap();
    let history = &trained.history;
    let best = history.validations[history.best].metric.unwrap();
    assert!(history.validations.iter().all(|one| one.metric.unwrap() <= best + 1e-6));
    assert_eq!(trained.validation.purchase.auc, Some(best), "the best weights were kept");
    config.training.stop_metric = StopMetric::Loss;
    assert_eq!(run(&set, &config).unwrap().history.validations[0].metric, None);
}
