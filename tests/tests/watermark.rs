//! `salience watermark` on the embedded broker: which source holds event time back, from the log and
//! from the lake.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed setup is a failed test")]

mod support;

use std::time::Duration;

use runtime::kafka::Sender;
use runtime::processor::OutRecord;
use serde_json::{Value, json};
use support::{Deployment, wait_for};

/// No source falls idle by itself: one that has stopped holds the clock.
const SETTINGS: &str = r#"
[topics]
raw_partitions = 1
internal_partitions = 2
[ingest]
clock = "data"
idle_polls = 4000000000
[lake]
commit_interval = "200ms"
idle_commit_interval = "200ms"
[admin]
listen = ""
"#;

const PATIENCE: Duration = Duration::from_mins(2);
const MINUTE: i64 = 60_000;
const START: i64 = 1_767_571_200_000;
/// `ingest.allowed_lateness`.
const LATENESS: i64 = 2 * MINUTE;

fn send(deployment: &Deployment, topic: &str, records: &[Value]) {
    let sender = Sender::new(&deployment.kafka()).unwrap();
    for record in records {
        let record = OutRecord {
            topic: deployment.topic(topic).into(),
            partition: Some(0),
            key: None,
            value: Some(record.to_string().into_bytes().into()),
            headers: Vec::new(),
        };
        sender.send(&record).unwrap();
    }
    sender.flush(Duration::from_secs(10)).unwrap();
}

fn raw(kind: &str, minute: i64) -> Value {
    json!({"kind": kind, "event_id": format!("{kind}-{minute}"), "event_time": START + minute * MINUTE,
           "user_id": format!("u-{}", minute % 7), "item_id": "i-1", "campaign_id": "c-1", "price": 2.5,
           "lines": [{"item_id": "i-1", "price": 2.5, "quantity": 1}]})
}

fn line(kind: &str, minute: i64) -> Value {
    let mut record = raw(kind, minute);
    let drop: &[&str] = if kind == "purchase" { &["item_id", "campaign_id", "price"] } else { &["lines"] };
    for key in drop {
        drop_key(&mut record, key);
    }
    record
}

fn drop_key(record: &mut Value, key: &str) {
    record.as_object_mut().unwrap().remove(key);
}

/// Who holds each partition's clock, and the clocks.
fn held(report: &Value) -> Vec<(Option<i64>, Vec<String>)> {
    let partitions = report["partitions"].as_array().unwrap().iter();
    partitions
        .map(|partition| {
            let sources = partition["sources"].as_array().unwrap().iter();
            let holders = sources.filter(|source| source["holds"] == true);
            let names = holders.map(|source| source["topic"].as_str().unwrap().to_owned());
            (partition["clock_ms"].as_i64(), names.collect())
        })
        .collect()
}

#[test]
fn the_source_that_has_stopped_is_named() {
    let broker = runtime::embedded::spawn().unwrap();
    let deployment = Deployment::new(&broker.bootstrap(), "watermark", SETTINGS);
    let (code, said) = deployment.run(&["topics", "create"]);
    assert_eq!(code, 0, "{said}");
    let services = ["ingest", "features", "merge"].map(|name| deployment.start(name));
    let look = || deployment.json(&["watermark", "--json"]);
    let wait = |what: &str, wanted: &(Option<i64>, Vec<String>)| {
        wait_for(what, PATIENCE, || {
            let report = look();
            held(&report).iter().all(|held| held == wanted).then_some(report)
        })
    };

    let purchases = deployment.topic("purchases");
    send(&deployment, "views", &[0, 20, 40, 60].map(|minute| line("view", minute)));
    send(&deployment, "clicks", &[5, 30, 50].map(|minute| line("click", minute)));
    wait("the silent source to hold the start", &(None, vec![purchases.clone()]));

    // It comes to life, and stops again: the clock stands where it stopped.
    send(&deployment, "purchases", &[line("purchase", 10)]);
    let clock = START + 10 * MINUTE - LATENESS;
    let report = wait("the stopped source to hold the clock", &(Some(clock), vec![purchases.clone()]));
    let behind = |topic: &str| {
        let sources = report["partitions"][0]["sources"].as_array().unwrap();
        let topic = deployment.topic(topic);
        sources.iter().find(|source| source["topic"] == *topic).unwrap()["behind_ms"].as_i64().unwrap()
    };
    assert_eq!(["views", "clicks", "purchases"].map(behind), [0, 10 * MINUTE, 50 * MINUTE]);

    // Tiles are closed as far as the clock has come, and no further version comes.
    let report = wait_for("closed tiles and their version", PATIENCE, || {
        let report = look();
        let partitions = report["partitions"].as_array().unwrap();
        let at = |value: &Value| value.as_i64() == Some(clock);
        let all = partitions.iter().all(|part| at(&part["closed_ms"]) && at(&part["entity_version_ms"]));
        (all && at(&report["entities"]["closed_ms"])).then_some(report)
    });
    assert_eq!(report["entities"]["held_by"], json!([0, 1]));

    let (code, text) = deployment.run(&["watermark"]);
    assert_eq!(code, 0, "{text}");
    assert!(
        text.contains(&format!("events[0, 1]: clock 2026-01-05T00:08:00.000Z; held by {purchases}[0]")),
        "{text}"
    );
    assert!(
        text.contains("closed up to 2026-01-05T00:08:00.000Z, all partitions have closed the same"),
        "{text}"
    );

    // The same from the lake, as far as it has come.
    let lake = deployment.start("lake");
    wait_for("control records in their table", PATIENCE, || {
        (deployment.status()["tables"]["control"]["rows"].as_u64() > Some(0)).then_some(())
    });
    assert_eq!(held(&look()), held(&report));
    lake.stop();
    for service in services {
        service.stop();
    }
}
