//! ListGroups, DescribeGroups, ConsumerGroupDescribe, DeleteGroups.

use std::sync::Arc;

use super::{GROUP_OPERATIONS, OFFSETS_TOPIC, Shape};
use crate::coordinator::group::{ConsumerDescribeReply, GroupId, GroupReply, GroupRequest, ListRequest};
use crate::error_code::ErrorCode;
use crate::protocol::consumer_group_describe::{Assignment, Member, TopicPartitions};
use crate::protocol::delete_groups::DeletableGroupResult;
use crate::protocol::describe_groups::{DescribedGroup, DescribedGroupMember};
use crate::protocol::list_groups::ListedGroup;
use crate::protocol::{
    ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse, DecodeError, DeleteGroupsRequest,
    DeleteGroupsResponse, DescribeGroupsRequest, DescribeGroupsResponse, ListGroupsRequest, ListGroupsResponse, Reader,
    consumer_group_describe,
};
use crate::shard::connection::Caller;
use crate::shard::{Effect, Shard};
use crate::types::{PartitionId, Time, TopicId};

/// First version of DescribeGroups that tells a group which does not exist from a dead one (KIP-1043).
const NOT_FOUND_FROM_VERSION: i16 = 6;

impl Shard {
    /// Asks every partition that this node leads: clients put the answers of all nodes together.
    pub(in crate::shard) fn on_list_groups(
        &mut self,
        now: Time,
        caller: Caller,
        body: &[u8],
        effects: &mut Vec<Effect>,
    ) -> Result<(), DecodeError> {
        let request = ListGroupsRequest::decode(&mut Reader::new(body), caller.api_version)?;
        let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        let filter = ListRequest { states: owned(&request.states_filter), types: owned(&request.types_filter) };
        let topic = self.image.topic(OFFSETS_TOPIC);
        let partitions = topic.map_or(0, |topic| topic.partitions.len() as i32);
        let partitions = (0..partitions).filter_map(|index| Some(PartitionId { topic: topic?.id, index }));
        let is_here = |partition: PartitionId| !self.is_node() || self.owner_of(partition) == self.id;
        let led = partitions.filter(|partition| self.leads(*partition) && is_here(*partition));
        let requests = led.map(|partition| (Some(partition), GroupRequest::List(filter.clone()))).collect();
        self.call_partitions(now, caller, Shape::List, requests, effects);
        Ok(())
    }

    pub(super) fn answer_list_groups(&mut self, caller: Caller, replies: &[GroupReply], effects: &mut Vec<Effect>) {
        let mut response = ListGroupsResponse::default();
        for reply in replies {
            match reply {
                GroupReply::List(Ok(groups)) => response.groups.extend(groups.iter().map(|group| ListedGroup {
                    group_id: &group.group,
                    protocol_type: &group.protocol_type,
                    group_state: group.state,
                    group_type: group.group_type,
                })),
                // It went elsewhere, and is listed there.
                GroupReply::List(Err(ErrorCode::NotCoordinator)) => {}
                GroupReply::List(Err(error_code)) => response.error_code = error_code.code(),
                other => panic!("groups were listed, not {other:?}"),
            }
        }
        self.respond(caller, effects, |writer| response.encode(writer, caller.api_version));
    }

    pub(in crate::shard) fn on_describe_groups(
        &mut self,
        now: Time,
        caller: Caller,
        body: &[u8],
        effects: &mut Vec<Effect>,
    ) -> Result<(), DecodeError> {
        let request = DescribeGroupsRequest::decode(&mut Reader::new(body), caller.api_version)?;
        let requests = request.groups.iter().map(|group| GroupRequest::Describe { group: (*group).into() }).collect();
        let shape = Shape::Describe { with_operations: request.include_authorized_operations };
        self.call_groups(now, caller, shape, requests, effects);
        Ok(())
    }

    pub(super) fn answer_describe_groups(
        &mut self,
        caller: Caller,
        with_operations: bool,
        replies: &[GroupReply],
        effects: &mut Vec<Effect>,
    ) {
        let groups = replies.iter().map(|reply| match reply {
            GroupReply::Describe(group) => described_group(group, caller.api_version, with_operations),
            other => panic!("groups were described, not {other:?}"),
        });
        let response = DescribeGroupsResponse { groups: groups.collect(), ..Default::default() };
        self.respond(caller, effects, |writer| response.encode(writer, caller.api_version));
    }

    pub(in crate::shard) fn on_consumer_group_describe(
        &mut self,
        now: Time,
        caller: Caller,
        body: &[u8],
        effects: &mut Vec<Effect>,
    ) -> Result<(), DecodeError> {
        let request = ConsumerGroupDescribeRequest::decode(&mut Reader::new(body), caller.api_version)?;
        let groups = request.group_ids.iter();
        let requests = groups.map(|group| GroupRequest::ConsumerDescribe { group: (*group).into() }).collect();
        let shape = Shape::ConsumerDescribe { with_operations: request.include_authorized_operations };
        self.call_groups(now, caller, shape, requests, effects);
        Ok(())
    }

    pub(super) fn answer_consumer_describe(
        &mut self,
        caller: Caller,
        with_operations: bool,
        replies: &[GroupReply],
        effects: &mut Vec<Effect>,
    ) {
        let groups = replies.iter().map(|reply| match reply {
            GroupReply::ConsumerDescribe(group) => described_consumer_group(group, with_operations),
            other => panic!("groups were described, not {other:?}"),
        });
        let response = ConsumerGroupDescribeResponse { groups: groups.collect(), ..Default::default() };
        self.respond(caller, effects, |writer| response.encode(writer, caller.api_version));
    }

    pub(in crate::shard) fn on_delete_groups(
        &mut self,
        now: Time,
        caller: Caller,
        body: &[u8],
        effects: &mut Vec<Effect>,
    ) -> Result<(), DecodeError> {
        let request = DeleteGroupsRequest::decode(&mut Reader::new(body), caller.api_version)?;
        let groups: Vec<GroupId> = request.groups_names.iter().map(|group| (*group).into()).collect();
        let requests = groups.iter().map(|group| GroupRequest::Delete { group: group.clone() }).collect();
        self.call_groups(now, caller, Shape::Delete(groups), requests, effects);
        Ok(())
    }

    pub(super) fn answer_delete_groups(
        &mut self,
        caller: Caller,
        groups: &[GroupId],
        replies: &[GroupReply],
        effects: &mut Vec<Effect>,
    ) {
        let results = groups.iter().zip(replies).map(|(group_id, reply)| match reply {
            GroupReply::Delete(error_code) => DeletableGroupResult { group_id, error_code: error_code.code() },
            other => panic!("groups were deleted, not {other:?}"),
        });
        let response = DeleteGroupsResponse { results: results.collect(), ..Default::default() };
        self.respond(caller, effects, |writer| response.encode(writer, caller.api_version));
    }
}

fn described_group(
    group: &crate::coordinator::group::DescribedGroup,
    api_version: i16,
    with_operations: bool,
) -> DescribedGroup<'_> {
    let missing = group.error_code == ErrorCode::GroupIdNotFound;
    let members = group.members.iter().map(|row| DescribedGroupMember {
        member_id: &row.member,
        group_instance_id: row.instance.as_deref(),
        client_id: &row.client.id,
        client_host: &row.client.host,
        member_metadata: &row.metadata,
        member_assignment: &row.assignment,
    });
    DescribedGroup {
        error_code: if missing && api_version < NOT_FOUND_FROM_VERSION { 0 } else { group.error_code.code() },
        error_message: group.error_message.as_deref(),
        group_id: &group.group,
        group_state: if missing { "Dead" } else { group.state },
        protocol_type: &group.protocol_type,
        protocol_data: &group.protocol,
        members: members.collect(),
        authorized_operations: operations(with_operations && group.error_code == ErrorCode::None),
    }
}

fn described_consumer_group(
    group: &ConsumerDescribeReply,
    with_operations: bool,
) -> consumer_group_describe::DescribedGroup<'_> {
    let members = group.members.iter().map(|row| Member {
        member_id: &row.member,
        instance_id: row.instance.as_deref(),
        rack_id: row.rack.as_deref(),
        member_epoch: row.member_epoch,
        client_id: &row.client.id,
        client_host: &row.client.host,
        subscribed_topic_names: row.subscribed_topics.iter().map(|name| &**name).collect(),
        subscribed_topic_regex: row.subscribed_regex.as_deref(),
        assignment: assignment(&row.assignment),
        target_assignment: assignment(&row.target),
        member_type: row.member_type,
    });
    consumer_group_describe::DescribedGroup {
        error_code: group.error_code.code(),
        error_message: group.error_message.as_deref(),
        group_id: &group.group,
        group_state: group.state,
        group_epoch: group.group_epoch,
        assignment_epoch: group.assignment_epoch,
        assignor_name: &group.assignor,
        members: members.collect(),
        authorized_operations: operations(with_operations && group.error_code == ErrorCode::None),
    }
}

fn assignment(rows: &[(TopicId, Arc<str>, Vec<i32>)]) -> Assignment<'_> {
    let rows = rows.iter().map(|(topic_id, topic_name, partitions)| TopicPartitions {
        topic_id: *topic_id,
        topic_name,
        partitions: partitions.clone(),
    });
    Assignment { topic_partitions: rows.collect() }
}

/// As Kafka says it: a bit for each operation, the least number where nobody asked.
fn operations(asked: bool) -> i32 {
    if asked { GROUP_OPERATIONS } else { i32::MIN }
}
