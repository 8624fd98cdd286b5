//! What members of the consumer protocol see of their group, heartbeat by heartbeat.

use super::super::{GroupReply, GroupRequest, OffsetCommitRequest};
use super::testing::*;
use super::*;
use crate::config::BrokerConfig;
use crate::coordinator::group::{CommitPartition, CommitTopic};
use crate::metadata::{ConfigRecord, ConfigResource, MetadataRecord};

fn told(reply: &ConsumerHeartbeatReply) -> Option<Assignment> {
    let topics = reply.assignment.as_ref()?.iter();
    Some(record::of_topics(topics.map(|(topic, indexes)| (*topic, &**indexes))))
}

fn commit(world: &mut World, member: &Consumer, epoch: i32, index: i32) -> ErrorCode {
    let id = world.image.topic("orders").expect("exists").id;
    let partition = CommitPartition { index, offset: 1, leader_epoch: -1, metadata: "".into() };
    let request = OffsetCommitRequest {
        group: GROUP.into(),
        generation: epoch,
        member: (*member.member).into(),
        instance: None,
        retention_time_ms: -1,
        topics: vec![CommitTopic { name: "orders".into(), id, partitions: vec![partition] }],
        api_version: 9,
    };
    match world.handle(GroupRequest::OffsetCommit(request)) {
        (_, Some(GroupReply::OffsetCommit(reply))) => reply.topics.first().map_or(reply.error_code, |codes| codes[0]),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_member_alone_has_everything_with_its_first_heartbeat() {
    let mut world = World::of(&[("orders", 3)]);
    let mut a = consumer("a", &["orders"]);
    let reply = a.beat(&mut world);
    assert_eq!((reply.error_code, reply.member_epoch, reply.heartbeat_interval_ms), (ErrorCode::None, 1, 5000));
    assert_eq!(told(&reply), Some(world.partitions("orders", 0..3)));
    assert_eq!(world.describe().state, "Stable");
}

#[test]
fn a_second_member_gets_its_share_only_after_the_first_gave_it_up() {
    let mut world = World::of(&[("orders", 4)]);
    let (mut a, mut b) = (consumer("a", &["orders"]), consumer("b", &["orders"]));
    a.beat(&mut world);
    world.pass_ms(10);
    let reply = b.beat(&mut world);
    assert_eq!((reply.member_epoch, told(&reply)), (2, Some(Assignment::new())), "all is still with the first");

    let reply = world.heartbeat(a.sign_of_life());
    let kept = told(&reply).expect("told what to keep");
    assert_eq!((reply.member_epoch, kept.len()), (1, 2));
    assert_eq!(told(&world.heartbeat(b.sign_of_life())), None, "the first has not said that it gave anything up");
    assert_eq!(world.describe().state, "Reconciling");

    a.hear(&reply);
    a.obey();
    assert_eq!(a.beat(&mut world).member_epoch, 2);
    let reply = b.beat(&mut world);
    assert_eq!(b.owned.len(), 2);
    assert!(a.owned.is_disjoint(&b.owned) && a.owned == kept);
    assert_eq!((reply.member_epoch, world.describe().state), (2, "Stable"));
}

#[test]
fn a_member_that_waits_for_partitions_of_others_comes_back_soon() {
    let mut world = World::of(&[("orders", 4)]);
    let (mut a, mut b) = (consumer("a", &["orders"]), consumer("b", &["orders"]));
    assert_eq!(a.beat(&mut world).heartbeat_interval_ms, 5_000);
    world.pass_ms(10);
    assert_eq!(b.beat(&mut world).heartbeat_interval_ms, 304);
    a.beat(&mut world);
    assert_eq!(a.beat(&mut world).heartbeat_interval_ms, 5_000);
    assert_eq!(b.beat(&mut world).heartbeat_interval_ms, 5_000);
}

#[test]
fn a_heartbeat_in_a_wrong_epoch_is_fenced() {
    let mut world = World::of(&[("orders", 2)]);
    let (mut a, mut b) = (consumer("a", &["orders"]), consumer("b", &["orders"]));
    a.beat(&mut world);
    world.pass_ms(10);
    b.beat(&mut world);
    settle(&mut world, std::slice::from_mut(&mut a));
    assert_eq!(a.epoch, 2);
    let mut at =
        |epoch, owned: Assignment| world.heartbeat(Consumer { epoch, owned, ..a.clone() }.request()).error_code;
    assert_eq!(at(3, a.owned.clone()), ErrorCode::FencedMemberEpoch);
    assert_eq!(at(1, a.owned.clone()), ErrorCode::None, "the answer that said 2 may have been lost");
    assert_eq!(at(1, b.told.iter().copied().chain(a.owned.clone()).collect()), ErrorCode::None);
    let more: Assignment = [a.owned.clone(), world.partitions("orders", 0..2)].into_iter().flatten().collect();
    let mut at =
        |epoch, owned: Assignment| world.heartbeat(Consumer { epoch, owned, ..a.clone() }.request()).error_code;
    assert_eq!(at(1, more), ErrorCode::FencedMemberEpoch, "it has what it was told to give up");
    assert_eq!(at(0, Assignment::new()), ErrorCode::None, "it may always join again");
}

#[test]
fn strangers_are_told_so() {
    let mut world = World::of(&[("orders", 2)]);
    let stranger = Consumer { epoch: 1, ..consumer("x", &["orders"]) };
    assert_eq!(world.heartbeat(stranger.request()).error_code, ErrorCode::GroupIdNotFound);
    assert_eq!(world.describe().error_code, ErrorCode::GroupIdNotFound);
    consumer("a", &["orders"]).beat(&mut world);
    assert_eq!(world.heartbeat(stranger.request()).error_code, ErrorCode::UnknownMemberId);
    let leaving = Consumer { epoch: -1, ..stranger };
    assert_eq!(world.heartbeat(leaving.sign_of_life()).error_code, ErrorCode::UnknownMemberId);
}

#[test]
fn what_a_member_that_leaves_had_goes_to_the_others() {
    let mut world = World::of(&[("orders", 4)]);
    let mut members = [consumer("a", &["orders"]), consumer("b", &["orders"])];
    settle(&mut world, &mut members);
    let reply = members[0].leave(&mut world, -1);
    assert_eq!((reply.error_code, reply.member_epoch), (ErrorCode::None, -1));
    world.pass_ms(10);
    members[1].beat(&mut world);
    assert_eq!(members[1].owned, world.partitions("orders", 0..4));
    assert_eq!(world.describe().members.len(), 1);
}

#[test]
fn a_group_left_by_all_is_empty_and_assigns_the_next_member_at_once() {
    let mut world = World::of(&[("orders", 2)]);
    consumer("a", &["orders"]).beat(&mut world);
    consumer("a", &["orders"]).leave(&mut world, -1);
    assert_eq!((world.describe().state, world.describe().group_epoch), ("Empty", 2));
    let reply = consumer("b", &["orders"]).beat(&mut world);
    assert_eq!((reply.member_epoch, told(&reply)), (3, Some(world.partitions("orders", 0..2))));
}

#[test]
fn a_static_member_comes_back_to_what_it_had_and_nobody_else_notices() {
    let mut world = World::of(&[("orders", 4)]);
    let mut members = [consumer("a", &["orders"]).with_instance("one"), consumer("b", &["orders"])];
    settle(&mut world, &mut members);
    let (epoch, had) = (world.describe().group_epoch, members[0].owned.clone());

    let mut back = consumer("a2", &["orders"]).with_instance("one");
    assert_eq!(world.heartbeat(back.request()).error_code, ErrorCode::UnreleasedInstanceId);
    assert_eq!(members[0].leave(&mut world, -2).member_epoch, -2);
    back.beat(&mut world);
    assert_eq!((back.epoch, back.owned), (epoch, had));
    assert_eq!(world.describe().group_epoch, epoch);
    let former = Consumer { epoch, ..members[0].clone() };
    assert_eq!(world.heartbeat(former.request()).error_code, ErrorCode::FencedInstanceId);
    assert_eq!(world.facts(), world.replayed());
}

#[test]
fn a_static_member_that_was_fenced_joins_again_under_its_own_id() {
    let mut world = World::of(&[("orders", 2)]);
    let mut a = consumer("a", &["orders"]).with_instance("one");
    a.beat(&mut world);
    a.epoch = 7;
    assert_eq!(a.beat(&mut world).error_code, ErrorCode::FencedMemberEpoch);
    assert_eq!(a.beat(&mut world).error_code, ErrorCode::None);
    assert_eq!(a.owned, world.partitions("orders", 0..2));
    assert_eq!(world.facts(), world.replayed());
}

#[test]
fn a_static_member_that_does_not_come_back_is_gone_after_its_session() {
    let mut world = World::of(&[("orders", 2)]);
    let mut a = consumer("a", &["orders"]).with_instance("one");
    a.beat(&mut world);
    a.leave(&mut world, -2);
    world.pass_ms(44_000);
    assert_eq!(world.describe().members.len(), 1);
    world.pass_ms(2_000);
    assert_eq!(world.describe().state, "Empty");
}

#[test]
fn a_member_not_heard_of_for_a_session_is_gone() {
    let mut world = World::of(&[("orders", 2)]);
    let (mut a, mut b) = (consumer("a", &["orders"]), consumer("b", &["orders"]));
    a.beat(&mut world);
    b.beat(&mut world);
    for _ in 0..10 {
        world.pass_ms(5_000);
        b.beat(&mut world);
    }
    assert_eq!(b.owned, world.partitions("orders", 0..2));
    assert_eq!(world.heartbeat(a.sign_of_life()).error_code, ErrorCode::UnknownMemberId);
}

#[test]
fn a_group_may_have_a_session_and_an_interval_of_its_own() {
    let mut world = World::of(&[("orders", 2)]);
    for (key, value) in [("consumer.session.timeout.ms", "50000"), ("consumer.heartbeat.interval.ms", "9000")] {
        let (resource, key, value) = (ConfigResource::Group(GROUP.into()), key.to_owned(), Some(value.to_owned()));
        world.image.apply(&MetadataRecord::Config(ConfigRecord { resource, key, value })).expect("a setting");
    }
    assert_eq!(consumer("a", &["orders"]).beat(&mut world).heartbeat_interval_ms, 9_000);
    world.pass_ms(49_000);
    assert_eq!(world.describe().members.len(), 1);
    world.pass_ms(2_000);
    assert_eq!(world.describe().state, "Empty");
}

#[test]
fn after_a_restart_the_session_of_its_own_counts() {
    let mut world = World::of(&[("orders", 2)]);
    let resource = ConfigResource::Group(GROUP.into());
    let (key, value) = ("consumer.session.timeout.ms".to_owned(), Some("50000".to_owned()));
    world.image.apply(&MetadataRecord::Config(ConfigRecord { resource, key, value })).expect("a setting");
    consumer("a", &["orders"]).beat(&mut world);
    world.restart();
    world.pass_ms(49_000);
    assert_eq!(world.describe().members.len(), 1);
    world.pass_ms(2_000);
    assert_eq!(world.describe().state, "Empty");
}

#[test]
fn a_setting_of_the_broker_takes_effect_while_it_runs() {
    let mut world = World::of(&[("orders", 2)]);
    let (mut a, mut b) = (consumer("a", &["orders"]), consumer("b", &["orders"]));
    a.beat(&mut world);
    let key = "group.consumer.assignment.interval.ms".to_owned();
    let record = ConfigRecord { resource: ConfigResource::Broker(None), key, value: Some("0".to_owned()) };
    world.image.apply(&MetadataRecord::Config(record)).expect("a setting");
    // In the same millisecond as the assignment before.
    b.beat(&mut world);
    let described = world.describe();
    assert_eq!((described.group_epoch, described.assignment_epoch), (2, 2));
}

#[test]
fn after_a_restart_members_have_a_whole_session_to_be_heard_of() {
    let mut world = World::of(&[("orders", 2)]);
    let mut a = consumer("a", &["orders"]);
    a.beat(&mut world);
    world.pass_ms(44_000);
    world.restart();
    world.pass_ms(44_000);
    assert_eq!(a.beat(&mut world).error_code, ErrorCode::None);
    world.pass_ms(46_000);
    assert_eq!(world.describe().state, "Empty");
}

#[test]
fn a_member_that_does_not_give_up_in_time_is_gone_though_it_lives() {
    let mut world = World::of(&[("orders", 2)]);
    let (mut a, mut b) = (consumer("a", &["orders"]), consumer("b", &["orders"]));
    a.beat(&mut world);
    world.pass_ms(10);
    b.beat(&mut world);
    for _ in 0..6 {
        assert_eq!(world.heartbeat(a.sign_of_life()).error_code, ErrorCode::None);
        world.pass_ms(5_000);
        b.beat(&mut world);
    }
    assert_eq!(world.heartbeat(a.sign_of_life()).error_code, ErrorCode::UnknownMemberId);
    assert_eq!(b.owned, world.partitions("orders", 0..2));
}

#[test]
fn new_partitions_are_assigned_with_the_next_heartbeat() {
    let mut world = World::of(&[("orders", 2)]);
    let mut a = consumer("a", &["orders"]);
    a.beat(&mut world);
    world.add_partitions("orders", 2);
    world.add_partitions("audit", 1);
    world.pass_ms(10);
    let reply = world.heartbeat(a.sign_of_life());
    assert_eq!((reply.member_epoch, told(&reply)), (2, Some(world.partitions("orders", 0..4))));
    a.hear(&reply);
    world.add_partitions("audit", 1);
    assert_eq!(world.heartbeat(a.sign_of_life()).member_epoch, 2, "of a topic that nobody reads");
}

#[test]
fn a_topic_that_is_deleted_is_given_up() {
    let mut world = World::of(&[("orders", 2), ("audit", 1)]);
    let mut a = consumer("a", &["orders", "audit"]);
    a.beat(&mut world);
    world.delete_topic("audit");
    settle(&mut world, std::slice::from_mut(&mut a));
    assert_eq!(a.owned, world.partitions("orders", 0..2));
}

#[test]
fn a_pattern_reads_the_topics_that_match_and_those_that_come() {
    let mut world = World::of(&[("orders-1", 1), ("orders-2", 1), ("audit", 1)]);
    let mut a = Consumer { regex: Some("orders-.*"), ..consumer("a", &[]) };
    a.beat(&mut world);
    assert_eq!(a.owned.len(), 2);
    world.add_partitions("orders-3", 1);
    world.pass_ms(11_000);
    settle(&mut world, std::slice::from_mut(&mut a));
    assert_eq!(a.owned.len(), 3);
    a.regex = Some("");
    settle(&mut world, std::slice::from_mut(&mut a));
    assert!(a.owned.is_empty());
    assert!(world.facts().expect("a group").regexes.is_empty());
}

#[test]
fn a_pattern_that_is_none_is_refused_and_leaves_no_group_behind() {
    let mut world = World::of(&[("orders", 1)]);
    let reply = world.heartbeat(Consumer { regex: Some("("), ..consumer("a", &[]) }.request());
    assert_eq!(reply.error_code, ErrorCode::InvalidRegularExpression);
    assert!(world.log.is_empty() && world.facts().is_none());
}

#[test]
fn unsubscribing_takes_partitions_even_before_the_next_assignment() {
    let mut world = World::of(&[("orders", 1), ("audit", 1)]);
    let mut a = consumer("a", &["orders", "audit"]);
    a.beat(&mut world);
    a.topics = vec!["orders"];
    let reply = world.heartbeat(a.request());
    assert_eq!(told(&reply), Some(world.partitions("orders", 0..1)));
}

#[test]
fn most_members_choose_the_assignor() {
    let mut world = World::of(&[("orders", 3), ("audit", 3)]);
    let mut members = [consumer("a", &["orders", "audit"]), consumer("b", &["orders", "audit"])];
    settle(&mut world, &mut members);
    assert_eq!(&*world.describe().assignor, "uniform");
    let ranged = ConsumerHeartbeatRequest { server_assignor: Some("range".into()), ..members[0].request() };
    world.pass_ms(10);
    let reply = world.heartbeat(ranged);
    members[0].hear(&reply);
    settle(&mut world, &mut members);
    assert_eq!(&*world.describe().assignor, "range");
    let indexes = |topic: &str| -> Vec<i32> {
        let topic = world.image.topic(topic).expect("exists").id;
        members[0].owned.iter().filter(|partition| partition.topic == topic).map(|p| p.index).collect()
    };
    assert_eq!((indexes("orders"), indexes("audit")), (vec![0, 1], vec![0, 1]));
    let unknown = ConsumerHeartbeatRequest { server_assignor: Some("sticky".into()), ..members[0].request() };
    assert_eq!(world.heartbeat(unknown).error_code, ErrorCode::UnsupportedAssignor);
}

#[test]
fn a_full_group_takes_nobody_more_and_refuses_no_member() {
    let mut config = BrokerConfig::default();
    config.group.consumer_max_size = 1;
    let mut world = World::configured(config, &[("orders", 1)]);
    let mut a = consumer("a", &["orders"]);
    a.beat(&mut world);
    assert_eq!(world.heartbeat(consumer("b", &["orders"]).request()).error_code, ErrorCode::GroupMaxSizeReached);
    assert_eq!(a.beat(&mut world).error_code, ErrorCode::None);
}

#[test]
fn requests_that_make_no_sense_are_refused() {
    let mut world = World::of(&[("orders", 1)]);
    let good = consumer("a", &["orders"]).request();
    let topic = world.image.topic("orders").expect("exists").id;
    let bad = [
        ConsumerHeartbeatRequest { member: "".into(), ..good.clone() },
        ConsumerHeartbeatRequest { member: " ".into(), ..good.clone() },
        ConsumerHeartbeatRequest { instance: Some("".into()), ..good.clone() },
        ConsumerHeartbeatRequest { rack: Some("".into()), ..good.clone() },
        ConsumerHeartbeatRequest { rebalance_timeout_ms: -1, ..good.clone() },
        ConsumerHeartbeatRequest { owned: None, ..good.clone() },
        ConsumerHeartbeatRequest { owned: Some(vec![(topic, vec![0])]), ..good.clone() },
        ConsumerHeartbeatRequest { subscribed_topics: None, subscribed_regex: None, ..good.clone() },
        ConsumerHeartbeatRequest { member_epoch: -2, ..good.clone() },
        ConsumerHeartbeatRequest { member_epoch: -3, ..good.clone() },
        ConsumerHeartbeatRequest { member_epoch: i32::MIN, ..good.clone() },
    ];
    for request in bad {
        assert_eq!(world.heartbeat(request.clone()).error_code, ErrorCode::InvalidRequest, "{request:?}");
    }
    let of_old = ConsumerHeartbeatRequest { member: "".into(), api_version: 0, ..good };
    let drawn = world.heartbeat(of_old).member.expect("a member id is drawn for it");
    assert_eq!(drawn.len(), 22);
}

#[test]
fn a_commit_is_of_the_members_epoch_or_of_a_partition_it_had_by_then() {
    let mut world = World::of(&[("orders", 2)]);
    let (mut a, mut b) = (consumer("a", &["orders"]), consumer("b", &["orders"]));
    a.beat(&mut world);
    assert_eq!(commit(&mut world, &a, 1, 0), ErrorCode::None);
    assert_eq!(commit(&mut world, &a, 2, 0), ErrorCode::StaleMemberEpoch);
    assert_eq!(commit(&mut world, &b, 1, 0), ErrorCode::UnknownMemberId);
    assert_eq!(commit(&mut world, &a, -1, 0), ErrorCode::StaleMemberEpoch, "not from outside while there are members");
    world.pass_ms(10);
    b.beat(&mut world);
    a.beat(&mut world);
    a.beat(&mut world);
    b.beat(&mut world);
    assert_eq!((a.epoch, b.epoch), (2, 2));
    let index = |of: &Consumer| of.owned.first().expect("one each").index;
    assert_eq!(commit(&mut world, &a, 1, index(&a)), ErrorCode::None, "it had it in epoch 1 already");
    assert_eq!(commit(&mut world, &a, 1, index(&b)), ErrorCode::StaleMemberEpoch);
    assert_eq!(commit(&mut world, &b, 1, index(&b)), ErrorCode::StaleMemberEpoch, "it has it since epoch 2");
}

#[test]
fn assignments_of_a_large_group_are_worked_out_once_in_a_while() {
    let mut world = World::of(&[("orders", 100)]);
    for index in 0..100 {
        consumer(&format!("m{index:03}"), &["orders"]).beat(&mut world);
    }
    let described = world.describe();
    assert_eq!((described.group_epoch, described.assignment_epoch, described.state), (100, 1, "Assigning"));
    world.pass_ms(100);
    Consumer { epoch: 1, ..consumer("m000", &["orders"]) }.beat(&mut world);
    assert_eq!(world.describe().assignment_epoch, 100);
}
