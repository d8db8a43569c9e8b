//! A Kafka broker in this process, for the demo and for tests: noida-db's engine behind a TCP
//! listener of ours. Spoken to by the same client as any cluster; nothing else knows it exists.
//!
//! The engine (topics, log, groups, transactions) is noida-db's; the server around it is ours,
//! since its own has four faults that matter here: a fetch neither waits nor has a limit (clients
//! and broker spin, and copy whole backlogs), the list of aborted transactions also names those
//! that ended before the fetched range (after an abort, committed records of the same producer
//! would be hidden from later readers), a dead member of a group is never noticed, and neither is
//! an abandoned transaction.
//!
//! # Limits
//! - Memory only, one node, one lock. Retention is by size alone: each partition keeps its newest
//!   [`Limits::partition_bytes`], whatever `retention.ms` says (a smaller `retention.bytes`
//!   counts). A reader that falls further behind finds its log cut, so who produces must wait for
//!   the pipeline to follow.
//! - The classic group protocol only: no `group.protocol=consumer`.
//! - No authentication, no TLS; loopback only.
//!
//! # For the loop
//! - Static members (`group.instance.id`): a restarted member takes over its predecessor's
//!   partitions without a rebalance; the predecessor is fenced at its next heartbeat. librdkafka
//!   sends no `LeaveGroup` for static members, so after a clean stop the others get its partitions
//!   only when its session ends (6 s at least, as in Kafka).
//! - `TxnOffsetCommit` checks the producer's epoch, and, as Kafka does, the member and generation
//!   of the group metadata that it is given: a zombie of an earlier generation is refused. Send
//!   the consumer's current metadata, not one kept from before a rebalance.
//! - Offsets committed in a transaction are held until it ends, metadata included.
//! - An open transaction is aborted, and its producer fenced, when its time-out has passed, and
//!   when its `transactional.id` is initialised anew.
//! - rdkafka's `abort_transaction` does not poll: with messages in flight it runs into its time-out.
//!   Purge or flush (which polls) first. `commit_transaction` flushes by itself.
//! - After an abort the producer's id stays the same; a transaction whose only content is offsets
//!   leaves no marker in any partition.

mod fetch;
mod groups;
mod server;
mod upkeep;

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;

use noida::kafka::engine::EngineState;

use server::Server;

/// Why there is no broker.
#[derive(Debug, thiserror::Error)]
#[error("cannot start the embedded broker: {0} (fatal)")]
pub struct EmbeddedError(#[from] std::io::Error);

/// What the broker may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes that each partition keeps; at most a quarter more is held for a moment.
    pub partition_bytes: i64,
}

impl Default for Limits {
    /// 128 MiB a partition.
    fn default() -> Self {
        Self { partition_bytes: 128 << 20 }
    }
}

/// A running broker; it ends, and its data with it, when this is dropped.
pub struct Broker {
    server: Arc<Server>,
    address: SocketAddr,
}

/// Starts a broker on a free port of the loopback interface.
///
/// # Errors
/// No port, or no thread.
pub fn spawn() -> Result<Broker, EmbeddedError> {
    spawn_with(Limits::default())
}

/// As [`spawn`], with limits.
///
/// # Errors
/// No port, or no thread.
pub fn spawn_with(limits: Limits) -> Result<Broker, EmbeddedError> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    let mut state = EngineState::new(address.ip().to_string(), i32::from(address.port()));
    // As on a cluster that is run with care: a misspelt topic is an error, not a new topic.
    state.broker_configs.insert("auto.create.topics.enable".to_owned(), "false".to_owned());
    let server = Arc::new(Server::new(state, limits));
    let serving = Arc::clone(&server);
    thread("embedded-broker", move || serving.accept(&listener))?;
    let keeping = Arc::downgrade(&server);
    thread("embedded-upkeep", move || upkeep::run(&keeping))?;
    Ok(Broker { server, address })
}

fn thread(name: &str, work: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
    std::thread::Builder::new().name(name.to_owned()).spawn(work).map(drop)
}

impl Broker {
    /// What `kafka.bootstrap` has to be.
    pub fn bootstrap(&self) -> String {
        self.address.to_string()
    }

    /// Bytes held in all partitions together.
    pub fn size_bytes(&self) -> i64 {
        self.server.size_bytes()
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.server.stop(self.address);
    }
}

#[cfg(test)]
mod tests;
