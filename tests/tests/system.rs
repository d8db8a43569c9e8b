//! The whole system on Apache Kafka and on the embedded broker: services as processes, killed and restarted, over a seeded
//! stream with duplicates, late events, garbage, wrong types, huge values and future times. At the
//! end every invariant holds, recomputed, and the counts are the seed's.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed setup is a failed test")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use runtime::kafka::{Isolation, Reader, Sender};
use runtime::processor::{InRecord, OutRecord, TopicPartition};
use schemas::{Aggregate, Codec, Control, Entry, FeatureVector, Json, Prediction, Protobuf};
use serde_json::Value;
use support::{Deployment, Service, cluster, wait_for};

const SETTINGS: &str = r#"
[topics]
raw_partitions = 2
internal_partitions = 3
[service]
snapshot_interval = "1s"
[ingest]
clock = "data"
[features]
purchase_window = "1d"
[lake]
commit_interval = "500ms"
idle_commit_interval = "500ms"
[trainer]
min_new_labels = 1500
poll_interval = "500ms"
[trainer.split]
min_train_rows = 800
min_test_rows = 150
[model.training]
max_epochs = 1
threads = 1
[admin]
listen = ""
[market]
users = 800
duplicates = 0.02
late = 0.01
out_of_order = 0.05
future = 0.002
garbage = 0.004
wrong_type = 0.004
huge = 0.002
"#;

const SERVICES: [&str; 6] = ["ingest", "features", "merge", "scorer", "lake", "trainer"];

/// Raw records that the market sends.
const RECORDS: &str = "16000";

#[test]
fn on_apache_kafka_nothing_is_lost_repeated_or_skewed_though_every_service_is_killed_twice() {
    if let Some(bootstrap) = cluster() {
        every_service_is_killed_twice(&bootstrap);
    }
}

#[test]
fn on_the_embedded_broker_nothing_is_lost_repeated_or_skewed_though_every_service_is_killed_twice() {
    let broker = runtime::embedded::spawn().unwrap();
    every_service_is_killed_twice(&broker.bootstrap());
}

fn every_service_is_killed_twice(bootstrap: &str) {
    let deployment = Deployment::new(bootstrap, "system", SETTINGS);
    let (code, out) = deployment.run(&["topics", "create"]);
    assert_eq!(code, 0, "{out}");
    let mut services: Vec<Service<'_>> = SERVICES.iter().map(|name| deployment.start(name)).collect();

    // The market sends while services die: about half a minute of it.
    let counts = std::thread::scope(|scope| {
        let market = scope
            .spawn(|| deployment.json(&["simulate", "--records", RECORDS, "--speed", "3600", "--seed", "7"]));
        for _round in 0..2 {
            for service in &mut services {
                let before = predictions(&deployment);
                service.kill_and_restart();
                let stalls = matches!(service.name, "ingest" | "features" | "scorer");
                if stalls && !market.is_finished() {
                    // Live again: what came after the kill has come out at the end.
                    wait_for(&format!("predictions after {} was killed", service.name), PATIENCE, || {
                        (predictions(&deployment) > before || market.is_finished()).then_some(())
                    });
                }
            }
        }
        market.join().expect("the market ends")
    });
    let wanted = |name: &str| counts[name].as_u64().unwrap_or_else(|| panic!("no count {name} in {counts}"));

    let views = wanted("views");
    let dead: u64 = ["future", "garbage", "wrong_type", "huge"].iter().map(|name| wanted(name)).sum();
    let lines: u64 =
        ["clicks", "carts", "purchase_lines", "refund_lines"].iter().map(|name| wanted(name)).sum();
    let seeds = [
        views,
        views,
        dead,
        wanted("late"),
        wanted("duplicate_lines"),
        views + lines + wanted("duplicate_lines"),
    ];
    let found = |status: &Value| {
        ["features", "predictions", "dead_letters", "late_events", "duplicates", "events"]
            .map(|name| table(status, name))
    };
    // Tables are written apart: that of the predictions may be ahead of that of their vectors.
    wait_for("every record in its table", PATIENCE, || {
        for service in &mut services {
            service.assert_alive();
        }
        found(&deployment.status()).iter().zip(seeds).all(|(found, seed)| *found >= seed).then_some(())
    });
    // Or there is no I5 to check: a trainer that was killed late has still to publish.
    wait_for("a champion", PATIENCE, || (!deployment.status()["champion"].is_null()).then_some(()));
    for service in services {
        service.stop();
    }

    let verified = deployment.json(&["verify", "--recompute", "--json"]);
    for outcome in verified["outcomes"].as_array().expect("a list of outcomes") {
        assert_eq!(outcome["verdict"], "holds", "{outcome:#}");
    }
    let status = deployment.status();
    assert_eq!(found(&status), seeds, "counts are not the seed's: {counts:#}");
    pick(&deployment, "feature-vectors", |record| {
        let vector: FeatureVector = Protobuf::decode(record.record.value.as_ref().unwrap()).unwrap();
        vector.entity_version > 0
    });

    forged_records_are_named(&deployment);
    a_damaged_table_is_named(&deployment);
}

const PATIENCE: Duration = Duration::from_mins(2);

fn table(status: &Value, name: &str) -> u64 {
    status["tables"][name]["rows"].as_u64().unwrap_or(0)
}

/// Offsets in use in `predictions`: grows with each prediction.
fn predictions(deployment: &Deployment) -> i64 {
    let reader = Reader::new(&deployment.kafka(), Isolation::ReadCommitted).unwrap();
    reader.end_offsets(&deployment.topic("predictions")).unwrap_or_default().iter().sum()
}

/// A record of a topic that `wanted` picks.
fn pick(deployment: &Deployment, topic: &str, wanted: impl Fn(&InRecord) -> bool) -> InRecord {
    let topic: Arc<str> = deployment.topic(topic).into();
    let mut reader = Reader::new(&deployment.kafka(), Isolation::ReadCommitted).unwrap();
    let partitions = reader.end_offsets(&topic).unwrap().len() as i32;
    let all: Vec<_> =
        (0..partitions).map(|partition| (TopicPartition { topic: topic.clone(), partition }, 0)).collect();
    reader.assign(&all).unwrap();
    wait_for("a record", PATIENCE, || {
        reader.poll(1000, Duration::from_millis(100)).unwrap().into_iter().find(|record| wanted(record))
    })
}

/// Sends a record in place of one that is there: a log cannot be changed, only added to.
fn forge(deployment: &Deployment, of: &InRecord, value: Vec<u8>) {
    let sender = Sender::new(&deployment.kafka()).unwrap();
    let forged = OutRecord {
        topic: Arc::clone(&of.topic),
        partition: Some(of.record.partition),
        key: of.record.key.clone(),
        value: Some(Bytes::from(value)),
        headers: Vec::new(),
    };
    sender.send(&forged).unwrap();
    sender.flush(Duration::from_secs(10)).unwrap();
}

/// The outcome of an invariant; `verify` must have ended with exit code 1.
fn broken(deployment: &Deployment, invariant: &str) -> String {
    let (code, out) = deployment.run(&["verify", "--recompute", "--json"]);
    assert_eq!(code, 1, "verify did not see it:\n{out}");
    let report: Value = serde_json::from_str(&out).unwrap();
    let outcomes = report["outcomes"].as_array().unwrap();
    let outcome = outcomes.iter().find(|o| o["invariant"] == invariant).unwrap();
    assert_eq!(outcome["verdict"], "broken", "{outcome:#}");
    outcome["differences"].to_string()
}

fn forged_records_are_named(deployment: &Deployment) {
    let record = pick(deployment, "predictions", |_| true);
    let mut prediction: Prediction = Json::decode(record.record.value.as_ref().unwrap()).unwrap();
    prediction.p_click += 0.125;
    forge(deployment, &record, Json::to_vec(&prediction));
    let said = broken(deployment, "I3");
    assert!(said.contains(&prediction.prediction_id) && said.contains("p_click"), "{said}");

    let record = pick(deployment, "feature-vectors", |_| true);
    let mut vector: FeatureVector = Protobuf::decode(record.record.value.as_ref().unwrap()).unwrap();
    vector.price += 1.0;
    forge(deployment, &record, Protobuf::to_vec(&vector));
    let said = broken(deployment, "I2");
    assert!(said.contains("feature-vectors") && said.contains("no event makes it"), "{said}");

    let record = pick(deployment, "aggregates", |_| true);
    let mut row: Aggregate = Protobuf::decode(record.record.value.as_ref().unwrap()).unwrap();
    row.revenue += 1;
    forge(deployment, &record, Protobuf::to_vec(&row));
    let said = broken(deployment, "I2");
    assert!(said.contains("aggregates") && said.contains("entity-tiles makes it"), "{said}");

    // Last: what stands in events beyond what features have read ends the check above.
    let version = |record: &InRecord| match Protobuf::decode(record.record.value.as_ref()?).ok()? {
        Entry::Control(Control::Entities(version)) => Some(version),
        _ => None,
    };
    let record = pick(deployment, "events", |record| version(record).is_some());
    let mut forged = version(&record).unwrap();
    forged.version_ms += 1;
    forge(deployment, &record, Protobuf::to_vec(&Entry::Control(Control::Entities(forged))));
    let said = broken(deployment, "I2");
    assert!(said.contains("events") && said.contains("entity-tiles makes it"), "{said}");
}

fn a_damaged_table_is_named(deployment: &Deployment) {
    let file = largest(&deployment.store().join("tables/labels"));
    let mut bytes = fs::read(&file).unwrap();
    let middle = bytes.len() / 3;
    bytes[middle] ^= 0x40;
    fs::write(&file, bytes).unwrap();
    let said = broken(deployment, "I4");
    assert!(said.contains("labels"), "{said}");
}

/// The largest Parquet file below a folder.
fn largest(folder: &Path) -> PathBuf {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "parquet") {
                files.push(path);
            }
        }
    }
    files.into_iter().max_by_key(|path| fs::metadata(path).unwrap().len()).expect("the table has files")
}
