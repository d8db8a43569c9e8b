//! Feature vectors as the scorer takes them: by a model, by base rates.

use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use model::Model;
use runtime::processor::{InRecord, Input, Outputs, ProcessorFactory, UnitId};
use schemas::table::TopicRecord;
use schemas::topic::Names;
use schemas::{Codec, FeatureVector, Json, Prediction, Protobuf};
use scorer::{Factory, Loaded, Lookup, Slot};
use serde::Deserialize;

use crate::Target;
use crate::records::vector;
use crate::trained::{ARTEFACT, schema};

pub const TARGET: Target = Target { name: "vectors", run, seeds, times: 1_024, plus: 2 << 20, cases: 1_500 };

/// With a model, and without.
static SCORERS: LazyLock<[Factory; 2]> = LazyLock::new(|| {
    #[derive(Deserialize)]
    struct File {
        scorer: scorer::Config,
    }
    let config = toml::from_str::<File>(scorer::DEFAULTS).unwrap().scorer;
    let slot = Slot::new();
    let model = Model::load(&ARTEFACT, None).unwrap();
    slot.put(Arc::new(Loaded { version: "v000001".into(), checksum: ARTEFACT.checksum(), model }));
    let declared: Lookup = Arc::new(|fingerprint| {
        let schema = schema();
        Ok((schema.fingerprint() == fingerprint).then_some(schema))
    });
    [slot, Slot::new()].map(|slot| Factory::new(&config, Arc::clone(&declared), &Names::new(""), slot))
});

/// One record of `feature-vectors`.
fn run(data: &[u8]) {
    let value = Bytes::copy_from_slice(data);
    let vector: Option<FeatureVector> = Protobuf::decode(&value).ok();
    let record = InRecord {
        topic: Arc::from("feature-vectors"),
        record: TopicRecord {
            partition: 1,
            offset: 9,
            timestamp_ms: 0,
            key: None,
            value: Some(value),
            headers: Vec::new(),
        },
    };
    for factory in &*SCORERS {
        let mut scorer = factory.create(UnitId(1), None).unwrap();
        let mut out = Outputs::default();
        let records = std::slice::from_ref(&record);
        let stepped = scorer.step(Input::Records { records, now_ms: 5 }, &mut out);
        assert_eq!(stepped.is_ok(), vector.is_some());
        let Some(vector) = &vector else { continue };
        let [written] = out.records.as_slice() else { panic!("one prediction per vector") };
        let read: Prediction = Json::decode(written.value.as_ref().unwrap()).expect("a prediction is read");
        assert_eq!((read.place, &read.user), (vector.place, &vector.user));
        assert!((0.0..=1.0).contains(&read.p_click) && (0.0..=1.0).contains(&read.p_purchase));
        assert_eq!(&Bytes::from(Json::to_vec(&read)), written.value.as_ref().unwrap());
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let schema = schema();
    let full = vector(&schema, &[3.0, f32::INFINITY, -0.5]);
    let embedded =
        FeatureVector { embedding: Bytes::from_static(&[0, 0, 0, 63, 0, 0, 128, 191]), ..full.clone() };
    let short = vector(&schema, &[1.0]);
    let foreign = FeatureVector { fingerprint: 1, ..full.clone() };
    [full, embedded, short, foreign].iter().map(Protobuf::to_vec).collect()
}
