//! What groups of the consumer protocol are asked and answer.

use std::sync::Arc;

use crate::coordinator::group::{Client, GroupId, MemberId};
use crate::error_code::ErrorCode;
use crate::types::TopicId;

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConsumerHeartbeatRequest {
    pub group: GroupId,
    pub client: Client,
    /// Chosen by the client from version 1 on; may be empty with epoch 0 before.
    pub member: MemberId,
    /// 0 to join, -1 to leave, -2 for a static member that will be back.
    pub member_epoch: i32,
    pub instance: Option<Arc<str>>,
    pub rack: Option<Arc<str>>,
    /// -1 if it has not changed.
    pub rebalance_timeout_ms: i32,
    /// `None` if they have not changed, here and below.
    pub subscribed_topics: Option<Vec<Arc<str>>>,
    pub subscribed_regex: Option<Arc<str>>,
    pub server_assignor: Option<Arc<str>>,
    /// The partitions that the member has.
    pub owned: Option<Vec<(TopicId, Vec<i32>)>>,
    pub api_version: i16,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConsumerHeartbeatReply {
    pub error_code: ErrorCode,
    pub error_message: Option<String>,
    pub member: Option<MemberId>,
    pub member_epoch: i32,
    pub heartbeat_interval_ms: i32,
    /// `None` if it has not changed.
    pub assignment: Option<Vec<(TopicId, Vec<i32>)>>,
}

impl ConsumerHeartbeatReply {
    pub fn error(error_code: ErrorCode, message: impl Into<String>) -> ConsumerHeartbeatReply {
        ConsumerHeartbeatReply {
            error_code,
            error_message: Some(message.into()),
            member: None,
            member_epoch: 0,
            heartbeat_interval_ms: 0,
            assignment: None,
        }
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConsumerDescribeReply {
    pub error_code: ErrorCode,
    pub error_message: Option<String>,
    pub group: GroupId,
    pub state: &'static str,
    pub group_epoch: i32,
    pub assignment_epoch: i32,
    pub assignor: Arc<str>,
    pub members: Vec<ConsumerDescribedMember>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConsumerDescribedMember {
    pub member: MemberId,
    pub instance: Option<Arc<str>>,
    pub rack: Option<Arc<str>>,
    pub member_epoch: i32,
    pub client: Client,
    pub subscribed_topics: Vec<Arc<str>>,
    pub subscribed_regex: Option<Arc<str>>,
    /// With the topics' names, here and below.
    pub assignment: Vec<(TopicId, Arc<str>, Vec<i32>)>,
    pub target: Vec<(TopicId, Arc<str>, Vec<i32>)>,
    /// 0 classic, 1 consumer.
    pub member_type: i8,
}

impl ConsumerDescribeReply {
    pub fn error(group: GroupId, error_code: ErrorCode, error_message: Option<String>) -> ConsumerDescribeReply {
        ConsumerDescribeReply {
            error_code,
            error_message,
            group,
            state: "",
            group_epoch: 0,
            assignment_epoch: 0,
            assignor: "".into(),
            members: Vec::new(),
        }
    }
}
