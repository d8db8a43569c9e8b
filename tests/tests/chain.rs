//! Features and scorer chained in a deployment that runs: switched to, killed, moved between instances, and switched
//! back, while a market sends. All that comes out is what the services by themselves would have written.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed setup is a failed test")]

mod support;

use std::time::Duration;

use serde_json::Value;
use support::{Deployment, Service, cluster, wait_for};

const SETTINGS: &str = r#"
[kafka.consumer]
"session.timeout.ms" = "6000"
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
users = 400
duplicates = 0.02
late = 0.01
out_of_order = 0.05
"#;

const PATIENCE: Duration = Duration::from_mins(3);

const CHAINED: [&str; 2] = ["--set", "run.chain=true"];
const CHAINED_TWO: [&str; 4] = ["--set", "run.chain=true", "--set", "service.instance=two"];

#[test]
fn on_apache_kafka_a_chain_is_switched_to_killed_moved_and_switched_back() {
    if let Some(bootstrap) = cluster() {
        a_chain_is_switched_to_killed_moved_and_switched_back(&bootstrap);
    }
}

#[test]
fn on_the_embedded_broker_a_chain_is_switched_to_killed_moved_and_switched_back() {
    let broker = runtime::embedded::spawn().unwrap();
    a_chain_is_switched_to_killed_moved_and_switched_back(&broker.bootstrap());
}

fn rows(deployment: &Deployment, table: &str) -> u64 {
    deployment.status()["tables"][table]["rows"].as_u64().unwrap_or(0)
}

/// Waits for this many predictions more than there are.
fn more(deployment: &Deployment, services: &mut [&mut Service<'_>], count: u64, is_over: impl Fn() -> bool) {
    let wanted = rows(deployment, "predictions") + count;
    wait_for("predictions", PATIENCE, || {
        for service in services.iter_mut() {
            service.assert_alive();
        }
        (rows(deployment, "predictions") >= wanted || is_over()).then_some(())
    });
}

fn a_chain_is_switched_to_killed_moved_and_switched_back(bootstrap: &str) {
    let deployment = Deployment::new(bootstrap, "chain", SETTINGS);
    let (code, out) = deployment.run(&["topics", "create"]);
    assert_eq!(code, 0, "{out}");
    let mut others: Vec<Service<'_>> =
        ["ingest", "merge", "lake"].iter().map(|name| deployment.start(name)).collect();
    let mut features = deployment.start("features");
    let mut scorer = deployment.start("scorer");

    let (counts, mut last) = std::thread::scope(|scope| {
        let market = scope
            .spawn(|| deployment.json(&["simulate", "--records", "9000", "--speed", "1500", "--seed", "3"]));
        let is_over = || market.is_finished();
        more(&deployment, &mut [&mut features, &mut scorer], 300, is_over);
        // The scorer first, so that vectors are left that nobody has scored.
        scorer.stop();
        features.stop();
        let mut one = deployment.start_with("features", &CHAINED);
        more(&deployment, &mut [&mut one], 300, is_over);
        one.kill_and_restart();
        more(&deployment, &mut [&mut one], 200, is_over);
        // A second instance takes its share over, and then all of it.
        let mut two = deployment.start_with("features", &CHAINED_TWO);
        more(&deployment, &mut [&mut one, &mut two], 300, is_over);
        two.kill_and_restart();
        one.stop();
        more(&deployment, &mut [&mut two], 200, is_over);
        two.stop();
        let again = [deployment.start("features"), deployment.start("scorer")];
        (market.join().expect("the market ends"), again)
    });
    let views = counts["views"].as_u64().expect("a count of views");
    wait_for("every vector and prediction in its table", PATIENCE, || {
        others.iter_mut().chain(&mut last).for_each(Service::assert_alive);
        ["features", "predictions"].iter().all(|table| rows(&deployment, table) == views).then_some(())
    });
    let refused = deployment.run(&[&["scorer"][..], &CHAINED].concat());
    assert_ne!(refused.0, 0, "a scorer has nothing to do where features score");
    others.into_iter().chain(last).for_each(Service::stop);

    let verified = deployment.json(&["verify", "--recompute", "--json"]);
    for outcome in verified["outcomes"].as_array().expect("a list of outcomes") {
        let wanted = if outcome["invariant"] == "I5" { "not_checkable" } else { "holds" };
        assert_eq!(outcome["verdict"], wanted, "{outcome:#}");
    }
    let lag: Value = deployment.status()["lag"].clone();
    // Transaction markers alone: a few offsets in each of three partitions.
    assert!(lag["scorer"].as_i64().unwrap() <= 12, "{lag}");
}
