//! The APIs of groups, in their oldest and newest versions.

use super::{TOPIC_ID, assert_request, assert_response};

#[test]
fn join_group() {
    use gannet::protocol::join_group::*;

    assert_request(
        "0000003e000b0000000000070003617070000762696c6c696e670000753000056170702d310008636f6e73756d6572000000\
         0100066f726465727300000003000102",
        0,
        JoinGroupRequest {
            group_id: "billing",
            session_timeout_ms: 30_000,
            member_id: "app-1",
            protocol_type: "consumer",
            protocols: vec![JoinGroupRequestProtocol { name: "orders", metadata: &[0, 1, 2] }],
            ..Default::default()
        },
    );
    assert_request(
        "00000042000b0009000000070003617070000862696c6c696e670000753000007530066170702d3106706f642d3009636f6e\
         73756d657202076f726465727304000102000000",
        9,
        JoinGroupRequest {
            group_id: "billing",
            session_timeout_ms: 30_000,
            rebalance_timeout_ms: 30_000,
            member_id: "app-1",
            group_instance_id: Some("pod-0"),
            protocol_type: "consumer",
            protocols: vec![JoinGroupRequestProtocol { name: "orders", metadata: &[0, 1, 2] }],
            reason: None,
        },
    );
    assert_response(
        "0000003100000007001b00000006000572616e676500056170702d3100056170702d310000000100056170702d3100000003\
         000102",
        0,
        JoinGroupResponse {
            error_code: 27,
            generation_id: 6,
            protocol_name: Some("range"),
            leader: "app-1",
            member_id: "app-1",
            members: vec![JoinGroupResponseMember { member_id: "app-1", metadata: &[0, 1, 2], ..Default::default() }],
            ..Default::default()
        },
    );
    assert_response(
        "0000003e000000070000000005001b0000000609636f6e73756d65720672616e6765066170702d3101066170702d31020661\
         70702d3106706f642d30040001020000",
        9,
        JoinGroupResponse {
            throttle_time_ms: 5,
            error_code: 27,
            generation_id: 6,
            protocol_type: Some("consumer"),
            protocol_name: Some("range"),
            leader: "app-1",
            skip_assignment: true,
            member_id: "app-1",
            members: vec![JoinGroupResponseMember {
                member_id: "app-1",
                group_instance_id: Some("pod-0"),
                metadata: &[0, 1, 2],
            }],
        },
    );
}

#[test]
fn sync_group() {
    use gannet::protocol::sync_group::*;

    assert_request(
        "00000033000e0000000000070003617070000762696c6c696e670000000600056170702d310000000100056170702d310000\
         0003000102",
        0,
        SyncGroupRequest {
            group_id: "billing",
            generation_id: 6,
            member_id: "app-1",
            assignments: vec![SyncGroupRequestAssignment { member_id: "app-1", assignment: &[0, 1, 2] }],
            ..Default::default()
        },
    );
    assert_request(
        "00000042000e0005000000070003617070000862696c6c696e6700000006066170702d3106706f642d3009636f6e73756d65\
         720672616e676502066170702d31040001020000",
        5,
        SyncGroupRequest {
            group_id: "billing",
            generation_id: 6,
            member_id: "app-1",
            group_instance_id: Some("pod-0"),
            protocol_type: Some("consumer"),
            protocol_name: Some("range"),
            assignments: vec![SyncGroupRequestAssignment { member_id: "app-1", assignment: &[0, 1, 2] }],
        },
    );
    assert_response(
        "0000000d00000007001b00000003000102",
        0,
        SyncGroupResponse { error_code: 27, assignment: &[0, 1, 2], ..Default::default() },
    );
    assert_response(
        "0000001f000000070000000005001b09636f6e73756d65720672616e67650400010200",
        5,
        SyncGroupResponse {
            throttle_time_ms: 5,
            error_code: 27,
            protocol_type: Some("consumer"),
            protocol_name: Some("range"),
            assignment: &[0, 1, 2],
        },
    );
}

#[test]
fn heartbeat() {
    use gannet::protocol::heartbeat::*;

    assert_request(
        "00000021000c0000000000070003617070000762696c6c696e670000000600056170702d31",
        0,
        HeartbeatRequest { group_id: "billing", generation_id: 6, member_id: "app-1", ..Default::default() },
    );
    assert_request(
        "00000027000c0004000000070003617070000862696c6c696e6700000006066170702d3106706f642d3000",
        4,
        HeartbeatRequest {
            group_id: "billing",
            generation_id: 6,
            member_id: "app-1",
            group_instance_id: Some("pod-0"),
        },
    );
    assert_response("0000000600000007001b", 0, HeartbeatResponse { error_code: 27, ..Default::default() });
    assert_response("0000000c000000070000000005001b00", 4, HeartbeatResponse { throttle_time_ms: 5, error_code: 27 });
}

#[test]
fn leave_group() {
    use gannet::protocol::leave_group::*;

    assert_request(
        "0000001d000d0000000000070003617070000762696c6c696e6700056170702d31",
        0,
        LeaveGroupRequest { group_id: "billing", member_id: "app-1", ..Default::default() },
    );
    assert_request(
        "00000026000d0005000000070003617070000862696c6c696e6702066170702d3106706f642d30000000",
        5,
        LeaveGroupRequest {
            group_id: "billing",
            members: vec![MemberIdentity { member_id: "app-1", group_instance_id: Some("pod-0"), reason: None }],
            ..Default::default()
        },
    );
    assert_response("0000000600000007001b", 0, LeaveGroupResponse { error_code: 27, ..Default::default() });
    assert_response(
        "0000001c000000070000000005001b02066170702d3106706f642d30001b0000",
        5,
        LeaveGroupResponse {
            throttle_time_ms: 5,
            error_code: 27,
            members: vec![MemberResponse { member_id: "app-1", group_instance_id: Some("pod-0"), error_code: 27 }],
        },
    );
}

#[test]
fn offset_commit() {
    use gannet::protocol::offset_commit::*;

    assert_request(
        "0000005900080002000000070003617070000762696c6c696e670000000600056170702d310000011f71fb04cb0000000100\
         066f726465727300000001000000010000011f71fb04cb0012636f6d6d69747465642d6d65746164617461",
        2,
        OffsetCommitRequest {
            group_id: "billing",
            generation_id_or_member_epoch: 6,
            member_id: "app-1",
            retention_time_ms: 1_234_567_890_123,
            topics: vec![OffsetCommitRequestTopic {
                name: "orders",
                partitions: vec![OffsetCommitRequestPartition {
                    partition_index: 1,
                    committed_offset: 1_234_567_890_123,
                    committed_metadata: Some("committed-metadata"),
                    ..Default::default()
                }],
                ..Default::default()
            }],
            ..Default::default()
        },
    );
    assert_request(
        "0000005e0008000a000000070003617070000862696c6c696e6700000006066170702d3106706f642d300201020304050607\
         08090a0b0c0d0e0f1002000000010000011f71fb04cb0000000613636f6d6d69747465642d6d65746164617461000000",
        10,
        OffsetCommitRequest {
            group_id: "billing",
            generation_id_or_member_epoch: 6,
            member_id: "app-1",
            group_instance_id: Some("pod-0"),
            topics: vec![OffsetCommitRequestTopic {
                topic_id: TOPIC_ID,
                partitions: vec![OffsetCommitRequestPartition {
                    partition_index: 1,
                    committed_offset: 1_234_567_890_123,
                    committed_leader_epoch: 6,
                    committed_metadata: Some("committed-metadata"),
                }],
                ..Default::default()
            }],
            ..Default::default()
        },
    );
    assert_response(
        "0000001a000000070000000100066f72646572730000000100000001001b",
        2,
        OffsetCommitResponse {
            topics: vec![OffsetCommitResponseTopic {
                name: "orders",
                partitions: vec![OffsetCommitResponsePartition { partition_index: 1, error_code: 27 }],
                ..Default::default()
            }],
            ..Default::default()
        },
    );
    assert_response(
        "00000024000000070000000005020102030405060708090a0b0c0d0e0f100200000001001b000000",
        10,
        OffsetCommitResponse {
            throttle_time_ms: 5,
            topics: vec![OffsetCommitResponseTopic {
                topic_id: TOPIC_ID,
                partitions: vec![OffsetCommitResponsePartition { partition_index: 1, error_code: 27 }],
                ..Default::default()
            }],
        },
    );
}

#[test]
fn offset_fetch() {
    use gannet::protocol::offset_fetch::*;

    assert_request(
        "0000002a00090001000000070003617070000762696c6c696e670000000100066f72646572730000000100000006",
        1,
        OffsetFetchRequest {
            group_id: "billing",
            topics: Some(vec![OffsetFetchRequestTopic { name: "orders", partition_indexes: vec![6] }]),
            ..Default::default()
        },
    );
    assert_request(
        "0000003b0009000a00000007000361707000020862696c6c696e67066170702d3100000006020102030405060708090a0b0c\
         0d0e0f10020000000600000100",
        10,
        OffsetFetchRequest {
            groups: vec![OffsetFetchRequestGroup {
                group_id: "billing",
                member_id: Some("app-1"),
                member_epoch: 6,
                topics: Some(vec![OffsetFetchRequestTopics {
                    topic_id: TOPIC_ID,
                    partition_indexes: vec![6],
                    ..Default::default()
                }]),
            }],
            require_stable: true,
            ..Default::default()
        },
    );
    assert_response(
        "00000024000000070000000100066f726465727300000001000000010000011f71fb04cbffff001b",
        1,
        OffsetFetchResponse {
            topics: vec![OffsetFetchResponseTopic {
                name: "orders",
                partitions: vec![OffsetFetchResponsePartition {
                    partition_index: 1,
                    committed_offset: 1_234_567_890_123,
                    metadata: None,
                    error_code: 27,
                    ..Default::default()
                }],
            }],
            ..Default::default()
        },
    );
    assert_response(
        "0000003d000000070000000005020862696c6c696e67020102030405060708090a0b0c0d0e0f1002000000010000011f71fb\
         04cb0000000600001b0000001b0000",
        10,
        OffsetFetchResponse {
            throttle_time_ms: 5,
            groups: vec![OffsetFetchResponseGroup {
                group_id: "billing",
                topics: vec![OffsetFetchResponseTopics {
                    topic_id: TOPIC_ID,
                    partitions: vec![OffsetFetchResponsePartitions {
                        partition_index: 1,
                        committed_offset: 1_234_567_890_123,
                        committed_leader_epoch: 6,
                        metadata: None,
                        error_code: 27,
                    }],
                    ..Default::default()
                }],
                error_code: 27,
            }],
            ..Default::default()
        },
    );
}

#[test]
fn offset_delete() {
    use gannet::protocol::offset_delete::*;

    assert_request(
        "0000002a002f0000000000070003617070000762696c6c696e670000000100066f72646572730000000100000001",
        0,
        OffsetDeleteRequest {
            group_id: "billing",
            topics: vec![OffsetDeleteRequestTopic {
                name: "orders",
                partitions: vec![OffsetDeleteRequestPartition { partition_index: 1 }],
            }],
        },
    );
    assert_response(
        "0000002000000007001b000000050000000100066f72646572730000000100000001001b",
        0,
        OffsetDeleteResponse {
            error_code: 27,
            throttle_time_ms: 5,
            topics: vec![OffsetDeleteResponseTopic {
                name: "orders",
                partitions: vec![OffsetDeleteResponsePartition { partition_index: 1, error_code: 27 }],
            }],
        },
    );
}

#[test]
fn list_groups() {
    use gannet::protocol::list_groups::*;

    assert_request("0000000d00100000000000070003617070", 0, ListGroupsRequest { ..Default::default() });
    assert_request(
        "0000002c0010000500000007000361707000020e7374617465732d66696c746572020d74797065732d66696c74657200",
        5,
        ListGroupsRequest { states_filter: vec!["states-filter"], types_filter: vec!["types-filter"] },
    );
    assert_response(
        "0000001d00000007001b00000001000762696c6c696e670008636f6e73756d6572",
        0,
        ListGroupsResponse {
            error_code: 27,
            groups: vec![ListedGroup { group_id: "billing", protocol_type: "consumer", ..Default::default() }],
            ..Default::default()
        },
    );
    assert_response(
        "0000002e000000070000000005001b020862696c6c696e6709636f6e73756d657207537461626c6508636c61737369630000",
        5,
        ListGroupsResponse {
            throttle_time_ms: 5,
            error_code: 27,
            groups: vec![ListedGroup {
                group_id: "billing",
                protocol_type: "consumer",
                group_state: "Stable",
                group_type: "classic",
            }],
        },
    );
}

#[test]
fn describe_groups() {
    use gannet::protocol::describe_groups::*;

    assert_request(
        "00000019000f000000000007000361707000000001000667726f757073",
        0,
        DescribeGroupsRequest { groups: vec!["groups"], ..Default::default() },
    );
    assert_request(
        "00000018000f000600000007000361707000020767726f7570730100",
        6,
        DescribeGroupsRequest { groups: vec!["groups"], include_authorized_operations: true },
    );
    assert_response(
        "000000560000000700000001001b000762696c6c696e670006537461626c650008636f6e73756d6572000572616e67650000\
         000100056170702d310003617070000a2f3132372e302e302e310000000300010200000003000102",
        0,
        DescribeGroupsResponse {
            groups: vec![DescribedGroup {
                error_code: 27,
                group_id: "billing",
                group_state: "Stable",
                protocol_type: "consumer",
                protocol_data: "range",
                members: vec![DescribedGroupMember {
                    member_id: "app-1",
                    client_id: "app",
                    client_host: "/127.0.0.1",
                    member_metadata: &[0, 1, 2],
                    member_assignment: &[0, 1, 2],
                    ..Default::default()
                }],
                ..Default::default()
            }],
            ..Default::default()
        },
    );
    assert_response(
        "0000005600000007000000000502001b000862696c6c696e6707537461626c6509636f6e73756d65720672616e6765020661\
         70702d3106706f642d30046170700b2f3132372e302e302e31040001020400010200000000080000",
        6,
        DescribeGroupsResponse {
            throttle_time_ms: 5,
            groups: vec![DescribedGroup {
                error_code: 27,
                error_message: None,
                group_id: "billing",
                group_state: "Stable",
                protocol_type: "consumer",
                protocol_data: "range",
                members: vec![DescribedGroupMember {
                    member_id: "app-1",
                    group_instance_id: Some("pod-0"),
                    client_id: "app",
                    client_host: "/127.0.0.1",
                    member_metadata: &[0, 1, 2],
                    member_assignment: &[0, 1, 2],
                }],
                authorized_operations: 1 << 3,
            }],
        },
    );
}

#[test]
fn delete_groups() {
    use gannet::protocol::delete_groups::*;

    assert_request(
        "0000001f002a000000000007000361707000000001000c67726f7570732d6e616d6573",
        0,
        DeleteGroupsRequest { groups_names: vec!["groups-names"] },
    );
    assert_request(
        "0000001d002a000200000007000361707000020d67726f7570732d6e616d657300",
        2,
        DeleteGroupsRequest { groups_names: vec!["groups-names"] },
    );
    assert_response(
        "00000017000000070000000500000001000762696c6c696e67001b",
        0,
        DeleteGroupsResponse {
            throttle_time_ms: 5,
            results: vec![DeletableGroupResult { group_id: "billing", error_code: 27 }],
        },
    );
    assert_response(
        "00000016000000070000000005020862696c6c696e67001b0000",
        2,
        DeleteGroupsResponse {
            throttle_time_ms: 5,
            results: vec![DeletableGroupResult { group_id: "billing", error_code: 27 }],
        },
    );
}
