use super::super::fixture::*;
use super::super::*;
use super::*;
use crate::metadata::MetadataRecord;

const DAY_MS: u64 = 86_400_000;

#[test]
fn a_commit_from_outside_any_group_makes_a_group_that_only_keeps_offsets() {
    let mut partition = Partition::new();
    assert_eq!(partition.commit("g", "", -1, 42), ErrorCode::None);
    assert_eq!((partition.offset("g"), partition.offset("other")), (42, -1));
    assert_eq!(partition.listed(), [("g".to_owned(), "Empty")]);
    partition.restart();
    assert_eq!((partition.offset("g"), partition.listed().len()), (42, 1));
}

#[test]
fn only_members_of_the_present_generation_commit_while_there_are_any() {
    let mut partition = Partition::new();
    let members = partition.stable("g", 2);
    assert_eq!(partition.commit("g", &members[0], 1, 5), ErrorCode::None);
    assert_eq!(partition.commit("g", &members[0], 0, 6), ErrorCode::IllegalGeneration);
    assert_eq!(partition.commit("g", "stranger", 1, 6), ErrorCode::UnknownMemberId);
    assert_eq!(partition.commit("g", "", -1, 6), ErrorCode::UnknownMemberId);
    assert_eq!(partition.commit("nowhere", &members[0], 1, 6), ErrorCode::GroupIdNotFound);
    let old = OffsetCommitRequest { api_version: 8, ..commit_request("nowhere", &members[0], 1, 6) };
    let GroupReply::OffsetCommit(reply) = partition.answer(GroupRequest::OffsetCommit(old)) else { panic!("another") };
    assert_eq!(reply.error_code, ErrorCode::IllegalGeneration);
    assert_eq!(partition.offset("g"), 5);
}

#[test]
fn members_may_commit_what_they_read_before_they_join_the_rebalance_and_not_after() {
    let mut partition = Partition::new();
    let members = partition.stable("g", 2);
    let (_, newcomer) = partition.enter("g");
    assert_eq!(partition.commit("g", &members[0], 1, 5), ErrorCode::None);
    for id in &members {
        partition.ask(join("g", id));
    }
    assert!(!partition.waits(newcomer));
    assert_eq!(partition.commit("g", &members[0], 2, 6), ErrorCode::RebalanceInProgress);
    assert_eq!(partition.offset("g"), 5);
}

#[test]
fn metadata_beyond_its_limit_is_refused_for_its_partition_alone() {
    let mut partition = Partition::with(|config| config.offset_metadata_max_bytes = 3);
    let mut request = commit_request("g", "", -1, 5);
    let row = |index, metadata: &str| CommitPartition { index, offset: 5, leader_epoch: -1, metadata: metadata.into() };
    request.topics[0].partitions = vec![row(0, "äöü"), row(1, "four")];
    let GroupReply::OffsetCommit(reply) = partition.answer(GroupRequest::OffsetCommit(request)) else {
        panic!("other")
    };
    assert_eq!(reply.topics, [[ErrorCode::None, ErrorCode::OffsetMetadataTooLarge]]);
}

fn fetch_all(partition: &mut Partition, group: &str) -> Vec<FetchedTopic> {
    let group = group.into();
    let request = OffsetFetchRequest { group, member: None, member_epoch: -1, topics: None, require_stable: false };
    match partition.answer(GroupRequest::OffsetFetch(request)) {
        GroupReply::OffsetFetch(reply) => reply.topics,
        other => panic!("another reply: {other:?}"),
    }
}

#[test]
fn all_offsets_of_a_group_are_told_to_who_names_no_topic() {
    let mut partition = Partition::new();
    partition.commit("g", "", -1, 5);
    let mut request = commit_request("g", "", -1, 7);
    request.topics[0] = CommitTopic { name: "audit".into(), id: AUDIT, ..request.topics[0].clone() };
    partition.answer(GroupRequest::OffsetCommit(request));
    let all = fetch_all(&mut partition, "g");
    let told: Vec<_> = all.iter().map(|topic| (&*topic.name, topic.partitions[0].offset)).collect();
    assert_eq!(told, [("audit", 7), ("orders", 5)]);
    assert!(fetch_all(&mut partition, "other").is_empty());
}

#[test]
fn what_was_committed_to_a_former_topic_of_the_name_is_not_told() {
    let mut partition = Partition::new();
    partition.commit("g", "", -1, 5);
    let topics = Some(vec![("orders".into(), Uuid([9; 16]), vec![0])]);
    let group: GroupId = "g".into();
    let request = OffsetFetchRequest { group, member: None, member_epoch: -1, topics, require_stable: false };
    let GroupReply::OffsetFetch(reply) = partition.answer(GroupRequest::OffsetFetch(request)) else { panic!("other") };
    assert_eq!(reply.topics[0].partitions[0].offset, -1);
}

fn delete_offset(partition: &mut Partition, group: &str) -> Result<ErrorCode, ErrorCode> {
    let request = OffsetDeleteRequest { group: group.into(), topics: vec![("orders".into(), vec![0])] };
    match partition.answer(GroupRequest::OffsetDelete(request)) {
        GroupReply::OffsetDelete(OffsetDeleteReply { error_code: ErrorCode::None, topics }) => Ok(topics[0][0]),
        GroupReply::OffsetDelete(OffsetDeleteReply { error_code, .. }) => Err(error_code),
        other => panic!("another reply: {other:?}"),
    }
}

#[test]
fn offsets_of_topics_that_members_read_cannot_be_deleted() {
    let mut partition = Partition::new();
    let members = partition.stable("g", 1);
    partition.commit("g", &members[0], 1, 5);
    assert_eq!(delete_offset(&mut partition, "g"), Ok(ErrorCode::GroupSubscribedToTopic));
    assert_eq!(delete_offset(&mut partition, "other"), Err(ErrorCode::GroupIdNotFound));
    partition.answer(leave("g", &members[0]));
    assert_eq!(delete_offset(&mut partition, "g"), Ok(ErrorCode::None));
    assert_eq!(partition.offset("g"), -1);
}

fn delete_group(partition: &mut Partition, group: &str) -> ErrorCode {
    match partition.answer(GroupRequest::Delete { group: group.into() }) {
        GroupReply::Delete(error_code) => error_code,
        other => panic!("another reply: {other:?}"),
    }
}

#[test]
fn a_group_is_deleted_with_all_its_offsets_once_it_is_empty() {
    let mut partition = Partition::new();
    let members = partition.stable("g", 1);
    partition.commit("g", &members[0], 1, 5);
    assert_eq!(delete_group(&mut partition, "g"), ErrorCode::NonEmptyGroup);
    partition.answer(leave("g", &members[0]));
    assert_eq!(delete_group(&mut partition, "g"), ErrorCode::None);
    assert_eq!(delete_group(&mut partition, "g"), ErrorCode::GroupIdNotFound);
    partition.restart();
    assert!(partition.listed().is_empty() && partition.offset("g") == -1);
}

#[test]
fn offsets_of_an_empty_group_expire_a_while_after_its_last_member_left() {
    let mut partition = Partition::new();
    let members = partition.stable("g", 1);
    partition.commit("g", &members[0], 1, 5);
    for _ in 0..8 * DAY_MS / 9_000_000 {
        partition.pass_ms(9_000_000);
    }
    partition.restart();
    assert_eq!(partition.offset("g"), -1, "its only member went silent eight days ago");
    assert!(partition.listed().is_empty());
}

#[test]
fn the_time_an_offset_is_kept_counts_from_when_the_group_became_empty_not_from_the_commit() {
    let mut partition = Partition::new();
    let members = partition.stable("g", 1);
    partition.commit("g", &members[0], 1, 5);
    partition.now.wall_ms += 6 * DAY_MS as i64;
    partition.answer(leave("g", &members[0]));
    partition.pass_ms(6 * DAY_MS);
    assert_eq!(partition.offset("g"), 5);
    partition.pass_ms(2 * DAY_MS);
    assert_eq!(partition.offset("g"), -1);
}

#[test]
fn offsets_outside_any_group_expire_by_their_commit_or_when_they_say() {
    let mut partition = Partition::new();
    partition.commit("kept", "", -1, 5);
    let brief = OffsetCommitRequest { retention_time_ms: 3_600_000, ..commit_request("brief", "", -1, 5) };
    partition.answer(GroupRequest::OffsetCommit(brief));
    partition.pass_ms(2 * 3_600_000);
    assert_eq!((partition.offset("kept"), partition.offset("brief")), (5, -1));
    partition.pass_ms(7 * DAY_MS);
    assert_eq!(partition.offset("kept"), -1);
}

#[test]
fn a_live_group_keeps_the_offsets_of_what_it_reads_and_loses_old_ones_of_what_it_does_not() {
    let mut partition = Partition::new();
    let members = partition.stable("g", 1);
    partition.commit("g", &members[0], 1, 5);
    let mut request = commit_request("g", &members[0], 1, 7);
    request.topics[0] = CommitTopic { name: "audit".into(), id: AUDIT, ..request.topics[0].clone() };
    partition.answer(GroupRequest::OffsetCommit(request));
    for _ in 0..8 * DAY_MS / 9_000 {
        partition.pass_ms(9_000);
        partition.heartbeat("g", &members[0], 1);
    }
    let left: Vec<_> = fetch_all(&mut partition, "g").iter().map(|topic| topic.name.to_string()).collect();
    assert_eq!(left, ["orders"]);
}

#[test]
fn offsets_go_with_their_topic_and_a_group_with_its_last_offset() {
    let mut partition = Partition::new();
    partition.commit("g", "", -1, 5);
    let members = partition.stable("live", 1);
    partition.commit("live", &members[0], 1, 5);
    let decision = partition.groups.on_topics_deleted(&[("orders".into(), Uuid([9; 16]))]);
    assert!(decision.records.is_empty(), "that was another topic of this name");
    let decision = partition.groups.on_topics_deleted(&[("orders".into(), ORDERS)]);
    partition.log.extend(decision.records);
    assert_eq!(partition.listed(), [("live".to_owned(), "Stable")]);
    assert_eq!((partition.offset("g"), partition.offset("live")), (-1, -1));
    partition.restart();
    assert_eq!(partition.listed(), [("live".to_owned(), "Stable")]);
}

#[test]
fn a_topic_deleted_just_before_a_crash_takes_its_offsets_along_at_the_next_start() {
    let mut partition = Partition::new();
    partition.commit("g", "", -1, 5);
    partition.image.apply(&MetadataRecord::RemoveTopic(ORDERS)).expect("it exists");
    partition.restart();
    assert!(partition.listed().is_empty());
    assert_eq!(partition.log.len(), 3, "offset, its end, and the group's");
}
