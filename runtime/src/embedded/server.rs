//! The listener: frames in, the engine's answers out. A thread for each connection.

use std::collections::BTreeMap;
use std::io::{self, BufReader, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::{
    AddOffsetsToTxnRequest, AddPartitionsToTxnRequest, AlterConfigsRequest, ApiKey, ApiVersionsRequest,
    CreatePartitionsRequest, CreateTopicsRequest, DeleteGroupsRequest, DeleteRecordsRequest,
    DeleteTopicsRequest, DescribeClusterRequest, DescribeConfigsRequest, DescribeGroupsRequest,
    DescribeProducersRequest, DescribeTransactionsRequest, EndTxnRequest, FetchRequest,
    FindCoordinatorRequest, HeartbeatRequest, IncrementalAlterConfigsRequest, InitProducerIdRequest,
    JoinGroupRequest, LeaveGroupRequest, ListGroupsRequest, ListOffsetsRequest, ListTransactionsRequest,
    MetadataRequest, OffsetCommitRequest, OffsetDeleteRequest, OffsetFetchRequest,
    OffsetForLeaderEpochRequest, ProduceRequest, RequestHeader, ResponseHeader, SyncGroupRequest,
    TxnOffsetCommitRequest,
};
use kafka_protocol::protocol::{Decodable, Encodable};
use noida::kafka::engine::EngineState;

use super::{Limits, upkeep};

/// The largest frame: librdkafka's largest message is 1 GB, ours are far smaller.
const LARGEST_FRAME: usize = 128 << 20;
/// The newest fetch that names topics rather than topic ids, which the engine does not give out.
const NEWEST_FETCH: i16 = 12;

/// The engine's state, who waits for it to change, and who is connected.
pub(super) struct Server {
    state: Mutex<EngineState>,
    changed: Condvar,
    pub(super) limits: Limits,
    stopping: AtomicBool,
    connections: Mutex<BTreeMap<u64, TcpStream>>,
}

/// Who asks.
pub(super) struct Caller<'a> {
    pub(super) client_id: &'a str,
    pub(super) host: &'a str,
    pub(super) version: i16,
}

impl Server {
    pub(super) fn new(state: EngineState, limits: Limits) -> Self {
        Self {
            state: Mutex::new(state),
            changed: Condvar::new(),
            limits,
            stopping: AtomicBool::new(false),
            connections: Mutex::default(),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, EngineState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the state up until it may have changed, for `time` at most.
    pub(super) fn wait<'a>(
        &self,
        state: MutexGuard<'a, EngineState>,
        time: Duration,
    ) -> MutexGuard<'a, EngineState> {
        self.changed.wait_timeout(state, time).unwrap_or_else(PoisonError::into_inner).0
    }

    /// Wakes all that wait for a change.
    pub(super) fn wake(&self) {
        self.changed.notify_all();
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    pub(super) fn size_bytes(&self) -> i64 {
        let state = self.lock();
        let partitions = state.topics.values().flat_map(|topic| topic.partitions.values());
        partitions.map(noida::kafka::engine::PartitionState::size_bytes).sum()
    }

    pub(super) fn accept(self: &Arc<Self>, listener: &TcpListener) {
        let mut next = 0;
        for stream in listener.incoming() {
            if self.is_stopping() {
                break;
            }
            let Ok(stream) = stream else { continue };
            let Ok(kept) = stream.try_clone() else { continue };
            next += 1;
            let connection = next;
            self.connections().insert(connection, kept);
            let server = Arc::clone(self);
            let spawned = super::thread("embedded-client", move || {
                if let Err(error) = server.serve(&stream) {
                    tracing::debug!(%error, "a connection to the embedded broker ended");
                }
                server.connections().remove(&connection);
            });
            if spawned.is_err() {
                self.connections().remove(&connection);
            }
        }
    }

    /// Ends all connections and the listener.
    pub(super) fn stop(&self, address: SocketAddr) {
        self.stopping.store(true, Ordering::Relaxed);
        self.wake();
        for stream in self.connections().values() {
            // It may have ended by itself.
            let _gone = stream.shutdown(Shutdown::Both);
        }
        // Wakes the listener, so that it sees the flag.
        let _woken = TcpStream::connect_timeout(&address, Duration::from_secs(1));
    }

    fn connections(&self) -> MutexGuard<'_, BTreeMap<u64, TcpStream>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self, stream: &TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let host = format!("/{}", stream.peer_addr()?.ip());
        let mut reader = BufReader::new(stream);
        let mut writer = stream;
        while let Some(frame) = read_frame(&mut reader)? {
            if self.is_stopping() {
                break;
            }
            if let Some(answer) = self.answer(frame, &host).map_err(io::Error::other)? {
                writer.write_all(&answer)?;
            }
        }
        Ok(())
    }

    /// The answer to one request, framed; none where none is wanted.
    fn answer(&self, mut frame: Bytes, host: &str) -> Result<Option<Bytes>, String> {
        let word = |at: usize| frame.get(at..at + 2).map(|two| i16::from_be_bytes([two[0], two[1]]));
        let (Some(key), Some(version)) = (word(0), word(2)) else {
            return Err("a frame without a header".to_owned());
        };
        let key = ApiKey::try_from(key).map_err(|()| format!("unknown request {key}"))?;
        let header = RequestHeader::decode(&mut frame, key.request_header_version(version))
            .map_err(|error| error.to_string())?;
        let client_id = header.client_id.as_deref().unwrap_or_default();
        let caller = Caller { client_id, host, version };
        let request = Request { key, version, correlation_id: header.correlation_id, body: frame };

        macro_rules! pass_on {
            ($($kind:ident: $body:ident => $handler:ident, $wakes:literal;)*) => {
                match key {
                    $(ApiKey::$kind => {
                        let body: $body = request.body()?;
                        let answer = self.lock().$handler(&body, version);
                        if $wakes {
                            self.wake();
                        }
                        request.answer(&answer, version).map(Some)
                    })*
                    other => Err(format!("{other:?} is not served")),
                }
            };
        }
        match key {
            ApiKey::ApiVersions => self.api_versions(&request).map(Some),
            ApiKey::Fetch => {
                let body: FetchRequest = request.body()?;
                request.answer(&self.fetch(&body), version).map(Some)
            }
            ApiKey::Produce => {
                let body: ProduceRequest = request.body()?;
                let answer = self.lock().handle_produce(&body, version);
                self.wake();
                if body.acks == 0 { Ok(None) } else { request.answer(&answer, version).map(Some) }
            }
            ApiKey::CreateTopics => {
                let mut body: CreateTopicsRequest = request.body()?;
                body.topics.iter_mut().for_each(upkeep::small_segments);
                let answer = self.lock().handle_create_topics(&body, version);
                request.answer(&answer, version).map(Some)
            }
            ApiKey::JoinGroup => {
                let body: JoinGroupRequest = request.body()?;
                request.answer(&self.join(&body, &caller), version).map(Some)
            }
            ApiKey::SyncGroup => {
                let body: SyncGroupRequest = request.body()?;
                request.answer(&self.sync(&body, version), version).map(Some)
            }
            ApiKey::TxnOffsetCommit => {
                let body: TxnOffsetCommitRequest = request.body()?;
                request.answer(&self.txn_offset_commit(&body, version), version).map(Some)
            }
            ApiKey::OffsetCommit => {
                let body: OffsetCommitRequest = request.body()?;
                request.answer(&self.offset_commit(&body, version), version).map(Some)
            }
            ApiKey::OffsetFetch => {
                let body: OffsetFetchRequest = request.body()?;
                request.answer(&self.offset_fetch(&body, version), version).map(Some)
            }
            _ => pass_on! {
                Metadata: MetadataRequest => handle_metadata, false;
                ListOffsets: ListOffsetsRequest => handle_list_offsets, false;
                FindCoordinator: FindCoordinatorRequest => handle_find_coordinator, false;
                Heartbeat: HeartbeatRequest => handle_heartbeat, false;
                LeaveGroup: LeaveGroupRequest => handle_leave_group, true;
                OffsetDelete: OffsetDeleteRequest => handle_offset_delete, false;
                DeleteTopics: DeleteTopicsRequest => handle_delete_topics, true;
                CreatePartitions: CreatePartitionsRequest => handle_create_partitions, false;
                DeleteRecords: DeleteRecordsRequest => handle_delete_records, false;
                DescribeGroups: DescribeGroupsRequest => handle_describe_groups, false;
                ListGroups: ListGroupsRequest => handle_list_groups, false;
                DeleteGroups: DeleteGroupsRequest => handle_delete_groups, false;
                DescribeCluster: DescribeClusterRequest => handle_describe_cluster, false;
                DescribeConfigs: DescribeConfigsRequest => handle_describe_configs, false;
                AlterConfigs: AlterConfigsRequest => handle_alter_configs, false;
                IncrementalAlterConfigs: IncrementalAlterConfigsRequest => handle_incremental_alter_configs, false;
                OffsetForLeaderEpoch: OffsetForLeaderEpochRequest => handle_offset_for_leader_epoch, false;
                InitProducerId: InitProducerIdRequest => handle_init_producer_id, true;
                AddPartitionsToTxn: AddPartitionsToTxnRequest => handle_add_partitions_to_txn, false;
                AddOffsetsToTxn: AddOffsetsToTxnRequest => handle_add_offsets_to_txn, false;
                EndTxn: EndTxnRequest => handle_end_txn, true;
                DescribeTransactions: DescribeTransactionsRequest => handle_describe_transactions, false;
                ListTransactions: ListTransactionsRequest => handle_list_transactions, false;
                DescribeProducers: DescribeProducersRequest => handle_describe_producers, false;
            },
        }
    }

    fn api_versions(&self, request: &Request) -> Result<Bytes, String> {
        let newest = 3;
        let spoken = (0..=newest).contains(&request.version);
        if spoken {
            // It must be well-formed; what it says of the client's software is of no use here.
            let _client: ApiVersionsRequest = request.body()?;
        }
        let mut answer = self.lock().handle_api_versions(request.version.min(newest));
        for api in &mut answer.api_keys {
            if api.api_key == ApiKey::Fetch as i16 {
                api.max_version = NEWEST_FETCH;
            }
        }
        if !spoken {
            // UNSUPPORTED_VERSION, in the form that every client reads; it then asks again.
            answer.error_code = 35;
        }
        request.answer(&answer, if spoken { request.version } else { 0 })
    }
}

/// A request whose header has been read.
struct Request {
    key: ApiKey,
    version: i16,
    correlation_id: i32,
    body: Bytes,
}

impl Request {
    fn body<T: Decodable>(&self) -> Result<T, String> {
        T::decode(&mut self.body.clone(), self.version).map_err(|error| format!("{:?}: {error}", self.key))
    }

    fn answer(&self, answer: &impl Encodable, version: i16) -> Result<Bytes, String> {
        let mut frame = BytesMut::with_capacity(256);
        frame.extend_from_slice(&[0; 4]);
        let header = ResponseHeader::default().with_correlation_id(self.correlation_id);
        header
            .encode(&mut frame, self.key.response_header_version(version))
            .and_then(|()| answer.encode(&mut frame, version))
            .map_err(|error| format!("{:?}: {error}", self.key))?;
        let length = (frame.len() - 4) as u32;
        frame[..4].copy_from_slice(&length.to_be_bytes());
        Ok(frame.freeze())
    }
}

/// One length-prefixed frame; `None` when the other side has closed the connection.
fn read_frame(reader: &mut impl io::Read) -> io::Result<Option<Bytes>> {
    let mut length = [0; 4];
    match reader.read_exact(&mut length) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let length = u32::from_be_bytes(length) as usize;
    if length > LARGEST_FRAME {
        return Err(io::Error::other(format!("a frame of {length} bytes")));
    }
    let mut frame = Vec::with_capacity(length);
    reader.take(length as u64).read_to_end(&mut frame)?;
    if frame.len() < length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(Some(frame.into()))
}
