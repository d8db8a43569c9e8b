//! Purchases that come late: on a simulated stream whose delays are long and whose tastes drift,
//! both corrections beat leaving out what has not matured and taking it as it is.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod synthetic;

use model::config::Unmatured;
use model::encode::Outcome;
use model::metrics::log_loss;
use model::{Config, EncodedSet, Encoder, Job, bootstrap_difference, train};
use synthetic::{Dice, Made};

/// How long a purchase may come after its impression, s.
const WINDOW_S: f64 = 14.0 * DAY_S;
/// Mean delay of a purchase, s.
const MEAN_DELAY_S: f64 = 4.0 * DAY_S;
/// In which tastes come around once, s: slow enough that a purchase that comes late says something of
/// today, fast enough that what has matured is stale.
const PERIOD_S: f64 = 200.0 * DAY_S;
/// The training's now: impressions before it are learned from, those after it judge, s.
const NOW_S: f64 = 20.0 * DAY_S;
const DAY_S: f64 = 86_400.0;
const TRAINING: usize = 30_000;
const TEST: usize = 8_000;

/// An impression at a time, and what comes of it in the end.
struct Shown {
    made: Made,
    time_s: f64,
    /// How long after it a purchase comes within the window.
    purchase_after_s: Option<f64>,
}

/// Impressions at an even pace. What is bought drifts from some categories to others.
fn stream(count: usize, from_s: f64, until_s: f64, seed: u64) -> Vec<Shown> {
    let schema = synthetic::schema(1);
    let mut dice = Dice(seed);
    synthetic::make(&schema, count, 0, seed)
        .into_iter()
        .enumerate()
        .map(|(index, made)| {
            let time_s = from_s + (until_s - from_s) * index as f64 / count as f64;
            let category: f64 = made.vector.category[1..].parse().unwrap();
            let phase = std::f64::consts::TAU * (category / 20.0 + time_s / PERIOD_S);
            let likes = if made.label.clicked { 0.5 } else { -0.5 };
            let rate = 1.0 / (1.0 + (0.8 - likes - 1.2 * phase.sin()).exp());
            let bought = dice.unit() < rate;
            let delay_s = -MEAN_DELAY_S * (1.0 - dice.unit()).ln();
            let purchase_after_s = (bought && delay_s < WINDOW_S).then_some(delay_s);
            Shown { made, time_s, purchase_after_s }
        })
        .collect()
}

/// What is known of an impression at a time.
fn known(shown: &Shown, now_s: f64) -> Outcome {
    let elapsed_s = now_s - shown.time_s;
    let delay_s = shown.purchase_after_s.filter(|&delay_s| delay_s <= elapsed_s);
    Outcome {
        clicked: shown.made.label.clicked,
        purchased: delay_s.is_some(),
        matured: elapsed_s >= WINDOW_S,
        elapsed_s: elapsed_s as f32,
        delay_s: delay_s.unwrap_or(0.0) as f32,
        value: 0.0,
    }
}

#[test]
fn both_corrections_beat_masking_and_naive_labels() {
    let mut config: Config = synthetic::defaults(model::DEFAULTS);
    config.encoder.item_buckets = 1024;
    config.network.width = 8;
    config.network.heads = 1;
    config.network.layers = 0;
    config.network.mlp = vec![32];
    (config.training.batch_size, config.training.min_steps_per_epoch) = (256, 0);
    config.training.max_epochs = 6;
    let schema = synthetic::schema(1);
    let encoder = Encoder::new(&schema, &config.encoder);
    let encode = |shown: &[Shown], now_s: f64| {
        let mut set = EncodedSet::new(&encoder);
        for one in shown {
            set.push_outcome(&one.made.vector, known(one, now_s), 1.0).unwrap();
        }
        set
    };
    let past = stream(TRAINING, 0.0, NOW_S, 1);
    let set = encode(&past, NOW_S);
    // One in ten validates, at random: validation is not the question here.
    let training = set.select((0..TRAINING).filter(|at| at % 10 != 0));
    let validation = set.select((0..TRAINING).filter(|at| at % 10 == 0));
    let future = stream(TEST, NOW_S, NOW_S + 2.0 * DAY_S, 2);
    let test = encode(&future, NOW_S + 100.0 * DAY_S);
    let losses = |unmatured: Unmatured| -> Vec<f64> {
        let mut sums = vec![0.0; TEST];
        for seed in 1..=2 {
            let mut config = config.clone();
            config.training.unmatured = unmatured;
            let trained = train(Job::new(&training, &validation, &config).with_seed(seed), &mut ()).unwrap();
            let said = trained.model.predict_examples(&test.all()).unwrap();
            for ((sum, said), (outcome, _)) in sums.iter_mut().zip(said).zip(test.all().outcomes()) {
                *sum += log_loss(said.p_purchase, outcome.purchased) / 2.0;
            }
        }
        sums
    };
    let [mask, naive, delayed, weighted] =
        [Unmatured::Mask, Unmatured::Naive, Unmatured::Delayed, Unmatured::FakeNegativeWeighted].map(losses);
    let mean = |losses: &[f64]| losses.iter().sum::<f64>() / TEST as f64;
    println!(
        "log loss of purchases: mask {:.4}, naive {:.4}, delayed {:.4}, fake-negative weighted {:.4}",
        mean(&mask),
        mean(&naive),
        mean(&delayed),
        mean(&weighted)
    );
    for (name, ours) in [("delayed", &delayed), ("fake-negative weighted", &weighted)] {
        for (against, theirs) in [("mask", &mask), ("naive", &naive)] {
            let gain = bootstrap_difference(theirs, ours, 1_000, 0.95, 1).unwrap();
            println!("{name} against {against}: {:.4} [{:.4}, {:.4}]", gain.mean, gain.low, gain.high);
            assert!(gain.low > 0.0, "{name} against {against}: {gain:?}");
        }
    }
}
