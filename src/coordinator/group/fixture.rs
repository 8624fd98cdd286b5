//! For tests: the groups of one partition with their log, a clock that is set by hand, and short ways to ask.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::*;
use crate::config::GroupConfig;
use crate::metadata::{MetadataRecord, PartitionRecord, TopicRecord};
use crate::types::{Offset, PartitionId, TopicId, Uuid};

pub const ORDERS: TopicId = Uuid([1; 16]);
pub const AUDIT: TopicId = Uuid([2; 16]);

pub struct Partition {
    pub groups: Groups,
    pub image: MetadataImage,
    pub now: Time,
    pub log: Vec<GroupRecord>,
    pub replies: BTreeMap<GroupTicket, GroupReply>,
    config: Arc<BrokerConfig>,
    tickets: GroupTicket,
}

impl Partition {
    pub fn new() -> Partition {
        Partition::with(|config| config.initial_rebalance_delay_ms = 0)
    }

    pub fn with(change: impl Fn(&mut GroupConfig)) -> Partition {
        let mut config = BrokerConfig::default();
        change(&mut config.group);
        let config = Arc::new(config);
        let mut image = MetadataImage::new("cluster".into(), config.clone());
        for (name, id) in [("orders", ORDERS), ("audit", AUDIT)] {
            image.apply(&MetadataRecord::Topic(TopicRecord { name: name.into(), id })).expect("new");
            let partition = PartitionId { topic: id, index: 0 };
            let (replicas, isr) = ([1].into(), [1].into());
            let record =
                PartitionRecord { partition, replicas, isr, leader: Some(1), leader_epoch: 0, partition_epoch: 0 };
            image.apply(&MetadataRecord::Partition(record)).expect("new");
        }
        let now = Time { monotonic_us: 1_000_000, wall_ms: 1_700_000_000_000 };
        let groups = Groups::new(config.clone(), 7);
        let (log, replies) = (Vec::new(), BTreeMap::new());
        let mut partition = Partition { groups, image, now, log, replies, config, tickets: 0 };
        let decision = partition.groups.on_loaded(now, &partition.image);
        partition.take(decision);
        partition
    }

    fn take(&mut self, decision: GroupDecision) {
        for record in &decision.records {
            let (key, value) = record.encode();
            assert_eq!(GroupRecord::decode(&key, value.as_deref()), Ok(Some(record.clone())));
        }
        self.log.extend(decision.records);
        for (ticket, reply) in decision.replies {
            assert!(self.replies.insert(ticket, reply).is_none(), "a request is answered once");
        }
    }

    /// Asks, and lets the answer come when it comes.
    pub fn ask(&mut self, request: GroupRequest) -> GroupTicket {
        self.tickets += 1;
        let decision = self.groups.handle(self.now, &self.image, self.tickets, request);
        self.take(decision);
        self.tickets
    }

    /// Asks for what is answered at once.
    pub fn answer(&mut self, request: GroupRequest) -> GroupReply {
        let ticket = self.ask(request);
        self.replies.remove(&ticket).expect("answered at once")
    }

    pub fn waits(&self, ticket: GroupTicket) -> bool {
        !self.replies.contains_key(&ticket)
    }

    /// Time goes by, and every timer fires when it is due.
    pub fn pass_ms(&mut self, ms: u64) {
        let end = self.now.after_ms(ms);
        loop {
            let next = self.groups.next_deadline().map_or(end, |due| due.clamp(self.now.monotonic_us, end));
            let ms = (next - self.now.monotonic_us) / 1000;
            self.now = Time { monotonic_us: next, wall_ms: self.now.wall_ms + ms as i64 };
            if self.groups.next_deadline().is_none_or(|due| due > end) {
                return;
            }
            let decision = self.groups.on_deadline(self.now, &self.image);
            self.take(decision);
        }
    }

    /// The log is all that is left of the partition, and it is replayed.
    pub fn restart(&mut self) {
        // Another seed at each start, as the contract says: the same one would draw the same member ids again.
        self.groups = Groups::new(self.config.clone(), 8 + self.log.len() as u64);
        for record in &self.log {
            self.groups.replay(record);
        }
        let decision = self.groups.on_loaded(self.now, &self.image);
        self.take(decision);
    }

    pub fn classic(&self, group: &str) -> Option<&ClassicGroup> {
        match self.groups.groups.get(group) {
            Some(Group::Classic(group)) => Some(group),
            _ => None,
        }
    }

    pub fn state(&self, group: &str) -> Option<ClassicState> {
        self.classic(group).map(|group| group.state)
    }

    /// What a join was answered.
    pub fn joined(&mut self, ticket: GroupTicket) -> JoinReply {
        match self.replies.remove(&ticket) {
            Some(GroupReply::Join(reply)) => reply,
            other => panic!("no answer to a join: {other:?}"),
        }
    }

    pub fn synced(&mut self, ticket: GroupTicket) -> SyncReply {
        match self.replies.remove(&ticket) {
            Some(GroupReply::Sync(reply)) => reply,
            other => panic!("no answer to a sync: {other:?}"),
        }
    }

    /// A dynamic member gets its id and joins with it.
    pub fn enter(&mut self, group: &str) -> (MemberId, GroupTicket) {
        let GroupReply::Join(told) = self.answer(join(group, "")) else { panic!("another reply") };
        assert_eq!(told.error_code, ErrorCode::MemberIdRequired);
        let ticket = self.ask(join(group, &told.member));
        (told.member, ticket)
    }

    /// A group of this many dynamic members, all with their assignments; the leader first.
    pub fn stable(&mut self, group: &str, members: usize) -> Vec<MemberId> {
        let entered: Vec<_> = (0..members).map(|_| self.enter(group)).collect();
        self.settle(group, entered)
    }

    /// Those who join are all there will be: the rebalance ends, and the leader assigns.
    pub fn settle(&mut self, group: &str, joining: Vec<(MemberId, GroupTicket)>) -> Vec<MemberId> {
        let mut members: Vec<MemberId> = Vec::new();
        let rejoining: Vec<_> = self.classic(group).expect("joined").members.keys().cloned().collect();
        let mut tickets: Vec<(MemberId, GroupTicket)> = joining;
        for id in rejoining {
            if !tickets.iter().any(|(joined, _)| *joined == id) {
                tickets.push((id.clone(), self.ask(join(group, &id))));
            }
        }
        self.pass_ms(0);
        let replies: Vec<JoinReply> = tickets.iter().map(|(_, ticket)| self.joined(*ticket)).collect();
        let leader = replies[0].leader.clone();
        let generation = replies[0].generation;
        let mut syncs = Vec::new();
        for reply in &replies {
            assert_eq!((reply.error_code, reply.generation), (ErrorCode::None, generation));
            assert_eq!(reply.members.is_empty(), reply.member != leader);
            if reply.member != leader {
                syncs.push(self.ask(sync(group, &reply.member, generation, &[])));
                members.push(reply.member.clone());
            }
        }
        members.insert(0, leader.clone());
        let assignments: Vec<(&str, String)> = members.iter().map(|id| (&**id, format!("to {id}"))).collect();
        syncs.push(self.ask(sync(group, &leader, generation, &assignments)));
        for ticket in syncs {
            assert_eq!(self.synced(ticket).error_code, ErrorCode::None);
        }
        assert_eq!(self.state(group), Some(ClassicState::Stable));
        members
    }
}

pub fn client() -> Client {
    Client { id: "app".into(), host: "/127.0.0.1".into() }
}

/// A consumer's subscription, in version 0.
pub fn subscription(topics: &[&str]) -> Bytes {
    let mut bytes = vec![0, 0];
    bytes.extend((topics.len() as i32).to_be_bytes());
    for topic in topics {
        bytes.extend((topic.len() as i16).to_be_bytes());
        bytes.extend(topic.as_bytes());
    }
    bytes.extend((-1i32).to_be_bytes());
    bytes.into()
}

pub fn join_request(group: &str, member: &str) -> JoinRequest {
    JoinRequest {
        group: group.into(),
        client: client(),
        member: member.into(),
        instance: None,
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 60_000,
        protocol_type: "consumer".into(),
        protocols: vec![("range".into(), subscription(&["orders"]))],
        requires_known_member: true,
        can_skip_assignment: true,
    }
}

pub fn join(group: &str, member: &str) -> GroupRequest {
    GroupRequest::Join(join_request(group, member))
}

pub fn join_as(group: &str, member: &str, instance: &str) -> GroupRequest {
    GroupRequest::Join(JoinRequest { instance: Some(instance.into()), ..join_request(group, member) })
}

pub fn sync(group: &str, member: &str, generation: i32, assignments: &[(&str, String)]) -> GroupRequest {
    let assignments = assignments.iter().map(|(id, text)| (Arc::from(*id), Bytes::from(text.clone())));
    GroupRequest::Sync(SyncRequest {
        group: group.into(),
        generation,
        member: member.into(),
        instance: None,
        protocol_type: Some("consumer".into()),
        protocol: Some("range".into()),
        assignments: assignments.collect(),
    })
}

pub fn heartbeat(group: &str, member: &str, generation: i32) -> GroupRequest {
    let (group, member) = (group.into(), member.into());
    GroupRequest::Heartbeat(HeartbeatRequest { group, generation, member, instance: None })
}

pub fn leave(group: &str, member: &str) -> GroupRequest {
    let members = vec![LeavingMember { member: member.into(), instance: None }];
    GroupRequest::Leave(LeaveRequest { group: group.into(), members })
}

pub fn commit_request(group: &str, member: &str, generation: i32, offset: Offset) -> OffsetCommitRequest {
    let metadata = "".into();
    let partitions = vec![CommitPartition { index: 0, offset, leader_epoch: 3, metadata }];
    OffsetCommitRequest {
        group: group.into(),
        generation,
        member: member.into(),
        instance: None,
        retention_time_ms: -1,
        topics: vec![CommitTopic { name: "orders".into(), id: ORDERS, partitions }],
        api_version: 9,
    }
}

/// An offset of `orders`-0; from outside the group with generation -1 and no member.
pub fn commit(group: &str, member: &str, generation: i32, offset: Offset) -> GroupRequest {
    GroupRequest::OffsetCommit(commit_request(group, member, generation, offset))
}

impl Partition {
    pub fn commit(&mut self, group: &str, member: &str, generation: i32, offset: Offset) -> ErrorCode {
        match self.answer(commit(group, member, generation, offset)) {
            GroupReply::OffsetCommit(OffsetCommitReply { error_code: ErrorCode::None, topics }) => topics[0][0],
            GroupReply::OffsetCommit(OffsetCommitReply { error_code, .. }) => error_code,
            other => panic!("another reply: {other:?}"),
        }
    }

    pub fn heartbeat(&mut self, group: &str, member: &str, generation: i32) -> ErrorCode {
        match self.answer(heartbeat(group, member, generation)) {
            GroupReply::Heartbeat(error_code) => error_code,
            other => panic!("another reply: {other:?}"),
        }
    }

    /// The offset of `orders`-0; -1 if there is none.
    pub fn offset(&mut self, group: &str) -> Offset {
        let topics = Some(vec![("orders".into(), ORDERS, vec![0])]);
        let (group, member) = (group.into(), None);
        let request = OffsetFetchRequest { group, member, member_epoch: -1, topics, require_stable: true };
        match self.answer(GroupRequest::OffsetFetch(request)) {
            GroupReply::OffsetFetch(reply) => reply.topics[0].partitions[0].offset,
            other => panic!("another reply: {other:?}"),
        }
    }

    pub fn listed(&mut self) -> Vec<(String, &'static str)> {
        match self.answer(GroupRequest::List(ListRequest::default())) {
            GroupReply::List(Ok(groups)) => groups.iter().map(|row| (row.group.to_string(), row.state)).collect(),
            other => panic!("another reply: {other:?}"),
        }
    }
}
