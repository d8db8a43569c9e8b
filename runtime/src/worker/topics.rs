//! Partition counts: recorded when a topic is first written, checked ever after.

use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer as _};

use super::{Settings, WorkerError};
use crate::processor::ProcessorFactory;
use crate::shutdown::Shutdown;

/// How often a topic that is not there yet is looked for, once a second.
const LOOKS: u32 = 10;

/// Where the count of a topic's partitions is recorded, as a decimal number.
fn record_path(topic: &str) -> String {
    format!("meta/partitions/{topic}")
}

/// Checks every topic of the service against the record. Outputs that have none are recorded now;
/// inputs are not, since the customer's own topics may grow.
pub(super) fn check(
    service: &str,
    factory: &dyn ProcessorFactory,
    settings: &Settings,
    shutdown: &Shutdown,
) -> Result<(), WorkerError> {
    let mut config = rdkafka::ClientConfig::new();
    config.set("bootstrap.servers", &settings.kafka.bootstrap);
    for (key, value) in &settings.kafka.properties {
        config.set(key, value);
    }
    let client: BaseConsumer = config
        .create()
        .map_err(|source| WorkerError::Client { service: service.to_owned(), source })?;
    let store = |source| WorkerError::Store { service: service.to_owned(), source };
    let outputs = factory.outputs().into_iter().map(|topic| (topic, true));
    for (topic, is_output) in factory.inputs().into_iter().map(|topic| (topic, false)).chain(outputs) {
        let Some(found) = partitions(service, &client, &topic, settings, shutdown)? else { return Ok(()) };
        let path = record_path(&topic);
        let recorded = settings.store.get_blocking(&path).map_err(store)?;
        match recorded.as_deref().and_then(|text| std::str::from_utf8(text).ok()?.trim().parse().ok()) {
            Some(recorded) if recorded != found => {
                let topic = topic.to_string();
                return Err(WorkerError::Partitions { service: service.to_owned(), topic, found, recorded });
            }
            Some(_) => {}
            None if is_output => {
                settings.store.put_new_blocking(&path, found.to_string().into()).map_err(store)?;
            }
            None => {}
        }
    }
    Ok(())
}

/// How many partitions the topic has; waits a while for one that is being made. `None` when the
/// service is stopped meanwhile.
fn partitions(
    service: &str,
    client: &BaseConsumer,
    topic: &str,
    settings: &Settings,
    shutdown: &Shutdown,
) -> Result<Option<i32>, WorkerError> {
    for look in 0..LOOKS {
        match client.fetch_metadata(Some(topic), Duration::from_secs(5)) {
            Ok(metadata) => {
                let found = metadata
                    .topics()
                    .iter()
                    .find(|found| found.name() == topic && found.error().is_none())
                    .map_or(0, |found| found.partitions().len() as i32);
                if found > 0 {
                    return Ok(Some(found));
                }
                tracing::info!(service, topic, look, "waiting for a topic that is not there");
            }
            Err(error) => tracing::warn!(service, topic, %error, "cannot ask the cluster for a topic"),
        }
        if shutdown.sleep(Duration::from_secs(1)) {
            return Ok(None);
        }
    }
    Err(WorkerError::NoTopic {
        service: service.to_owned(),
        topic: topic.to_owned(),
        bootstrap: settings.kafka.bootstrap.clone(),
    })
}
