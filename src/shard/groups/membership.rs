//! What members say: JoinGroup, SyncGroup, Heartbeat, LeaveGroup, ConsumerGroupHeartbeat.

use std::sync::Arc;

use bytes::Bytes;

use super::Shape;
use crate::coordinator::group::{
    ConsumerHeartbeatReply, ConsumerHeartbeatRequest, GroupReply, GroupRequest, HeartbeatRequest, JoinReply,
    JoinRequest, LeaveReply, LeaveRequest, LeavingMember, SyncReply, SyncRequest,
};
use crate::error_code::ErrorCode;
use crate::protocol::consumer_group_heartbeat::{Assignment, TopicPartitions};
use crate::protocol::join_group::JoinGroupResponseMember;
use crate::protocol::leave_group::MemberResponse;
use crate::protocol::{self, leave_group};
use crate::protocol::{
    ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, DecodeError, HeartbeatResponse, JoinGroupRequest,
    JoinGroupResponse, LeaveGroupRequest, LeaveGroupResponse, Reader, SyncGroupRequest, SyncGroupResponse,
};
use crate::shard::connection::Caller;
use crate::shard::{Effect, Shard};
use crate::types::Time;

/// First version in which a member is told its id before it is let in (KIP-394).
const KNOWN_MEMBER_FROM_VERSION: i16 = 4;
/// First version in which a leader can be told not to assign (KIP-814).
const SKIP_ASSIGNMENT_FROM_VERSION: i16 = 9;
/// First version of LeaveGroup in which several leave at once (KIP-345).
const SEVERAL_LEAVE_FROM_VERSION: i16 = 3;

impl Shard {
    pub(in crate::shard) fn on_join_group(
        &mut self,
        now: Time,
        caller: Caller,
        client_id: &str,
        body: &[u8],
        effects: &mut Vec<Effect>,
    ) -> Result<(), DecodeError> {
        let version = caller.api_version;
        let request = JoinGroupRequest::decode(&mut Reader::new(body), version)?;
        let protocols = request.protocols.iter();
        let request = JoinRequest {
            group: request.group_id.into(),
            client: self.client_of(caller, client_id),
            member: request.member_id.into(),
            instance: request.group_instance_id.map(Arc::from),
            session_timeout_ms: request.session_timeout_ms,
            // Version 0 did not have it apart.
            rebalance_timeout_ms: match request.rebalance_timeout_ms {
                timeout_ms if timeout_ms < 0 => request.session_timeout_ms,
                timeout_ms => timeout_ms,
            },
            protocol_type: request.protocol_type.into(),
            protocols: protocols.map(|row| (Arc::from(row.name), Bytes::copy_from_slice(row.metadata))).collect(),
            requires_known_member: version >= KNOWN_MEMBER_FROM_VERSION,
            can_skip_assignment: version >= SKIP_ASSIGNMENT_FROM_VERSION,
        };
        self.call_member(now, caller, body, GroupRequest::Join(request), effects);
        Ok(())
    }

    pub(in crate::shard) fn on_sync_group(
        &mut self,
        now: Time,
        caller: Caller,
        body: &[u8],
        effects: &mut Vec<Effect>,
    ) -> Result<(), DecodeError> {
        let request = SyncGroupRequest::decode(&mut Reader::new(body), caller.api_version)?;
        let assignments = request.assignments.iter();
        let request = SyncRequest {
            group: request.group_id.into(),
            generation: request.generation_id,
            member: request.member_id.into(),
            instance: request.group_instance_id.map(Arc::from),
            protocol_type: request.protocol_type.map(Arc::from),
            protocol: request.protocol_name.map(Arc::from),
            assignments: assignments
                .map(|row| (Arc::from(row.member_id), Bytes::copy_from_slice(row.assignment)))
                .collect(),
        };
        self.call_member(now, caller, body, GroupRequest::Sync(request), effects);
        Ok(())
    }

    pub(in crate::shard) fn on_heartbeat(
        &mut self,
        now: Time,
        caller: Caller,
        body: &[u8],
        effects: &mut Vec<Effect>,
    ) -> Result<(), DecodeError> {
        let request = protocol::HeartbeatRequest::decode(&mut Reader::new(body), caller.api_version)?;
        let request = HeartbeatRequest {
            group: request.group_id.into(),
            generation: request.generation_id,
            member: request.member_id.into(),
            instance: request.group_instance_id.map(Arc::from),
        };
        self.call_member(now, caller, body, GroupRequest::Heartbeat(request), effects);
        Ok(())
    }

    pub(in crate::shard) fn on_leave_group(
        &mut self,
        now: Time,
        caller: Caller,
        body: &[u8],
        effects: &mut Vec<Effect>,
    ) -> Result<(), DecodeError> {
        let request = LeaveGroupRequest::decode(&mut Reader::new(body), caller.api_version)?;
        let members = match caller.api_version {
            SEVERAL_LEAVE_FROM_VERSION.. => {
                let member = |row: &leave_group::MemberIdentity| LeavingMember {
                    member: row.member_id.into(),
                    instance: row.group_instance_id.map(Arc::from),
                };
                request.members.iter().map(member).collect()
            }
            _ => vec![LeavingMember { member: request.member_id.into(), instance: None }],
        };
        let request = LeaveRequest { group: request.group_id.into(), members };
        self.call_member(now, caller, body, GroupRequest::Leave(request), effects);
        Ok(())
    }

    pub(in crate::shard) fn on_consumer_group_heartbeat(
        &mut self,
        now: Time,
        caller: Caller,
        client_id: &str,
        body: &[u8],
        effects: &mut Vec<Effect>,
    ) -> Result<(), DecodeError> {
        let request = ConsumerGroupHeartbeatRequest::decode(&mut Reader::new(body), caller.api_version)?;
        let topics = |topics: &Vec<&str>| topics.iter().map(|name| Arc::from(*name)).collect();
        let owned =
            |rows: &Vec<TopicPartitions>| rows.iter().map(|row| (row.topic_id, row.partitions.clone())).collect();
        let request = ConsumerHeartbeatRequest {
            group: request.group_id.into(),
            client: self.client_of(caller, client_id),
            member: request.member_id.into(),
            member_epoch: request.member_epoch,
            instance: request.instance_id.map(Arc::from),
            rack: request.rack_id.map(Arc::from),
            rebalance_timeout_ms: request.rebalance_timeout_ms,
            subscribed_topics: request.subscribed_topic_names.as_ref().map(topics),
            subscribed_regex: request.subscribed_topic_regex.map(Arc::from),
            server_assignor: request.server_assignor.map(Arc::from),
            owned: request.topic_partitions.as_ref().map(owned),
            api_version: caller.api_version,
        };
        self.call_member(now, caller, body, GroupRequest::ConsumerHeartbeat(request), effects);
        Ok(())
    }

    /// What a member says may end up in one record, and a record must fit the journal.
    fn call_member(
        &mut self,
        now: Time,
        caller: Caller,
        body: &[u8],
        request: GroupRequest,
        effects: &mut Vec<Effect>,
    ) {
        if body.len() > self.config.group_record_bytes_max() / 2 {
            let refusal = request.refuse(ErrorCode::InvalidRequest);
            return self.answer_member(caller, &refusal, effects);
        }
        self.call_groups(now, caller, Shape::One, vec![request], effects);
    }

    pub(super) fn answer_member(&mut self, caller: Caller, reply: &GroupReply, effects: &mut Vec<Effect>) {
        match reply {
            GroupReply::Join(reply) => self.answer_join_group(caller, reply, effects),
            GroupReply::Sync(reply) => self.answer_sync_group(caller, reply, effects),
            GroupReply::Heartbeat(error_code) => {
                let response = HeartbeatResponse { error_code: error_code.code(), ..Default::default() };
                self.respond(caller, effects, |writer| response.encode(writer, caller.api_version));
            }
            GroupReply::Leave(reply) => self.answer_leave_group(caller, reply, effects),
            GroupReply::ConsumerHeartbeat(reply) => self.answer_consumer_heartbeat(caller, reply, effects),
            other => panic!("no member asks for {other:?}"),
        }
    }

    fn answer_join_group(&mut self, caller: Caller, reply: &JoinReply, effects: &mut Vec<Effect>) {
        let response = JoinGroupResponse {
            error_code: reply.error_code.code(),
            generation_id: reply.generation,
            protocol_type: reply.protocol_type.as_deref(),
            protocol_name: reply.protocol.as_deref(),
            leader: &reply.leader,
            skip_assignment: reply.skip_assignment,
            member_id: &reply.member,
            members: reply
                .members
                .iter()
                .map(|row| JoinGroupResponseMember {
                    member_id: &row.member,
                    group_instance_id: row.instance.as_deref(),
                    metadata: &row.metadata,
                })
                .collect(),
            ..Default::default()
        };
        self.respond(caller, effects, |writer| response.encode(writer, caller.api_version));
    }

    fn answer_sync_group(&mut self, caller: Caller, reply: &SyncReply, effects: &mut Vec<Effect>) {
        let response = SyncGroupResponse {
            error_code: reply.error_code.code(),
            protocol_type: reply.protocol_type.as_deref(),
            protocol_name: reply.protocol.as_deref(),
            assignment: &reply.assignment,
            ..Default::default()
        };
        self.respond(caller, effects, |writer| response.encode(writer, caller.api_version));
    }

    fn answer_leave_group(&mut self, caller: Caller, reply: &LeaveReply, effects: &mut Vec<Effect>) {
        let members = reply.members.iter().map(|(member, error_code)| MemberResponse {
            member_id: &member.member,
            group_instance_id: member.instance.as_deref(),
            error_code: error_code.code(),
        });
        let members: Vec<_> = members.collect();
        // Where only one can leave, the whole answer is about it.
        let alone = members.first().filter(|_| caller.api_version < SEVERAL_LEAVE_FROM_VERSION);
        let error_code = match reply.error_code {
            ErrorCode::None => alone.map_or(0, |member| member.error_code),
            error_code => error_code.code(),
        };
        let response = LeaveGroupResponse { error_code, members, ..Default::default() };
        self.respond(caller, effects, |writer| response.encode(writer, caller.api_version));
    }

    fn answer_consumer_heartbeat(&mut self, caller: Caller, reply: &ConsumerHeartbeatReply, effects: &mut Vec<Effect>) {
        let row = |(topic_id, partitions): &(crate::types::TopicId, Vec<i32>)| TopicPartitions {
            topic_id: *topic_id,
            partitions: partitions.clone(),
        };
        let assignment = reply.assignment.as_ref();
        let response = ConsumerGroupHeartbeatResponse {
            error_code: reply.error_code.code(),
            error_message: reply.error_message.as_deref(),
            member_id: reply.member.as_deref(),
            member_epoch: reply.member_epoch,
            heartbeat_interval_ms: reply.heartbeat_interval_ms,
            assignment: assignment.map(|rows| Assignment { topic_partitions: rows.iter().map(row).collect() }),
            ..Default::default()
        };
        self.respond(caller, effects, |writer| response.encode(writer, caller.api_version));
    }
}
