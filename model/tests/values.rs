//! The value of a purchase: found where it depends on what is shown, kept with its model, and left
//! alone where it is not learned.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod synthetic;

use model::config::Calibrate;
use model::{
    Artefact, ArtefactError, Block, Config, EncodedSet, Encoder, Examples, Explain, HeadKind, Job,
    KernelClass, Model, Source, SourceError, Trained, train,
};
use schemas::FeatureVector;
use synthetic::{Dice, Made};

const TRAINING: usize = 16_000;

fn defaults() -> Config {
    #[derive(serde::Deserialize)]
    struct File {
        model: Config,
    }
    let mut config = toml::from_str::<File>(model::DEFAULTS).unwrap().model;
    config.encoder.item_buckets = 4096;
    // Nothing here fits any.
    config.encoder.dictionaries.clear();
    // What a purchase comes to does not depend on who buys here.
    config.encoder.user_buckets = 0;
    config.network.width = 8;
    config.network.heads = 1;
    config.network.mlp = vec![32];
    // The default is for a million impressions and a wide MLP.
    config.network.dropout = 0.1;
    (config.training.batch_size, config.training.min_steps_per_epoch) = (256, 0);
    config.training.max_epochs = 6;
    config.training.value_weight = 1.0;
    config.calibration.method = Calibrate::None;
    config
}

/// What purchases of an item come to on average.
fn true_value(vector: &FeatureVector) -> f64 {
    let category: f64 = vector.category[1..].parse().unwrap();
    4.0 * (category / 6.0).exp()
}

/// Impressions whose purchases come to values that are exponential around the item's.
fn made(count: usize) -> Vec<Made> {
    let mut dice = Dice(9);
    let mut all = synthetic::make(&synthetic::schema(1), count, 0, 1);
    for made in &mut all {
        let noise = -(1.0 - dice.unit()).ln();
        if made.label.purchased_after_click || made.label.purchased_after_view {
            made.label.value = true_value(&made.vector) * noise;
        }
    }
    all
}

fn encoded(config: &Config, made: &[Made]) -> EncodedSet {
    let mut set = EncodedSet::new(&Encoder::new(&synthetic::schema(1), &config.encoder));
    for made in made {
        set.push(&made.vector, &made.label, 1.0).unwrap();
    }
    set
}

/// Examples whose values are in a currency.
struct In<'a>(Examples<'a>, &'static str);

impl Source for In<'_> {
    fn encoder(&self) -> &Encoder {
        self.0.set().encoder()
    }
    fn blocks(&self) -> usize {
        1
    }
    fn block(&self, _number: usize) -> Result<Block<'_>, SourceError> {
        Ok(Block::from(&self.0))
    }
    fn samples(&self) -> &[FeatureVector] {
        self.0.set().samples()
    }
    fn currency(&self) -> Option<&str> {
        Some(self.1)
    }
}

fn run(set: &EncodedSet, config: &Config, currency: &'static str, parent: Option<&Model>) -> Trained {
    let training = In(set.select(0..TRAINING), currency);
    let validation = set.select(TRAINING..set.len());
    train(Job::new(&training, &validation, config).with_parent(parent), &mut ()).unwrap()
}

/// Mean of |log(said / true value)| over the impressions that did not train.
fn off(model: &Model, made: &[Made]) -> f64 {
    let set = encoded(model.config(), &made[TRAINING..]);
    let said = model.predict_examples(&set.all()).unwrap();
    let off = said
        .iter()
        .zip(&made[TRAINING..])
        .map(|(said, made)| (f64::from(said.value.unwrap()) / true_value(&made.vector)).ln().abs());
    off.sum::<f64>() / said.len() as f64
}

#[test]
fn it_finds_what_values_depend_on() {
    let made = made(TRAINING + 4_000);
    let base = defaults();
    let mut thinned = base.clone();
    thinned.training.negative_rate = 0.3;
    let mut mixed = base.clone();
    mixed.training.mixup = 0.2;
    mixed.training.id_dropout = 0.05;
    let set = encoded(&base, &made);
    // Of a constant: the spread of the categories' logarithms.
    let constant = {
        let logs: Vec<f64> = made[TRAINING..].iter().map(|made| true_value(&made.vector).ln()).collect();
        let values: f64 = made.iter().map(|made| true_value(&made.vector)).sum::<f64>() / made.len() as f64;
        logs.iter().map(|log| (log - values.ln()).abs()).sum::<f64>() / logs.len() as f64
    };
    for (config, share) in [(&base, 0.3), (&thinned, 0.35), (&mixed, 0.4)] {
        let trained = run(&set, config, "EUR", None);
        let off = off(&trained.model, &made);
        println!("off by {off} of {constant}; {:?}", trained.validation.value);
        assert!(off < share * constant, "off by {off}, a constant by {constant}");
        let metrics = trained.validation.value.unwrap();
        assert!(metrics.deviance < 0.85 * metrics.base_deviance, "{metrics:?}");
        assert!(metrics.mean_absolute_error < metrics.base_mean_absolute_error, "{metrics:?}");
        assert!((metrics.mean_prediction / metrics.mean - 1.0).abs() < 0.15, "{metrics:?}");
        // Clicks are found all the same.
        assert!(trained.validation.click.normalised_entropy.unwrap() < 0.95);
    }
}

#[test]
fn an_artefact_says_what_its_model_said_with_values_and_without() {
    let made = made(TRAINING + 1_000);
    let explain = Explain { fields: 2, behaviours: 1 };
    for weight in [1.0, 0.0] {
        let mut config = defaults();
        config.training.max_epochs = 1;
        config.training.value_weight = weight;
        let set = encoded(&config, &made);
        let trained = run(&set, &config, "EUR", None);
        assert_eq!(trained.validation.value.is_some(), weight > 0.0);
        let artefact = trained.artefact(&serde_json::json!({})).unwrap();
        let loaded = Model::load(&artefact, None).unwrap();
        assert_eq!(loaded.values().map(|values| values.currency.as_str()), (weight > 0.0).then_some("EUR"));
        let vectors: Vec<FeatureVector> = made[..300].iter().map(|made| made.vector.clone()).collect();
        for class in KernelClass::available() {
            let model = loaded.clone().with_kernel_class(class);
            let said = model.predict(&vectors, explain).unwrap();
            assert!(said.iter().all(|one| one.probabilities.value.is_some() == (weight > 0.0)));
            // A row's bits are its own.
            for batch in [1, 3, 17, 64, 100] {
                let again: Vec<_> =
                    vectors.chunks(batch).flat_map(|part| model.predict(part, explain).unwrap()).collect();
                assert_eq!(said, again, "{class} {batch}");
            }
            // And the heads' logits those that judging reads.
            let rows: Vec<_> = set.select(0..300).rows().collect();
            let mut logits = vec![[0.0; 3]; rows.len()];
            model.infer(&rows, &mut logits);
            for (logits, said) in logits.iter().zip(&said) {
                let probabilities = model::Probabilities::from_logits(*logits);
                assert_eq!(probabilities.p_purchase, said.probabilities.p_purchase);
            }
        }
        let on_device =
            trained.model.predict_examples_on(model::config::DeviceKind::Cpu, &set.select(0..50)).unwrap();
        let ours = trained.model.predict_examples(&set.select(0..50)).unwrap();
        for (device, ours) in on_device.iter().zip(&ours) {
            let (device, ours) = (device.value.unwrap_or(1.0), ours.value.unwrap_or(1.0));
            assert!((device / ours - 1.0).abs() < 1e-4, "{device} {ours}");
        }
    }
}

#[test]
fn a_range_of_values_that_is_none_is_refused() {
    let mut config = defaults();
    config.training.max_epochs = 1;
    let trained = run(&encoded(&config, &made(TRAINING + 500)), &config, "EUR", None);
    let mut files = trained.artefact(&serde_json::Value::Null).unwrap().files().clone();
    let mut manifest: serde_json::Value = serde_json::from_slice(&files["manifest.json"]).unwrap();
    manifest["values"]["least"] = serde_json::json!(-1.0);
    files.insert("manifest.json".to_owned(), serde_json::to_vec(&manifest).unwrap().into());
    let refused = Model::load(&Artefact::from_files(files), None);
    assert!(matches!(refused, Err(ArtefactError::Values)));
}

#[test]
fn a_warm_start_keeps_values_of_its_currency_alone() {
    let made = made(TRAINING + 2_000);
    let mut config = defaults();
    let set = encoded(&config, &made);
    let parent = run(&set, &config, "EUR", None).model;
    let mut none = config.clone();
    none.training.value_weight = 0.0;
    let without = run(&set, &none, "EUR", None).model;
    // One short epoch with steps that lead nowhere: what is said is where it started.
    config.training.max_epochs = 1;
    config.training.validations_per_epoch = 1;
    config.training.learning_rate = 1e-9;
    config.training.embedding_learning_rate = 1e-9;
    let again = run(&set, &config, "EUR", Some(&parent));
    assert!(again.history.parent.is_some());
    assert!((off(&again.model, &made) - off(&parent, &made)).abs() < 0.01);
    // Of another currency, or of a parent that has none, they start from the mean.
    for (parent, currency) in [(&parent, "USD"), (&without, "EUR")] {
        let anew = run(&set, &config, currency, Some(parent));
        assert!(anew.history.parent.is_some());
        let metrics = anew.validation.value.unwrap();
        assert!((metrics.deviance / metrics.base_deviance - 1.0).abs() < 0.02, "{metrics:?}");
        assert_eq!(anew.model.values().unwrap().currency, currency);
    }
    none.training.max_epochs = 1;
    assert!(run(&set, &none, "EUR", Some(&parent)).model.values().is_none());
}

#[test]
fn no_purchase_predicts_none() {
    let mut config = defaults();
    config.training.max_epochs = 1;
    let schema = synthetic::schema(1);
    let mut unpriced = synthetic::make(&schema, TRAINING + 500, 0, 1);
    for made in &mut unpriced {
        made.label.value = 0.0;
    }
    let trained = run(&encoded(&config, &unpriced), &config, "EUR", None);
    assert_eq!((trained.model.values(), trained.validation.value), (None, None));
    let artefact = trained.artefact(&serde_json::Value::Null).unwrap();
    assert!(Model::load(&artefact, None).unwrap().values().is_none());
    config.network.head = HeadKind::Softmax;
    assert!(config.validate().unwrap_err().to_string().contains("training.value_weight"));
}
