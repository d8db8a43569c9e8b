//! Which topics there are, how they are made, and the record of their partition counts.
//!
//! A count is recorded once, in the object store, under `meta/topics/NAME.json`: one object a
//! topic, so that services which start together cannot overwrite one another's.

use std::sync::Arc;

use schemas::topic::{self, Names};
use serde::{Deserialize, Serialize};

use super::{Admin, KafkaError, Result, client};
use crate::config::Topics;
use crate::store::Store;

/// A topic to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicSpec {
    /// Name, with prefix.
    pub name: Arc<str>,
    /// How many partitions.
    pub partitions: i32,
    /// Copies of each; -1 takes the cluster's default.
    pub replication_factor: i32,
    /// The topic's settings, by Kafka's names.
    pub config: Vec<(String, String)>,
}

/// All topics of a deployment, as the configuration wants them.
pub fn specs(topics: &Topics, prefix: &str) -> Vec<TopicSpec> {
    let raw = [topic::VIEWS, topic::CLICKS, topic::PURCHASES];
    let compacted = [topic::ITEMS, topic::MODELS];
    let spec = |(full, name): (Arc<str>, Arc<str>)| {
        let name: &str = &name;
        let setting = |key: &str, value: String| (key.to_owned(), value);
        let config = if compacted.contains(&name) {
            vec![setting("cleanup.policy", "compact".to_owned())]
        } else {
            let kept = if raw.contains(&name) { topics.raw_retention } else { topics.internal_retention };
            vec![
                setting("cleanup.policy", "delete".to_owned()),
                setting("retention.ms", kept.as_ms().to_string()),
                setting("retention.bytes", topics.retention_bytes.to_string()),
                setting("max.message.bytes", client::LARGEST_RECORD.to_owned()),
            ]
        };
        let partitions = match name {
            topic::MODELS | topic::ENTITY_TILES => 1,
            topic::ITEMS => topics.raw_partitions,
            name if raw.contains(&name) => topics.raw_partitions,
            _ => topics.internal_partitions,
        };
        TopicSpec { name: full, partitions, replication_factor: topics.replication_factor, config }
    };
    Names::new(prefix).all().into_iter().zip(Names::new("").all()).map(spec).collect()
}

/// What was recorded of a topic when it was made or first met.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicRecord {
    /// Version of this record's format.
    pub version: u32,
    /// Name, with prefix.
    pub topic: String,
    /// How many partitions it had.
    pub partitions: i32,
    /// A random id of this recording: one for each life of a deployment's topic.
    pub id: String,
}

/// Checks the partition counts of `topics` against the record, and records those that are not in
/// it yet. Services call it when they start.
///
/// # Errors
/// [`KafkaError::PartitionCount`] for a changed count, [`KafkaError::NoTopic`] for a topic that is
/// not there.
pub fn check_partitions(store: &Store, admin: &Admin, topics: &[Arc<str>]) -> Result<Vec<TopicRecord>> {
    let live = admin.all_partitions()?;
    topics
        .iter()
        .map(|topic| {
            let live = *live.get(&**topic).ok_or_else(|| KafkaError::NoTopic { topic: topic.to_string() })?;
            check(store, topic, live)
        })
        .collect()
}

/// Makes those topics that are not there, and records the counts of all.
///
/// # Errors
/// As [`Admin::create_topics`] and [`check_partitions`].
pub fn record_topics(store: &Store, admin: &Admin, specs: &[TopicSpec]) -> Result<Vec<String>> {
    let made = admin.create_topics(specs)?;
    let names: Vec<Arc<str>> = specs.iter().map(|spec| Arc::clone(&spec.name)).collect();
    check_partitions(store, admin, &names)?;
    Ok(made)
}

/// What was recorded of a topic; `None` where nothing was.
///
/// # Errors
/// A store that cannot be read, a damaged record.
pub fn recorded_topic(store: &Store, topic: &str) -> Result<Option<TopicRecord>> {
    let path = record_path(topic);
    let read = |bytes: bytes::Bytes| {
        serde_json::from_slice(&bytes)
            .map_err(|error| KafkaError::Record { path: path.clone(), what: error.to_string() })
    };
    store.get_blocking(&path)?.map(read).transpose()
}

/// Records how many partitions a topic has, where that is known without a cluster.
///
/// # Errors
/// [`KafkaError::PartitionCount`] where another count was recorded; a store that cannot be written.
pub fn record_partitions(store: &Store, topic: &str, partitions: i32) -> Result<TopicRecord> {
    check(store, topic, partitions)
}

fn record_path(topic: &str) -> String {
    format!("meta/topics/{topic}.json")
}

fn check(store: &Store, topic: &str, live: i32) -> Result<TopicRecord> {
    let path = record_path(topic);
    let damaged =
        |error: serde_json::Error| KafkaError::Record { path: path.clone(), what: error.to_string() };
    let id = uuid::Uuid::new_v4().simple().to_string();
    let new = TopicRecord { version: 1, topic: topic.to_owned(), partitions: live, id };
    let bytes = serde_json::to_vec_pretty(&new).map_err(damaged)?;
    if store.get_blocking(&path)?.is_none() && store.put_new_blocking(&path, bytes.into())? {
        return Ok(new);
    }
    let bytes = store.get_blocking(&path)?.unwrap_or_default();
    let record: TopicRecord = serde_json::from_slice(&bytes).map_err(damaged)?;
    if record.partitions != live {
        return Err(KafkaError::PartitionCount {
            topic: topic.to_owned(),
            live,
            recorded: record.partitions,
        });
    }
    Ok(record)
}
