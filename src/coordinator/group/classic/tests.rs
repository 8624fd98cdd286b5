use super::ClassicState::*;
use super::*;
use crate::coordinator::group::fixture::*;
use crate::coordinator::group::{GroupReply, GroupRequest, JoinReply, JoinRequest, LeaveRequest, LeavingMember};

fn refused(reply: GroupReply) -> ErrorCode {
    match reply {
        GroupReply::Join(reply) => reply.error_code,
        GroupReply::Sync(reply) => reply.error_code,
        GroupReply::Heartbeat(error_code) => error_code,
        GroupReply::Leave(reply) => reply.members[0].1,
        other => panic!("not of a member: {other:?}"),
    }
}

#[test]
fn a_dynamic_member_is_told_its_id_before_it_is_let_in() {
    let mut partition = Partition::new();
    let GroupReply::Join(told) = partition.answer(join("g", "")) else { panic!("another reply") };
    assert_eq!(told.error_code, ErrorCode::MemberIdRequired);
    assert!(told.member.starts_with("app-") && told.member.len() == "app-".len() + 36, "{}", told.member);
    assert_eq!(partition.state("g"), Some(Empty));
    let old = JoinRequest { requires_known_member: false, ..join_request("g", "") };
    partition.ask(GroupRequest::Join(old));
    assert_eq!(partition.state("g"), Some(PreparingRebalance));
}

#[test]
fn a_member_that_nobody_told_its_id_is_unknown() {
    let mut partition = Partition::new();
    assert_eq!(refused(partition.answer(join("g", "app-made-up"))), ErrorCode::UnknownMemberId);
    assert!(partition.listed().is_empty());
    partition.stable("g", 1);
    assert_eq!(refused(partition.answer(join("g", "app-made-up"))), ErrorCode::UnknownMemberId);
}

#[test]
fn a_generation_begins_when_all_have_joined_and_its_leader_has_assigned() {
    let mut partition = Partition::new();
    let members = partition.stable("g", 3);
    let group = partition.classic("g").expect("stable");
    assert_eq!((group.generation, group.protocol.as_deref()), (1, Some("range")));
    for id in &members {
        assert_eq!(group.members[id].assignment, format!("to {id}"));
    }
    for id in &members {
        assert_eq!(partition.heartbeat("g", id, 1), ErrorCode::None);
    }
    assert_eq!(partition.log.len(), 1, "a generation is one record");
}

#[test]
fn a_follower_waits_for_the_leader_and_one_who_asks_later_is_told_at_once() {
    let mut partition = Partition::new();
    let entered = [partition.enter("g"), partition.enter("g")];
    partition.pass_ms(0);
    let replies: Vec<JoinReply> = entered.iter().map(|(_, ticket)| partition.joined(*ticket)).collect();
    let leads = replies.iter().position(|reply| !reply.members.is_empty()).expect("one leads");
    let (leader, follower) = (&replies[leads].member, &replies[1 - leads].member);
    let waiting = partition.ask(sync("g", follower, 1, &[]));
    assert!(partition.waits(waiting));
    let assignments = [(&**follower, "all of it".to_owned())];
    let assigning = partition.ask(sync("g", leader, 1, &assignments));
    assert_eq!(partition.synced(waiting).assignment, "all of it");
    assert_eq!(partition.synced(assigning).assignment, "", "whom the leader forgets gets nothing");
    let later = partition.ask(sync("g", follower, 1, &[]));
    assert_eq!(partition.synced(later).assignment, "all of it");
}

#[test]
fn the_first_rebalance_waits_for_more_members_as_long_as_they_come() {
    let mut partition = Partition::with(|config| config.initial_rebalance_delay_ms = 3000);
    let (_, first) = partition.enter("g");
    partition.pass_ms(2999);
    let (_, second) = partition.enter("g");
    partition.pass_ms(2);
    assert!(partition.waits(first), "another one came within the delay");
    partition.pass_ms(2998);
    assert!(partition.waits(first));
    partition.pass_ms(2);
    let (first, second) = (partition.joined(first), partition.joined(second));
    assert_eq!((first.generation, second.generation), (1, 1));
}

#[test]
fn when_a_member_comes_the_others_hear_of_it_by_their_heartbeats_and_join_again() {
    let mut partition = Partition::new();
    let members = partition.stable("g", 2);
    let newcomer = partition.enter("g");
    assert_eq!(partition.heartbeat("g", &members[0], 1), ErrorCode::RebalanceInProgress);
    assert!(partition.waits(newcomer.1));
    let members = partition.settle("g", vec![newcomer]);
    assert_eq!((members.len(), partition.classic("g").expect("stable").generation), (3, 2));
}

#[test]
fn members_that_do_not_join_within_the_rebalance_timeout_are_left_behind() {
    let mut partition = Partition::new();
    let members = partition.stable("g", 2);
    let (_, newcomer) = partition.enter("g");
    for _ in 0..11 {
        partition.pass_ms(5000);
        partition.heartbeat("g", &members[0], 1);
        partition.heartbeat("g", &members[1], 1);
    }
    assert!(partition.waits(newcomer));
    partition.pass_ms(5000);
    assert_eq!(partition.joined(newcomer).members.len(), 1, "it is alone and leads");
    assert_eq!(partition.heartbeat("g", &members[0], 2), ErrorCode::UnknownMemberId);
}

#[test]
fn a_member_that_is_not_heard_of_is_gone_and_the_others_rebalance() {
    let mut partition = Partition::new();
    let members = partition.stable("g", 2);
    partition.pass_ms(9000);
    assert_eq!(partition.heartbeat("g", &members[0], 1), ErrorCode::None);
    partition.pass_ms(2000);
    assert_eq!(partition.heartbeat("g", &members[1], 1), ErrorCode::UnknownMemberId);
    assert_eq!(partition.heartbeat("g", &members[0], 1), ErrorCode::RebalanceInProgress);
}

#[test]
fn an_offset_commit_is_a_sign_of_life() {
    let mut partition = Partition::new();
    let members = partition.stable("g", 1);
    partition.pass_ms(9000);
    assert_eq!(partition.commit("g", &members[0], 1, 5), ErrorCode::None);
    partition.pass_ms(9000);
    assert_eq!(partition.heartbeat("g", &members[0], 1), ErrorCode::None);
}

#[test]
fn a_member_that_was_told_its_id_and_never_came_delays_nobody_for_longer_than_its_session() {
    let mut partition = Partition::new();
    partition.stable("g", 1);
    partition.answer(join("g", ""));
    let (_, newcomer) = partition.enter("g");
    let leader = partition.classic("g").expect("stable").leader.clone().expect("it has members");
    partition.ask(join("g", &leader));
    assert!(partition.waits(newcomer), "somebody was told to come");
    partition.pass_ms(10_001);
    assert_eq!(partition.joined(newcomer).generation, 2);
}

#[test]
fn members_that_never_ask_for_their_assignment_are_given_up() {
    let mut partition = Partition::new();
    let (silent, ticket) = partition.enter("g");
    let (_, other) = partition.enter("g");
    partition.pass_ms(0);
    let (first, second) = (partition.joined(ticket), partition.joined(other));
    let asking = if first.members.is_empty() { &second } else { &first };
    let silent = if *asking.member == *silent { second.member.clone() } else { silent };
    partition.ask(sync("g", &asking.member, 1, &[]));
    for _ in 0..13 {
        partition.pass_ms(5000);
        partition.heartbeat("g", &silent, 1);
        partition.heartbeat("g", &asking.member, 1);
    }
    assert_eq!(partition.heartbeat("g", &silent, 1), ErrorCode::UnknownMemberId);
    assert_eq!(partition.heartbeat("g", &asking.member, 1), ErrorCode::RebalanceInProgress);
}

#[test]
fn a_group_that_everybody_left_is_empty_and_keeps_counting_its_generations() {
    let mut partition = Partition::new();
    let members = partition.stable("g", 2);
    for id in &members {
        assert_eq!(refused(partition.answer(leave("g", id))), ErrorCode::None);
    }
    partition.pass_ms(60_000);
    assert_eq!(partition.listed(), [("g".to_owned(), "Empty")]);
    partition.stable("g", 1);
    assert_eq!(partition.classic("g").expect("stable").generation, 3);
}

#[test]
fn a_leader_that_joins_again_and_a_follower_that_changed_make_the_group_rebalance() {
    let mut partition = Partition::new();
    let members = partition.stable("g", 2);
    let same = partition.ask(join("g", &members[1]));
    assert_eq!(partition.joined(same).generation, 1, "a follower that did not change is told what is");
    assert_eq!(partition.state("g"), Some(Stable));
    let protocols = vec![("range".into(), subscription(&["orders", "audit"]))];
    let changed = JoinRequest { protocols, ..join_request("g", &members[1]) };
    let changed = partition.ask(GroupRequest::Join(changed));
    assert_eq!(partition.state("g"), Some(PreparingRebalance));
    let again = partition.ask(join("g", &members[0]));
    assert_eq!((partition.joined(changed).generation, partition.joined(again).generation), (2, 2));
}

#[test]
fn members_agree_on_the_protocol_that_most_of_them_like_best() {
    let mut partition = Partition::new();
    let likes = |names: &[&str]| JoinRequest {
        requires_known_member: false,
        protocols: names.iter().map(|name| (Arc::from(*name), subscription(&["orders"]))).collect(),
        ..join_request("g", "")
    };
    let wishes: [&[&str]; 3] = [&["sticky", "range"], &["range", "sticky"], &["only-mine", "range", "sticky", "range"]];
    let tickets: Vec<_> = wishes.iter().map(|wish| partition.ask(GroupRequest::Join(likes(wish)))).collect();
    let stranger = partition.answer(GroupRequest::Join(likes(&["only-mine"])));
    assert_eq!(refused(stranger), ErrorCode::InconsistentGroupProtocol);
    let other_type = JoinRequest { protocol_type: "connect".into(), ..likes(&["range"]) };
    assert_eq!(refused(partition.answer(GroupRequest::Join(other_type))), ErrorCode::InconsistentGroupProtocol);
    partition.pass_ms(0);
    for ticket in tickets {
        assert_eq!(partition.joined(ticket).protocol.as_deref(), Some("range"));
    }
}

#[test]
fn a_join_without_protocols_or_with_a_session_out_of_bounds_is_refused_and_leaves_no_group() {
    let mut partition = Partition::new();
    let without = JoinRequest { protocols: Vec::new(), ..join_request("g", "") };
    assert_eq!(refused(partition.answer(GroupRequest::Join(without))), ErrorCode::InconsistentGroupProtocol);
    for session_timeout_ms in [5999, 1_800_001, -1] {
        let request = JoinRequest { session_timeout_ms, ..join_request("g", "") };
        assert_eq!(refused(partition.answer(GroupRequest::Join(request))), ErrorCode::InvalidSessionTimeout);
    }
    assert!(partition.listed().is_empty());
}

#[test]
fn a_full_group_takes_nobody_in() {
    let mut partition = Partition::with(|config| (config.initial_rebalance_delay_ms, config.max_size) = (0, 2));
    let members = partition.stable("g", 2);
    assert_eq!(refused(partition.answer(join("g", ""))), ErrorCode::GroupMaxSizeReached);
    assert_eq!(partition.heartbeat("g", &members[1], 1), ErrorCode::None);
}

#[test]
fn a_member_of_another_generation_is_told_so() {
    let mut partition = Partition::new();
    let members = partition.stable("g", 1);
    assert_eq!(partition.heartbeat("g", &members[0], 0), ErrorCode::IllegalGeneration);
    assert_eq!(refused(partition.answer(sync("g", &members[0], 7, &[]))), ErrorCode::IllegalGeneration);
    assert_eq!(partition.heartbeat("nowhere", &members[0], 1), ErrorCode::UnknownMemberId);
    assert_eq!(refused(partition.answer(leave("nowhere", &members[0]))), ErrorCode::UnknownMemberId);
}

#[test]
fn a_static_member_that_comes_back_takes_its_place_without_a_rebalance() {
    let mut partition = Partition::new();
    let first = partition.ask(join_as("g", "", "i-1"));
    partition.pass_ms(0);
    let before = partition.joined(first).member;
    assert!(before.starts_with("i-1-"), "{before}");
    let assigning = partition.ask(sync("g", &before, 1, &[(&before, "mine".to_owned())]));
    partition.synced(assigning);

    let again = partition.ask(join_as("g", "", "i-1"));
    let again = partition.joined(again);
    assert_eq!((again.error_code, again.generation, again.skip_assignment), (ErrorCode::None, 1, true));
    assert_ne!(again.member, before);
    assert_eq!((partition.state("g"), again.members.len()), (Some(Stable), 1));
    let resumed = partition.ask(sync("g", &again.member, 1, &[]));
    assert_eq!(partition.synced(resumed).assignment, "mine");

    let stale = JoinRequest { instance: Some("i-1".into()), ..join_request("g", &before) };
    assert_eq!(refused(partition.answer(GroupRequest::Join(stale))), ErrorCode::FencedInstanceId);
    partition.restart();
    assert_eq!(partition.heartbeat("g", &again.member, 1), ErrorCode::None);
}

#[test]
fn a_static_member_that_is_away_keeps_its_place_through_a_rebalance() {
    let mut partition = Partition::new();
    let away = partition.ask(join_as("g", "", "i-1"));
    partition.pass_ms(0);
    let away = partition.joined(away).member;
    partition.ask(sync("g", &away, 1, &[]));
    let long = JoinRequest { rebalance_timeout_ms: 5000, ..join_request("g", "") };
    let GroupReply::Join(told) = partition.answer(GroupRequest::Join(long.clone())) else { panic!("another reply") };
    let long = partition.ask(GroupRequest::Join(JoinRequest { member: told.member, ..long }));
    partition.heartbeat("g", &away, 1);
    partition.pass_ms(9_000);
    partition.heartbeat("g", &away, 1);
    partition.pass_ms(9_000);
    partition.heartbeat("g", &away, 1);
    for _ in 0..6 {
        partition.pass_ms(9_000);
        partition.heartbeat("g", &away, 1);
    }
    assert_eq!(partition.joined(long).members.len(), 2, "the one that is away is assigned something too");
}

#[test]
fn the_administrator_removes_a_static_member_by_its_instance() {
    let mut partition = Partition::new();
    let ticket = partition.ask(join_as("g", "", "i-1"));
    partition.pass_ms(0);
    partition.joined(ticket);
    let leaving = |instance: &str| LeavingMember { member: "".into(), instance: Some(instance.into()) };
    let request = LeaveRequest { group: "g".into(), members: vec![leaving("i-1"), leaving("i-2")] };
    let GroupReply::Leave(reply) = partition.answer(GroupRequest::Leave(request)) else { panic!("another reply") };
    let codes: Vec<ErrorCode> = reply.members.iter().map(|(_, error_code)| *error_code).collect();
    assert_eq!(codes, [ErrorCode::None, ErrorCode::UnknownMemberId]);
    assert_eq!(partition.state("g"), Some(Empty));
}

#[test]
fn who_asks_again_is_answered_and_so_is_what_it_asked_before() {
    let mut partition = Partition::new();
    let members = partition.stable("g", 2);
    let before = partition.ask(join("g", &members[0]));
    let again = partition.ask(join("g", &members[0]));
    assert_eq!(partition.joined(before).error_code, ErrorCode::RebalanceInProgress);
    assert!(partition.waits(again));
    let other = partition.ask(join("g", &members[1]));
    assert_eq!((partition.joined(again).generation, partition.joined(other).generation), (2, 2));
}

#[test]
fn a_sync_that_waits_is_told_when_the_group_rebalances_instead() {
    let mut partition = Partition::new();
    let entered = [partition.enter("g"), partition.enter("g")];
    partition.pass_ms(0);
    let replies: Vec<JoinReply> = entered.iter().map(|(_, ticket)| partition.joined(*ticket)).collect();
    let follower = replies.iter().find(|reply| reply.members.is_empty()).expect("one follows");
    let leader = replies.iter().find(|reply| !reply.members.is_empty()).expect("one leads");
    let waiting = partition.ask(sync("g", &follower.member, 1, &[]));
    partition.answer(leave("g", &leader.member));
    assert_eq!(partition.synced(waiting).error_code, ErrorCode::RebalanceInProgress);
}

#[test]
fn after_a_restart_the_generation_stands_and_its_members_have_a_whole_session() {
    let mut partition = Partition::new();
    let members = partition.stable("g", 3);
    partition.pass_ms(9_000);
    partition.restart();
    partition.pass_ms(9_000);
    let group = partition.classic("g").expect("replayed");
    assert_eq!((group.state, group.generation, group.leader.as_ref()), (Stable, 1, Some(&members[0])));
    for id in &members {
        assert_eq!(group.members[id].assignment, format!("to {id}"));
    }
    assert_eq!(partition.heartbeat("g", &members[1], 1), ErrorCode::None);
    partition.pass_ms(2_000);
    assert_eq!(partition.heartbeat("g", &members[2], 1), ErrorCode::UnknownMemberId);
}

#[test]
fn after_a_restart_a_member_reads_what_it_subscribed_to_last() {
    let mut partition = Partition::new();
    let members = partition.stable("g", 1);
    let mut request = join_request("g", &members[0]);
    request.protocols = vec![("range".into(), subscription(&["audit"]))];
    request.session_timeout_ms = 20_000;
    let again = partition.ask(GroupRequest::Join(request));
    partition.settle("g", vec![(members[0].clone(), again)]);
    partition.restart();
    let group = partition.classic("g").expect("replayed");
    let member = &group.members[&members[0]];
    assert_eq!((member.metadata("range"), member.session_timeout_ms), (subscription(&["audit"]), 20_000));
    assert!(group.is_subscribed_to("audit") && !group.is_subscribed_to("orders"));
}

#[test]
fn a_generation_that_no_leader_assigned_is_forgotten_by_a_restart() {
    let mut partition = Partition::new();
    let members = partition.stable("g", 1);
    let again = partition.ask(join("g", &members[0]));
    assert_eq!(partition.joined(again).generation, 2);
    partition.restart();
    assert_eq!(partition.heartbeat("g", &members[0], 2), ErrorCode::IllegalGeneration);
    assert_eq!(partition.commit("g", &members[0], 2, 5), ErrorCode::IllegalGeneration);
    assert_eq!(partition.heartbeat("g", &members[0], 1), ErrorCode::None);
}

#[test]
fn a_generation_too_large_for_a_record_is_refused_and_the_group_goes_on() {
    let mut partition = Partition::new();
    let (member, ticket) = partition.enter("g");
    partition.pass_ms(0);
    partition.joined(ticket);
    let huge = Bytes::from(vec![0; 70 << 20]);
    let GroupRequest::Sync(mut request) = sync("g", &member, 1, &[]) else { panic!("a sync") };
    request.assignments = vec![(member.clone(), huge)];
    let refused = partition.ask(GroupRequest::Sync(request));
    assert_eq!(partition.synced(refused).error_code, ErrorCode::UnknownServerError);
    assert_eq!(partition.state("g"), Some(PreparingRebalance));
    partition.settle("g", Vec::new());
}
