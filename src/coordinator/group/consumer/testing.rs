//! Groups, the topics around them and the log they write, for tests: requests are answered at once, time moves by hand.

use std::sync::Arc;

use super::assignor::Assignment;
use super::facts::Facts;
use super::record::{by_topic, of_topics};
use super::{ConsumerDescribeReply, ConsumerHeartbeatReply, ConsumerHeartbeatRequest};
use crate::config::BrokerConfig;
use crate::coordinator::group::{Client, Group, GroupRecord, GroupReply, GroupRequest, Groups};
use crate::error_code::ErrorCode;
use crate::metadata::{MetadataImage, MetadataRecord, PartitionRecord, TopicRecord};
use crate::types::{PartitionId, Time, Uuid};

pub const GROUP: &str = "g";

pub struct World {
    pub config: Arc<BrokerConfig>,
    pub groups: Groups,
    pub image: MetadataImage,
    pub now: Time,
    /// Everything that was decided.
    pub log: Vec<GroupRecord>,
    /// Replies to requests that had to wait.
    pub late: Vec<(u64, GroupReply)>,
    tickets: u64,
}

impl World {
    /// With these topics, by their names and partition counts.
    pub fn of(topics: &[(&str, i32)]) -> World {
        World::configured(BrokerConfig::default(), topics)
    }

    pub fn configured(config: BrokerConfig, topics: &[(&str, i32)]) -> World {
        let config = Arc::new(config);
        let image = MetadataImage::new("cluster".into(), config.clone());
        let now = Time { monotonic_us: 1_000_000, wall_ms: 1_000_000 };
        let groups = Groups::new(config.clone(), 42);
        let mut world = World { config, groups, image, now, log: Vec::new(), late: Vec::new(), tickets: 0 };
        for (name, partitions) in topics {
            world.add_partitions(name, *partitions);
        }
        world
    }

    /// Makes the topic if there is none of this name.
    pub fn add_partitions(&mut self, name: &str, count: i32) {
        if self.image.topic(name).is_none() {
            let id = Uuid::from_random(u128::from(self.image.version() + 1) << 64);
            let record = MetadataRecord::Topic(TopicRecord { name: name.into(), id });
            self.image.apply(&record).expect("a new name and id");
        }
        let topic = self.image.topic(name).expect("just made").clone();
        let present = topic.partitions.len() as i32;
        for index in present..present + count {
            let record = MetadataRecord::Partition(PartitionRecord {
                partition: PartitionId { topic: topic.id, index },
                replicas: [1].into(),
                isr: [1].into(),
                leader: Some(1),
                leader_epoch: 0,
                partition_epoch: 0,
            });
            self.image.apply(&record).expect("the next index");
        }
    }

    pub fn delete_topic(&mut self, name: &str) {
        let id = self.image.topic(name).expect("exists").id;
        self.image.apply(&MetadataRecord::RemoveTopic(id)).expect("exists");
    }

    pub fn partitions(&self, topic: &str, indexes: impl IntoIterator<Item = i32>) -> Assignment {
        let topic = self.image.topic(topic).expect("exists").id;
        indexes.into_iter().map(|index| PartitionId { topic, index }).collect()
    }

    /// The request's number, and the reply if it comes at once.
    pub fn handle(&mut self, request: GroupRequest) -> (u64, Option<GroupReply>) {
        self.tickets += 1;
        let ticket = self.tickets;
        let mut decision = self.groups.handle(self.now, &self.image, ticket, request);
        self.log.append(&mut decision.records);
        self.late.append(&mut decision.replies);
        (ticket, self.take_late(ticket))
    }

    pub fn take_late(&mut self, ticket: u64) -> Option<GroupReply> {
        let place = self.late.iter().position(|(of, _)| *of == ticket)?;
        Some(self.late.remove(place).1)
    }

    pub fn heartbeat(&mut self, request: ConsumerHeartbeatRequest) -> ConsumerHeartbeatReply {
        match self.handle(GroupRequest::ConsumerHeartbeat(request)) {
            (_, Some(GroupReply::ConsumerHeartbeat(reply))) => reply,
            other => panic!("{other:?}"),
        }
    }

    pub fn describe(&mut self) -> ConsumerDescribeReply {
        match self.handle(GroupRequest::ConsumerDescribe { group: GROUP.into() }) {
            (_, Some(GroupReply::ConsumerDescribe(reply))) => reply,
            other => panic!("{other:?}"),
        }
    }

    /// Time passes, and what is due then is done.
    pub fn pass_ms(&mut self, ms: u64) {
        self.now.monotonic_us += ms * 1000;
        self.now.wall_ms += ms as i64;
        while self.groups.next_deadline().is_some_and(|deadline| deadline <= self.now.monotonic_us) {
            let mut decision = self.groups.on_deadline(self.now, &self.image);
            self.log.append(&mut decision.records);
            self.late.append(&mut decision.replies);
        }
    }

    /// The group's facts; nothing if it is not of the consumer protocol.
    pub fn facts(&self) -> Option<Facts> {
        facts_of(&self.groups)
    }

    /// The facts that the log makes, from its bytes.
    pub fn replayed(&self) -> Option<Facts> {
        let mut replayed = Groups::new(self.config.clone(), 43);
        for record in &self.log {
            let (key, value) = record.encode();
            let record = GroupRecord::decode(&key, value.as_deref()).expect("reads").expect("of a kind we know");
            replayed.replay(&record);
        }
        facts_of(&replayed)
    }

    /// The broker starts again with what is in the log.
    pub fn restart(&mut self) {
        self.groups = Groups::new(self.config.clone(), 44);
        for record in &self.log {
            self.groups.replay(record);
        }
        let mut decision = self.groups.on_loaded(self.now, &self.image);
        self.log.append(&mut decision.records);
    }
}

fn facts_of(groups: &Groups) -> Option<Facts> {
    match groups.groups.get(GROUP) {
        Some(Group::Consumer(group)) => Some(group.facts.clone()),
        Some(Group::Classic(_)) | None => None,
    }
}

/// A member as its client sees it.
#[derive(Clone, Debug)]
pub struct Consumer {
    pub member: String,
    pub instance: Option<&'static str>,
    pub topics: Vec<&'static str>,
    pub regex: Option<&'static str>,
    pub epoch: i32,
    /// What it has.
    pub owned: Assignment,
    /// What it was told to have.
    pub told: Assignment,
}

pub fn consumer(member: &str, topics: &[&'static str]) -> Consumer {
    Consumer {
        member: member.to_owned(),
        instance: None,
        topics: topics.to_vec(),
        regex: None,
        epoch: 0,
        owned: Assignment::new(),
        told: Assignment::new(),
    }
}

impl Consumer {
    pub fn with_instance(mut self, instance: &'static str) -> Consumer {
        self.instance = Some(instance);
        self
    }

    /// Says all that there is to say.
    pub fn request(&self) -> ConsumerHeartbeatRequest {
        ConsumerHeartbeatRequest {
            group: GROUP.into(),
            client: Client { id: "client".into(), host: "/127.0.0.1".into() },
            member: (*self.member).into(),
            member_epoch: self.epoch,
            instance: self.instance.map(Arc::from),
            rack: None,
            rebalance_timeout_ms: 30_000,
            subscribed_topics: Some(self.topics.iter().map(|topic| Arc::from(*topic)).collect()),
            subscribed_regex: self.regex.map(Arc::from),
            server_assignor: None,
            owned: Some(by_topic(self.owned.iter().copied())),
            api_version: 1,
        }
    }

    /// Says only that it lives.
    pub fn sign_of_life(&self) -> ConsumerHeartbeatRequest {
        ConsumerHeartbeatRequest {
            rebalance_timeout_ms: -1,
            subscribed_topics: None,
            subscribed_regex: None,
            owned: None,
            ..self.request()
        }
    }

    /// Takes the answer in: what it is told is not what it has yet.
    pub fn hear(&mut self, reply: &ConsumerHeartbeatReply) {
        match reply.error_code {
            ErrorCode::None => {
                self.epoch = reply.member_epoch;
                if let Some(assignment) = &reply.assignment {
                    self.told = of_topics(assignment.iter().map(|(topic, indexes)| (*topic, &**indexes)));
                }
            }
            ErrorCode::FencedMemberEpoch | ErrorCode::UnknownMemberId => self.lose_all(),
            error_code => panic!("{error_code:?}: {:?}", reply.error_message),
        }
    }

    /// It was fenced: it has nothing and joins anew.
    pub fn lose_all(&mut self) {
        self.epoch = 0;
        self.owned.clear();
        self.told.clear();
    }

    /// Gives up and takes what it was told to.
    pub fn obey(&mut self) {
        self.owned = self.told.clone();
    }

    /// One whole heartbeat, obeyed.
    pub fn beat(&mut self, world: &mut World) -> ConsumerHeartbeatReply {
        let reply = world.heartbeat(self.request());
        self.hear(&reply);
        self.obey();
        reply
    }

    pub fn leave(&mut self, world: &mut World, epoch: i32) -> ConsumerHeartbeatReply {
        let request = ConsumerHeartbeatRequest { member_epoch: epoch, ..self.sign_of_life() };
        let reply = world.heartbeat(request);
        self.lose_all();
        reply
    }
}

/// Heartbeats of all, until nobody is told anything new.
pub fn settle(world: &mut World, consumers: &mut [Consumer]) {
    for _ in 0..20 {
        world.pass_ms(1_500);
        let before: Vec<(i32, Assignment)> = consumers.iter().map(|c| (c.epoch, c.owned.clone())).collect();
        for consumer in consumers.iter_mut() {
            consumer.beat(world);
        }
        if before.iter().zip(consumers.iter()).all(|(before, c)| *before == (c.epoch, c.owned.clone())) {
            return;
        }
    }
    panic!("{consumers:?} never come to rest");
}
