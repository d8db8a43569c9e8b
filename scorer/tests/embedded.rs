//! The scorer as a service on the embedded broker: base rates first, then models as they are
//! announced, one prediction per vector throughout.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use runtime::config::{Kafka, Sections};
use runtime::kafka::{Admin, Isolation, Reader, Sender, TopicSpec};
use runtime::processor::{OutRecord, TopicPartition};
use runtime::shutdown::Shutdown;
use runtime::store::Store;
use runtime::worker::Settings;
use schemas::prediction::Status;
use schemas::topic::Names;
use schemas::vector::{Scale, VectorField};
use schemas::{
    Codec, FeatureVector, Json, ModelAnnouncement, Origin, Place, Prediction, Protobuf, VectorSchema,
};
use scorer::{Config, Loaded, Slot};
use serde::Deserialize;

const PARTITIONS: i32 = 3;

fn schema() -> VectorSchema {
    let field = |name: &str| VectorField { name: name.into(), scale: Scale::Log, doc: String::new() };
    VectorSchema { fields: ["user_views_7d", "user_clicks_7d"].map(field).to_vec() }
}

fn declared() -> scorer::Lookup {
    Arc::new(|fingerprint| Ok(Some(schema()).filter(|schema| schema.fingerprint() == fingerprint)))
}

fn vector(partition: i32, offset: i64) -> FeatureVector {
    FeatureVector {
        place: Place { partition, offset: 2 * offset },
        origin: Origin {
            topic: "views".into(),
            partition: 0,
            offset: offset * 10 + i64::from(partition),
            line: 0,
            lines: 1,
        },
        event_time_ms: 1_000_000 + offset,
        user: "u".into(),
        item: format!("i{}", offset % 7),
        campaign: format!("c{}", offset % 5),
        price: 3.0,
        fingerprint: schema().fingerprint(),
        values: [offset as f32, 1.0].iter().flat_map(|n| n.to_le_bytes()).collect::<Vec<u8>>().into(),
        ..FeatureVector::default()
    }
}

fn publish(store: &Store, version: &str, seed: u64) -> ModelAnnouncement {
    #[derive(Deserialize)]
    struct File {
        model: model::Config,
    }
    let mut config = toml::from_str::<File>(model::DEFAULTS).unwrap().model;
    config.network.width = 8;
    config.network.heads = 1;
    config.network.mlp = vec![8];
    config.encoder.item_buckets = 64;
    // Nothing here fits any.
    config.encoder.dictionaries.clear();
    config.training.max_epochs = 1;
    (config.training.batch_size, config.training.min_steps_per_epoch) = (32, 0);
    config.training.threads = 1;
    let mut set = model::EncodedSet::new(&model::Encoder::new(&schema(), &config.encoder));
    for at in 0..128 {
        let outcome = model::encode::Outcome {
            clicked: at % 3 == 0,
            purchased: at % 6 == 0,
            matured: true,
            ..Default::default()
        };
        set.push_outcome(&vector(0, at), outcome, 1.0).unwrap();
    }
    let (train, validation) = (set.select(0..96), set.select(96..128));
    let job = model::Job::new(&train, &validation, &config).with_seed(seed);
    let trained = model::train(job, &mut ()).unwrap();
    let artefact = trained.artefact(&serde_json::json!({})).unwrap();
    let uri = format!("models/default/versions/{version}/artefact");
    for (name, bytes) in artefact.files() {
        store.put_blocking(&format!("{uri}/{name}"), bytes.clone()).unwrap();
    }
    ModelAnnouncement {
        version: ModelAnnouncement::VERSION,
        name: "default".into(),
        model_version: version.into(),
        uri,
        checksum: artefact.checksum(),
        fingerprint: format!("{:016x}", schema().fingerprint()),
        announced_ms: 1,
    }
}

struct Cluster {
    kafka: Kafka,
    names: Names,
    sender: Sender,
    predictions: Reader,
    seen: Vec<Prediction>,
    sent: i64,
}

impl Cluster {
    fn new(bootstrap: String) -> Self {
        let kafka = Kafka::at(bootstrap);
        let names = Names::new("");
        let spec = |name: &Arc<str>, partitions: i32| TopicSpec {
            name: Arc::clone(name),
            partitions,
            replication_factor: 1,
            config: Vec::new(),
        };
        Admin::new(&kafka)
            .unwrap()
            .create_topics(&[
                spec(&names.feature_vectors, PARTITIONS),
                spec(&names.predictions, PARTITIONS),
                spec(&names.models, 1),
            ])
            .unwrap();
        let mut predictions = Reader::new(&kafka, Isolation::ReadCommitted).unwrap();
        let of = |partition| TopicPartition { topic: Arc::clone(&names.predictions), partition };
        predictions.assign(&(0..PARTITIONS).map(|p| (of(p), 0)).collect::<Vec<_>>()).unwrap();
        let sender = Sender::new(&kafka).unwrap();
        Self { kafka, names, sender, predictions, seen: Vec::new(), sent: 0 }
    }

    /// Sends `count` vectors to each partition, and waits for all their predictions.
    fn score(&mut self, count: i64) -> Vec<Prediction> {
        for offset in self.sent..self.sent + count {
            for partition in 0..PARTITIONS {
                self.send(
                    &self.names.feature_vectors,
                    Some(partition),
                    "u",
                    Protobuf::to_vec(&vector(partition, offset)),
                );
            }
        }
        self.sender.flush(Duration::from_secs(20)).unwrap();
        self.sent += count;
        let (from, wanted) = (self.seen.len(), (self.sent * i64::from(PARTITIONS)) as usize);
        for _ in 0..300 {
            for record in self.predictions.poll(1_000, Duration::from_millis(100)).unwrap() {
                self.seen.push(Json::decode(record.record.value.as_ref().unwrap()).unwrap());
            }
            if self.seen.len() >= wanted {
                return self.seen[from..].to_vec();
            }
        }
        panic!("{} of {wanted} predictions came", self.seen.len());
    }

    fn announce(&self, announcement: &ModelAnnouncement) {
        self.send(&self.names.models, None, &announcement.name, Json::to_vec(announcement));
        self.sender.flush(Duration::from_secs(20)).unwrap();
    }

    fn send(&self, topic: &Arc<str>, partition: Option<i32>, key: &str, value: Vec<u8>) {
        let key = Some(Bytes::copy_from_slice(key.as_bytes()));
        let (topic, value) = (Arc::clone(topic), Some(value.into()));
        self.sender.send(&OutRecord { topic, partition, key, value, headers: Vec::new() }).unwrap();
    }
}

fn wait_for(slot: &Slot, version: &str) {
    for _ in 0..300 {
        if slot.get().is_some_and(|loaded| loaded.version == version) {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("{version} does not serve");
}

#[test]
fn scores_every_vector_once_while_models_are_swapped() {
    #[derive(Deserialize)]
    struct File {
        scorer: Config,
    }
    let config = toml::from_str::<File>(scorer::DEFAULTS).unwrap().scorer;
    let broker = runtime::embedded::spawn().unwrap();
    let mut cluster = Cluster::new(broker.bootstrap());
    let store = Store::open("memory://").unwrap();
    let mut service = toml::from_str::<Sections>(runtime::config::DEFAULTS).unwrap().service;
    service.workers = 2;
    let settings = Settings { kafka: cluster.kafka.clone(), service, store: store.clone() };

    let names = cluster.names.clone();
    let start = |slot: &Slot, shutdown: &Shutdown| {
        let (config, names, settings) = (config.clone(), names.clone(), settings.clone());
        let (slot, shutdown) = (slot.clone(), shutdown.clone());
        std::thread::spawn(move || scorer::run(&config, declared(), &names, &settings, slot, shutdown))
    };
    let (slot, shutdown) = (Slot::new(), Shutdown::new());
    let running = start(&slot, &shutdown);

    let fallback = cluster.score(40);
    assert!(fallback.iter().all(|p| p.status == Status::Fallback && p.model_version == "fallback"));

    let first = publish(&store, "v000001", 1);
    cluster.announce(&first);
    wait_for(&slot, "v000001");
    let scored = cluster.score(40);
    assert!(scored.iter().all(|p| p.status == Status::Scored && p.model_version == "v000001"));
    assert!(scored.iter().all(|p| p.model_checksum == first.checksum));

    // A broken one is passed over; the next good one is taken.
    let broken = publish(&store, "v000002", 2);
    store.put_blocking(&format!("{}/model.safetensors", broken.uri), "junk".into()).unwrap();
    cluster.announce(&broken);
    let third = publish(&store, "v000003", 3);
    let still = cluster.score(20);
    assert!(still.iter().all(|p| p.model_version == "v000001"));
    cluster.announce(&third);
    wait_for(&slot, "v000003");
    assert!(cluster.score(20).iter().all(|p| p.model_version == "v000003"));

    shutdown.set();
    running.join().unwrap().unwrap();

    // A restart begins with the champion: no vector falls back.
    let (slot, shutdown) = (Slot::new(), Shutdown::new());
    let running = start(&slot, &shutdown);
    assert!(cluster.score(30).iter().all(|p| p.model_version == "v000003"));
    shutdown.set();
    running.join().unwrap().unwrap();

    // I3: each vector once, and recomputed to the bit from the vector and the version it names.
    let ids: BTreeSet<&str> = cluster.seen.iter().map(|p| p.prediction_id.as_str()).collect();
    assert_eq!((ids.len(), cluster.seen.len()), (450, 450));
    let by_base_rates = {
        let mut fallback = scorer::Fallback::new(&config.fallback);
        fallback.learn(schema().fingerprint(), Some(&schema()));
        fallback
    };
    let scorer = scorer::Scorer::new(&config, by_base_rates);
    let models = [first, third].map(|a| Loaded::read(&store, &a.uri, &a.model_version, &a.checksum).unwrap());
    for prediction in &cluster.seen {
        let vector = vector(prediction.place.partition, prediction.place.offset / 2);
        let model = models.iter().find(|loaded| loaded.version == prediction.model_version);
        let again = scorer.score(model, &[vector], prediction.scored_ms);
        assert_eq!(&again[0], prediction);
    }
}
