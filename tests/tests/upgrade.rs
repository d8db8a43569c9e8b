//! Declarations that change in a running system, with instances of the old and of the new configuration side by
//! side: nothing is lost nor doubled, and each vector is what the declarations in force at its view make
//! of the log.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed setup is a failed test")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use lake::blocking::block_on;
use lake::{Order, ScanOptions, Table};
use schemas::{Codec, Control, FeatureVector, Protobuf, VectorSchema, table};
use serde_json::Value;
use support::{Deployment, Service, wait_for};

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
[admin]
listen = ""
[market]
users = 300
items = 60
duplicates = 0.02
late = 0.01
out_of_order = 0.05
"#;

/// Windows that no state had, of a user and of what users share; what is evaluated otherwise; what goes.
const CHANGED: [&str; 10] = [
    "--set",
    r#"features.entities.user.windows=["10m", "1h", "5h", "1d", "7d", "session:30m"]"#,
    "--set",
    r#"features.entities.user.distinct=["view.item"]"#,
    "--set",
    r#"features.entities.item.windows=["1h", "2h", "7d"]"#,
    "--set",
    "features.entities.user_campaign.rate_prior=0.1",
    "--set",
    "features.click_window=20m",
];

/// Declarations that nobody puts into force.
const NEVER_APPLIED: [&str; 4] =
    ["--set", r#"features.entities.user.windows=["3h", "1d"]"#, "--set", "features.purchase_window=2d"];

const PATIENCE: Duration = Duration::from_mins(3);

fn features<'a>(instance: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["--set", instance][..], more].concat()
}

fn rows(deployment: &Deployment, name: &str) -> u64 {
    deployment.status()["tables"][name]["rows"].as_u64().unwrap_or(0)
}

fn batches(deployment: &Deployment, name: &str) -> Vec<arrow::record_batch::RecordBatch> {
    let root = deployment.store();
    let table = block_on(Table::open(root.to_str().unwrap(), name)).unwrap();
    let options = ScanOptions { order: Order::Place, ..ScanOptions::default() };
    table.scan_blocking(&options).unwrap().map(Result::unwrap).collect()
}

type Vectors = BTreeMap<(i32, i64), FeatureVector>;

fn vectors(deployment: &Deployment, name: &str, schemas: &[VectorSchema]) -> Vectors {
    let mut vectors = BTreeMap::new();
    for batch in batches(deployment, name) {
        for vector in table::features::decode(&batch, schemas).unwrap() {
            let place = (vector.place.partition, vector.place.offset);
            assert!(vectors.insert(place, vector).is_none(), "{name} holds {place:?} twice");
        }
    }
    vectors
}

/// Where each partition of `events` declares.
fn declared(deployment: &Deployment) -> BTreeMap<i32, i64> {
    let rows =
        batches(deployment, "control").into_iter().flat_map(|batch| table::control::decode(&batch).unwrap());
    let mut declared = BTreeMap::new();
    for (place, control) in rows {
        if matches!(control, Control::Declared(_)) {
            assert!(declared.insert(place.partition, place.offset).is_none(), "declared once");
        }
    }
    declared
}

/// The schema of the declarations that a command line sets over the deployment's.
fn schema(deployment: &Deployment, more: &[&str]) -> VectorSchema {
    let (_, text) = deployment.run(&[&["features", "plan", "--json"], more].concat());
    let plan: Value = serde_json::from_str(&text).unwrap();
    let wanted = u64::from_str_radix(plan["declared"]["vectors"].as_str().unwrap(), 16).unwrap();
    let mut config = features::Config::default();
    if !more.is_empty() {
        let windows =
            |names: &[&str]| names.iter().map(|name| features::Window::parse(name).unwrap()).collect();
        let user = config.entities.get_mut("user").unwrap();
        user.windows = windows(&["10m", "1h", "5h", "1d", "7d", "session:30m"]);
        user.distinct = vec!["view.item".into()];
        config.entities.get_mut("item").unwrap().windows = windows(&["1h", "2h", "7d"]);
    }
    let schema = features::Plan::compile(&config).unwrap().vector_schema();
    assert_eq!(schema.fingerprint(), wanted, "the test lays vectors out as the binary does");
    schema
}

#[test]
fn old_and_new_instances_side_by_side_lose_and_double_nothing() {
    let broker = runtime::embedded::spawn().unwrap();
    let deployment = Deployment::new(&broker.bootstrap(), "upgrade", SETTINGS);
    let (code, said) = deployment.run(&["topics", "create"]);
    assert_eq!(code, 0, "{said}");
    assert_eq!(deployment.run(&["features", "plan"]).0, 2, "nothing runs yet: all is added");
    let mut others: Vec<Service<'_>> =
        ["ingest", "merge", "scorer", "lake"].iter().map(|name| deployment.start(name)).collect();
    let mut old = deployment.start_with("features", &features("service.instance=old", &[]));
    let mut new = None;

    let counts = std::thread::scope(|scope| {
        let market = scope
            .spawn(|| deployment.json(&["simulate", "--records", "9000", "--speed", "2400", "--seed", "5"]));
        let some = |rows_wanted: u64| {
            wait_for("vectors", PATIENCE, || {
                (rows(&deployment, "features") > rows_wanted || market.is_finished()).then_some(())
            });
        };
        some(500);
        assert_eq!(deployment.run(&["features", "plan"]).0, 0, "the configuration's are in force");
        // An instance of the new configuration beside the old one makes what is in force.
        let mut beside = deployment.start_with("features", &features("service.instance=new", &CHANGED));
        some(1_200);
        let (code, plan) = deployment.run(&[&["features", "plan"][..], &CHANGED].concat());
        assert_eq!(code, 2, "{plan}");
        assert!(plan.contains("+ user_views_5h") && plan.contains("- user_views_30d"), "{plan}");
        let (code, said) = deployment.run(&[&["features", "apply", "--yes"][..], &CHANGED].concat());
        assert!(code == 0 && said.contains("declared in 3 partitions"), "{said}");
        let at_apply = rows(&deployment, "features");
        some(at_apply + 500);
        // Both die once while they follow, and the old one then goes for good.
        beside.kill_and_restart();
        old.kill_and_restart();
        some(at_apply + 1_500);
        old.assert_alive();
        new = Some(beside);
        market.join().expect("the market ends")
    });
    let count = |names: &[&str]| names.iter().map(|name| counts[name].as_u64().unwrap()).sum::<u64>();
    let views = count(&["views"]);
    wait_for("every vector in its table", PATIENCE, || {
        others.iter_mut().for_each(Service::assert_alive);
        (rows(&deployment, "features") == views && rows(&deployment, "predictions") == views).then_some(())
    });
    old.stop();
    assert_eq!(
        deployment.run(&[&["features", "plan"][..], &CHANGED].concat()).0,
        0,
        "the new ones are in force"
    );
    assert_eq!(deployment.run(&["features", "plan"]).0, 2, "and the old ones no longer");
    new.into_iter().chain(others).for_each(Service::stop);

    // What is in force at an offset decides, not what a configuration says.
    for more in [&[][..], &CHANGED, &NEVER_APPLIED] {
        let (code, report) = deployment.run(&[&["verify", "--recompute"][..], more].concat());
        assert_eq!(code, 0, "{more:?}: {report}");
    }

    let schemas = [schema(&deployment, &[]), schema(&deployment, &CHANGED)];
    let stream = vectors(&deployment, "features", &schemas);
    assert_eq!(stream.len() as u64, views);
    let declared = declared(&deployment);
    assert_eq!(declared.len(), 3, "in every partition");
    let (before, after): (Vectors, Vectors) =
        stream.into_iter().partition(|((partition, offset), _)| *offset < declared[partition]);
    let fingerprints =
        |vectors: &Vectors| -> BTreeSet<u64> { vectors.values().map(|vector| vector.fingerprint).collect() };
    assert_eq!(fingerprints(&before), BTreeSet::from([schemas[0].fingerprint()]));
    assert_eq!(fingerprints(&after), BTreeSet::from([schemas[1].fingerprint()]));
    assert!(before.len() > 500 && after.len() > 500, "{} and {}", before.len(), after.len());

    // Either set of declarations makes its part of the same vectors of the whole history.
    for (out, part, schema, more) in
        [("by_old", &before, &schemas[0], &[][..]), ("by_new", &after, &schemas[1], &CHANGED[..])]
    {
        deployment.json(&[&["backfill", "--out", out, "--threads", "2", "--json"], more].concat());
        let all = vectors(&deployment, out, std::slice::from_ref(schema));
        assert_eq!(all.len() as u64, views);
        for (place, vector) in part {
            assert!(Protobuf::to_vec(&all[place]) == Protobuf::to_vec(vector), "{out}: {place:?} is another");
        }
    }

    // A vector is shown as it was made, under either configuration.
    for vector in [before.values().next_back().unwrap(), after.values().next_back().unwrap()] {
        let at = vector.event_time_ms.to_string();
        let arguments = ["features", "as-of", "--pseudonym", &vector.user, "--at", &at, "--json"];
        let report = deployment.json(&arguments);
        assert_eq!(report["fingerprint"], format!("{:016x}", vector.fingerprint), "{report}");
        assert_eq!(deployment.json(&[&arguments[..], &CHANGED].concat()), report);
    }
}
