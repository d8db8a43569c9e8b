//! Two tiny models, trained on noise: what they say does not matter, only that each says it again.

use std::sync::{Arc, LazyLock};

use schemas::{FeatureVector, VectorSchema};
use scorer::Loaded;

use crate::pipeline::{PARTS, section};

const MODEL: &str = "
[network]
width = 8
heads = 1
mlp = [8]
[encoder]
item_buckets = 16
campaign_buckets = 16
category_buckets = 16
brand_buckets = 16
placement_buckets = 4
device_buckets = 4
channel_buckets = 4
[training]
max_epochs = 1
batch_size = 32
threads = 1
";

/// The models that a run may be told to serve.
pub(crate) static MODELS: LazyLock<[Arc<Loaded>; 2]> = LazyLock::new(|| {
    [1, 2].map(|seed| {
        let artefact = train(&PARTS.schema, seed);
        let checksum = artefact.checksum();
        let model = model::Model::load(&artefact, Some(&checksum)).unwrap();
        Arc::new(Loaded { version: format!("v{seed}"), checksum, model })
    })
});

/// The model of that version; none: base rates served.
pub(crate) fn of_version(version: &str) -> Option<&'static Loaded> {
    MODELS.iter().map(Arc::as_ref).find(|model| model.version == version)
}

fn train(schema: &VectorSchema, seed: u64) -> model::Artefact {
    let mut config: model::Config = section("model", model::DEFAULTS, MODEL);
    // So few rows fit none.
    config.encoder.dictionaries.clear();
    let encoder = model::Encoder::new(schema, &config.encoder);
    let mut set = model::EncodedSet::new(&encoder);
    for i in 0..96_usize {
        let numbers = (0..schema.fields.len()).flat_map(|at| (((i * (at + 3)) % 17) as f32).to_le_bytes());
        let vector = FeatureVector {
            fingerprint: schema.fingerprint(),
            values: numbers.collect::<Vec<u8>>().into(),
            ..FeatureVector::default()
        };
        let outcome = model::encode::Outcome {
            clicked: i % 3 == 0,
            purchased: i % 9 == 0,
            matured: true,
            ..Default::default()
        };
        set.push_outcome(&vector, outcome, 1.0).unwrap();
    }
    let (training, validation) = (set.select(0..64), set.select(64..96));
    let job = model::Job::new(&training, &validation, &config).with_seed(seed);
    model::train(job, &mut ()).unwrap().artefact(&serde_json::json!({})).unwrap()
}
