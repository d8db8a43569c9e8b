//! Fetching: waits for data as a broker does, within the sizes that the client asks for, and names
//! exactly those aborted transactions that reach into what is returned.

use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_protocol::messages::fetch_response::{AbortedTransaction, FetchableTopicResponse, PartitionData};
use kafka_protocol::messages::{FetchRequest, FetchResponse, ProducerId};
use noida::kafka::engine::{EngineState, PartitionState};
use noida::kafka::log::batch_last_offset;

use super::server::Server;

const OFFSET_OUT_OF_RANGE: i16 = 1;
const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
/// How long a fetch that was woken for nothing sleeps: what wakes it is mostly for others.
const PACE: Duration = Duration::from_millis(1);

impl Server {
    /// Answers when there are `min_bytes`, or something to say, or when the client's patience ends.
    #[expect(clippy::disallowed_methods, reason = "a broker's patience is measured in real time")]
    pub(super) fn fetch(&self, request: &FetchRequest) -> FetchResponse {
        let patience = Duration::from_millis(u64::from(request.max_wait_ms.max(0).unsigned_abs()));
        let until = Instant::now() + patience;
        let mut state = self.lock();
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || self.is_stopping() || is_due(&state, request) {
                return answer(&state, request);
            }
            state = self.wait(state, left);
            if !is_due(&state, request) {
                drop(state);
                // Something came, but too little to answer: not woken again for each record of a burst.
                std::thread::sleep(PACE.min(left));
                state = self.lock();
            }
        }
    }
}

/// A partition's last stable offset: before the first record of any open transaction.
fn last_stable(partition: &PartitionState) -> i64 {
    let open = partition.active_txns.values().copied().min();
    open.unwrap_or(i64::MAX).min(partition.high_watermark)
}

/// Behind the last offset that the request may see.
fn visible(partition: &PartitionState, request: &FetchRequest) -> i64 {
    if request.isolation_level == 1 { last_stable(partition) } else { partition.high_watermark }
}

fn is_due(state: &EngineState, request: &FetchRequest) -> bool {
    let mut bytes = 0;
    for topic in &request.topics {
        let known = state.topics.get(topic.topic.as_str());
        for wanted in &topic.partitions {
            let Some(partition) = known.and_then(|topic| topic.partitions.get(&wanted.partition)) else {
                return true;
            };
            let range = partition.log_start_offset..=partition.high_watermark;
            if !range.contains(&wanted.fetch_offset) {
                return true;
            }
            if wanted.fetch_offset < visible(partition, request) {
                let most = wanted.partition_max_bytes.max(1) as usize;
                bytes += batches(partition, wanted.fetch_offset, visible(partition, request), most, true).1;
            }
        }
    }
    bytes >= request.min_bytes.max(1) as usize
}

/// The batches from the one that holds `from` to the last that begins before `to`, as a range of
/// the log and in bytes: whole ones while they fit into `most`, but the first one in any case if
/// `always`.
fn batches(
    partition: &PartitionState,
    from: i64,
    to: i64,
    most: usize,
    always: bool,
) -> (std::ops::Range<usize>, usize) {
    let log = &partition.record_batches;
    let first = log.partition_point(|(base, batch)| batch_last_offset(*base, batch) < from);
    let mut bytes = 0;
    let mut end = first;
    for (base, batch) in &log[first..] {
        let fits = bytes + batch.len() <= most || (always && end == first);
        if *base >= to || !fits {
            break;
        }
        bytes += batch.len();
        end += 1;
    }
    (first..end, bytes)
}

fn answer(state: &EngineState, request: &FetchRequest) -> FetchResponse {
    let mut room = request.max_bytes.max(1) as usize;
    let mut any = false;
    let mut response = FetchResponse::default();
    for topic in &request.topics {
        let known = state.topics.get(topic.topic.as_str());
        let mut answered = FetchableTopicResponse::default().with_topic(topic.topic.clone());
        for wanted in &topic.partitions {
            let mut data = PartitionData::default().with_partition_index(wanted.partition);
            match known.and_then(|topic| topic.partitions.get(&wanted.partition)) {
                None => data.error_code = UNKNOWN_TOPIC_OR_PARTITION,
                Some(partition) => {
                    data.high_watermark = partition.high_watermark;
                    data.last_stable_offset = last_stable(partition);
                    data.log_start_offset = partition.log_start_offset;
                    let range = partition.log_start_offset..=partition.high_watermark;
                    if range.contains(&wanted.fetch_offset) {
                        let most = room.min(wanted.partition_max_bytes.max(1) as usize);
                        let bytes = fill(&mut data, partition, request, wanted.fetch_offset, most, !any);
                        room = room.saturating_sub(bytes);
                        any |= bytes > 0;
                    } else {
                        data.error_code = OFFSET_OUT_OF_RANGE;
                    }
                }
            }
            answered.partitions.push(data);
        }
        response.responses.push(answered);
    }
    response
}

/// Puts a partition's batches into the answer; returns their bytes.
fn fill(
    data: &mut PartitionData,
    partition: &PartitionState,
    request: &FetchRequest,
    from: i64,
    most: usize,
    always: bool,
) -> usize {
    let to = visible(partition, request);
    if from >= to {
        return 0;
    }
    let (range, bytes) = batches(partition, from, to, most, always);
    let mut records = Vec::with_capacity(bytes);
    for (_, batch) in &partition.record_batches[range.clone()] {
        records.extend_from_slice(batch);
    }
    if let (1, Some((base, last))) = (request.isolation_level, partition.record_batches[range].last()) {
        let end = batch_last_offset(*base, last);
        let aborted: Vec<AbortedTransaction> = partition
            .aborted_txns
            .iter()
            .filter(|(producer, first)| *first <= end && marker(partition, *producer, *first) >= from)
            .map(|(producer, first)| {
                AbortedTransaction::default()
                    .with_producer_id(ProducerId(*producer))
                    .with_first_offset(*first)
            })
            .collect();
        data.aborted_transactions = Some(aborted);
    }
    data.records = Some(Bytes::from(records));
    bytes
}

/// The offset of the marker that ended the transaction which `producer` began at `first`.
fn marker(partition: &PartitionState, producer: i64, first: i64) -> i64 {
    let log = &partition.record_batches;
    let start = log.partition_point(|(base, _)| *base < first);
    let is_marker = |batch: &[u8]| {
        let control = batch.get(21..23).is_some_and(|word| word[1] & 0x20 != 0);
        control && batch.get(43..51).is_some_and(|id| id == producer.to_be_bytes())
    };
    let ended = log[start..].iter().find(|(_, batch)| is_marker(batch));
    // Not reached: an aborted transaction has its marker, and retention cuts from the front.
    ended.map_or(i64::MAX, |(base, _)| *base)
}
