//! What a broker does unasked: cutting logs by size, compacting, ending what was abandoned.

use std::sync::Weak;
use std::time::Duration;

use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::{InitProducerIdRequest, ProducerId, TransactionalId};
use kafka_protocol::protocol::StrBytes;
use noida::kafka::engine::{EngineState, PartitionState};
use noida::kafka::log::LogConfig;

use super::{groups, server::Server};

const EVERY: Duration = Duration::from_millis(500);
/// Passes between two looks at the logs' sizes.
const LOGS_EVERY: u32 = 4;
/// Each append adds up the batches of the newest segment, so that must stay small.
const SEGMENT_BYTES: &str = "1048576";

/// Until the server is gone.
pub(super) fn run(server: &Weak<Server>) {
    for pass in 0_u32.. {
        // A timer: upkeep is due by time, not by what clients do.
        std::thread::sleep(EVERY);
        let Some(server) = server.upgrade().filter(|server| !server.is_stopping()) else { break };
        let mut state = server.lock();
        groups::expire(&mut state);
        end_abandoned(&mut state);
        if pass % LOGS_EVERY == 0 {
            clean(&mut state, server.limits.partition_bytes);
        }
        drop(state);
        server.wake();
    }
}

/// Gives a topic that says nothing of it small segments.
pub(super) fn small_segments(topic: &mut CreatableTopic) {
    let name = "segment.bytes";
    if !topic.configs.iter().any(|config| config.name.as_str() == name) {
        topic.configs.push(
            CreatableTopicConfig::default()
                .with_name(StrBytes::from_static_str(name))
                .with_value(Some(StrBytes::from_static_str(SEGMENT_BYTES))),
        );
    }
}

/// Aborts transactions that have been open for longer than their time-out, and fences their
/// producers, as a new instance of the producer would.
fn end_abandoned(state: &mut EngineState) {
    let now = state.now_ms();
    let abandoned: Vec<(String, i32)> = state
        .txn_info
        .iter()
        .filter(|(_, info)| info.state == "Ongoing" && now - info.start_ms > i64::from(info.timeout_ms))
        .map(|(id, info)| (id.clone(), info.timeout_ms))
        .collect();
    for (id, timeout_ms) in abandoned {
        tracing::debug!(transactional_id = id, "a transaction was abandoned and is aborted");
        let request = InitProducerIdRequest::default()
            .with_transactional_id(Some(TransactionalId(StrBytes::from_string(id))))
            .with_transaction_timeout_ms(timeout_ms)
            .with_producer_id(ProducerId(-1))
            .with_producer_epoch(-1);
        state.handle_init_producer_id(&request, 4);
    }
}

fn clean(state: &mut EngineState, limit: i64) {
    let now = state.now_ms();
    for topic in state.topics.values_mut().filter(|topic| !topic.is_internal) {
        let config = LogConfig::of(&topic.configs);
        for partition in topic.partitions.values_mut() {
            if config.compact {
                partition.compact(&config, now);
            }
            if config.delete {
                let limit =
                    if config.retention_bytes < 0 { limit } else { limit.min(config.retention_bytes) };
                cut(partition, limit, now);
            }
        }
    }
}

/// Cuts a log that has outgrown `limit` by a quarter back to it, at a batch's border, and never into
/// what an open transaction wrote.
fn cut(partition: &mut PartitionState, limit: i64, now: i64) {
    let mut over = partition.size_bytes() - limit;
    if over <= limit / 4 {
        return;
    }
    let open = partition.active_txns.values().copied().min().unwrap_or(i64::MAX);
    let mut start = partition.log_start_offset;
    for (base, batch) in &partition.record_batches {
        if over <= 0 || *base >= open {
            break;
        }
        over -= batch.len() as i64;
        start = noida::kafka::log::batch_last_offset(*base, batch) + 1;
    }
    partition.truncate_front(start.min(open), now);
}
