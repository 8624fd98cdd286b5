//! One member of a consumer group: what to ask the coordinator next, and which partitions are its own. One machine for each
//! of the two protocols. Owned by one thread, which moves the bytes, fetches the partitions and knows the positions.

mod classic;
mod consumer;
mod offsets;
mod range;

use std::collections::BTreeSet;
use std::sync::Arc;

pub use classic::ClassicMember;
pub use consumer::ConsumerMember;
pub use offsets::{CommittedOffset, Position, refusal};

use super::{Response, SessionError};
use crate::error_code::ErrorCode;
use crate::protocol::{
    ConsumerGroupHeartbeatRequest, HeartbeatRequest, JoinGroupRequest, LeaveGroupRequest, SyncGroupRequest,
};
use crate::types::{Deadline, Time, TopicId};

/// What a member is told by its user.
#[derive(Clone, Debug)]
pub struct MemberConfig {
    pub group_id: Arc<str>,
    /// Of a static member (KIP-345).
    pub instance_id: Option<Arc<str>>,
    pub topics: Vec<SubscribedTopic>,
    /// Without a heartbeat for so long the coordinator takes the member for dead. The consumer protocol leaves it to the broker.
    pub session_timeout_ms: i32,
    /// How long a rebalance waits for this member.
    pub rebalance_timeout_ms: i32,
    /// The consumer protocol leaves it to the broker.
    pub heartbeat_interval_ms: u64,
    pub retry_backoff_ms: u64,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SubscribedTopic {
    pub name: Arc<str>,
    pub id: TopicId,
    pub partitions: i32,
}

/// A partition of one of the member's topics, which is named by its place in `MemberConfig::topics`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Assigned {
    pub topic: usize,
    /// Counted from 0.
    pub partition: i32,
}

/// What the coordinator is asked.
#[derive(Clone, PartialEq, Debug)]
pub enum MemberRequest<'a> {
    Join(JoinGroupRequest<'a>),
    Sync(SyncGroupRequest<'a>),
    Heartbeat(HeartbeatRequest<'a>),
    Leave(LeaveGroupRequest<'a>),
    ConsumerHeartbeat(ConsumerGroupHeartbeatRequest<'a>),
}

/// What an answer means.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answered {
    /// As the coordinator said it. Most are the ordinary course of a rebalance.
    pub code: ErrorCode,
    pub change: Option<Change>,
}

/// What an answer changes for the member's owner.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change {
    /// Partitions to be given up before the next request is sent, and partitions to be read from where the group stands.
    Assignment { removed: Vec<Assigned>, added: Vec<Assigned> },
    /// The member has left, as it was told to.
    Left,
    /// The coordinator is to be looked for again; partitions stay meanwhile.
    CoordinatorLost,
    /// Joining again would not help.
    Failed(ErrorCode),
}

/// A member of either protocol.
#[derive(Clone, Debug)]
pub enum Member {
    Classic(ClassicMember),
    Consumer(ConsumerMember),
}

/// The same call to whichever it is.
macro_rules! either {
    ($self:ident, $member:ident => $call:expr) => {
        match $self {
            Member::Classic($member) => $call,
            Member::Consumer($member) => $call,
        }
    };
}

impl Member {
    pub fn config(&self) -> &MemberConfig {
        either!(self, member => member.config())
    }

    /// The next request to the coordinator, counted as sent; `None` while one is in flight or nothing is due.
    pub fn next_request(&mut self, now: Time) -> Option<MemberRequest<'_>> {
        either!(self, member => member.next_request(now))
    }

    /// The answer to the request in flight.
    pub fn on_response(&mut self, now: Time, response: &Response) -> Result<Answered, SessionError> {
        either!(self, member => member.on_response(now, response))
    }

    /// The connection to the coordinator is gone: what was in flight is asked again over the next.
    pub fn on_disconnect(&mut self, now: Time) {
        either!(self, member => member.on_disconnect(now));
    }

    /// When something is due without any answer; `None` while an answer is, or nothing.
    pub fn next_deadline(&self) -> Option<Deadline> {
        either!(self, member => member.next_deadline())
    }

    /// Leaves the group with the next request. Partitions are to be given up before.
    pub fn leave(&mut self) {
        either!(self, member => member.leave());
    }

    /// What the member has.
    pub fn assignment(&self) -> &BTreeSet<Assigned> {
        either!(self, member => member.assignment())
    }

    /// Has what the group last gave it and knows of no rebalance.
    pub fn is_settled(&self) -> bool {
        either!(self, member => member.is_settled())
    }

    /// Empty until the first answer in the classic protocol.
    pub fn member_id(&self) -> &str {
        either!(self, member => member.member_id())
    }

    /// The generation, or the member's epoch; what commits carry.
    pub fn generation(&self) -> i32 {
        either!(self, member => member.generation())
    }

    /// Moves the next heartbeat, so that members that joined at one moment do not beat together ever after.
    pub fn heartbeat_at(&mut self, deadline: Deadline) {
        either!(self, member => member.heartbeat_at(deadline));
    }
}

/// What the next assignment takes away from the last one, and adds to it.
fn difference(before: &BTreeSet<Assigned>, after: &BTreeSet<Assigned>) -> Option<Change> {
    let removed: Vec<_> = before.difference(after).copied().collect();
    let added: Vec<_> = after.difference(before).copied().collect();
    (!removed.is_empty() || !added.is_empty()).then_some(Change::Assignment { removed, added })
}

#[cfg(test)]
mod fixture {
    use super::*;
    use crate::client::Session;
    use crate::protocol::api_versions::ApiVersion;
    use crate::protocol::{APIS, ApiVersionsResponse, Message, response_writer};
    use crate::types::Uuid;

    pub fn at_ms(ms: u64) -> Time {
        Time { monotonic_us: ms * 1000, wall_ms: 0 }
    }

    pub fn config(instance_id: Option<&str>) -> MemberConfig {
        let topic =
            |name: &str, id, partitions| SubscribedTopic { name: name.into(), id: Uuid::from_random(id), partitions };
        MemberConfig {
            group_id: "readers".into(),
            instance_id: instance_id.map(Into::into),
            topics: vec![topic("orders", 1, 3), topic("refunds", 2, 1)],
            session_timeout_ms: 45_000,
            rebalance_timeout_ms: 300_000,
            heartbeat_interval_ms: 3000,
            retry_backoff_ms: 100,
        }
    }

    pub fn orders(partitions: &[i32]) -> Vec<Assigned> {
        partitions.iter().map(|partition| Assigned { topic: 0, partition: *partition }).collect()
    }

    pub fn change(removed: &[i32], added: &[i32]) -> Option<Change> {
        Some(Change::Assignment { removed: orders(removed), added: orders(added) })
    }

    /// The other end of a connection that speaks all that is known here.
    pub fn answer<'a, Q: Message<'a>, A: Message<'a>>(request: &Q, answer: &A) -> Response {
        let mut session = Session::new("test");
        session.hello();
        let offer = |api: &crate::protocol::ApiRange| ApiVersion {
            api_key: api.key.code(),
            min_version: api.min,
            max_version: api.max,
        };
        let hello = ApiVersionsResponse { api_keys: APIS.iter().map(offer).collect(), ..Default::default() };
        let frame = |writer: crate::protocol::Writer| writer.into_bytes().slice(4..);
        let mut writer = response_writer(18, 4, 0);
        hello.encode_message(&mut writer, 4);
        session.on_hello(frame(writer)).unwrap();
        let version = session.version_of::<Q>().unwrap();
        session.request(request).unwrap();
        let mut writer = response_writer(Q::KEY, version, 1);
        answer.encode_message(&mut writer, version);
        session.on_response(frame(writer)).unwrap()
    }
}
