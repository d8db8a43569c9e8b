//! What the tests of several modules build: schemas, vectors, settings.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::sync::Arc;

use schemas::vector::{Scale, VectorField};
use schemas::{FeatureVector, Origin, Place, VectorSchema};
use serde::Deserialize;

use crate::config::{self, Config, DEFAULTS};
use crate::{Fallback, Lookup};

pub(crate) fn config() -> Config {
    #[derive(Deserialize)]
    struct File {
        scorer: Config,
    }
    toml::from_str::<File>(DEFAULTS).unwrap().scorer
}

pub(crate) fn settings() -> config::Fallback {
    config().fallback
}

pub(crate) fn schema(fields: &[&str]) -> VectorSchema {
    let field = |name: &&str| VectorField { name: (*name).to_owned(), scale: Scale::Log, doc: String::new() };
    VectorSchema { fields: fields.iter().map(field).collect() }
}

/// Base rates that have learnt the schema.
pub(crate) fn base_rates(settings: &config::Fallback, schema: &VectorSchema) -> Fallback {
    let mut fallback = Fallback::new(settings);
    fallback.learn(schema.fingerprint(), Some(schema));
    fallback
}

/// As where only this one has been declared.
pub(crate) fn declared(schema: &VectorSchema) -> Lookup {
    let schema = schema.clone();
    Arc::new(move |fingerprint| Ok((fingerprint == schema.fingerprint()).then(|| schema.clone())))
}

pub(crate) fn vector(schema: &VectorSchema, numbers: &[f32]) -> FeatureVector {
    FeatureVector {
        place: Place { partition: 1, offset: 7 },
        origin: Origin { topic: "views".into(), partition: 2, offset: 40, line: 0, lines: 1 },
        event_id: "e-1".into(),
        event_time_ms: 1_000_000,
        clock_ms: 999_000,
        received_ms: 1_000_500,
        user: "u".into(),
        item: "i-1".into(),
        campaign: "c-1".into(),
        price: 20.0,
        currency: "EUR".into(),
        context: "ctx".into(),
        fingerprint: schema.fingerprint(),
        values: numbers.iter().flat_map(|n| n.to_le_bytes()).collect::<Vec<u8>>().into(),
        ..FeatureVector::default()
    }
}

/// A small model of `schema`, trained on random vectors; another seed, another model.
pub(crate) fn artefact(schema: &VectorSchema, seed: u64) -> model::Artefact {
    artefact_with(schema, seed, |_| {})
}

/// The same with changes to its config. Purchases are worth 5 to 50.
pub(crate) fn artefact_with(
    schema: &VectorSchema,
    seed: u64,
    change: impl FnOnce(&mut model::Config),
) -> model::Artefact {
    #[derive(Deserialize)]
    struct File {
        model: model::Config,
    }
    let mut config = toml::from_str::<File>(model::DEFAULTS).unwrap().model;
    config.network.width = 8;
    config.network.heads = 1;
    config.network.mlp = vec![8];
    config.encoder.item_buckets = 16;
    config.encoder.campaign_buckets = 16;
    config.encoder.category_buckets = 16;
    config.encoder.brand_buckets = 16;
    config.encoder.placement_buckets = 4;
    config.encoder.device_buckets = 4;
    config.encoder.channel_buckets = 4;
    // Nothing here fits any.
    config.encoder.dictionaries.clear();
    config.training.max_epochs = 1;
    (config.training.batch_size, config.training.min_steps_per_epoch) = (64, 0);
    config.training.threads = 1;
    change(&mut config);
    let encoder = model::Encoder::new(schema, &config.encoder);
    let mut set = model::EncodedSet::new(&encoder);
    for i in 0..256_usize {
        let numbers: Vec<f32> = (0..schema.fields.len()).map(|at| ((i * (at + 3)) % 17) as f32).collect();
        let outcome = model::encode::Outcome {
            clicked: i % 3 == 0,
            purchased: i % 9 == 0,
            matured: true,
            value: 5.0 + (i % 46) as f32,
            ..Default::default()
        };
        set.push_outcome(&vector(schema, &numbers), outcome, 1.0).unwrap();
    }
    let (training, validation) = (set.select(0..192), set.select(192..256));
    let job = model::Job::new(&training, &validation, &config).with_seed(seed);
    let trained = model::train(job, &mut ()).unwrap();
    trained.artefact(&serde_json::json!({})).unwrap()
}

/// Puts the artefact into `store` as `version` and gives its announcement.
pub(crate) fn publish(
    store: &runtime::store::Store,
    version: &str,
    schema: &VectorSchema,
    artefact: &model::Artefact,
) -> schemas::ModelAnnouncement {
    let uri = format!("models/default/versions/{version}/artefact");
    for (name, bytes) in artefact.files() {
        store.put_blocking(&format!("{uri}/{name}"), bytes.clone()).unwrap();
    }
    schemas::ModelAnnouncement {
        version: schemas::ModelAnnouncement::VERSION,
        name: "default".into(),
        model_version: version.into(),
        uri,
        checksum: artefact.checksum(),
        fingerprint: format!("{:016x}", schema.fingerprint()),
        announced_ms: 1,
    }
}
