//! What each revision of training computes, pinned: a change of the bits is either an error or a new
//! [`TRAINING_REVISION`]. By portable kernels, so that every machine gives the same.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod synthetic;

use std::collections::BTreeMap;

use model::config::{BehaviourEncoder, Calibrate, NetworkKind, OptimizerKind, ScheduleKind, Unmatured};
use model::encode::{KeyedSet, Outcome, VocabularyFit};
use model::{Config, Encoder, HeadKind, Job, KernelClass, TRAINING_REVISION, train};
use serde::{Deserialize, Serialize};

const EXAMPLES: usize = 600;
const TRAINING: usize = 400;

/// The revision and what tiny trainings give under it.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Pinned {
    revision: u32,
    /// Of the examples that a run reads; the trainer's test compares it.
    examples: String,
    trainings: BTreeMap<String, String>,
}

fn small() -> Config {
    let mut config: Config = synthetic::defaults(model::DEFAULTS);
    config.network.width = 8;
    config.network.heads = 1;
    config.network.mlp = vec![16, 8];
    config.encoder.item_buckets = 256;
    config.encoder.user_buckets = 256;
    config.encoder.campaign_buckets = 32;
    config.encoder.category_buckets = 32;
    config.encoder.brand_buckets = 16;
    config.encoder.content_embedding = 4;
    (config.training.batch_size, config.training.min_steps_per_epoch) = (64, 0);
    config.training.max_epochs = 2;
    // As they were when the first revisions were pinned, whatever the defaults are now.
    config.network.dropout = 0.1;
    config.training.plateau_decays = 1;
    config.training.plateau_factor = 0.1;
    config
}

/// Settings that between them go every way through the code.
fn cases() -> Vec<(&'static str, Config)> {
    let case = |name, change: &dyn Fn(&mut Config)| {
        let mut config = small();
        change(&mut config);
        (name, config)
    };
    vec![
        case("default", &|_| {}),
        case("mlp, rmsprop, binary, weights, isotonic", &|config| {
            config.network.kind = NetworkKind::Mlp;
            config.network.behaviours = BehaviourEncoder::None;
            config.network.head = HeadKind::Binary;
            config.training.optimizer = OptimizerKind::RmsProp;
            config.training.positive_weight = 2.0;
            config.training.negative_rate = 0.5;
            config.calibration.method = Calibrate::Isotonic;
        }),
        case("self-attention, adagrad, cosine, two layers", &|config| {
            config.network.behaviours = BehaviourEncoder::SelfAttention;
            config.network.layers = 2;
            config.training.optimizer = OptimizerKind::Adagrad;
            config.training.schedule = ScheduleKind::Cosine;
            config.training.warmup_steps = 3;
        }),
        case("gru, momentum, softmax, smoothing", &|config| {
            config.network.behaviours = BehaviourEncoder::Gru;
            config.network.head = HeadKind::Softmax;
            config.training.optimizer = OptimizerKind::Sgd;
            config.training.label_smoothing = 0.1;
            config.training.averaging = 0.0;
        }),
        case("cnn, delayed, mixup, dropped features, cropped behaviours", &|config| {
            config.network.behaviours = BehaviourEncoder::Cnn;
            config.training.unmatured = Unmatured::Delayed;
            config.training.mixup = 0.2;
            config.training.feature_dropout = 0.1;
            config.training.behaviour_crop = 0.3;
        }),
        case("values", &|config| config.training.value_weight = 1.0),
        case("plateau", &|config| {
            config.training.max_epochs = 4;
            config.training.validations_per_epoch = 4;
            config.training.patience = 1;
            config.training.learning_rate = 0.05;
        }),
        case("mean, crosses, fake negatives, dictionaries, smoothing", &|config| {
            config.network.behaviours = BehaviourEncoder::Mean;
            config.network.cross_layers = 2;
            config.training.unmatured = Unmatured::FakeNegativeWeighted;
            config.training.id_dropout = 0.1;
            config.training.label_smoothing = 0.1;
            config.encoder.dictionaries = vec!["item".into(), "user".into()];
            config.encoder.min_count = 2;
        }),
    ]
}

/// Digest of the weights of a training and of what they predict.
fn digest(config: &Config) -> String {
    let schema = synthetic::schema(2);
    let made = synthetic::make(&schema, EXAMPLES, 4, 1);
    let encoder = Encoder::new(&schema, &config.encoder);
    let mut keyed = KeyedSet::new(&encoder);
    for one in &made {
        keyed.push(&encoder, &one.vector, Outcome::from(&one.label), 1.0).unwrap();
    }
    let mut fit = VocabularyFit::new(&encoder);
    fit.add(&keyed);
    let encoder = fit.finish().0;
    let set = keyed.resolve(&encoder);
    let (training, validation) = (set.select(0..TRAINING), set.select(TRAINING..EXAMPLES));
    let job = Job::new(&training, &validation, config).with_kernel_class(KernelClass::Portable);
    let model = train(job, &mut ()).unwrap().model;
    let mut digest = blake3::Hasher::new();
    digest.update(model.weights_checksum().unwrap().as_bytes());
    for said in model.predict_examples(&validation).unwrap() {
        let probabilities = [said.p_click, said.p_conversion, said.p_view_through];
        for number in probabilities.into_iter().chain(said.value) {
            digest.update(&number.to_bits().to_le_bytes());
        }
    }
    digest.finalize().to_hex()[..16].to_owned()
}

#[test]
fn training_computes_what_its_revision_says() {
    let pinned: Pinned = serde_json::from_str(include_str!("reference/revision.json")).unwrap();
    let trainings: BTreeMap<String, String> =
        cases().iter().map(|(name, config)| ((*name).to_owned(), digest(config))).collect();
    let same = |(name, digest): &(&String, &String)| pinned.trainings.get(*name) == Some(*digest);
    let changed: Vec<&String> = trainings.iter().filter(|one| !same(one)).map(|(name, _)| name).collect();
    let revision = if changed.is_empty() { TRAINING_REVISION } else { pinned.revision + 1 };
    let now = Pinned { revision, examples: pinned.examples.clone(), trainings: trainings.clone() };
    assert!(
        now == pinned && TRAINING_REVISION == pinned.revision,
        "training computes other bits than revision {} did, for {changed:?} (TRAINING_REVISION is \
         {TRAINING_REVISION}). If that is meant, set TRAINING_REVISION (model/src/train/mod.rs) to {revision} \
         and make model/tests/reference/revision.json:\n{}",
        pinned.revision,
        serde_json::to_string_pretty(&now).unwrap()
    );
}
