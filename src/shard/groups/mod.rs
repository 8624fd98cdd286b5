//! Requests about groups. On the core that the client is connected to, a request is taken apart by the partitions of
//! `__consumer_offsets` that its groups belong to, each part goes to the core that owns it, and the answer leaves when all
//! have replied. Nothing is decided here.

mod admin;
mod find;
mod load;
mod membership;
mod offsets;
mod owner;

use std::sync::Arc;

pub(super) use find::WantedCoordinators;
pub(super) use load::Loads;
pub(super) use owner::Coordinators;

use super::connection::Caller;
use super::{Effect, Message, Shard, Ticket, by_owner};
use crate::coordinator::group::{Client, GroupId, GroupReply, GroupRequest};
use crate::error_code::ErrorCode;
use crate::types::{Map, PartitionId, Time};

/// Kafka's name of the topic in which groups are kept.
pub const OFFSETS_TOPIC: &str = "__consumer_offsets";

/// One request for a group of one partition, from the core that was asked.
#[derive(Debug)]
pub struct AskedOfGroup {
    /// Position in the request, for the answer.
    pub part: u32,
    pub partition: PartitionId,
    pub request: GroupRequest,
}

#[derive(Debug)]
pub struct GroupAnswer {
    pub part: u32,
    pub reply: GroupReply,
}

#[derive(Default)]
pub(super) struct GroupCalls {
    pending: Map<Ticket, PendingCall>,
}

struct PendingCall {
    caller: Caller,
    shape: Shape,
    replies: Vec<Option<GroupReply>>,
}

/// What of the request the answer has to repeat.
enum Shape {
    /// The reply says it all.
    One,
    Commit(Vec<offsets::CommitShape>),
    Fetch(Vec<offsets::FetchShape>),
    DeleteOffsets(Vec<offsets::DeleteShape>),
    List,
    Describe {
        with_operations: bool,
    },
    ConsumerDescribe {
        with_operations: bool,
    },
    Delete(Vec<GroupId>),
}

/// Bits of the operations that a group allows, of which a broker without access control refuses none: read, delete,
/// describe, describe configs, alter configs.
const GROUP_OPERATIONS: i32 = 1 << 3 | 1 << 6 | 1 << 8 | 1 << 10 | 1 << 11;

/// Which partition of `__consumer_offsets` a group belongs to: Kafka's own rule, by the hash of a Java string.
pub fn partition_of_group(group: &str, partitions: i32) -> i32 {
    assert!(partitions > 0);
    let hash = group.encode_utf16().fold(0i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)));
    // As in Java's `Utils.abs`, the one number without a positive counterpart counts as zero.
    hash.checked_abs().unwrap_or(0) % partitions
}

/// Topics that only the broker writes to.
pub(super) fn is_internal_topic(name: &str) -> bool {
    name == OFFSETS_TOPIC || name == "__transaction_state"
}

/// What a client wrote there would be taken for a decision of a coordinator.
pub(super) fn refuse_clients(topic: &str) -> Option<ErrorCode> {
    is_internal_topic(topic).then_some(ErrorCode::InvalidTopicException)
}

impl Shard {
    /// The partition that this group belongs to; `None` before there is a topic to keep groups in.
    fn partition_of(&self, group: &str) -> Option<PartitionId> {
        let topic = self.image.topic(OFFSETS_TOPIC)?;
        let partitions = i32::try_from(topic.partitions.len()).ok().filter(|&partitions| partitions > 0)?;
        Some(PartitionId { topic: topic.id, index: partition_of_group(group, partitions) })
    }

    /// Those of `__consumer_offsets` that this core owns, in order.
    pub(super) fn partitions_of_groups(&self) -> Vec<PartitionId> {
        let topic = self.image.topic(OFFSETS_TOPIC);
        let partitions = topic.map_or(0, |topic| topic.partitions.len() as i32);
        let partitions = (0..partitions).filter_map(|index| Some(PartitionId { topic: topic?.id, index }));
        partitions.filter(|partition| self.partitions.contains_key(partition)).collect()
    }

    /// Asks each group's core. Without a partition a part is answered here: nobody coordinates the group yet.
    fn call_groups(
        &mut self,
        now: Time,
        caller: Caller,
        shape: Shape,
        requests: Vec<GroupRequest>,
        effects: &mut Vec<Effect>,
    ) {
        let partitions = requests.iter().map(|request| request.group().and_then(|group| self.partition_of(group)));
        let partitions: Vec<_> = partitions.collect();
        self.call_partitions(now, caller, shape, partitions.into_iter().zip(requests).collect(), effects);
    }

    fn call_partitions(
        &mut self,
        now: Time,
        caller: Caller,
        shape: Shape,
        requests: Vec<(Option<PartitionId>, GroupRequest)>,
        effects: &mut Vec<Effect>,
    ) {
        let mut call = PendingCall { caller, shape, replies: Vec::with_capacity(requests.len()) };
        let mut asked = Vec::with_capacity(requests.len());
        for (part, (partition, request)) in requests.into_iter().enumerate() {
            let refused = match partition {
                None => Some(request.refuse(ErrorCode::CoordinatorNotAvailable)),
                Some(partition) if !self.leads(partition) => Some(request.refuse(ErrorCode::NotCoordinator)),
                Some(partition) => {
                    asked.push((self.owner_of(partition), AskedOfGroup { part: part as u32, partition, request }));
                    None
                }
            };
            call.replies.push(refused);
        }
        if asked.is_empty() {
            return self.answer_groups(call, effects);
        }
        let ticket = self.token();
        self.group_calls.pending.insert(ticket, call);
        for (owner, requests) in by_owner(asked) {
            if owner == self.id {
                self.on_group_requests(now, owner, ticket, requests, effects);
            } else {
                effects.push(Effect::Send { to: owner, message: Message::Groups { ticket, requests } });
            }
        }
    }

    /// This broker leads the partition, so one of its cores coordinates the groups in it.
    fn leads(&self, partition: PartitionId) -> bool {
        let state = self.image.partition(partition);
        state.is_some_and(|state| self.offline.leader_of(partition, state) == Some(self.config.node_id))
    }

    /// A core has replied to its part.
    pub(super) fn on_group_replies(
        &mut self,
        _now: Time,
        ticket: Ticket,
        replies: Vec<GroupAnswer>,
        effects: &mut Vec<Effect>,
    ) {
        let Some(call) = self.group_calls.pending.get_mut(&ticket) else { return };
        for GroupAnswer { part, reply } in replies {
            call.replies[part as usize] = Some(reply);
        }
        if call.replies.iter().all(Option::is_some) {
            let call = self.group_calls.pending.remove(&ticket).expect("just seen");
            self.answer_groups(call, effects);
        }
    }

    fn answer_groups(&mut self, call: PendingCall, effects: &mut Vec<Effect>) {
        let PendingCall { caller, shape, replies } = call;
        let replies: Vec<GroupReply> = replies.into_iter().flatten().collect();
        match shape {
            Shape::One => self.answer_member(caller, &replies[0], effects),
            Shape::Commit(topics) => self.answer_offset_commit(caller, &topics, replies.first(), effects),
            Shape::Fetch(groups) => self.answer_offset_fetch(caller, &groups, &replies, effects),
            Shape::DeleteOffsets(topics) => self.answer_offset_delete(caller, &topics, &replies[0], effects),
            Shape::List => self.answer_list_groups(caller, &replies, effects),
            Shape::Describe { with_operations } => {
                self.answer_describe_groups(caller, with_operations, &replies, effects);
            }
            Shape::ConsumerDescribe { with_operations } => {
                self.answer_consumer_describe(caller, with_operations, &replies, effects);
            }
            Shape::Delete(groups) => self.answer_delete_groups(caller, &groups, &replies, effects),
        }
    }

    /// Who asks, as DescribeGroups tells it.
    fn client_of(&self, caller: Caller, client_id: &str) -> Client {
        let host = self.connections.get(&caller.connection).map(|connection| connection.peer.clone());
        Client { id: client_id.into(), host: host.unwrap_or_else(|| Arc::from("/")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_belongs_to_the_partition_that_kafka_says() {
        // Java: "abc".hashCode() = 96354, "polygenelubricants".hashCode() = Integer.MIN_VALUE, "ä𝄞".hashCode() = 1991502.
        assert_eq!(partition_of_group("", 50), 0);
        assert_eq!(partition_of_group("abc", 50), 96_354 % 50);
        assert_eq!(partition_of_group("polygenelubricants", 50), 0);
        assert_eq!(partition_of_group("ä𝄞", 50), 1_991_502 % 50);
        assert_eq!(partition_of_group("anything", 1), 0);
    }
}
