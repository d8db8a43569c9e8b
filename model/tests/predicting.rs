//! Predicting from outside: a row's bits are its own, and an artefact is whole or refused.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod synthetic;

use std::sync::OnceLock;

use bytes::Bytes;
use model::config::NetworkKind;
use model::{
    Artefact, ArtefactError, Config, EncodeError, EncodedSet, Encoder, Explain, Job, KernelClass, Model,
    Scored, Trained, train,
};
use schemas::FeatureVector;

const EXPLAIN: Explain = Explain { fields: 5, behaviours: 3 };

fn defaults() -> Config {
    let mut config: Config = synthetic::defaults(model::DEFAULTS);
    config.encoder.item_buckets = 1024;
    config.training.max_epochs = 1;
    config
}

fn vectors(count: usize, seed: u64) -> Vec<FeatureVector> {
    synthetic::make(&synthetic::schema(2), count, 0, seed).into_iter().map(|made| made.vector).collect()
}

fn trained() -> &'static Trained {
    static TRAINED: OnceLock<Trained> = OnceLock::new();
    TRAINED.get_or_init(|| train_with(&defaults()))
}

fn train_with(config: &Config) -> Trained {
    let schema = synthetic::schema(2);
    let mut set = EncodedSet::new(&Encoder::new(&schema, &config.encoder));
    for made in synthetic::make(&schema, 4_000, 0, 1) {
        set.push(&made.vector, &made.label, 1.0).unwrap();
    }
    let (training, validation) = (set.select(0..3_000), set.select(3_000..4_000));
    train(Job::new(&training, &validation, config), &mut ()).unwrap()
}

fn bits(scored: &[Scored]) -> Vec<[u32; 4]> {
    scored
        .iter()
        .map(|one| {
            let all = one.probabilities;
            [all.p_click, all.p_conversion, all.p_view_through, all.p_purchase].map(f32::to_bits)
        })
        .collect()
}

#[test]
fn a_rows_bits_depend_on_no_batch_and_no_thread() {
    assert_bits_are_a_rows_own(&trained().model);
}

#[test]
fn nor_do_they_with_crosses_whose_artefact_says_the_same() {
    let mut config = defaults();
    config.network.cross_layers = 2;
    for (kind, rank) in [(NetworkKind::AttentionMlp, 32), (NetworkKind::Mlp, 9)] {
        config.network.kind = kind;
        config.network.cross_rank = rank;
        let model = train_with(&config).model;
        assert_bits_are_a_rows_own(&model);
        let artefact = Artefact::build(&model, &[], &serde_json::Value::Null).unwrap();
        let loaded = Model::load(&artefact, None).unwrap();
        assert_eq!(loaded.weights(), model.weights());
        let vectors = vectors(40, 5);
        let said = |model: &Model| bits(&model.predict(&vectors, EXPLAIN).unwrap());
        assert_eq!(said(&loaded), said(&model));
    }
}

fn assert_bits_are_a_rows_own(model: &Model) {
    let vectors = vectors(1_024, 2);
    let mut first: Option<Vec<Scored>> = None;
    for class in KernelClass::available() {
        let model = model.clone().with_kernel_class(class);
        assert_eq!(model.kernel_class(), class);
        let alone: Vec<Scored> = vectors
            .iter()
            .flat_map(|vector| model.predict(std::slice::from_ref(vector), EXPLAIN).unwrap())
            .collect();
        // The first vectors in a batch of every size; all of them in batches of some.
        for batch in (2..=130).chain([255, 256, 257, 1_000, 1_024]) {
            let together = model.predict(&vectors[..batch], EXPLAIN).unwrap();
            assert_eq!(bits(&alone[..batch]), bits(&together), "{class} batch {batch}");
            assert_eq!(alone[..batch], together, "{class} batch {batch}");
        }
        for batch in [3, 7, 17, 100] {
            let together: Vec<Scored> =
                vectors.chunks(batch).flat_map(|vectors| model.predict(vectors, EXPLAIN).unwrap()).collect();
            assert_eq!(alone, together, "{class} batch {batch}");
        }
        for threads in 1..=8 {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let together = pool.install(|| model.predict(&vectors, EXPLAIN).unwrap());
            assert_eq!(alone, together, "{class} {threads} threads");
        }
        let first = first.get_or_insert_with(|| alone.clone());
        for (one, other) in first.iter().zip(&alone) {
            let off = (one.probabilities.p_click - other.probabilities.p_click).abs();
            assert!(off < 1e-5, "{class} differs by {off}");
        }
    }
}

#[test]
fn serving_and_judging_give_the_same_bits() {
    let model = &trained().model;
    let made = synthetic::make(&synthetic::schema(2), 300, 0, 3);
    let mut set = EncodedSet::new(model.encoder());
    for made in &made {
        set.push(&made.vector, &made.label, 1.0).unwrap();
    }
    let vectors: Vec<FeatureVector> = made.into_iter().map(|made| made.vector).collect();
    let served = model.predict(&vectors, EXPLAIN).unwrap();
    let judged = model.predict_examples(&set.all()).unwrap();
    assert!(served.iter().zip(&judged).all(|(served, judged)| served.probabilities == *judged));
}

#[test]
fn probabilities_and_weights_are_what_they_say() {
    let model = &trained().model;
    let all = Explain { fields: usize::MAX, behaviours: usize::MAX };
    for (vector, scored) in vectors(200, 4).iter().zip(model.predict(&vectors(200, 4), all).unwrap()) {
        let p = scored.probabilities;
        for probability in [p.p_click, p.p_conversion, p.p_view_through, p.p_purchase] {
            assert!((0.0..=1.0).contains(&probability));
        }
        assert!(
            (p.p_purchase - (p.p_click * p.p_conversion + (1.0 - p.p_click) * p.p_view_through)).abs() < 1e-6
        );
        let total: f32 = scored.fields.iter().map(|field| field.weight).sum();
        assert!((total - 1.0).abs() < 1e-4, "{total}");
        assert!(scored.fields.is_sorted_by(|a, b| a.weight >= b.weight));
        assert_eq!(scored.behaviours.len(), vector.behaviours.len());
        let total: f32 = scored.behaviours.iter().map(|behaviour| behaviour.weight).sum();
        assert!(vector.behaviours.is_empty() || (total - 1.0).abs() < 1e-4);
    }
    let some = model.predict(&vectors(20, 4), EXPLAIN).unwrap();
    assert!(some.iter().all(|one| one.fields.len() == 5 && one.behaviours.len() <= 3));
    let names: Vec<&str> =
        synthetic::schema(2).fields.iter().map(|field| field.name.clone().leak() as &str).collect();
    let others = [
        "item",
        "campaign",
        "category",
        "brand",
        "placement",
        "device",
        "channel",
        "user",
        "behaviours",
        "price",
    ];
    assert!(
        some.iter()
            .flat_map(|one| &one.fields)
            .all(|one| { names.contains(&one.field.as_ref()) || others.contains(&one.field.as_ref()) })
    );
}

#[test]
fn a_vector_of_another_schema_is_refused() {
    let model = &trained().model;
    let mut vector = vectors(1, 5).remove(0);
    vector.fingerprint ^= 1;
    assert!(matches!(model.predict(&[vector], EXPLAIN), Err(EncodeError::Schema { .. })));
    let mut vector = vectors(1, 5).remove(0);
    vector.values = vector.values.slice(4..);
    assert!(matches!(model.predict(&[vector], EXPLAIN), Err(EncodeError::Length { .. })));
}

#[test]
fn absurd_vectors_give_probabilities_still() {
    let model = &trained().model;
    let vector = vectors(1, 6).remove(0);
    let numbers = vector.values.len() / 4;
    for value in [f32::MAX, f32::MIN, f32::INFINITY, f32::NAN, -0.0, 1e-40] {
        let values: Vec<u8> = (0..numbers).flat_map(|_| value.to_le_bytes()).collect();
        let vector = FeatureVector { values: values.into(), price: f64::NAN, ..vector.clone() };
        let scored = model.predict(&[vector], EXPLAIN).unwrap();
        assert!(scored[0].probabilities.p_purchase.is_finite());
    }
    let empty = FeatureVector {
        fingerprint: vector.fingerprint,
        values: vector.values.clone(),
        ..FeatureVector::default()
    };
    assert!(model.predict(&[empty], EXPLAIN).unwrap()[0].probabilities.p_click.is_finite());
}

#[test]
fn an_artefact_loads_as_it_was_made() {
    let trained = trained();
    let artefact = trained.artefact(&serde_json::json!({"name": "test"})).unwrap();
    let checksum = artefact.checksum();
    let loaded = Model::load(&artefact, Some(&checksum)).unwrap();
    assert_eq!(loaded.checksum(), Some(checksum.as_str()));
    assert_eq!(loaded.card()["name"], "test");
    assert_eq!(loaded.weights_checksum().unwrap(), trained.model.weights_checksum().unwrap());
    assert_eq!(loaded.weights(), trained.model.weights());
    let vectors = vectors(100, 7);
    assert_eq!(loaded.predict(&vectors, EXPLAIN).unwrap(), trained.model.predict(&vectors, EXPLAIN).unwrap());
    // Made again it has the same bytes; another card changes the checksum, not the weights'.
    assert_eq!(artefact, trained.artefact(&serde_json::json!({"name": "test"})).unwrap());
    let other = trained.artefact(&serde_json::json!({"name": "other"})).unwrap();
    assert_ne!(other.checksum(), checksum);
    let text = String::from_utf8(artefact.files()["golden.json"].to_vec()).unwrap();
    assert!(text.len() > 1_000, "there is a golden batch");
}

#[test]
fn a_damaged_artefact_is_refused() {
    let artefact = trained().artefact(&serde_json::json!({})).unwrap();
    let checksum = artefact.checksum();
    for file in Artefact::FILES {
        let mut files = artefact.files().clone();
        let mut bytes = files[file].to_vec();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        files.insert(file.to_owned(), Bytes::from(bytes));
        let damaged = Artefact::from_files(files.clone());
        assert!(Model::load(&damaged, Some(&checksum)).is_err(), "{file} damaged");
        files.remove(file);
        let missing = Model::load(&Artefact::from_files(files), None);
        assert!(matches!(missing, Err(ArtefactError::Missing { .. })), "{file} missing");
    }
    let wrong = Model::load(&artefact, Some("0000"));
    assert!(matches!(wrong, Err(ArtefactError::Checksum { .. })));
}

#[test]
fn a_model_that_predicts_otherwise_is_refused_though_its_files_are_whole() {
    let refused = with_encoder(|encoder| {
        for mean in encoder["statistics"]["mean"].as_array_mut().unwrap() {
            *mean = serde_json::json!(3.0);
        }
    });
    assert!(matches!(refused, Err(ArtefactError::Golden { .. })), "{refused:?}");
}

/// Loads an artefact with another `encoder.json`, under a manifest that has been made to fit.
fn with_encoder(change: impl FnOnce(&mut serde_json::Value)) -> Result<Model, ArtefactError> {
    let artefact = trained().artefact(&serde_json::json!({})).unwrap();
    let mut files = artefact.files().clone();
    let mut encoder: serde_json::Value = serde_json::from_slice(&files["encoder.json"]).unwrap();
    change(&mut encoder);
    let bytes = serde_json::to_vec(&encoder).unwrap();
    let mut manifest: serde_json::Value = serde_json::from_slice(&files["manifest.json"]).unwrap();
    manifest["files"]["encoder.json"] = serde_json::json!(blake3::hash(&bytes).to_hex().to_string());
    files.insert("encoder.json".to_owned(), bytes.into());
    files.insert("manifest.json".to_owned(), serde_json::to_vec(&manifest).unwrap().into());
    Model::load(&Artefact::from_files(files), None)
}

#[test]
fn an_encoder_that_no_model_can_have_is_refused() {
    // What 32 bits would hold as infinite is no number of the format.
    let infinite = with_encoder(|encoder| encoder["statistics"]["mean"][0] = serde_json::json!(1e300));
    assert!(matches!(infinite, Err(ArtefactError::Json { .. })), "{infinite:?}");
    let none = with_encoder(|encoder| encoder["encoder"]["config"]["item_buckets"] = serde_json::json!(0));
    assert!(matches!(none, Err(ArtefactError::Json { .. })), "{none:?}");
    // Tables of gigabytes that the file of weights does not have: refused before memory is asked for.
    let vast = serde_json::json!(1 << 27);
    let vast = with_encoder(|encoder| encoder["encoder"]["config"]["item_buckets"] = vast);
    assert!(matches!(vast, Err(ArtefactError::Weights(_))), "{vast:?}");
}
