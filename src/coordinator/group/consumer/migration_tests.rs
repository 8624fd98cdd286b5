//! Live groups on their way between the classic and the consumer protocol: nobody has to stop, and nothing has two owners.

use std::sync::Arc;

use bytes::Bytes;

use super::super::{
    ClassicGroup, Client, GroupReply, GroupRequest, HeartbeatRequest, JoinReply, JoinRequest, LeaveRequest,
    LeavingMember, SyncReply, SyncRequest,
};
use super::testing::*;
use super::*;
use crate::config::{BrokerConfig, MigrationPolicy};
use crate::metadata::MetadataImage;
use crate::protocol::Writer;
use crate::protocol::consumer_protocol::{ConsumerProtocolAssignment, ConsumerProtocolSubscription, TopicPartitions};

fn world(policy: MigrationPolicy) -> World {
    let mut config = BrokerConfig::default();
    config.group.initial_rebalance_delay_ms = 0;
    config.group.consumer_migration_policy = policy;
    World::configured(config, &[("orders", 4)])
}

/// A consumer of the classic protocol as its client sees it; it reads `orders`.
#[derive(Clone, Debug)]
struct Classic {
    member: Arc<str>,
    instance: Option<&'static str>,
    /// Keeps what it has through a rebalance (KIP-429).
    cooperative: bool,
    generation: i32,
    owned: Assignment,
}

fn classic() -> Classic {
    Classic { member: "".into(), instance: None, cooperative: false, generation: -1, owned: Assignment::new() }
}

fn named(image: &MetadataImage, partitions: &Assignment) -> Vec<(Arc<str>, Vec<i32>)> {
    let topics = record::by_topic(partitions.iter().copied()).into_iter();
    topics.map(|(id, indexes)| (image.topic_by_id(id).expect("exists").name.clone(), indexes)).collect()
}

fn on_the_wire(topics: &[(Arc<str>, Vec<i32>)]) -> Vec<TopicPartitions<'_>> {
    topics.iter().map(|(topic, partitions)| TopicPartitions { topic, partitions: partitions.clone() }).collect()
}

impl Classic {
    fn protocol(&self) -> Arc<str> {
        if self.cooperative { "cooperative-sticky".into() } else { "range".into() }
    }

    fn subscription(&self, image: &MetadataImage) -> Bytes {
        let owned = named(image, &self.owned);
        let subscription = ConsumerProtocolSubscription {
            topics: vec!["orders"],
            owned_partitions: on_the_wire(&owned),
            ..ConsumerProtocolSubscription::default()
        };
        let mut writer = Writer::new();
        writer.put(&[0, 1]);
        subscription.encode(&mut writer, 1);
        writer.into_bytes()
    }

    fn ask_to_join(&mut self, world: &mut World) -> (u64, Option<JoinReply>) {
        if !self.cooperative {
            self.owned.clear();
        }
        let request = JoinRequest {
            group: GROUP.into(),
            client: Client { id: "classic".into(), host: "/127.0.0.1".into() },
            member: self.member.clone(),
            instance: self.instance.map(Arc::from),
            session_timeout_ms: 10_000,
            rebalance_timeout_ms: 20_000,
            protocol_type: "consumer".into(),
            protocols: vec![(self.protocol(), self.subscription(&world.image))],
            requires_known_member: false,
            can_skip_assignment: true,
        };
        match world.handle(GroupRequest::Join(request)) {
            (ticket, None) => (ticket, None),
            (ticket, Some(GroupReply::Join(reply))) => (ticket, Some(reply)),
            other => panic!("{other:?}"),
        }
    }

    fn hear(&mut self, reply: &JoinReply) -> ErrorCode {
        if reply.error_code == ErrorCode::None {
            (self.member, self.generation) = (reply.member.clone(), reply.generation);
        }
        reply.error_code
    }

    /// Joins, also if it has to wait a moment.
    fn join(&mut self, world: &mut World) -> ErrorCode {
        let (ticket, reply) = self.ask_to_join(world);
        let reply = reply.unwrap_or_else(|| {
            world.pass_ms(1);
            match world.take_late(ticket) {
                Some(GroupReply::Join(reply)) => reply,
                other => panic!("{other:?}"),
            }
        });
        self.hear(&reply)
    }

    /// Fetches its assignment; as a leader it hands this one out.
    fn sync(&mut self, world: &mut World, leads: Option<&Assignment>) -> ErrorCode {
        let topics = leads.map(|assigned| named(&world.image, assigned));
        let assignments = topics.map(|topics| {
            let (assigned_partitions, user_data) = (on_the_wire(&topics), None);
            let bytes = ConsumerProtocolAssignment { assigned_partitions, user_data }.to_bytes(1);
            (self.member.clone(), bytes)
        });
        let request = SyncRequest {
            group: GROUP.into(),
            generation: self.generation,
            member: self.member.clone(),
            instance: self.instance.map(Arc::from),
            protocol_type: Some("consumer".into()),
            protocol: Some(self.protocol()),
            assignments: assignments.into_iter().collect(),
        };
        let SyncReply { error_code, assignment, .. } = match world.handle(GroupRequest::Sync(request)) {
            (_, Some(GroupReply::Sync(reply))) => reply,
            other => panic!("{other:?}"),
        };
        if error_code == ErrorCode::None {
            let assignment = ConsumerProtocolAssignment::of_bytes(&assignment).expect("reads");
            let topics = assignment.assigned_partitions.iter();
            let topics = topics.map(|of| (world.image.topic(of.topic).expect("exists").id, &*of.partitions));
            self.owned = record::of_topics(topics);
        }
        error_code
    }

    fn heartbeat(&self, world: &mut World) -> ErrorCode {
        let request = HeartbeatRequest {
            group: GROUP.into(),
            generation: self.generation,
            member: self.member.clone(),
            instance: self.instance.map(Arc::from),
        };
        match world.handle(GroupRequest::Heartbeat(request)) {
            (_, Some(GroupReply::Heartbeat(error_code))) => error_code,
            other => panic!("{other:?}"),
        }
    }

    fn join_and_sync(&mut self, world: &mut World) {
        assert_eq!(self.join(world), ErrorCode::None);
        assert_eq!(self.sync(world, None), ErrorCode::None);
    }

    fn leave(&self, world: &mut World) -> ErrorCode {
        let leaving = LeavingMember { member: self.member.clone(), instance: self.instance.map(Arc::from) };
        match world.handle(GroupRequest::Leave(LeaveRequest { group: GROUP.into(), members: vec![leaving] })) {
            (_, Some(GroupReply::Leave(reply))) => reply.members[0].1,
            other => panic!("{other:?}"),
        }
    }
}

/// A classic group of one member that has all four partitions.
fn alone(world: &mut World, mut member: Classic) -> Classic {
    assert_eq!(member.join(world), ErrorCode::None);
    let all = world.partitions("orders", 0..4);
    assert_eq!(member.sync(world, Some(&all)), ErrorCode::None);
    assert_eq!((member.generation, &member.owned), (1, &all));
    member
}

fn classic_group(world: &World) -> &ClassicGroup {
    match world.groups.groups.get(GROUP) {
        Some(Group::Classic(group)) => group,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_first_member_of_the_consumer_protocol_takes_a_live_group_with_it() {
    let mut world = world(MigrationPolicy::Bidirectional);
    let mut old = alone(&mut world, classic());
    let mut new = consumer("new", &["orders"]);
    let reply = new.beat(&mut world);
    assert_eq!((reply.error_code, reply.member_epoch), (ErrorCode::None, 2));
    assert!(new.owned.is_empty(), "all is still with the classic member");
    assert_eq!(world.facts(), world.replayed());

    assert_eq!(old.heartbeat(&mut world), ErrorCode::RebalanceInProgress);
    old.join_and_sync(&mut world);
    assert_eq!((old.generation, old.owned.len()), (2, 2));
    assert_eq!(old.heartbeat(&mut world), ErrorCode::None);
    new.beat(&mut world);
    assert!(new.owned.len() == 2 && new.owned.is_disjoint(&old.owned));
    let described = world.describe();
    assert_eq!(described.state, "Stable");
    assert_eq!(described.members.iter().map(|member| member.member_type).collect::<Vec<_>>(), [0, 1]);
    assert_eq!(world.facts(), world.replayed());
}

#[test]
fn a_cooperative_member_goes_on_with_what_it_keeps() {
    let mut world = world(MigrationPolicy::Bidirectional);
    let mut old = alone(&mut world, Classic { cooperative: true, ..classic() });
    let mut new = consumer("new", &["orders"]);
    new.beat(&mut world);
    assert_eq!(old.heartbeat(&mut world), ErrorCode::RebalanceInProgress);
    old.join_and_sync(&mut world);
    assert_eq!((old.generation, old.owned.len()), (1, 2), "it gives up two, in the generation it has");
    new.beat(&mut world);
    assert!(new.owned.is_empty(), "the classic member has not said that it gave them up");
    assert_eq!(old.heartbeat(&mut world), ErrorCode::RebalanceInProgress);
    old.join_and_sync(&mut world);
    assert_eq!(old.generation, 2);
    new.beat(&mut world);
    assert_eq!(new.owned.len(), 2);
    assert_eq!(old.heartbeat(&mut world), ErrorCode::None);
}

#[test]
fn those_who_wait_in_a_classic_rebalance_are_sent_back_to_join_again() {
    let mut world = world(MigrationPolicy::Bidirectional);
    alone(&mut world, classic());
    let (ticket, reply) = classic().ask_to_join(&mut world);
    assert_eq!(reply, None);
    consumer("new", &["orders"]).beat(&mut world);
    match world.take_late(ticket) {
        Some(GroupReply::Join(reply)) => assert_eq!(reply.error_code, ErrorCode::RebalanceInProgress),
        other => panic!("{other:?}"),
    }
}

#[test]
fn when_the_last_member_of_the_consumer_protocol_leaves_the_group_is_classic_again() {
    let mut world = world(MigrationPolicy::Bidirectional);
    let mut old = alone(&mut world, classic());
    let mut new = consumer("new", &["orders"]);
    new.beat(&mut world);
    old.join_and_sync(&mut world);
    new.beat(&mut world);
    new.leave(&mut world, -1);
    let group = classic_group(&world);
    assert_eq!((group.generation, group.members.len()), (2, 1));
    assert_eq!(world.facts(), None);
    assert_eq!(world.replayed(), None);

    assert_eq!(old.heartbeat(&mut world), ErrorCode::RebalanceInProgress);
    assert_eq!(old.join(&mut world), ErrorCode::None);
    assert_eq!(old.generation, 3);
    let all = world.partitions("orders", 0..4);
    assert_eq!(old.sync(&mut world, Some(&all)), ErrorCode::None);
    assert_eq!(old.owned, all);
    assert_eq!(old.heartbeat(&mut world), ErrorCode::None);
}

#[test]
fn a_member_of_the_consumer_protocol_that_dies_leaves_a_classic_group_too() {
    let mut world = world(MigrationPolicy::Bidirectional);
    let mut old = alone(&mut world, classic());
    consumer("new", &["orders"]).beat(&mut world);
    old.join_and_sync(&mut world);
    for _ in 0..6 {
        world.pass_ms(8_000);
        old.heartbeat(&mut world);
    }
    assert_eq!(classic_group(&world).members.len(), 1);
}

#[test]
fn the_policy_says_which_way_a_group_may_go() {
    for (policy, up, down) in [
        (MigrationPolicy::Bidirectional, true, true),
        (MigrationPolicy::Upgrade, true, false),
        (MigrationPolicy::Downgrade, false, true),
        (MigrationPolicy::Disabled, false, false),
    ] {
        let mut going_up = world(policy);
        alone(&mut going_up, classic());
        let reply = going_up.heartbeat(consumer("new", &["orders"]).request());
        assert_eq!(reply.error_code == ErrorCode::None, up, "{policy:?}");
        assert_eq!(reply.error_code == ErrorCode::GroupIdNotFound, !up, "{policy:?}");

        let mut going_down = world(policy);
        let mut new = consumer("new", &["orders"]);
        new.beat(&mut going_down);
        let joined = classic().join(&mut going_down);
        if policy == MigrationPolicy::Disabled {
            assert_eq!(joined, ErrorCode::InconsistentGroupProtocol);
            continue;
        }
        assert_eq!(joined, ErrorCode::None);
        new.leave(&mut going_down, -1);
        assert_eq!(going_down.facts().is_none(), down, "{policy:?}");
    }
}

#[test]
fn a_classic_member_joins_a_group_of_the_consumer_protocol_and_shares() {
    let mut world = world(MigrationPolicy::Bidirectional);
    let (mut new, mut old) = (consumer("new", &["orders"]), classic());
    new.beat(&mut world);
    world.pass_ms(10);
    old.join_and_sync(&mut world);
    assert!(old.owned.is_empty());
    assert_eq!(old.heartbeat(&mut world), ErrorCode::None, "what it waits for is not free yet");
    new.beat(&mut world);
    new.beat(&mut world);
    assert_eq!(old.heartbeat(&mut world), ErrorCode::RebalanceInProgress, "now it is");
    old.join_and_sync(&mut world);
    assert!(old.owned.len() == 2 && old.owned.is_disjoint(&new.owned));
    assert_eq!(world.facts(), world.replayed());

    let other = Classic { cooperative: true, ..classic() }.join(&mut world);
    assert_eq!(other, ErrorCode::InconsistentGroupProtocol, "it shares no strategy with the other classic member");
}

#[test]
fn classic_members_that_are_left_alone_share_what_is_free_though_the_group_may_not_go_back() {
    let mut world = world(MigrationPolicy::Upgrade);
    let mut old = alone(&mut world, classic());
    let mut new = consumer("new", &["orders"]);
    new.beat(&mut world);
    old.join_and_sync(&mut world);
    new.beat(&mut world);
    new.leave(&mut world, -1);
    world.pass_ms(10);
    assert_eq!(old.heartbeat(&mut world), ErrorCode::RebalanceInProgress);
    old.join_and_sync(&mut world);
    assert_eq!(old.owned, world.partitions("orders", 0..4));
}

#[test]
fn a_classic_member_that_does_not_come_when_called_is_gone() {
    let mut world = world(MigrationPolicy::Bidirectional);
    let mut new = consumer("new", &["orders"]);
    new.beat(&mut world);
    let mut unsynced = classic();
    unsynced.join(&mut world);
    let mut called = classic();
    called.join_and_sync(&mut world);
    for _ in 0..6 {
        world.pass_ms(6_000);
        new.beat(&mut world);
        called.heartbeat(&mut world);
        unsynced.heartbeat(&mut world);
    }
    assert_eq!(unsynced.heartbeat(&mut world), ErrorCode::UnknownMemberId, "it never fetched its assignment");
    assert_eq!(called.heartbeat(&mut world), ErrorCode::UnknownMemberId, "it never joined again");
    new.beat(&mut world);
    assert_eq!(new.owned, world.partitions("orders", 0..4));
}

#[test]
fn a_static_member_changes_its_protocol_and_keeps_what_it_has() {
    let mut world = world(MigrationPolicy::Bidirectional);
    let old = alone(&mut world, Classic { instance: Some("one"), ..classic() });
    let mut new = consumer("new", &["orders"]).with_instance("one");
    new.beat(&mut world);
    assert_eq!(new.owned, world.partitions("orders", 0..4));
    assert_eq!(old.heartbeat(&mut world), ErrorCode::FencedInstanceId);
    assert_eq!(world.facts(), world.replayed());

    let mut back = Classic { instance: Some("one"), ..classic() };
    assert_eq!(back.join(&mut world), ErrorCode::None);
    assert_eq!(back.sync(&mut world, None), ErrorCode::None);
    assert_eq!(back.owned, world.partitions("orders", 0..4));
    assert_eq!(classic_group(&world).members.len(), 1);
    assert_eq!(world.heartbeat(new.sign_of_life()).error_code, ErrorCode::GroupIdNotFound);
}

#[test]
fn an_empty_group_changes_its_protocol_whatever_the_policy() {
    let mut world = world(MigrationPolicy::Disabled);
    let old = alone(&mut world, classic());
    assert_eq!(old.leave(&mut world), ErrorCode::None);
    let mut new = consumer("new", &["orders"]);
    assert_eq!(new.beat(&mut world).error_code, ErrorCode::None);
    assert_eq!(world.facts(), world.replayed());
    new.leave(&mut world, -1);
    alone(&mut world, classic());
    assert_eq!(world.replayed(), None);
}

#[test]
fn leave_group_takes_members_of_either_protocol_and_says_who_is_none() {
    let mut world = world(MigrationPolicy::Bidirectional);
    let mut members = [consumer("a", &["orders"]), consumer("b", &["orders"]).with_instance("one")];
    settle(&mut world, &mut members);
    let leaving = |member: &str, instance: Option<&str>| LeavingMember {
        member: member.into(),
        instance: instance.map(Arc::from),
    };
    let request = LeaveRequest {
        group: GROUP.into(),
        members: vec![
            leaving("a", None),
            leaving("x", None),
            leaving("a", Some("one")),
            leaving("", Some("one")),
            leaving("", Some("two")),
        ],
    };
    let codes: Vec<ErrorCode> = match world.handle(GroupRequest::Leave(request)) {
        (_, Some(GroupReply::Leave(reply))) => reply.members.into_iter().map(|(_, code)| code).collect(),
        other => panic!("{other:?}"),
    };
    use ErrorCode::{FencedInstanceId, UnknownMemberId};
    assert_eq!(codes, [ErrorCode::None, UnknownMemberId, FencedInstanceId, ErrorCode::None, UnknownMemberId]);
    assert_eq!(world.describe().state, "Empty");
}

#[test]
fn what_a_custom_assignor_keeps_for_itself_keeps_the_group_classic() {
    let mut world = world(MigrationPolicy::Bidirectional);
    let mut member = classic();
    member.join(&mut world);
    let own = ConsumerProtocolAssignment { assigned_partitions: Vec::new(), user_data: Some(b"own") }.to_bytes(1);
    let request = SyncRequest {
        group: GROUP.into(),
        generation: 1,
        member: member.member.clone(),
        instance: None,
        protocol_type: None,
        protocol: None,
        assignments: vec![(member.member.clone(), own)],
    };
    world.handle(GroupRequest::Sync(request));
    let reply = world.heartbeat(consumer("new", &["orders"]).request());
    assert_eq!(reply.error_code, ErrorCode::GroupIdNotFound);
    assert_eq!(classic_group(&world).members.len(), 1);
}
