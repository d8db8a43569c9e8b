//! Before a service starts: its topics must be there, with the partitions that they were made with.

use std::sync::Arc;
use std::time::Duration;

use schemas::topic;

use super::{Settings, WorkerError};
use crate::kafka::{Admin, KafkaError, check_partitions};
use crate::processor::ProcessorFactory;
use crate::shutdown::Shutdown;

/// How often topics that are not there yet, or a cluster that does not answer, are waited for, a
/// second each time.
const WAITS: u32 = 20;

/// Topics that belong to the customer: they may grow.
const RAW: [&str; 4] = [topic::VIEWS, topic::CLICKS, topic::PURCHASES, topic::ITEMS];

/// Checks every topic of the service; those of the customer need only be there.
pub(super) fn check(
    service: &str,
    factory: &dyn ProcessorFactory,
    settings: &Settings,
    shutdown: &Shutdown,
) -> Result<(), WorkerError> {
    let failed = |source| WorkerError::Topics { service: service.to_owned(), source: Box::new(source) };
    let admin = Admin::new(&settings.kafka).map_err(failed)?;
    let prefix = &settings.kafka.prefix;
    let (raw, internal): (Vec<_>, Vec<_>) = factory
        .inputs()
        .into_iter()
        .chain(factory.outputs())
        .partition(|topic| topic.strip_prefix(prefix.as_str()).is_some_and(|name| RAW.contains(&name)));
    let mut waits = 0;
    loop {
        match look(&admin, settings, &raw, &internal) {
            Ok(()) => return Ok(()),
            Err(error) if waits < WAITS && (error.is_retriable() || is_missing(&error)) => {
                tracing::info!(service, %error, "waiting for topics");
            }
            Err(error) => return Err(failed(error)),
        }
        waits += 1;
        if shutdown.sleep(Duration::from_secs(1)) {
            return Ok(());
        }
    }
}

fn look(
    admin: &Admin,
    settings: &Settings,
    raw: &[Arc<str>],
    internal: &[Arc<str>],
) -> Result<(), KafkaError> {
    let there = admin.all_partitions()?;
    if let Some(missing) = raw.iter().find(|topic| !there.contains_key(&***topic)) {
        return Err(KafkaError::NoTopic { topic: missing.to_string() });
    }
    check_partitions(&settings.store, admin, internal).map(drop)
}

fn is_missing(error: &KafkaError) -> bool {
    matches!(error, KafkaError::NoTopic { .. })
}
