//! The configuration: its sections that belong to the runtime, and the loader for all sections.
//!
//! Configuration is passed, never global. Knows no service: a service brings its own section, its
//! own defaults, and its own type.

mod check;
mod layers;
mod load;
mod secret;

use std::collections::BTreeMap;
use std::fmt;

use schemas::duration::Millis;
use serde::Deserialize;

pub use load::{LoadError, Resolved, Source, load, resolve, resolve_texts};
pub use secret::{REDACTED, is_secret};

/// Commented defaults of the sections `kafka`, `topics`, `service`, `storage`, `telemetry` and
/// `admin`.
pub const DEFAULTS: &str = include_str!("default.toml");

/// Variables that begin with `SALIENCE_` and are no configuration keys.
pub const RESERVED: &[&str] =
    &["SALIENCE_CONFIG", "SALIENCE_PSEUDONYM_KEY", "SALIENCE_REQUIRE_KAFKA", "SALIENCE_DATA"];

/// The sections that belong to the runtime, for programs that need no others.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sections {
    /// `[kafka]`.
    pub kafka: Kafka,
    /// `[topics]`.
    pub topics: Topics,
    /// `[service]`.
    pub service: Service,
    /// `[storage]`.
    pub storage: Storage,
    /// `[telemetry]`.
    pub telemetry: Telemetry,
    /// `[admin]`.
    pub admin: Admin,
}

/// Where the cluster is, and how to speak to it. `Debug` shows no secrets.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kafka {
    /// Bootstrap servers, comma-separated.
    pub bootstrap: String,
    /// In front of every topic, group and transactional id.
    pub prefix: String,
    /// How members of consumer groups share partitions out.
    pub group_protocol: GroupProtocol,
    /// librdkafka properties of every client.
    #[serde(deserialize_with = "secret::texts")]
    pub properties: BTreeMap<String, String>,
    /// librdkafka properties of consumers.
    #[serde(deserialize_with = "secret::texts")]
    pub consumer: BTreeMap<String, String>,
    /// librdkafka properties of producers.
    #[serde(deserialize_with = "secret::texts")]
    pub producer: BTreeMap<String, String>,
}

impl Kafka {
    /// A cluster at `bootstrap`, everything else as by default.
    pub fn at(bootstrap: impl Into<String>) -> Self {
        Self {
            bootstrap: bootstrap.into(),
            prefix: String::new(),
            group_protocol: GroupProtocol::Classic,
            properties: BTreeMap::new(),
            consumer: BTreeMap::new(),
            producer: BTreeMap::new(),
        }
    }
}

impl fmt::Debug for Kafka {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kafka")
            .field("bootstrap", &self.bootstrap)
            .field("prefix", &self.prefix)
            .field("group_protocol", &self.group_protocol)
            .field("properties", &secret::Shown(&self.properties))
            .field("consumer", &secret::Shown(&self.consumer))
            .field("producer", &secret::Shown(&self.producer))
            .finish()
    }
}

/// The protocol of consumer groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GroupProtocol {
    /// The members share partitions out among themselves.
    Classic,
    /// The broker does (KIP-848).
    Consumer,
}

/// What `topics create` makes.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Topics {
    /// Partitions of raw topics.
    pub raw_partitions: i32,
    /// Partitions of internal topics and of predictions.
    pub internal_partitions: i32,
    /// Copies of each partition; -1 takes the cluster's default.
    pub replication_factor: i32,
    /// How long raw topics are kept.
    pub raw_retention: Retention,
    /// How long internal topics are kept.
    pub internal_retention: Retention,
    /// Bytes at which a partition is cut; -1 for no limit.
    pub retention_bytes: i64,
}

/// How long a topic is kept: `forever`, or a duration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retention {
    /// Never cut by age.
    Forever,
    /// Cut when older.
    For(Millis),
}

impl Retention {
    /// As Kafka's `retention.ms` says it.
    pub const fn as_ms(self) -> i64 {
        match self {
            Self::Forever => -1,
            Self::For(Millis(ms)) => ms,
        }
    }
}

impl<'de> Deserialize<'de> for Retention {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text == "forever" {
            return Ok(Self::Forever);
        }
        Millis::parse(&text)
            .map(Self::For)
            .map_err(|error| serde::de::Error::custom(format!("{error}; or \"forever\"")))
    }
}

/// What a failure may do to the outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Delivery {
    /// Kafka transactions: nothing lost, nothing repeated.
    ExactlyOnce,
    /// Lower latency: nothing lost, repeats after a failure.
    AtLeastOnce,
}

/// The loop of every service.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// Name of this instance; empty takes the host's name: see [`Service::instance_name`].
    pub instance: String,
    /// Worker threads of a service in this process.
    pub workers: usize,
    /// What a failure may do to the outputs.
    pub delivery: Delivery,
    /// The longest time between two commits.
    pub commit_interval: Millis,
    /// Whether to commit at once when the input has been drained.
    pub idle_commit: bool,
    /// Most records handed to a processor in one step.
    pub batch_records: usize,
    /// Time between two snapshots of a partition's state.
    pub snapshot_interval: Millis,
    /// Whole snapshots kept for each partition, and as many of what has changed since.
    pub snapshots_kept: usize,
    /// Bytes of memory that the state of one worker may take; below 0 for no limit.
    pub state_memory: i64,
    /// Instances that may leave at once so that whoever gets their partitions has their state at hand.
    pub standbys: usize,
    /// The folder for what of the state does not fit; empty: the system's for temporary files.
    pub spill_folder: String,
    /// How long a stopping service may take.
    pub stop_timeout: Millis,
}

impl Service {
    /// The instance's name: as configured, or the host's.
    pub fn instance_name(&self) -> String {
        if self.instance.is_empty() { host_name() } else { self.instance.clone() }
    }
}

/// The host's name, as far as it can be found without asking the network.
fn host_name() -> String {
    let from_file = |path: &str| std::fs::read_to_string(path).ok();
    std::env::var("HOSTNAME")
        .ok()
        .or_else(|| from_file("/proc/sys/kernel/hostname"))
        .or_else(|| from_file("/etc/hostname"))
        .map(|name| name.trim().to_owned())
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "localhost".to_owned())
}

/// The object store. `Debug` shows no secrets.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Storage {
    /// A folder or a URL.
    pub root: String,
    /// Options of the store, by the names of the `object_store` crate.
    #[serde(deserialize_with = "secret::texts")]
    pub options: BTreeMap<String, String>,
}

impl fmt::Debug for Storage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Storage")
            .field("root", &self.root)
            .field("options", &secret::Shown(&self.options))
            .finish()
    }
}

/// How logs are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Logs.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Telemetry {
    /// How they are written.
    pub format: LogFormat,
    /// What is logged, by level or by module.
    pub filter: String,
}

/// The HTTP listener.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Admin {
    /// Address and port; empty: none.
    pub listen: String,
}

#[cfg(test)]
mod tests;
