//! The APIs that tell of elections, reassignments, the quorum and transactions; frames of Kafka's own classes.

use gannet::protocol::alter_partition_reassignments::*;
use gannet::protocol::describe_quorum::*;
use gannet::protocol::elect_leaders::*;
use gannet::protocol::list_partition_reassignments::*;
use gannet::protocol::list_transactions::*;

use super::{TOPIC_ID, assert_request, assert_response};

#[test]
fn elect_leaders() {
    let request = |election_type| ElectLeadersRequest {
        election_type,
        topic_partitions: Some(vec![TopicPartitions { topic: "orders", partitions: vec![0, 2] }]),
        timeout_ms: 1000,
    };
    assert_request(
        "00000029002b00000000000700036170700000000100066f7264657273000000020000000000000002000003e8",
        0,
        request(0),
    );
    assert_request(
        "00000026002b0002000000070003617070000102076f726465727303000000000000000200000003e800",
        2,
        request(1),
    );
    assert_request(
        "00000015002b00020000000700036170700000000000ea6000",
        2,
        ElectLeadersRequest { election_type: 0, topic_partitions: None, timeout_ms: 60_000 },
    );
    let response = || ElectLeadersResponse {
        throttle_time_ms: 5,
        error_code: 0,
        replica_election_results: vec![ReplicaElectionResult {
            topic: "orders",
            partition_result: vec![PartitionResult { partition_id: 2, error_code: 84, error_message: Some("no") }],
        }],
    };
    assert_response("0000002200000007000000050000000100066f72646572730000000100000002005400026e6f", 0, response());
    assert_response("00000020000000070000000005000002076f726465727302000000020054036e6f000000", 2, response());
}

#[test]
fn alter_partition_reassignments() {
    assert_request(
        "00000032002d000100000007000361707000000003e80002076f7264657273030000000003000000010000000200000000010000\
         0000",
        1,
        AlterPartitionReassignmentsRequest {
            timeout_ms: 1000,
            allow_replication_factor_change: false,
            topics: vec![ReassignableTopic {
                name: "orders",
                partitions: vec![
                    ReassignablePartition { partition_index: 0, replicas: Some(vec![1, 2]) },
                    ReassignablePartition { partition_index: 1, replicas: None },
                ],
            }],
        },
    );
    let response = |allow_replication_factor_change| AlterPartitionReassignmentsResponse {
        throttle_time_ms: 5,
        allow_replication_factor_change,
        error_code: 0,
        error_message: Some(""),
        responses: vec![ReassignableTopicResponse {
            name: "orders",
            partitions: vec![ReassignablePartitionResponse {
                partition_index: 1,
                error_code: 85,
                error_message: Some("no"),
            }],
        }],
    };
    assert_response("0000002100000007000000000500000102076f726465727302000000010055036e6f000000", 0, response(true));
    assert_response("000000220000000700000000050000000102076f726465727302000000010055036e6f000000", 1, response(false));
}

#[test]
fn list_partition_reassignments() {
    assert_request(
        "00000025002e000000000007000361707000000003e802076f72646572730300000000000000010000",
        0,
        ListPartitionReassignmentsRequest {
            timeout_ms: 1000,
            topics: Some(vec![ListPartitionReassignmentsTopic { name: "orders", partition_indexes: vec![0, 1] }]),
        },
    );
    assert_request(
        "00000014002e0000000000070003617070000000ea600000",
        0,
        ListPartitionReassignmentsRequest { timeout_ms: 60_000, topics: None },
    );
    assert_response(
        "0000002f00000007000000000500000102076f7264657273020000000103000000010000000202000000020200000001000000",
        0,
        ListPartitionReassignmentsResponse {
            throttle_time_ms: 5,
            error_code: 0,
            error_message: Some(""),
            topics: vec![OngoingTopicReassignment {
                name: "orders",
                partitions: vec![OngoingPartitionReassignment {
                    partition_index: 1,
                    replicas: vec![1, 2],
                    adding_replicas: vec![2],
                    removing_replicas: vec![1],
                }],
            }],
        },
    );
}

#[test]
fn describe_quorum() {
    assert_request(
        "0000002a003700020000000700036170700002135f5f636c75737465725f6d657461646174610200000000000000",
        2,
        DescribeQuorumRequest {
            topics: vec![QuorumTopic {
                topic_name: "__cluster_metadata",
                partitions: vec![QuorumPartition { partition_index: 0 }],
            }],
        },
    );
    let response = |replica, nodes| DescribeQuorumResponse {
        topics: vec![QuorumTopicState {
            topic_name: "q",
            partitions: vec![QuorumPartitionState {
                leader_id: 1,
                leader_epoch: 3,
                high_watermark: 8,
                current_voters: vec![replica],
                ..Default::default()
            }],
        }],
        nodes,
        ..Default::default()
    };
    let oldest = ReplicaState { replica_id: 1, log_end_offset: 9, ..Default::default() };
    let timed = ReplicaState { last_fetch_timestamp: 1000, last_caught_up_timestamp: 900, ..oldest.clone() };
    let newest = ReplicaState { replica_directory_id: TOPIC_ID, ..timed.clone() };
    assert_response(
        "00000033000000070000000202710200000000000000000001000000030000000000000008020000000100000000000000090001\
         000000",
        0,
        response(oldest, vec![]),
    );
    assert_response(
        "00000043000000070000000202710200000000000000000001000000030000000000000008020000000100000000000000090000\
         0000000003e800000000000003840001000000",
        1,
        response(timed, vec![]),
    );
    let listeners = vec![QuorumListener { name: "P", host: "h", port: 9092 }];
    assert_response(
        "0000006300000007000000000202710200000000000000000000010000000300000000000000080200000001010203040506070\
         8090a0b0c0d0e0f10000000000000000900000000000003e8000000000000038400010000020000000102025002682384000000",
        2,
        response(newest, vec![QuorumNode { node_id: 1, listeners }]),
    );
}

#[test]
fn list_transactions() {
    let request = |duration_filter, transactional_id_pattern| ListTransactionsRequest {
        state_filters: vec!["Ongoing"],
        producer_id_filters: vec![7],
        duration_filter,
        transactional_id_pattern,
    };
    assert_request("00000021004200000000000700036170700002084f6e676f696e6702000000000000000700", 0, request(-1, None));
    assert_request(
        "0000002d004200020000000700036170700002084f6e676f696e6702000000000000000700000000000003e804612e2a00",
        2,
        request(1000, Some("a.*")),
    );
    assert_response(
        "00000025000000070000000005000002044f64640202740000000000000007084f6e676f696e670000",
        2,
        ListTransactionsResponse {
            throttle_time_ms: 5,
            error_code: 0,
            unknown_state_filters: vec!["Odd"],
            transaction_states: vec![TransactionState {
                transactional_id: "t",
                producer_id: 7,
                transaction_state: "Ongoing",
            }],
        },
    );
}
