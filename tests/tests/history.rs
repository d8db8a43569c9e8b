//! The past from the lake, on the embedded broker: `backfill` gives the stream's vectors to the byte,
//! whatever was killed meanwhile, and the naive count's under other declarations; `features as-of`
//! gives a vector as it was made, and the events that made it.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed setup is a failed test")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use lake::blocking::block_on;
use lake::{Order, ScanOptions, Table};
use runtime::kafka::{Isolation, Reader};
use runtime::processor::TopicPartition;
use schemas::event::PlacedEvent;
use schemas::{Codec, Control, Event, EventClock, FeatureVector, Kind, Protobuf, VectorSchema, table};
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
[features.entities.campaign]
distinct = ["view.user"]
decayed = ["click"]
quantile = ["purchase"]
top = ["view.item"]
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

const SERVICES: [&str; 4] = ["ingest", "features", "merge", "lake"];
const PATIENCE: Duration = Duration::from_mins(2);
const MINUTE: i64 = 60_000;

/// The declarations of [`SETTINGS`]: those by default, and some whose tiles are summaries.
fn declared() -> features::Config {
    let mut config = features::Config::default();
    let campaign = config.entities.get_mut("campaign").unwrap();
    campaign.distinct = vec!["view.user".into()];
    campaign.decayed = vec!["click".into()];
    campaign.quantile = vec!["purchase".into()];
    campaign.top = vec!["view.item".into()];
    config
}

/// A deployment whose market has ended, with everything in the tables and nothing running.
fn lived(bootstrap: &str) -> Deployment {
    let deployment = Deployment::new(bootstrap, "history", SETTINGS);
    let (code, said) = deployment.run(&["topics", "create"]);
    assert_eq!(code, 0, "{said}");
    let mut services: Vec<Service<'_>> = SERVICES.iter().map(|name| deployment.start(name)).collect();
    let counts = deployment.json(&["simulate", "--records", "6000", "--speed", "7200", "--seed", "5"]);
    let count = |names: &[&str]| names.iter().map(|name| counts[name].as_u64().unwrap()).sum::<u64>();
    let views = count(&["views"]);
    let events = count(&["views", "clicks", "carts", "purchase_lines", "refund_lines", "duplicate_lines"]);
    wait_for("every record in its table", PATIENCE, || {
        services.iter_mut().for_each(Service::assert_alive);
        let status = deployment.status();
        let rows = |name: &str| status["tables"][name]["rows"].as_u64().unwrap_or(0);
        (rows("features") == views && rows("events") == events).then_some(())
    });
    services.into_iter().for_each(Service::stop);
    deployment
}

fn batches(deployment: &Deployment, name: &str) -> Vec<lake::Result<arrow::record_batch::RecordBatch>> {
    let root = deployment.store();
    let table = block_on(Table::open(root.to_str().unwrap(), name)).unwrap();
    let options = ScanOptions { order: Order::Place, ..ScanOptions::default() };
    table.scan_blocking(&options).unwrap().collect()
}

/// The vectors of a table by the places of their views.
fn vectors(
    deployment: &Deployment,
    name: &str,
    schema: &VectorSchema,
) -> BTreeMap<(i32, i64), FeatureVector> {
    let mut vectors = BTreeMap::new();
    for batch in batches(deployment, name) {
        for vector in table::features::decode(&batch.unwrap(), std::slice::from_ref(schema)).unwrap() {
            let place = (vector.place.partition, vector.place.offset);
            assert!(vectors.insert(place, vector).is_none(), "{name} holds {place:?} twice");
        }
    }
    vectors
}

fn bytes(vectors: &BTreeMap<(i32, i64), FeatureVector>) -> Vec<Vec<u8>> {
    vectors.values().map(Protobuf::to_vec).collect()
}

fn schema(config: &features::Config) -> VectorSchema {
    features::Plan::compile(config).unwrap().vector_schema()
}

#[test]
fn the_past_comes_out_again_and_says_what_it_was_made_of() {
    let broker = runtime::embedded::spawn().unwrap();
    let deployment = lived(&broker.bootstrap());
    let schema = schema(&declared());
    let stream = vectors(&deployment, "features", &schema);
    let with_version = stream.values().filter(|vector| vector.entity_version > 0).count();
    assert!(with_version > stream.len() / 2, "{with_version} of {} vectors read a version", stream.len());

    a_backfill_equals_the_stream(&deployment, &stream, &schema);
    a_killed_backfill_goes_on_to_the_same_table(&deployment, &stream, &schema);
    a_part_has_full_windows(&deployment, &stream, &schema);
    what_makes_no_sense_is_refused(&deployment);
    other_declarations_give_what_a_count_gives(&deployment, "others", MINUTE);
    other_declarations_give_what_a_count_gives(&deployment, "wider", 5 * MINUTE);
    a_vector_is_shown_as_it_was_made(&deployment, &stream, &schema);
}

fn a_backfill_equals_the_stream(
    deployment: &Deployment,
    stream: &BTreeMap<(i32, i64), FeatureVector>,
    schema: &VectorSchema,
) {
    let report = deployment.json(&["backfill", "--out", "again", "--threads", "2", "--json"]);
    assert_eq!(report["vectors"].as_u64(), Some(stream.len() as u64), "{report}");
    assert!(bytes(&vectors(deployment, "again", schema)) == bytes(stream), "the vectors differ");
    // Once more is no more.
    let report = deployment.json(&["backfill", "--out", "again", "--json"]);
    assert_eq!((report["written"].as_u64(), report["records"].as_u64()), (Some(0), Some(0)), "{report}");
    assert_eq!(report["vectors"].as_u64(), Some(stream.len() as u64), "{report}");
}

fn a_killed_backfill_goes_on_to_the_same_table(
    deployment: &Deployment,
    stream: &BTreeMap<(i32, i64), FeatureVector>,
    schema: &VectorSchema,
) {
    // Small commits: there is always another one to be killed before.
    let arguments = ["backfill", "--out", "killed", "--threads", "2", "--set", "lake.max_rows=32", "--json"];
    let log = deployment.store().join("tables/killed/_delta_log");
    let commits = || std::fs::read_dir(&log).map_or(0, Iterator::count);
    for kill in 1..=2 {
        let before = commits();
        let mut child = deployment.command(&arguments).stdout(Stdio::null()).spawn().unwrap();
        wait_for("a few commits", PATIENCE, || (commits() > before + 60 * kill).then_some(()));
        child.kill().unwrap();
        let killed = !child.wait().unwrap().success();
        let rows = vectors(deployment, "killed", schema).len();
        assert!(
            killed && rows > 0 && rows < stream.len(),
            "kill {kill} came too late: {rows} rows are there"
        );
    }
    let states = deployment.store().join("backfills/killed/states");
    assert!(states.exists(), "no checkpoint was left to go on from");
    let report = deployment.json(&arguments);
    let written = report["written"].as_u64().unwrap();
    assert!(written > 0 && written < stream.len() as u64, "{report}");
    assert!(bytes(&vectors(deployment, "killed", schema)) == bytes(stream), "the vectors differ");
}

fn a_part_has_full_windows(
    deployment: &Deployment,
    stream: &BTreeMap<(i32, i64), FeatureVector>,
    schema: &VectorSchema,
) {
    let times = || stream.values().map(|vector| vector.event_time_ms);
    let (first, last) = (times().min().unwrap(), times().max().unwrap());
    let (from, to) = (first + (last - first) / 3, last - (last - first) / 4);
    let wanted: BTreeMap<_, _> = stream
        .iter()
        .filter(|(_, vector)| (from..to).contains(&vector.event_time_ms))
        .map(|(place, vector)| (*place, vector.clone()))
        .collect();
    for (out, warm_up) in [("part", None), ("warm", Some("30d"))] {
        let (from, to) = (from.to_string(), to.to_string());
        let mut arguments = vec!["backfill", "--out", out, "--from", &from, "--to", &to, "--json"];
        arguments.extend(warm_up.map(|_| "--warm-up"));
        arguments.extend(warm_up);
        deployment.json(&arguments);
        assert!(bytes(&vectors(deployment, out, schema)) == bytes(&wanted), "{out}: the vectors differ");
    }
}

fn what_makes_no_sense_is_refused(deployment: &Deployment) {
    let refused = |arguments: &[&str]| {
        let output = deployment.command(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{arguments:?} was not refused");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let said = refused(&["backfill", "--out", "features"]);
    assert!(said.contains("--out features is the image of a topic"), "{said}");
    let said = refused(&["backfill", "--from", "2031-01-01", "--to", "2031-02-01"]);
    assert!(
        said.contains("there is no event from 2031-01-01") && said.contains("holds 2026-01-05"),
        "{said}"
    );
    let said = refused(&["backfill", "--from", "2026-02-01", "--to", "2026-01-01"]);
    assert!(said.contains("is not before --to"), "{said}");
    let said = refused(&["backfill", "--out", "again", "--from", "2026-01-05"]);
    assert!(said.contains("begun by another backfill: --from none, now 2026-01-05"), "{said}");
    let said = refused(&["backfill", "--out", "again", "--set", "features.last_n=3"]);
    assert!(said.contains("declarations"), "{said}");
    let said = refused(&["backfill", "--set", "storage.root=nowhere"]);
    assert!(said.contains("holds no tables events and control"), "{said}");
    let said = refused(&["features", "as-of", "--pseudonym", "k1-nobody", "--at", "2026-01-06"]);
    assert!(said.contains("there is no event of k1-nobody"), "{said}");
}

/// An event without repeats, with the event clock of its partition when it arrived.
struct Arrived {
    event: PlacedEvent,
    clock_ms: i64,
}

fn arrived(deployment: &Deployment) -> Vec<Arrived> {
    let mut repeats = BTreeSet::new();
    for batch in batches(deployment, "duplicates") {
        let rows = table::duplicates::decode(&batch.unwrap()).unwrap();
        repeats.extend(rows.into_iter().map(|row| (row.place.partition, row.place.offset)));
    }
    let mut controls: BTreeMap<(i32, i64), Control> = BTreeMap::new();
    for batch in batches(deployment, "control") {
        let rows = table::control::decode(&batch.unwrap()).unwrap();
        controls.extend(rows.into_iter().map(|(place, control)| ((place.partition, place.offset), control)));
    }
    let mut all = Vec::new();
    let mut clocks: BTreeMap<i32, EventClock> = BTreeMap::new();
    let mut controls = controls.into_iter().peekable();
    for batch in batches(deployment, "events") {
        for event in table::events::decode(&batch.unwrap()).unwrap() {
            let place = (event.place.partition, event.place.offset);
            while let Some((at, control)) = controls.next_if(|(at, _)| *at < place) {
                clocks.entry(at.0).or_default().fold(&control);
            }
            let clock_ms = clocks.get(&place.0).and_then(EventClock::now_ms).unwrap_or(i64::MIN);
            if !repeats.contains(&place) {
                all.push(Arrived { event, clock_ms });
            }
        }
    }
    all
}

/// Windows that the stream did not have, of a user and of an item over all users; versions of the log's
/// tiles, and of others.
fn other_declarations_give_what_a_count_gives(deployment: &Deployment, out: &str, shared_tile: i64) {
    const HOUR: i64 = 3_600_000;
    // At most 64 tiles to a window.
    const TILE: i64 = 5 * MINUTE;
    let mut config = declared();
    let user = config.entities.get_mut("user").unwrap();
    user.windows = ["5h", "session:30m"].map(|window| features::Window::parse(window).unwrap()).to_vec();
    user.distinct = vec!["view.item".into()];
    let of_item = features::EntityConfig { count: vec!["view".into()], ..features::EntityConfig::default() };
    let of_item = features::EntityConfig { windows: user.windows.clone(), ..of_item };
    config.entities.insert("user_item".into(), of_item);
    let item = config.entities.get_mut("item").unwrap();
    item.windows = vec![schemas::duration::Millis(2 * HOUR).into()];
    item.distinct = vec!["view.user".into()];
    config.shared_tile = schemas::duration::Millis(shared_tile);
    let schema = schema(&config);
    let (windows, tile) =
        (r#"features.entities.user.windows=["5h", "session:30m"]"#, config.shared_tile.to_string());
    let more = [
        r#"features.entities.user.distinct=["view.item"]"#,
        r#"features.entities.user_item.count=["view"]"#,
        r#"features.entities.user_item.windows=["5h", "session:30m"]"#,
    ];
    let shared = [
        r#"features.entities.item.windows=["2h"]"#,
        r#"features.entities.item.distinct=["view.user"]"#,
        &format!("features.shared_tile={tile}"),
    ];
    let sets = [&[windows][..], &shared, &more].concat();
    let sets: Vec<&str> = sets.into_iter().flat_map(|set| ["--set", set]).collect();
    deployment.json(&[&["backfill", "--out", out, "--threads", "2", "--json"], &sets[..]].concat());
    let arrived = arrived(deployment);
    let vectors = vectors(deployment, out, &schema);
    let column = |name: &str| schema.position(name).unwrap_or_else(|| panic!("no column {name}"));
    let columns = [
        column("user_views_5h"),
        column("user_clicks_5h"),
        column("item_views_2h"),
        column("item_clicks_2h"),
    ];
    let users_of_item = column("item_view_distinct_user_2h");
    let more = [
        column("user_view_distinct_item_5h"),
        column("user_views_session_30m"),
        column("user_item_views_5h"),
    ];
    let is_click = |kind: Kind| matches!(kind, Kind::Click | Kind::Cart);
    let mut of_items = 0.0;
    for (place, vector) in vectors.iter().step_by(23) {
        let (at, version) = (vector.event_time_ms, vector.entity_version as i64);
        let of_user = arrived.iter().map(|past| &past.event).filter(|past| {
            past.event.user == vector.user
                && (past.place.partition, past.place.offset) < *place
                && past.event.event_time_ms > at - 5 * HOUR
                && past.event.event_time_ms <= at
        });
        let views: Vec<&Event> = of_user
            .clone()
            .map(|past| &past.event)
            .filter(|event| event.kind_or_unknown() == Kind::View)
            .collect();
        let items: BTreeSet<&str> =
            views.iter().map(|view| view.item.as_str()).filter(|item| !item.is_empty()).collect();
        let mut times: Vec<i64> = of_user.clone().map(|past| past.event.event_time_ms).collect();
        times.sort_unstable();
        let joins = |edge: i64, time: &i64| if edge - time > HOUR / 2 { Err(edge) } else { Ok(*time) };
        let (Ok(begin) | Err(begin)) = times.iter().rev().try_fold(at, joins);
        let in_session = views.iter().filter(|view| view.event_time_ms >= begin).count();
        let of_pair = views.iter().filter(|view| view.item == vector.item).count();
        let numbers: Vec<f32> = vector.numbers().collect();
        let of_pair = if vector.item.is_empty() { f32::NAN } else { of_pair as f32 };
        let want = [items.len() as f32, in_session as f32, of_pair];
        for (at, want) in more.iter().zip(want) {
            let got = numbers[*at];
            assert!(got.total_cmp(&want).is_eq() || got == want, "{place:?}: {got} for {want}");
        }
        // Of what was in time for its tile, what lies in tiles that end in the window.
        let of_item = arrived.iter().filter(|past| {
            let time = past.event.event.event_time_ms;
            past.event.event.item == vector.item
                && time.div_euclid(shared_tile) >= past.clock_ms.div_euclid(shared_tile)
                && time < version
                && (time.div_euclid(TILE) + 1) * TILE > version - 2 * HOUR
        });
        let kinds = |kinds: Vec<Kind>| {
            let views = kinds.iter().filter(|kind| **kind == Kind::View).count();
            [views as f32, kinds.iter().filter(|kind| is_click(**kind)).count() as f32]
        };
        let users = of_item.clone().map(|past| &past.event.event);
        let users = users.filter(|event| event.kind_or_unknown() == Kind::View).map(|event| &event.user);
        let users = users.collect::<BTreeSet<_>>().len() as f32;
        let [user_views, user_clicks] = kinds(of_user.map(|past| past.event.kind_or_unknown()).collect());
        let [item_views, item_clicks] =
            kinds(of_item.map(|past| past.event.event.kind_or_unknown()).collect());
        let found = columns.map(|at| numbers[at]);
        if version > 0 {
            assert_eq!(
                found,
                [user_views, user_clicks, item_views, item_clicks],
                "{place:?} as of {version}"
            );
            // Of more there is a sketch.
            let off = (numbers[users_of_item] - users).abs();
            let most = if users > 128.0 { 4.0 * 0.033 * users } else { 0.0 };
            assert!(vector.item.is_empty() || off <= most, "{place:?}: {off} of {users} users off");
        } else {
            assert_eq!(found[..2], [user_views, user_clicks], "{place:?}");
            assert!(found[2].is_nan(), "{place:?} read no version");
        }
        of_items += item_views;
    }
    assert!(of_items > 0.0, "no version had anything of any item");
}

fn a_vector_is_shown_as_it_was_made(
    deployment: &Deployment,
    stream: &BTreeMap<(i32, i64), FeatureVector>,
    schema: &VectorSchema,
) {
    let last = stream.values().rev().step_by(stream.len() / 4);
    for vector in last {
        let at = vector.event_time_ms.to_string();
        let user = &vector.user;
        let report = deployment.json(&["features", "as-of", "--pseudonym", user, "--at", &at, "--json"]);
        let same_time = stream.values().filter(|other| {
            other.user == *user && other.event_time_ms == vector.event_time_ms && other.place >= vector.place
        });
        let wanted = same_time.max_by_key(|other| other.place).unwrap();
        assert_eq!(report["view"]["place"].as_str(), Some(&*wanted.place.to_string()));
        for ((number, field), value) in
            wanted.numbers().zip(&schema.fields).zip(report["values"].as_array().unwrap())
        {
            assert_eq!(value["column"], field.name);
            let shown = value["value"].as_f64().map_or(f32::NAN, |shown| shown as f32);
            assert!(shown.to_bits() == number.to_bits() || (shown.is_nan() && number.is_nan()), "{value}");
            let events = value["events"].as_array().unwrap();
            let counts = ["user_views_", "user_clicks_", "user_category_views_"];
            if counts.iter().any(|name| field.name.starts_with(name)) {
                assert_eq!(events.len() as f32, number, "{value}");
            }
            assert_eq!(value["rounded"], false);
        }
        assert_eq!(report["behaviours"].as_array().unwrap().len(), wanted.behaviours.len());
    }

    // By the raw id, later than the view: the view is named, and how long before it was.
    let vector = stream.values().next_back().unwrap();
    let raw = raw_user(deployment, vector);
    let at = (vector.event_time_ms + MINUTE).to_string();
    let (code, text) = deployment.run(&["features", "as-of", "--user", &raw, "--at", &at]);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains(&vector.user) && text.contains("user_views_1h"), "{text}");

    // A view that never was has no place, and the view before it counts.
    let report = deployment.json(&[
        "features",
        "as-of",
        "--user",
        &raw,
        "--at",
        &at,
        "--item",
        "item-00001",
        "--json",
    ]);
    assert!(report["view"]["place"].is_null(), "{report}");
    assert_eq!((report["view"]["item"].as_str(), report["at_ms"].to_string()), (Some("item-00001"), at));
    let hour = report["values"].as_array().unwrap().iter().find(|value| value["column"] == "user_views_1h");
    assert!(hour.unwrap()["value"].as_f64() >= Some(1.0), "{report}");
}

/// The user's id in the raw record that a vector came from.
fn raw_user(deployment: &Deployment, vector: &FeatureVector) -> String {
    let origin = &vector.origin;
    let topic: Arc<str> = origin.topic.as_str().into();
    let mut reader = Reader::new(&deployment.kafka(), Isolation::ReadCommitted).unwrap();
    reader.assign(&[(TopicPartition { topic, partition: origin.partition }, origin.offset)]).unwrap();
    let record = wait_for("the raw record", PATIENCE, || {
        reader.poll(1, Duration::from_millis(100)).unwrap().into_iter().next()
    });
    let raw: Value = serde_json::from_slice(&record.record.value.unwrap()).unwrap();
    raw["user_id"].as_str().unwrap().to_owned()
}
