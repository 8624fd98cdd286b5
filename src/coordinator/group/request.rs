//! What groups are asked and what they answer: plain, owned, the same for every version of the wire. Every request is
//! about one group of one partition of `__consumer_offsets`; the shard takes requests about many groups apart.

use std::sync::Arc;

use bytes::Bytes;

use super::consumer::{ConsumerDescribeReply, ConsumerHeartbeatReply, ConsumerHeartbeatRequest};
use crate::error_code::ErrorCode;
use crate::types::{LeaderEpoch, Offset, Timestamp, TopicId};

/// Names a request until its reply is released; the shard's.
pub type GroupTicket = u64;
pub type GroupId = Arc<str>;
pub type MemberId = Arc<str>;

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum GroupRequest {
    Join(JoinRequest),
    Sync(SyncRequest),
    Heartbeat(HeartbeatRequest),
    Leave(LeaveRequest),
    OffsetCommit(OffsetCommitRequest),
    OffsetFetch(OffsetFetchRequest),
    OffsetDelete(OffsetDeleteRequest),
    /// All groups of the partition.
    List(ListRequest),
    Describe {
        group: GroupId,
    },
    Delete {
        group: GroupId,
    },
    /// KIP-848
    ConsumerHeartbeat(ConsumerHeartbeatRequest),
    ConsumerDescribe {
        group: GroupId,
    },
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum GroupReply {
    Join(JoinReply),
    Sync(SyncReply),
    Heartbeat(ErrorCode),
    Leave(LeaveReply),
    OffsetCommit(OffsetCommitReply),
    OffsetFetch(OffsetFetchReply),
    OffsetDelete(OffsetDeleteReply),
    List(Result<Vec<ListedGroup>, ErrorCode>),
    Describe(DescribedGroup),
    Delete(ErrorCode),
    ConsumerHeartbeat(ConsumerHeartbeatReply),
    ConsumerDescribe(ConsumerDescribeReply),
}

/// Who asks, for those who look at the group later.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Client {
    pub id: Arc<str>,
    /// As Kafka writes it: `/127.0.0.1`.
    pub host: Arc<str>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct JoinRequest {
    pub group: GroupId,
    pub client: Client,
    /// Empty for a member that has no id yet.
    pub member: MemberId,
    /// `group.instance.id` of a static member (KIP-345).
    pub instance: Option<Arc<str>>,
    pub session_timeout_ms: i32,
    pub rebalance_timeout_ms: i32,
    pub protocol_type: Arc<str>,
    /// Assignment strategies and what the member says to each, its favourite first.
    pub protocols: Vec<(Arc<str>, Bytes)>,
    /// The member is told its id and comes again with it, so that a lost answer leaves no ghost (KIP-394; from version 4).
    pub requires_known_member: bool,
    /// The client can be told that it leads and need not assign (KIP-814; from version 9).
    pub can_skip_assignment: bool,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct JoinReply {
    pub error_code: ErrorCode,
    pub generation: i32,
    pub protocol_type: Option<Arc<str>>,
    pub protocol: Option<Arc<str>>,
    pub leader: MemberId,
    pub skip_assignment: bool,
    pub member: MemberId,
    /// For the leader only.
    pub members: Vec<JoinedMember>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct JoinedMember {
    pub member: MemberId,
    pub instance: Option<Arc<str>>,
    pub metadata: Bytes,
}

impl JoinReply {
    pub fn error(error_code: ErrorCode, member: MemberId) -> JoinReply {
        JoinReply {
            error_code,
            generation: -1,
            protocol_type: None,
            protocol: None,
            leader: "".into(),
            skip_assignment: false,
            member,
            members: Vec::new(),
        }
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SyncRequest {
    pub group: GroupId,
    pub generation: i32,
    pub member: MemberId,
    pub instance: Option<Arc<str>>,
    pub protocol_type: Option<Arc<str>>,
    pub protocol: Option<Arc<str>>,
    /// By member; from the leader only.
    pub assignments: Vec<(MemberId, Bytes)>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SyncReply {
    pub error_code: ErrorCode,
    pub protocol_type: Option<Arc<str>>,
    pub protocol: Option<Arc<str>>,
    pub assignment: Bytes,
}

impl SyncReply {
    pub fn error(error_code: ErrorCode) -> SyncReply {
        SyncReply { error_code, protocol_type: None, protocol: None, assignment: Bytes::new() }
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HeartbeatRequest {
    pub group: GroupId,
    pub generation: i32,
    pub member: MemberId,
    pub instance: Option<Arc<str>>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LeaveRequest {
    pub group: GroupId,
    pub members: Vec<LeavingMember>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LeavingMember {
    /// May be empty where the instance is named.
    pub member: MemberId,
    pub instance: Option<Arc<str>>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LeaveReply {
    pub error_code: ErrorCode,
    pub members: Vec<(LeavingMember, ErrorCode)>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OffsetCommitRequest {
    pub group: GroupId,
    /// Generation of a classic member, epoch of a member of the consumer protocol; -1 from outside the group.
    pub generation: i32,
    pub member: MemberId,
    pub instance: Option<Arc<str>>,
    /// -1 leaves it to the broker (`offsets.retention.minutes`).
    pub retention_time_ms: i64,
    /// Of topics that exist.
    pub topics: Vec<CommitTopic>,
    /// Older versions know fewer errors.
    pub api_version: i16,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CommitTopic {
    pub name: Arc<str>,
    pub id: TopicId,
    pub partitions: Vec<CommitPartition>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CommitPartition {
    pub index: i32,
    pub offset: Offset,
    pub leader_epoch: LeaderEpoch,
    pub metadata: Arc<str>,
}

/// One list of codes per topic, in the order of the request; none if the whole was refused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OffsetCommitReply {
    pub error_code: ErrorCode,
    pub topics: Vec<Vec<ErrorCode>>,
}

/// Name, id and partitions.
pub type AskedTopic = (Arc<str>, TopicId, Vec<i32>);

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OffsetFetchRequest {
    pub group: GroupId,
    /// Set by members of the consumer protocol only (from version 9).
    pub member: Option<MemberId>,
    pub member_epoch: i32,
    /// `None` for all that the group committed.
    pub topics: Option<Vec<AskedTopic>>,
    /// Offsets that an open transaction may still change are refused (KIP-447).
    pub require_stable: bool,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OffsetFetchReply {
    pub error_code: ErrorCode,
    pub topics: Vec<FetchedTopic>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FetchedTopic {
    pub name: Arc<str>,
    pub id: TopicId,
    pub partitions: Vec<FetchedOffset>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FetchedOffset {
    pub index: i32,
    pub error_code: ErrorCode,
    /// -1 where nothing is committed.
    pub offset: Offset,
    pub leader_epoch: LeaderEpoch,
    pub metadata: Arc<str>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OffsetDeleteRequest {
    pub group: GroupId,
    pub topics: Vec<(Arc<str>, Vec<i32>)>,
}

/// Codes per topic, in the order of the request; none if the whole was refused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OffsetDeleteReply {
    pub error_code: ErrorCode,
    pub topics: Vec<Vec<ErrorCode>>,
}

/// Empty filters let everything through. States and types compare without regard to case.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ListRequest {
    pub states: Vec<String>,
    pub types: Vec<String>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ListedGroup {
    pub group: GroupId,
    pub protocol_type: Arc<str>,
    pub state: &'static str,
    /// `classic` or `consumer`.
    pub group_type: &'static str,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DescribedGroup {
    pub error_code: ErrorCode,
    pub error_message: Option<String>,
    pub group: GroupId,
    /// Empty with an error.
    pub state: &'static str,
    pub protocol_type: Arc<str>,
    pub protocol: Arc<str>,
    pub members: Vec<DescribedMember>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DescribedMember {
    pub member: MemberId,
    pub instance: Option<Arc<str>>,
    pub client: Client,
    pub metadata: Bytes,
    pub assignment: Bytes,
}

impl DescribedGroup {
    pub fn error(group: GroupId, error_code: ErrorCode, message: Option<String>) -> DescribedGroup {
        let (protocol_type, protocol) = ("".into(), "".into());
        let (error_message, members) = (message, Vec::new());
        DescribedGroup { error_code, error_message, group, state: "", protocol_type, protocol, members }
    }
}

/// A committed offset, as the log keeps it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CommittedOffset {
    pub offset: Offset,
    /// -1 where the client did not say.
    pub leader_epoch: LeaderEpoch,
    pub metadata: Arc<str>,
    pub commit_timestamp_ms: Timestamp,
    /// Where the client chose how long it is kept.
    pub expire_timestamp_ms: Option<Timestamp>,
    /// Zero for commits that did not know it.
    pub topic_id: TopicId,
}

impl GroupRequest {
    /// The group it is about; `None` for all of the partition.
    pub fn group(&self) -> Option<&GroupId> {
        match self {
            GroupRequest::Join(request) => Some(&request.group),
            GroupRequest::Sync(request) => Some(&request.group),
            GroupRequest::Heartbeat(request) => Some(&request.group),
            GroupRequest::Leave(request) => Some(&request.group),
            GroupRequest::OffsetCommit(request) => Some(&request.group),
            GroupRequest::OffsetFetch(request) => Some(&request.group),
            GroupRequest::OffsetDelete(request) => Some(&request.group),
            GroupRequest::ConsumerHeartbeat(request) => Some(&request.group),
            GroupRequest::Describe { group }
            | GroupRequest::Delete { group }
            | GroupRequest::ConsumerDescribe { group } => Some(group),
            GroupRequest::List(_) => None,
        }
    }

    /// Whether the answer may need a record.
    pub fn may_write(&self) -> bool {
        !matches!(
            self,
            GroupRequest::Heartbeat(_)
                | GroupRequest::OffsetFetch(_)
                | GroupRequest::List(_)
                | GroupRequest::Describe { .. }
                | GroupRequest::ConsumerDescribe { .. }
        )
    }

    /// The answer that says nothing but this error, of the coordinator as a whole or of the group.
    pub fn refuse(&self, error_code: ErrorCode) -> GroupReply {
        match self {
            GroupRequest::Join(request) => GroupReply::Join(JoinReply::error(error_code, request.member.clone())),
            GroupRequest::Sync(_) => GroupReply::Sync(SyncReply::error(error_code)),
            GroupRequest::Heartbeat(_) => GroupReply::Heartbeat(error_code),
            GroupRequest::Leave(_) => GroupReply::Leave(LeaveReply { error_code, members: Vec::new() }),
            GroupRequest::OffsetCommit(_) => {
                GroupReply::OffsetCommit(OffsetCommitReply { error_code, topics: Vec::new() })
            }
            GroupRequest::OffsetFetch(_) => {
                GroupReply::OffsetFetch(OffsetFetchReply { error_code, topics: Vec::new() })
            }
            GroupRequest::OffsetDelete(_) => {
                GroupReply::OffsetDelete(OffsetDeleteReply { error_code, topics: Vec::new() })
            }
            GroupRequest::List(_) => GroupReply::List(Err(error_code)),
            GroupRequest::Describe { group } => {
                GroupReply::Describe(DescribedGroup::error(group.clone(), error_code, None))
            }
            GroupRequest::Delete { .. } => GroupReply::Delete(error_code),
            GroupRequest::ConsumerHeartbeat(_) => {
                GroupReply::ConsumerHeartbeat(ConsumerHeartbeatReply::error(error_code, error_code.message()))
            }
            GroupRequest::ConsumerDescribe { group } => {
                let message = Some(error_code.message().to_owned());
                GroupReply::ConsumerDescribe(ConsumerDescribeReply::error(group.clone(), error_code, message))
            }
        }
    }
}
