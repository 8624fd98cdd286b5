//! Groups of the consumer protocol (KIP-848): the broker assigns, members reconcile by heartbeats.

mod assignor;
mod classic;
mod range;
mod request;
mod uniform;

pub use assignor::{Assignment, Assignor, GroupSpec, MemberSpec, TopicSpec};
pub use request::{ConsumerDescribeReply, ConsumerDescribedMember, ConsumerHeartbeatReply, ConsumerHeartbeatRequest};

use bytes::Bytes;

use super::{GroupDecision, GroupId, GroupReply, GroupTicket, Groups};
use crate::error_code::ErrorCode;
use crate::metadata::MetadataImage;
use crate::protocol::{DecodeError, Reader};
use crate::types::Time;

/// One group; it changes in `ConsumerGroup::replay` only.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ConsumerGroup {}

/// Keys 3 to 8 and 16 of `__consumer_offsets`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ConsumerRecord {}

/// What a group of this protocol waits for.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum ConsumerTimer {}

impl ConsumerGroup {
    pub fn is_empty(&self) -> bool {
        true
    }

    /// As ListGroups and ConsumerGroupDescribe call it.
    pub fn state(&self) -> &'static str {
        "Empty"
    }

    /// Some member reads this topic: its offsets do not expire and cannot be deleted.
    pub fn is_subscribed_to(&self, _topic: &str) -> bool {
        false
    }

    /// Members exist, so that nothing is said about offsets of topics that they do not read.
    pub fn has_members(&self) -> bool {
        false
    }

    /// For OffsetCommit: which member and epoch may commit.
    pub fn check_commit(&self, _member: &str, _instance: Option<&str>, _member_epoch: i32) -> Result<(), ErrorCode> {
        Ok(())
    }

    /// For OffsetFetch: a member must be who it says, in the epoch it says.
    pub fn check_fetch(&self, _member: Option<&str>, _member_epoch: i32) -> Result<(), ErrorCode> {
        Ok(())
    }

    /// Records that make an empty group disappear.
    pub fn tombstones(&self, _group: &GroupId) -> Vec<ConsumerRecord> {
        Vec::new()
    }
}

impl Groups {
    pub(super) fn on_consumer_heartbeat(
        &mut self,
        _now: Time,
        _image: &MetadataImage,
        ticket: GroupTicket,
        _request: ConsumerHeartbeatRequest,
        decision: &mut GroupDecision,
    ) {
        let reply = ConsumerHeartbeatReply::error(ErrorCode::UnsupportedVersion, "not offered yet");
        decision.reply(ticket, GroupReply::ConsumerHeartbeat(reply));
    }

    pub(super) fn on_consumer_describe(
        &mut self,
        _image: &MetadataImage,
        ticket: GroupTicket,
        group: GroupId,
        decision: &mut GroupDecision,
    ) {
        let error_code = ErrorCode::GroupIdNotFound;
        let message = Some(format!("Group {group} not found."));
        let reply = ConsumerDescribeReply::error(group, error_code, message);
        decision.reply(ticket, GroupReply::ConsumerDescribe(reply));
    }

    pub(super) fn on_consumer_timer(
        &mut self,
        _now: Time,
        _image: &MetadataImage,
        _group: &GroupId,
        timer: ConsumerTimer,
        _decision: &mut GroupDecision,
    ) {
        match timer {}
    }

    /// The partition's log is replayed: members have a whole session from now on.
    pub(super) fn on_consumer_loaded(&mut self, _now: Time, _group: &GroupId) {}

    pub(super) fn replay_consumer(&mut self, record: &ConsumerRecord) {
        match *record {}
    }
}

impl ConsumerRecord {
    pub fn encode(&self) -> (Bytes, Option<Bytes>) {
        match *self {}
    }

    /// `None` for a kind that is not known.
    pub fn decode(_kind: i16, _key: Reader<'_>, _value: Option<&[u8]>) -> Result<Option<ConsumerRecord>, DecodeError> {
        Ok(None)
    }
}
