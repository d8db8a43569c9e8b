//! Groups: waiting for rounds to complete, noticing the dead, refusing zombies' offsets.

use std::time::Duration;

use kafka_protocol::messages::join_group_response::JoinGroupResponseMember;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::{
    GroupId, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest, OffsetCommitRequest,
    OffsetCommitResponse, OffsetFetchRequest, OffsetFetchResponse, SyncGroupRequest, SyncGroupResponse,
    TxnOffsetCommitRequest, TxnOffsetCommitResponse,
};
use kafka_protocol::protocol::StrBytes;
use noida::kafka::engine::{EngineState, GroupLifecycleState as Stage, GroupState};

use super::server::{Caller, Server};

const ILLEGAL_GENERATION: i16 = 22;
const UNKNOWN_MEMBER_ID: i16 = 25;
const REBALANCE_IN_PROGRESS: i16 = 27;
const FENCED_INSTANCE_ID: i16 = 82;
const UNSTABLE_OFFSET_COMMIT: i16 = 88;
/// How often those that wait for a round look again, should nobody wake them.
const LOOK: Duration = Duration::from_millis(50);

impl Server {
    /// Joins a member to its group and waits until the round is complete.
    pub(super) fn join(&self, request: &JoinGroupRequest, caller: &Caller<'_>) -> JoinGroupResponse {
        let mut state = self.lock();
        restart_round(&mut state, request);
        let mut joined = state.handle_join_group(request, caller.version, caller.client_id, caller.host);
        if joined.error_code != 0 {
            return joined;
        }
        let member = joined.member_id.to_string();
        let group_id = request.group_id.as_str();
        if let Some(group) = state.groups.get_mut(group_id) {
            // The engine lets a new group wait 300 ms for more members; nothing here needs that.
            group.initial_until = None;
            group.try_complete_join();
            if group.state == Stage::Stable {
                // A static member came back and nothing else changed: it takes up where it was. It
                // must not think that it leads a round, or it would assign anew without the others.
                joined.leader = StrBytes::default();
                joined.members.clear();
                touch(&mut state, group_id, &member);
                return joined;
            }
        }
        self.wake();
        loop {
            let now = state.now_ms();
            let Some(group) = state.groups.get_mut(group_id) else {
                return refuse_join(joined, UNKNOWN_MEMBER_ID);
            };
            if !group.members.contains_key(&member) {
                let replaced = request.group_instance_id.is_some();
                return refuse_join(joined, if replaced { FENCED_INSTANCE_ID } else { UNKNOWN_MEMBER_ID });
            }
            drop_late(group, now);
            group.try_complete_join();
            if group.state != Stage::PreparingRebalance {
                let answer = completed(group, &joined, &member);
                touch(&mut state, group_id, &member);
                drop(state);
                self.wake();
                return answer;
            }
            if self.is_stopping() {
                return refuse_join(joined, REBALANCE_IN_PROGRESS);
            }
            state = self.wait(state, LOOK);
        }
    }

    /// Gives a member its assignment; a follower waits for the leader's.
    pub(super) fn sync(&self, request: &SyncGroupRequest, version: i16) -> SyncGroupResponse {
        let group_id = request.group_id.as_str();
        let member = request.member_id.as_str();
        let mut state = self.lock();
        loop {
            let waits = state.groups.get(group_id).is_some_and(|group| {
                group.state == Stage::CompletingRebalance
                    && group.members.contains_key(member)
                    && request.assignments.is_empty()
                    && group.leader_id.as_deref() != Some(member)
                    && request.generation_id == group.generation_id
            });
            if !waits || self.is_stopping() {
                touch(&mut state, group_id, member);
                let answer = state.handle_sync_group(request, version);
                drop(state);
                self.wake();
                return answer;
            }
            touch(&mut state, group_id, member);
            state = self.wait(state, LOOK);
        }
    }

    /// Holds offsets for a transaction, unless their member has been replaced or left behind.
    pub(super) fn txn_offset_commit(
        &self,
        request: &TxnOffsetCommitRequest,
        version: i16,
    ) -> TxnOffsetCommitResponse {
        let mut state = self.lock();
        let refused = state.groups.get(request.group_id.as_str()).and_then(|group| {
            let member = request.member_id.as_str();
            if request.generation_id < 0 && member.is_empty() {
                // Offsets of a consumer that is in no group.
                None
            } else if group.is_fenced_instance(request.group_instance_id.as_deref(), member) {
                Some(FENCED_INSTANCE_ID)
            } else if !group.members.contains_key(member) {
                Some(UNKNOWN_MEMBER_ID)
            } else if current(group, member, request.generation_id) != group.generation_id {
                Some(ILLEGAL_GENERATION)
            } else {
                None
            }
        });
        let Some(code) = refused else { return state.handle_txn_offset_commit(request, version) };
        // The engine answers for a transaction of no offsets; the codes are ours.
        let mut nothing = request.clone();
        nothing.topics.clear();
        let mut answer = state.handle_txn_offset_commit(&nothing, version);
        for topic in &request.topics {
            use kafka_protocol::messages::txn_offset_commit_response as response;
            let partitions = topic.partitions.iter().map(|partition| {
                response::TxnOffsetCommitResponsePartition::default()
                    .with_partition_index(partition.partition_index)
                    .with_error_code(code)
            });
            answer.topics.push(
                response::TxnOffsetCommitResponseTopic::default()
                    .with_name(topic.name.clone())
                    .with_partitions(partitions.collect()),
            );
        }
        answer
    }

    /// Commits offsets outside a transaction.
    pub(super) fn offset_commit(&self, request: &OffsetCommitRequest, version: i16) -> OffsetCommitResponse {
        let mut state = self.lock();
        let mut request = request.clone();
        if let Some(group) = state.groups.get(request.group_id.as_str()) {
            let generation = request.generation_id_or_member_epoch;
            request.generation_id_or_member_epoch = current(group, request.member_id.as_str(), generation);
        }
        state.handle_offset_commit(&request, version)
    }

    /// Committed offsets; where the client asks for stable ones, those that an open transaction is
    /// about to change are refused for now, and the client asks again.
    pub(super) fn offset_fetch(&self, request: &OffsetFetchRequest, version: i16) -> OffsetFetchResponse {
        let state = self.lock();
        let mut answer = state.handle_offset_fetch(request, version);
        if !request.require_stable {
            return answer;
        }
        let pending = |group: &str, topic: &str, partition: i32| {
            let offsets = state.txn_pending_offsets.values().flatten();
            offsets.into_iter().any(|offset| {
                let (of_group, of_topic, of_partition) = &offset.key;
                of_group == group && of_topic == topic && *of_partition == partition
            })
        };
        for topic in &mut answer.topics {
            for partition in &mut topic.partitions {
                if pending(request.group_id.as_str(), topic.name.as_str(), partition.partition_index) {
                    partition.error_code = UNSTABLE_OFFSET_COMMIT;
                }
            }
        }
        for group in &mut answer.groups {
            for topic in &mut group.topics {
                for partition in &mut topic.partitions {
                    if pending(group.group_id.as_str(), topic.name.as_str(), partition.partition_index) {
                        partition.error_code = UNSTABLE_OFFSET_COMMIT;
                    }
                }
            }
        }
        answer
    }
}

/// Begins the round anew, as Kafka does, where a static member comes back under way: the leader
/// assigns to the member that it has heard of, and the one that came back would get nothing.
fn restart_round(state: &mut EngineState, request: &JoinGroupRequest) {
    let now = state.now_ms();
    let Some(group) = state.groups.get_mut(request.group_id.as_str()) else { return };
    let comes_back = request.member_id.is_empty()
        && request.group_instance_id.as_deref().is_some_and(|id| group.member_for_instance(id).is_some());
    if comes_back && group.state == Stage::CompletingRebalance {
        group.state = Stage::PreparingRebalance;
        group.generation_id += 1;
        group.rebalance_start_ms = now;
        group.assignments.clear();
        group.awaiting_members.clear();
    }
}

/// The generation that a member's commit counts for. The engine begins a generation when a round
/// begins, Kafka when it is complete: until it has rejoined, a member may still commit what it is
/// about to give back.
fn current(group: &GroupState, member: &str, generation: i32) -> i32 {
    let gives_back = group.state == Stage::PreparingRebalance
        && generation + 1 == group.generation_id
        && !group.awaiting_members.contains_key(member);
    if gives_back { group.generation_id } else { generation }
}

fn refuse_join(mut joined: JoinGroupResponse, code: i16) -> JoinGroupResponse {
    joined.error_code = code;
    joined.generation_id = -1;
    joined.members.clear();
    joined
}

/// A member that has just been answered is alive.
fn touch(state: &mut EngineState, group: &str, member: &str) {
    let now = state.now_ms();
    if let Some(member) = state.groups.get_mut(group).and_then(|group| group.members.get_mut(member)) {
        member.last_heartbeat_ms = now;
    }
}

/// A round that has waited as long as its slowest member may take goes on without those that have
/// not come.
fn drop_late(group: &mut GroupState, now: i64) {
    let patience = group.members.values().map(|member| member.rebalance_timeout_ms).max().unwrap_or(0);
    if group.state == Stage::PreparingRebalance && now - group.rebalance_start_ms >= i64::from(patience) {
        group.members.retain(|member, _| group.awaiting_members.contains_key(member));
    }
}

/// What a member is told when its round is complete: the leader gets everybody's subscription.
fn completed(group: &GroupState, joined: &JoinGroupResponse, member: &str) -> JoinGroupResponse {
    let text = |text: &str| StrBytes::from_string(text.to_owned());
    let leader = group.leader_id.as_deref().unwrap_or_default();
    let mut answer = JoinGroupResponse::default()
        .with_generation_id(group.generation_id)
        .with_protocol_type(Some(text(&group.protocol_type)))
        .with_protocol_name(Some(text(group.protocol_name.as_deref().unwrap_or_default())))
        .with_leader(text(leader))
        .with_member_id(joined.member_id.clone());
    if leader == member {
        for (id, protocols) in &group.awaiting_members {
            let subscription = protocols.iter().find(|(name, _)| Some(name) == group.protocol_name.as_ref());
            let instance = group.members.get(id).and_then(|member| member.group_instance_id.as_deref());
            answer.members.push(
                JoinGroupResponseMember::default()
                    .with_member_id(text(id))
                    .with_group_instance_id(instance.map(text))
                    .with_metadata(subscription.map(|(_, bytes)| bytes.clone().into()).unwrap_or_default()),
            );
        }
    }
    answer
}

/// Takes members out whose session has ended without a heartbeat. Those that wait for a round send
/// none, and are left alone.
pub(super) fn expire(state: &mut EngineState) {
    let now = state.now_ms();
    let mut dead = Vec::new();
    for (group_id, group) in &state.groups {
        for (id, member) in &group.members {
            let silent = now - member.last_heartbeat_ms > i64::from(member.session_timeout_ms);
            if silent && !group.awaiting_members.contains_key(id) {
                dead.push((group_id.clone(), id.clone()));
            }
        }
    }
    for (group, member) in dead {
        tracing::debug!(group, member, "the session of a group's member has ended");
        let leaving = MemberIdentity::default().with_member_id(StrBytes::from_string(member));
        let request = LeaveGroupRequest::default()
            .with_group_id(GroupId(StrBytes::from_string(group)))
            .with_members(vec![leaving]);
        state.handle_leave_group(&request, 3);
    }
}
