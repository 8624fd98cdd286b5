//! The coordinator is found, and the consumer protocol of KIP-848: frames as the classes of Kafka 4.3.1 write them.

use super::{TOPIC_ID, assert_request, assert_response};

#[test]
fn find_coordinator() {
    use gannet::protocol::find_coordinator::*;

    assert_request(
        "00000016000a0000000000070003617070000762696c6c696e67",
        0,
        FindCoordinatorRequest { key: "billing", ..Default::default() },
    );
    assert_request(
        "0000001f000a00060000000700036170700000030862696c6c696e6706617564697400",
        6,
        FindCoordinatorRequest { coordinator_keys: vec!["billing", "audit"], ..Default::default() },
    );
    assert_response(
        "00000012000000070000000000030002623300002384",
        0,
        FindCoordinatorResponse { node_id: 3, host: "b3", port: 9092, ..Default::default() },
    );
    assert_response(
        "00000024000000070000000005020862696c6c696e670000000303623300002384000f036e6f0000",
        6,
        FindCoordinatorResponse {
            throttle_time_ms: 5,
            coordinators: vec![Coordinator {
                key: "billing",
                node_id: 3,
                host: "b3",
                port: 9092,
                error_code: 15,
                error_message: Some("no"),
            }],
            ..Default::default()
        },
    );
}

#[test]
fn consumer_group_heartbeat() {
    use gannet::protocol::consumer_group_heartbeat::*;

    let owned = || vec![TopicPartitions { topic_id: TOPIC_ID, partitions: vec![0, 2] }];
    assert_request(
        "0000004000440000000000070003617070000862696c6c696e67026d000000040000ffffffff000002010203040506070809\
         0a0b0c0d0e0f100300000000000000020000",
        0,
        ConsumerGroupHeartbeatRequest {
            group_id: "billing",
            member_id: "m",
            member_epoch: 4,
            topic_partitions: Some(owned()),
            ..Default::default()
        },
    );
    assert_request(
        "0000003c00440001000000070003617070000862696c6c696e67026d0000000006706f642d3002720000753002076f726465\
         7273046f2e2a0672616e67650100",
        1,
        ConsumerGroupHeartbeatRequest {
            group_id: "billing",
            member_id: "m",
            member_epoch: 0,
            instance_id: Some("pod-0"),
            rack_id: Some("r"),
            rebalance_timeout_ms: 30_000,
            subscribed_topic_names: Some(vec!["orders"]),
            subscribed_topic_regex: Some("o.*"),
            server_assignor: Some("range"),
            topic_partitions: Some(vec![]),
        },
    );
    assert_response(
        "0000001d000000070000000005006e0766656e636564000000000000000000ff00",
        0,
        ConsumerGroupHeartbeatResponse {
            throttle_time_ms: 5,
            error_code: 110,
            error_message: Some("fenced"),
            ..Default::default()
        },
    );
    assert_response(
        "00000034000000070000000000000000026d000000050000138801020102030405060708090a0b0c0d0e0f10030000000000\
         000002000000",
        1,
        ConsumerGroupHeartbeatResponse {
            member_id: Some("m"),
            member_epoch: 5,
            heartbeat_interval_ms: 5000,
            assignment: Some(Assignment { topic_partitions: owned() }),
            ..Default::default()
        },
    );
}

#[test]
fn consumer_group_describe() {
    use gannet::protocol::consumer_group_describe::*;

    assert_request(
        "000000190045000000000007000361707000020862696c6c696e670100",
        0,
        ConsumerGroupDescribeRequest { group_ids: vec!["billing"], include_authorized_operations: true },
    );
    let described = |member_type| ConsumerGroupDescribeResponse {
        groups: vec![DescribedGroup {
            group_id: "billing",
            group_state: "Stable",
            group_epoch: 5,
            assignment_epoch: 5,
            assignor_name: "uniform",
            members: vec![Member {
                member_id: "m",
                instance_id: Some("pod-0"),
                member_epoch: 5,
                client_id: "app",
                client_host: "/127.0.0.1",
                subscribed_topic_names: vec!["orders"],
                assignment: Assignment {
                    topic_partitions: vec![TopicPartitions {
                        topic_id: TOPIC_ID,
                        topic_name: "orders",
                        partitions: vec![1],
                    }],
                },
                member_type,
                ..Default::default()
            }],
            authorized_operations: 256,
            ..Default::default()
        }],
        ..Default::default()
    };
    assert_response(
        "0000007a000000070000000000020000000862696c6c696e6707537461626c65000000050000000508756e69666f726d0202\
         6d06706f642d300000000005046170700b2f3132372e302e302e3102076f726465727300020102030405060708090a0b0c0d\
         0e0f10076f726465727302000000010000010000000001000000",
        0,
        described(-1),
    );
    assert_response(
        "0000007b000000070000000000020000000862696c6c696e6707537461626c65000000050000000508756e69666f726d0202\
         6d06706f642d300000000005046170700b2f3132372e302e302e3102076f726465727300020102030405060708090a0b0c0d\
         0e0f10076f72646572730200000001000001000100000001000000",
        1,
        described(1),
    );
}
