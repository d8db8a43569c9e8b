//! Calibration from training to serving: it puts right what examples of another base rate do to
//! probabilities, is part of the artefact, and is the same in every batch. Label smoothing needs none:
//! it is taken back.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod synthetic;

use model::calibrate::Calibrator;
use model::config::Calibrate;
use model::{
    Artefact, Config, EncodedSet, Encoder, Explain, HeadKind, Job, Metrics, Model, Probabilities, Trained,
    train,
};
use schemas::FeatureVector;
use synthetic::Made;

fn config(method: Calibrate) -> Config {
    let mut config: Config = synthetic::defaults(model::DEFAULTS);
    config.network.mlp = vec![32];
    config.encoder.item_buckets = 1024;
    (config.training.batch_size, config.training.min_steps_per_epoch) = (128, 0);
    config.training.max_epochs = 10;
    config.training.learning_rate = 0.003;
    config.training.patience = 8;
    config.calibration.method = method;
    config.encoder.user_buckets = 0;
    config
}

/// Examples of which the clicked ones count `weight` times.
fn encode(encoder: &Encoder, made: &[Made], weight: f32) -> EncodedSet {
    let mut set = EncodedSet::new(encoder);
    for one in made {
        set.push(&one.vector, &one.label, if one.label.clicked { weight } else { 1.0 }).unwrap();
    }
    set
}

#[test]
fn calibrated_probabilities_come_true_and_travel_with_the_model() {
    let made = synthetic::make(&synthetic::schema(3), 12_000, 0, 5);
    let encoder = Encoder::new(&synthetic::schema(3), &config(Calibrate::None).encoder);
    let sets = [(&made[..6_000], 4.0), (&made[6_000..9_000], 1.0), (&made[9_000..], 1.0)]
        .map(|(part, weight)| encode(&encoder, part, weight));
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
    let [training, validation] = [&made[..500], &made[500..]].map(|part| encode(&encoder, part, 1.0));
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

/// Mean of `said` less the share of `came`, over the examples for which there is one.
fn bias(pairs: impl Iterator<Item = (f32, bool)>) -> f64 {
    let (mut count, mut sum) = (0.0, 0.0);
    for (said, came) in pairs {
        count += 1.0;
        sum += f64::from(said) - f64::from(u8::from(came));
    }
    sum / count
}

#[test]
fn label_smoothing_is_taken_back() {
    let made = synthetic::make(&synthetic::schema(3), 9_000, 0, 5);
    let plain = config(Calibrate::None);
    let encoder = Encoder::new(&synthetic::schema(3), &plain.encoder);
    let (training, test) = (encode(&encoder, &made[..6_000], 1.0), encode(&encoder, &made[6_000..], 1.0));
    let (training, test) = (training.all(), test.all());
    for head in [HeadKind::Binary, HeadKind::MultiTask, HeadKind::Softmax] {
        let mut config = plain.clone();
        config.network.head = head;
        config.training.label_smoothing = 0.4;
        config.training.positive_weight = 2.0;
        let trained = train(Job::new(&training, &test, &config), &mut ()).unwrap();
        let said = trained.model.predict_examples(&test).unwrap();
        let all = || said.iter().zip(&made[6_000..]);
        // Drawn towards one half, clicks would be 0.02 to 0.1 too likely, and rare purchases 0.1 and more.
        let click = bias(all().map(|(said, made)| (said.p_click, made.label.clicked)));
        assert!(click.abs() < 0.02, "{head:?}: {click}");
        let purchases = all().filter(|(_, made)| made.label.matured && !made.label.clicked);
        let late = bias(purchases.map(|(said, made)| (said.p_view_through, made.label.purchased_after_view)));
        assert!(late.abs() < 0.03, "{head:?}: {late}");
        let metrics = &trained.validation.click;
        assert!(metrics.normalised_entropy.unwrap() < 0.93, "{head:?}: {metrics:?}");

        // From its artefact too. In one that does not say so nothing is taken back: those of earlier
        // versions have predictions and calibration of their own; this one's golden batch objects.
        let artefact = trained.artefact(&serde_json::Value::Null).unwrap();
        let loaded = Model::load(&artefact, None).unwrap();
        assert_eq!(loaded.predict_examples(&test).unwrap(), said);
        let mut files = artefact.files().clone();
        let manifest = String::from_utf8(files["manifest.json"].to_vec()).unwrap();
        let before = manifest.replace("\"unsmoothed\": true", "\"unsmoothed\": false");
        assert_ne!(before, manifest);
        files.insert("manifest.json".to_owned(), before.into_bytes().into());
        let refused = Model::load(&Artefact::from_files(files), None).unwrap_err();
        assert!(matches!(refused, model::ArtefactError::Golden { .. }), "{refused}");
    }
}
