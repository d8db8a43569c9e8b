//! Training from outside: it learns, and learns the same whatever the threads.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod synthetic;

use std::ops::ControlFlow;

use model::{
    Config, EncodedSet, Encoder, HeadKind, Job, Model, Progress, TrainError, Trained, evaluate, train,
};

fn defaults() -> Config {
    let mut config: Config = synthetic::defaults(model::DEFAULTS);
    config.encoder.item_buckets = 4096;
    (config.training.batch_size, config.training.min_steps_per_epoch) = (512, 0);
    config
}

/// A set of made examples, and the mean log loss of their true click probabilities on `from..`.
fn made(config: &Config, count: usize, seed: u64, from: usize) -> (EncodedSet, f64) {
    let schema = synthetic::schema(2);
    let mut set = EncodedSet::new(&Encoder::new(&schema, &config.encoder));
    let mut truth = 0.0;
    for (index, made) in synthetic::make(&schema, count, 0, seed).iter().enumerate() {
        set.push(&made.vector, &made.label, 1.0).unwrap();
        if index >= from {
            truth -= if made.label.clicked { made.p_click.ln() } else { (1.0 - made.p_click).ln() };
        }
    }
    (set, truth / (count - from) as f64)
}

fn run(set: &EncodedSet, split: usize, config: &Config, parent: Option<&Model>) -> Trained {
    let (training, validation) = (set.select(0..split), set.select(split..set.len()));
    train(Job::new(&training, &validation, config).with_parent(parent), &mut ()).unwrap()
}

#[test]
fn it_finds_most_of_what_there_is_to_find() {
    let mut config = defaults();
    config.training.max_epochs = 8;
    let (set, truth) = made(&config, 30_000, 1, 25_000);
    let trained = run(&set, 25_000, &config, None);
    let click = &trained.validation.click;
    let (base, ours) = (click.base_log_loss.unwrap(), click.log_loss.unwrap());
    let found = (base - ours) / (base - truth);
    assert!(found > 0.7, "base {base}, ours {ours}, truth {truth}: found {found}");
    assert!(click.auc.unwrap() > 0.78, "{click:?}");
    assert!(click.calibration_error.unwrap() < 0.06, "{click:?}");
    let conversion = &trained.validation.conversion;
    assert!(conversion.normalised_entropy.unwrap() < 0.99, "{conversion:?}");
    let purchase = &trained.validation.purchase;
    assert!(purchase.normalised_entropy.unwrap() < 0.95, "{purchase:?}");
    let again = evaluate(&trained.model, &set.select(25_000..30_000)).unwrap();
    assert_eq!(again, trained.validation);
}

#[test]
fn every_network_and_optimizer_beats_the_base_rate() {
    use model::config::{BehaviourEncoder, NetworkKind, OptimizerKind};
    let mut config = defaults();
    config.training.max_epochs = 3;
    let (set, _) = made(&config, 10_000, 2, 8_000);
    let mut losses = Vec::new();
    for (kind, behaviours, optimizer) in [
        (NetworkKind::AttentionMlp, BehaviourEncoder::TargetAttention, OptimizerKind::AdamW),
        (NetworkKind::AttentionMlp, BehaviourEncoder::Mean, OptimizerKind::RmsProp),
        (NetworkKind::Mlp, BehaviourEncoder::None, OptimizerKind::AdamW),
    ] {
        config.network.kind = kind;
        config.network.behaviours = behaviours;
        config.training.optimizer = optimizer;
        let click = run(&set, 8_000, &config, None).validation.click;
        assert!(click.normalised_entropy.unwrap() < 0.975, "{kind:?} {behaviours:?} {click:?}");
        losses.push(click.log_loss.unwrap());
    }
    assert!(losses[0] < losses[2], "reading behaviours must pay: {losses:?}");
}

#[test]
fn every_head_learns_what_it_stands_for() {
    let base = defaults();
    let (set, _) = made(&base, 12_000, 3, 10_000);
    let measured = [HeadKind::Binary, HeadKind::MultiTask, HeadKind::Softmax].map(|head| {
        let mut config = base.clone();
        config.network.head = head;
        config.training.max_epochs = 4;
        let trained = run(&set, 10_000, &config, None);
        for p in trained.model.predict_examples(&set.select(10_000..12_000)).unwrap() {
            let joined = p.p_click * p.p_conversion + (1.0 - p.p_click) * p.p_view_through;
            assert!((p.p_purchase - joined).abs() < 1e-6, "{head:?} {p:?}");
            assert!((0.0..=1.0).contains(&p.p_click) && (0.0..=1.0).contains(&p.p_purchase));
        }
        trained.validation
    });
    for metrics in &measured {
        assert!(metrics.click.normalised_entropy.unwrap() < 0.92, "{:?}", metrics.click);
    }
    // Purchases at their base rates, given a click and given none, know what a click is worth; 2,000
    // examples have too few purchases to say which head knows more.
    for metrics in &measured {
        assert!(metrics.purchase.normalised_entropy.unwrap() < 0.98, "{:?}", metrics.purchase);
    }
}

#[test]
fn threads_change_no_bit_and_a_seed_does() {
    let mut config = defaults();
    config.training.max_epochs = 2;
    let (set, _) = made(&config, 3_000, 3, 2_500);
    let checksum = |config: &Config| {
        let trained = run(&set, 2_500, config, None);
        (trained.model.weights_checksum().unwrap(), trained.history)
    };
    config.training.threads = 1;
    let (one, history) = checksum(&config);
    for threads in [2, 3, 0] {
        config.training.threads = threads;
        let (other, same) = checksum(&config);
        assert_eq!(one, other, "{threads} threads");
        assert_eq!(history, same);
    }
    config.training.seed = 2;
    assert_ne!(one, checksum(&config).0);
}

#[test]
fn a_warm_start_begins_where_its_parent_ended() {
    let mut config = defaults();
    // The default is for a million impressions.
    config.network.dropout = 0.1;
    config.training.max_epochs = 4;
    let (set, _) = made(&config, 9_000, 4, 8_000);
    let parent = run(&set, 8_000, &config, None);
    config.training.max_epochs = 1;
    let cold = run(&set, 8_000, &config, None);
    let warm = run(&set, 8_000, &config, Some(&parent.model));
    let loss = |trained: &Trained| trained.history.validations[0].validation_loss;
    assert!(loss(&warm) < loss(&cold));
    assert_eq!(warm.history.parent, Some(parent.model.weights_checksum().unwrap()));
    assert_eq!(warm.model.statistics(), parent.model.statistics());
}

#[test]
fn it_stops_when_it_no_longer_gets_better_and_keeps_the_best() {
    let mut config = defaults();
    config.training.max_epochs = 40;
    config.training.learning_rate = 0.01;
    let (set, _) = made(&config, 3_000, 5, 2_000);
    let trained = run(&set, 2_000, &config, None);
    let history = &trained.history;
    assert!(history.stopped_early);
    let best = history.validations[history.best].validation_loss;
    assert!(history.validations.iter().all(|one| one.validation_loss >= best - 1e-6));
    assert_eq!(history.decays.len(), config.training.plateau_decays);
    let since = history.decays.iter().copied().fold(history.best, usize::max);
    assert_eq!(history.validations.len() - 1 - since, config.training.patience);
}

#[test]
fn at_a_plateau_it_goes_back_to_the_best_and_on_with_smaller_steps() {
    let mut config = defaults();
    config.training.max_epochs = 60;
    config.training.learning_rate = 0.01;
    config.training.plateau_decays = 0;
    let (set, _) = made(&config, 3_000, 5, 2_000);
    let without = run(&set, 2_000, &config, None).history;
    config.training.plateau_decays = 2;
    config.training.plateau_factor = 0.25;
    let (training, validation) = (set.select(0..2_000), set.select(2_000..3_000));
    let mut rates: Vec<f32> = Vec::new();
    let job = Job::new(&training, &validation, &config);
    let history = train(job, &mut |progress: &Progress| {
        if rates.last() != Some(&progress.learning_rate) {
            rates.push(progress.learning_rate);
        }
        ControlFlow::Continue(())
    })
    .unwrap()
    .history;
    assert_eq!(rates, [0.01, 0.0025, 0.000_625]);
    // The same up to the first plateau; then from the best again, which small steps don't lose far.
    let plateau = without.validations.len() - 1;
    assert_eq!(history.validations[..=plateau], without.validations);
    assert_eq!(history.decays[0], plateau);
    let loss = |at: usize| history.validations[at].validation_loss;
    assert!(loss(plateau + 1) < loss(plateau));
    assert!(loss(history.best) <= without.validations[without.best].validation_loss);
    assert_eq!((history.decays.len(), history.stopped_early), (2, true));
}

#[test]
fn whoever_watches_may_end_it() {
    let config = defaults();
    let (set, _) = made(&config, 3_000, 6, 2_000);
    let (training, validation) = (set.select(0..2_000), set.select(2_000..3_000));
    let stopped =
        train(Job::new(&training, &validation, &config), &mut |_: &Progress| ControlFlow::Break(()));
    assert!(matches!(stopped, Err(TrainError::Stopped)));
    let mut validations = 0;
    let trained = train(Job::new(&training, &validation, &config), &mut |progress: &Progress| {
        validations += usize::from(progress.validation_loss.is_some());
        if validations == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })
    .unwrap();
    assert_eq!(trained.history.validations.len(), 3);
}

#[test]
fn a_loss_that_is_no_number_is_refused_with_its_batch() {
    let mut config = defaults();
    config.training.learning_rate = 1e30;
    config.training.clip_norm = 0.0;
    let (set, _) = made(&config, 3_000, 7, 2_000);
    let (training, validation) = (set.select(0..2_000), set.select(2_000..3_000));
    let result = train(Job::new(&training, &validation, &config), &mut ());
    assert!(matches!(result, Err(TrainError::NotFinite { epoch: 0, .. })), "{result:?}");
}

#[test]
fn nothing_to_learn_from_is_refused() {
    let config = defaults();
    let (set, _) = made(&config, 10, 8, 5);
    let (none, all) = (set.select([]), set.all());
    assert!(matches!(
        train(Job::new(&none, &all, &config), &mut ()),
        Err(TrainError::Empty { which: "training" })
    ));
    assert!(matches!(
        train(Job::new(&all, &none, &config), &mut ()),
        Err(TrainError::Empty { which: "validation" })
    ));
}

#[test]
fn labels_that_have_not_matured_still_train_clicks() {
    let mut config = defaults();
    config.training.max_epochs = 1;
    let schema = synthetic::schema(2);
    let mut set = EncodedSet::new(&Encoder::new(&schema, &config.encoder));
    for made in synthetic::make(&schema, 2_000, 0, 9) {
        let label = schemas::Label { matured: false, ..made.label };
        set.push(&made.vector, &label, 1.0).unwrap();
    }
    let trained = run(&set, 1_500, &config, None);
    assert_eq!(trained.validation.purchase.examples, 0);
    let predictions = trained.model.predict_examples(&set.all()).unwrap();
    assert!(predictions.iter().all(|one| (0.01..0.2).contains(&one.p_conversion)));
}
