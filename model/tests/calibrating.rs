//! Calibration from training to serving: it puts right what label smoothing does to probabilities,
//! is part of the artefact, and is the same in every batch.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod synthetic;

use model::calibrate::Calibrator;
use model::config::Calibrate;
use model::{
    Artefact, Config, EncodedSet, Encoder, Explain, Job, Metrics, Model, Probabilities, Trained, train,
};
use schemas::FeatureVector;
use synthetic::Made;

fn config(method: Calibrate) -> Config {
    let table: toml::Table = toml::from_str(model::DEFAULTS).unwrap();
    let mut config: Config = table["model"].clone().try_into().unwrap();
    config.network.mlp = vec![32];
    config.encoder.item_buckets = 1024;
    config.training.batch_size = 128;
    config.training.max_epochs = 10;
    config.training.learning_rate = 0.003;
    config.training.patience = 8;
    config.training.label_smoothing = 0.6;
    config.calibration.method = method;
    config.encoder.user_buckets = 0;
    config
}

fn encode(encoder: &Encoder, made: &[Made]) -> EncodedSet {
    let mut set = EncodedSet::new(encoder);
    for one in made {
        set.push(&one.vector, &one.label, 1.0).unwrap();
    }
    set
}

#[test]
fn calibrated_probabilities_come_true_and_travel_with_the_model() {
    let made = synthetic::make(&synthetic::schema(3), 12_000, 0, 5);
    let encoder = Encoder::new(&synthetic::schema(3), &config(Calibrate::None).encoder);
    let sets = [&made[..6_000], &made[6_000..9_000], &made[9_000..]].map(|part| encode(&encoder, part));
    let [training, validation, test] = &sets;
    let fit = |method: Calibrate| -> (Trained, Metrics) {
        let (training, validation) =
            (training.select(0..training.len()), validation.select(0..validation.len()));
        let trained = train(Job::new(&training, &validation, &config(method)), &mut ()).unwrap();
        let said = trained.model.predict_examples(&test.select(0..test.len())).unwrap();
        (trained, Metrics::measure(&said, test.select(0..test.len()).outcomes()))
    };
    let (plain, before) = fit(Calibrate::None);
    let (platt, after) = fit(Calibrate::Platt);
    let (isotonic, stepped) = fit(Calibrate::Isotonic);
    assert_eq!(plain.model.calibration().click, Calibrator::None);
    assert!(matches!(platt.model.calibration().click, Calibrator::Platt { .. }));
    assert!(matches!(isotonic.model.calibration().click, Calibrator::Isotonic { .. }));
    for better in [&after, &stepped] {
        assert!(better.click.log_loss.unwrap() < before.click.log_loss.unwrap() - 0.005);
        assert!(better.click.calibration_error.unwrap() < 0.6 * before.click.calibration_error.unwrap());
    }
    // A line through the logits ranks as they do.
    assert!((after.click.auc.unwrap() - before.click.auc.unwrap()).abs() < 1e-4);
    // The weights are the same: calibration comes after.
    assert_eq!(plain.model.weights_checksum().unwrap(), platt.model.weights_checksum().unwrap());

    let vectors: Vec<FeatureVector> = made[9_000..9_300].iter().map(|one| one.vector.clone()).collect();
    for trained in [&platt, &isotonic] {
        let artefact = trained.artefact(&serde_json::Value::Null).unwrap();
        let loaded = Model::load(&artefact, Some(&artefact.checksum())).unwrap();
        assert_eq!(loaded.calibration(), trained.model.calibration());
        let whole = said(&loaded, &vectors);
        assert_eq!(whole, said(&trained.model, &vectors));
        for size in [1, 7, 64] {
            let parts: Vec<Probabilities> =
                vectors.chunks(size).flat_map(|part| said(&loaded, part)).collect();
            assert_eq!(parts, whole, "batches of {size}");
        }
        assert_eq!(whole[..], loaded.predict_examples(&test.select(0..test.len())).unwrap()[..300]);
    }
}

fn said(model: &Model, vectors: &[FeatureVector]) -> Vec<Probabilities> {
    let scored = model.predict(vectors, Explain { fields: 2, behaviours: 1 }).unwrap();
    scored.into_iter().map(|one| one.probabilities).collect()
}

#[test]
fn a_calibration_that_falls_is_refused() {
    let made = synthetic::make(&synthetic::schema(1), 800, 0, 5);
    let encoder = Encoder::new(&synthetic::schema(1), &config(Calibrate::None).encoder);
    let [training, validation] = [&made[..500], &made[500..]].map(|part| encode(&encoder, part));
    let (training, validation) = (training.select(0..training.len()), validation.select(0..validation.len()));
    let mut short = config(Calibrate::None);
    short.training.max_epochs = 1;
    let trained = train(Job::new(&training, &validation, &short), &mut ()).unwrap();
    let artefact = trained.artefact(&serde_json::Value::Null).unwrap();
    let mut files = artefact.files().clone();
    let manifest = String::from_utf8(files["manifest.json"].to_vec()).unwrap();
    let mut manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap();
    manifest["calibration"]["click"] =
        serde_json::json!({ "method": "platt", "slope": -1.0, "intercept": 0.0 });
    files.insert("manifest.json".to_owned(), serde_json::to_vec(&manifest).unwrap().into());
    let error = Model::load(&Artefact::from_files(files.clone()), None).unwrap_err();
    assert!(matches!(error, model::ArtefactError::Calibration), "{error}");
    // An artefact from before there was any calibration.
    manifest.as_object_mut().unwrap().remove("calibration");
    files.insert("manifest.json".to_owned(), serde_json::to_vec(&manifest).unwrap().into());
    let model = Model::load(&Artefact::from_files(files), None).unwrap();
    assert_eq!(model.calibration().click, Calibrator::None);
}
