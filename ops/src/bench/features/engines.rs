//! Kafka Streams and Flink on the same events, on one core.

use std::ffi::OsStr;
use std::io::{BufWriter, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};

use super::Checked;
use super::workload::Row;
use crate::bench::peers::{Peers, java};
use crate::bench::speed::Folder;

/// What a variant of an engine came to.
#[derive(Debug, Clone, Serialize)]
pub struct Engine {
    /// The engine.
    pub name: &'static str,
    /// How it was run.
    pub variant: &'static str,
    /// Its version.
    pub version: String,
    /// Events a second of its process's time, all threads, in its second pass.
    pub events_per_s: f64,
    /// How long that took by the wall clock, seconds.
    pub wall_s: f64,
    /// Sum of the user's views of the last day over its vectors.
    pub sum: u64,
}

/// A way to run an engine.
struct Variant {
    name: &'static str,
    class: &'static str,
    argument: &'static str,
    about: &'static str,
    wants_broker: bool,
}

pub(super) const KAFKA_STREAMS: &str = "kafka_streams";
pub(super) const FLINK: &str = "flink";

const VARIANTS: [Variant; 4] = [
    Variant {
        name: FLINK,
        class: "peers.Flink",
        argument: "chained",
        about: "one keyed process function chained to its source, states on the heap",
        wants_broker: false,
    },
    Variant {
        name: FLINK,
        class: "peers.Flink",
        argument: "keyed",
        about: "one keyed process function behind keyBy, states on the heap",
        wants_broker: false,
    },
    Variant {
        name: KAFKA_STREAMS,
        class: "peers.Streams",
        argument: "hash",
        about: "store that hashes, without changelog, called directly",
        wants_broker: false,
    },
    Variant {
        name: KAFKA_STREAMS,
        class: "peers.Streams",
        argument: "changelog",
        about: "in-memory store with cache and changelog, on a broker",
        wants_broker: true,
    },
];

#[derive(Deserialize)]
struct Said {
    version: String,
    events: usize,
    views: u64,
    sum: u64,
    cpu_s: f64,
    wall_s: f64,
}

/// Runs all of them; `turn` is our own turn before each.
///
/// # Errors
/// An engine that fails, or whose vectors say something else.
pub(super) fn run(
    peers: &Peers,
    rows: &[Row],
    checked: &Checked,
    mut turn: impl FnMut() -> Result<()>,
) -> Result<Vec<Engine>> {
    let folder = Folder::new("bench-features")?;
    let events = folder.path().join("events.bin");
    write(&events, rows).with_context(|| events.display().to_string())?;
    // States take 2 to 5 KB a user, and there are 20 events to one.
    let heap_gib = (2 + rows.len() / 500_000).min(12);
    let mut engines = Vec::new();
    for variant in &VARIANTS {
        turn()?;
        let broker = variant.wants_broker.then(|| Broker::start(peers, folder.path())).transpose()?;
        let mut arguments = vec![events.as_os_str(), OsStr::new(variant.argument)];
        arguments.extend(broker.iter().map(|broker| OsStr::new(&broker.bootstrap)));
        let said: Said = java(peers, variant.class, heap_gib, &arguments)?;
        let [least, most] = checked.bounds;
        ensure!(
            said.events == rows.len() && said.views == checked.vectors && (least..=most).contains(&said.sum),
            "{} ({}) made {} vectors of {} events with {} views of the last day; counted one by one there are \
             {} of {} with {least} to {most}",
            variant.name,
            variant.argument,
            said.views,
            said.events,
            said.sum,
            checked.vectors,
            rows.len()
        );
        engines.push(Engine {
            name: variant.name,
            variant: variant.about,
            version: said.version,
            events_per_s: rows.len() as f64 / said.cpu_s,
            wall_s: said.wall_s,
            sum: said.sum,
        });
    }
    Ok(engines)
}

/// The events as the engines read them.
fn write(path: &Path, rows: &[Row]) -> std::io::Result<()> {
    let mut out = BufWriter::new(std::fs::File::create(path)?);
    for row in rows {
        out.write_all(&row.record())?;
    }
    out.flush()
}

/// A broker of its own, gone when this is.
struct Broker {
    bootstrap: String,
    stop: PathBuf,
    data: PathBuf,
}

impl Broker {
    fn start(peers: &Peers, folder: &Path) -> Result<Self> {
        let port = || TcpListener::bind(("127.0.0.1", 0))?.local_addr().map(|address| address.port());
        let data = folder.join("broker");
        let mut command = Command::new("bash");
        command
            .arg(peers.path("kafka/start.sh"))
            .args(["--port", &port()?.to_string(), "--controller-port", &port()?.to_string(), "--dir"])
            .arg(&data);
        // Not its output to the end: the broker goes on with what it inherits.
        let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
        ensure!(
            status.context("cannot run bash")?.success(),
            "no broker for Kafka Streams in {}",
            data.display()
        );
        let settings = std::fs::read_to_string(data.join("server.properties"))?;
        let listener =
            settings.lines().find_map(|line| line.strip_prefix("advertised.listeners=PLAINTEXT://"));
        let bootstrap = listener.and_then(|listener| listener.split(',').next());
        let bootstrap = bootstrap.context("the broker's settings name no listener")?.to_owned();
        Ok(Self { bootstrap, stop: peers.path("kafka/stop.sh"), data })
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // If it is gone already there is nothing to stop; its folder goes with the benchmark's.
        let _status =
            Command::new("bash").arg(&self.stop).arg("--dir").arg(&self.data).stderr(Stdio::null()).status();
    }
}

/// The best variant of an engine, events a second.
pub(super) fn best(engines: &[Engine], name: &str) -> Option<f64> {
    engines.iter().filter(|engine| engine.name == name).map(|engine| engine.events_per_s).reduce(f64::max)
}
