//! What types cannot say: Kafka properties that Salience owns or that exclude one another, and
//! numbers that must not be zero.

use serde::de::DeserializeOwned;

use super::load::{LoadError, Resolved};
use super::{Admin, GroupProtocol, Kafka, Retention, Service, Storage, Telemetry, Topics};

/// Properties that the guarantees rest on, and why they can't be set.
const OWNED: [(&str, &str); 13] = [
    ("bootstrap.servers", "set kafka.bootstrap"),
    ("metadata.broker.list", "set kafka.bootstrap"),
    ("enable.auto.commit", "offsets are committed with the outputs that they stand for"),
    ("enable.auto.offset.store", "offsets are committed with the outputs that they stand for"),
    ("auto.offset.reset", "a fold begins at the log's beginning, and a cut log is met knowingly"),
    ("isolation.level", "what an aborted transaction wrote must never be read"),
    ("transactional.id", "it is made from the service, service.instance and the worker"),
    ("enable.idempotence", "without it a retry repeats or reorders records"),
    ("acks", "with less than all a confirmed record can be lost"),
    ("group.id", "it is made from kafka.prefix and the service"),
    ("group.instance.id", "it is made from the service, service.instance and the worker"),
    ("group.protocol", "set kafka.group_protocol"),
    ("enable.partition.eof", "the loop learns from it that a partition is caught up"),
];

/// What librdkafka refuses beside `group.protocol=consumer` (KIP-848).
const CLASSIC_ONLY: [&str; 4] =
    ["partition.assignment.strategy", "session.timeout.ms", "heartbeat.interval.ms", "group.protocol.type"];

/// Checks those sections of the runtime that there are.
pub(super) fn sections(resolved: &Resolved) -> Result<(), LoadError> {
    kafka(resolved)?;
    if let Some(topics) = section::<Topics>(resolved, "topics")? {
        for (key, partitions) in
            [("raw_partitions", topics.raw_partitions), ("internal_partitions", topics.internal_partitions)]
        {
            ensure(resolved, "topics", key, (1..=10_000).contains(&partitions), "must be 1 to 10000")?;
        }
        let copies = topics.replication_factor;
        ensure(
            resolved,
            "topics",
            "replication_factor",
            copies == -1 || (1..=100).contains(&copies),
            "must be at least 1, or -1 for the cluster's default",
        )?;
        for (key, kept) in
            [("raw_retention", topics.raw_retention), ("internal_retention", topics.internal_retention)]
        {
            let zero = matches!(kept, Retention::For(time) if time.0 == 0);
            ensure(resolved, "topics", key, !zero, "must be longer than nothing, or \"forever\"")?;
        }
        let bytes = topics.retention_bytes;
        ensure(
            resolved,
            "topics",
            "retention_bytes",
            bytes == -1 || bytes > 0,
            "must be positive, or -1 for no limit",
        )?;
    }
    if let Some(service) = section::<Service>(resolved, "service")? {
        let check = |key, fine, what| ensure(resolved, "service", key, fine, what);
        check("instance", is_name(&service.instance), "takes letters, digits, `.`, `_` and `-`")?;
        check("workers", (1..=1024).contains(&service.workers), "must be 1 to 1024")?;
        check("batch_records", service.batch_records > 0, "must be at least 1")?;
        check("commit_interval", service.commit_interval.0 > 0, "must be longer than nothing")?;
        check(
            "commit_interval",
            service.commit_interval.0 <= 60_000,
            "must be at most 1m: readers wait for it",
        )?;
        let memory = service.state_memory;
        check("state_memory", memory == -1 || memory > 0, "must be positive, or -1 for no limit")?;
        check("standbys", service.standbys <= 3, "must be 0 to 3: instances that may leave at once")?;
        check("snapshots_kept", service.snapshots_kept >= 2, "must be at least 2: one may be damaged")?;
    }
    section::<Storage>(resolved, "storage")?;
    if let Some(telemetry) = section::<Telemetry>(resolved, "telemetry")?
        && let Err(error) = telemetry.filter.parse::<tracing_subscriber::EnvFilter>()
    {
        return ensure(resolved, "telemetry", "filter", false, &error.to_string());
    }
    if let Some(admin) = section::<Admin>(resolved, "admin")? {
        let fine = admin.listen.is_empty() || admin.listen.parse::<std::net::SocketAddr>().is_ok();
        ensure(resolved, "admin", "listen", fine, "must be an address and a port, such as 127.0.0.1:9464")?;
    }
    Ok(())
}

fn section<T: DeserializeOwned>(resolved: &Resolved, name: &str) -> Result<Option<T>, LoadError> {
    resolved.table().get(name).map(|_| resolved.section(name)).transpose()
}

fn kafka(resolved: &Resolved) -> Result<(), LoadError> {
    let Some(kafka) = section::<Kafka>(resolved, "kafka")? else { return Ok(()) };
    ensure(resolved, "kafka", "bootstrap", !kafka.bootstrap.trim().is_empty(), "names no server")?;
    ensure(resolved, "kafka", "prefix", is_name(&kafka.prefix), "takes letters, digits, `.`, `_` and `-`")?;
    let tables =
        [("properties", &kafka.properties), ("consumer", &kafka.consumer), ("producer", &kafka.producer)];
    for (table, properties) in tables {
        for (property, why) in OWNED {
            let free = !properties.contains_key(property);
            let what = format!("`{property}` cannot be set: {why}");
            ensure(resolved, "kafka", &format!("{table}.{property}"), free, &what)?;
        }
    }
    if kafka.group_protocol == GroupProtocol::Consumer {
        for (table, properties) in [("properties", &kafka.properties), ("consumer", &kafka.consumer)] {
            for property in CLASSIC_ONLY {
                let free = !properties.contains_key(property);
                let what = format!(
                    "`{property}` cannot be set with kafka.group_protocol = \"consumer\" (KIP-848): the broker \
                     decides it; remove one of the two"
                );
                ensure(resolved, "kafka", &format!("{table}.{property}"), free, &what)?;
            }
        }
    }
    Ok(())
}

/// Fit to stand in a topic's, group's or transaction's name.
fn is_name(text: &str) -> bool {
    text.len() <= 150 && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

fn ensure(resolved: &Resolved, section: &str, key: &str, fine: bool, what: &str) -> Result<(), LoadError> {
    if fine {
        return Ok(());
    }
    let key = format!("{section}.{key}");
    Err(LoadError::Value { from: resolved.source(&key), key, what: what.to_owned() })
}
