//! More than the pipeline can take: records lie ready for it, and the lake stands still.
//! Memory stays bounded, lag grows and is shown, predictions wait for nobody but the load, nothing is lost.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed setup is a failed test")]

mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;
use support::{Deployment, Service, cluster, wait_for};

const SETTINGS: &str = r#"
[topics]
raw_partitions = 2
internal_partitions = 2
[ingest]
clock = "data"
[lake]
commit_interval = "500ms"
idle_commit_interval = "500ms"
[admin]
listen = ""
[market]
users = 500
garbage = 0.001
"#;

/// Raw records that lie ready.
const RECORDS: &str = "80000";
/// Most memory that a service may hold, MiB. What is read ahead is bounded by what a step may take and by the
/// client's queues, not by the backlog.
const MOST_MIB: u64 = 400;
const PATIENCE: Duration = Duration::from_mins(4);

#[test]
fn under_more_than_it_can_take_memory_is_bounded_and_a_lake_that_stands_still_holds_up_no_prediction() {
    let embedded = cluster().is_none().then(|| runtime::embedded::spawn().unwrap());
    let bootstrap =
        embedded.as_ref().map_or_else(|| cluster().unwrap(), runtime::embedded::Broker::bootstrap);
    let deployment = Deployment::new(&bootstrap, "overload", SETTINGS);
    let (code, out) = deployment.run(&["topics", "create"]);
    assert_eq!(code, 0, "{out}");
    let mut services: Vec<Service<'_>> =
        ["ingest", "features", "merge", "scorer"].map(|name| deployment.start(name)).into();
    let lake = deployment.start("lake");
    // It takes up its tables, and then hears nothing more.
    wait_for("the lake's tables", PATIENCE, || {
        (deployment.status()["tables"]["events"].is_object()).then_some(())
    });
    lake.signal("STOP");

    // All lies there before any is read: no stage is slower than what comes from the one before it otherwise.
    services[0].signal("STOP");
    let counts = deployment.json(&["simulate", "--records", RECORDS, "--seed", "3"]);
    services[0].signal("CONT");
    let wanted = |name: &str| counts[name].as_u64().unwrap_or_else(|| panic!("no count {name} in {counts}"));
    let mut peaks = BTreeMap::new();
    let mut lags = Vec::new();
    wait_for("the backlog to be worked off", PATIENCE, || {
        for service in &mut services {
            service.assert_alive();
            let peak: &mut u64 = peaks.entry(service.name).or_default();
            *peak = service.resident_mib().max(*peak);
        }
        let lag = &deployment.status()["lag"];
        let of = |stage: &str| lag[stage].as_i64().unwrap();
        lags.push(["ingest", "features", "scorer"].map(of).into_iter().sum::<i64>());
        // Transaction markers count: a few offsets are nothing.
        (of("ingest") == 0 && of("features") < 20 && of("scorer") < 20).then_some(())
    });
    let most = lags.iter().max().unwrap();
    assert!(*most > 8_000, "the load was no overload: {lags:?}");
    for (service, peak) in &peaks {
        assert!((1..MOST_MIB).contains(peak), "{service} held {peak} MiB: {peaks:?}");
    }

    // Everything up to the predictions came while the lake stood still; now it catches up.
    lake.signal("CONT");
    let rows = |status: &Value, table: &str| status["tables"][table]["rows"].as_u64().unwrap_or(0);
    let (views, dead) = (wanted("views"), wanted("garbage"));
    wait_for("every record in its table", PATIENCE, || {
        let status = deployment.status();
        let all = rows(&status, "predictions") >= views && rows(&status, "dead_letters") >= dead;
        (all && rows(&status, "features") >= views).then_some(())
    });
    services.push(lake);
    for service in services {
        service.stop();
    }
    let verified = deployment.json(&["verify", "--json"]);
    for outcome in verified["outcomes"].as_array().expect("a list of outcomes") {
        // Nothing was trained.
        let wanted = if outcome["invariant"] == "I5" { "not_checkable" } else { "holds" };
        assert_eq!(outcome["verdict"], wanted, "{outcome:#}");
    }
    let status = deployment.status();
    assert_eq!(
        ["features", "predictions", "dead_letters"].map(|table| rows(&status, table)),
        [views, views, dead]
    );
}
