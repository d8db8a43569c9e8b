//! Two thousand examples: starting from a parent, and showing examples a little differently each
//! time, each beat training from nothing.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod synthetic;

use model::metrics::log_loss;
use model::{Config, EncodedSet, Encoder, Job, Model, Trained, bootstrap_difference, train};

const FEW: usize = 2_000;
const TEST: usize = 10_000;
const SEEDS: u64 = 4;

fn defaults() -> Config {
    let mut config: Config = synthetic::defaults(model::DEFAULTS);
    config.encoder.item_buckets = 4096;
    // What suits few examples, whatever they start from: ids are memorised before they are learned
    // from, if their rows move as fast as among many; and so large steps are no help.
    config.network.dropout = 0.2;
    config.training.learning_rate = 0.001;
    config.training.weight_decay = 0.01;
    config.training.averaging = 0.0;
    (config.training.batch_size, config.training.min_steps_per_epoch) = (128, 0);
    config.training.embedding_learning_rate = 0.0002;
    config.training.max_epochs = 60;
    config.training.patience = 8;
    config
}

fn encoded(config: &Config, count: usize, seed: u64) -> EncodedSet {
    let schema = synthetic::schema(2);
    let mut set = EncodedSet::new(&Encoder::new(&schema, &config.encoder));
    for made in synthetic::make(&schema, count, 0, seed) {
        set.push(&made.vector, &made.label, 1.0).unwrap();
    }
    set
}

fn fit(set: &EncodedSet, config: &Config, seed: u64, parent: Option<&Model>) -> Trained {
    let split = set.len() * 4 / 5;
    let (training, validation) = (set.select(0..split), set.select(split..set.len()));
    train(Job::new(&training, &validation, config).with_seed(seed).with_parent(parent), &mut ()).unwrap()
}

/// Mean click loss of each test example over several few examples and seeds.
fn losses(test: &EncodedSet, config: &Config, parent: Option<&Model>) -> Vec<f64> {
    let mut sums = vec![0.0; TEST];
    for seed in 0..SEEDS {
        let few = encoded(config, FEW, 100 + seed);
        let trained = fit(&few, config, seed, parent);
        let said = trained.model.predict_examples(&test.all()).unwrap();
        for ((sum, said), (outcome, _)) in sums.iter_mut().zip(said).zip(test.all().outcomes()) {
            *sum += log_loss(said.p_click, outcome.clicked) / SEEDS as f64;
        }
    }
    sums
}

#[test]
fn warm_start_and_augmentation_each_beat_training_from_nothing() {
    let cold = defaults();
    let mut augmented = defaults();
    augmented.training.mixup = 0.5;
    augmented.training.feature_dropout = 0.3;
    augmented.training.behaviour_crop = 0.2;
    let test = encoded(&cold, TEST, 1);
    // The champion: trained on more of the same market, earlier.
    let mut full = defaults();
    full.training.embedding_learning_rate = 0.005;
    (full.training.batch_size, full.training.min_steps_per_epoch) = (512, 0);
    full.training.patience = 3;
    let parent = fit(&encoded(&full, 10_000, 2), &full, 1, None).model;
    let from_nothing = losses(&test, &cold, None);
    let warm = losses(&test, &cold, Some(&parent));
    let shown_differently = losses(&test, &augmented, None);
    let mean = |losses: &[f64]| losses.iter().sum::<f64>() / TEST as f64;
    println!(
        "log loss: from nothing {:.4}, warm {:.4}, augmented {:.4}",
        mean(&from_nothing),
        mean(&warm),
        mean(&shown_differently)
    );
    for (name, ours) in [("warm start", &warm), ("augmentation", &shown_differently)] {
        let gain = bootstrap_difference(&from_nothing, ours, 1_000, 0.95, 1).unwrap();
        println!("{name}: {:.4} [{:.4}, {:.4}]", gain.mean, gain.low, gain.high);
        assert!(gain.low > 0.0, "{name}: {gain:?}");
    }
}
